"""Reads and transactions as etcd's own messages (its rpc.proto), nested ones included, which the etcd3 package's client
can only build one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from placet.store import (
    Absent,
    Compare,
    CreatedAt,
    Delete,
    Get,
    Holds,
    ModifiedAt,
    NonePresent,
    Operation,
    Present,
    Put,
    Read,
    Transaction,
)
from placet.store.etcd3_package import etcdrpc

# etcd takes 128 operations (those of a nested transaction and of the one around it together) and 1.5 MiB a request
MAX_NESTED = 64
MAX_BYTES = 1024 * 1024


class Messages:
    """`root` is put before every key."""

    def __init__(self, root: str) -> None:
        self._root = root

    def reads(self, reads: Sequence[Read]) -> Any:
        """One TxnRequest that reads."""
        return etcdrpc.TxnRequest(success=self._reads(reads))

    def transaction(self, transaction: Transaction) -> Any:
        """One TxnRequest."""
        return etcdrpc.TxnRequest(
            compare=[self._compare(each) for each in transaction.compares],
            success=[self._operation(each) for each in transaction.operations],
        )

    def transaction_and_reads(self, transaction: Transaction, reads: Sequence[Read]) -> Any:
        """One TxnRequest: the transaction nested, then the reads."""
        nested = etcdrpc.RequestOp(request_txn=self.transaction(transaction))
        return etcdrpc.TxnRequest(success=[nested, *self._reads(reads)])

    def nested(self, transactions: Sequence[Transaction]) -> Iterator[Any]:
        """As few TxnRequests as etcd takes, of nested transactions in their order."""
        inner: list[Any] = []
        size = 0
        for each in transactions:
            request = self.transaction(each)
            if inner and (len(inner) == MAX_NESTED or size + request.ByteSize() > MAX_BYTES):
                yield etcdrpc.TxnRequest(success=inner)
                inner, size = [], 0
            inner.append(etcdrpc.RequestOp(request_txn=request))
            size += request.ByteSize()
        if inner:
            yield etcdrpc.TxnRequest(success=inner)

    def _key(self, key: str) -> bytes:
        return (self._root + key).encode()

    def _reads(self, reads: Sequence[Read]) -> list[Any]:
        return [etcdrpc.RequestOp(request_range=self._range(each)) for each in reads]

    def _range(self, read: Read) -> Any:
        if isinstance(read, Get):
            return etcdrpc.RangeRequest(key=self._key(read.key))
        end = self._key(read.end) if read.end else _end(self._key(read.prefix))
        return etcdrpc.RangeRequest(key=self._key(read.start or read.prefix), range_end=end, limit=read.limit)

    def _operation(self, operation: Operation) -> Any:
        key = self._key(operation.key)
        if isinstance(operation, Put):
            put = etcdrpc.PutRequest(key=key, value=operation.value, lease=operation.lease)
            return etcdrpc.RequestOp(request_put=put)
        if isinstance(operation, Delete):
            return etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=key))
        raise TypeError(operation)

    def _compare(self, compare: Compare) -> Any:
        key, kinds = self._key(compare.key), etcdrpc.Compare
        if isinstance(compare, Absent):
            return kinds(key=key, target=kinds.CREATE, result=kinds.EQUAL, create_revision=0)
        if isinstance(compare, NonePresent):
            return kinds(key=key, range_end=_end(key), target=kinds.CREATE, result=kinds.EQUAL, create_revision=0)
        if isinstance(compare, Present):
            return kinds(key=key, target=kinds.CREATE, result=kinds.GREATER, create_revision=0)
        if isinstance(compare, CreatedAt):
            return kinds(key=key, target=kinds.CREATE, result=kinds.EQUAL, create_revision=compare.revision)
        if isinstance(compare, ModifiedAt):
            return kinds(key=key, target=kinds.MOD, result=kinds.EQUAL, mod_revision=compare.revision)
        if isinstance(compare, Holds):
            return kinds(key=key, target=kinds.VALUE, result=kinds.EQUAL, value=compare.value)
        raise TypeError(compare)


def _end(prefix: bytes) -> bytes:
    """The first key behind all that begin with a prefix, whose last byte is below 255."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
