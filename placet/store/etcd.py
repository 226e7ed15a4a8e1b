"""The store on a real etcd, through the etcd3 package's client for keys, transactions and leases.

Its watcher is not used (docs/architecture.md says why): placet/store/watch.py has a loop of its own over its stubs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from placet.errors import BadConfig, LeaseGone, Refused, Unreachable
from placet.store import Compare, Entry, Found, Listing, Operation, Read, Transaction
from placet.store.etcd3_package import etcd3, etcdrpc
from placet.store.messages import Messages
from placet.store.problems import RAISED, Electing, token_died, translated
from placet.store.watch import EtcdWatch, WatchStream
from placet.store.watch_hub import WatchHub

T = TypeVar("T")
DEFAULT_TIMEOUT_S = 5.0
ELECTION_PAUSE_S = 0.1
MAX_MESSAGE_BYTES = 64 * 2**20
MAX_TOKENS = 5  # a change of users or roles while a call is under way ends the next one's, too
ALARMS = {1: "NOSPACE", 2: "CORRUPT"}

# A paused server is noticed after keepalive_time + keepalive_timeout instead of gRPC's minute and more; an attempt to
# connect is given up after min_reconnect_backoff instead of 20 s.
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
]


class EtcdStore:
    """Keys are kept under `prefix`; `client` holds the etcd3 client's own arguments (host, port, ca_cert …)."""

    def __init__(self, client: Mapping[str, Any], prefix: str = "/placet") -> None:
        self._arguments = {"host": "localhost", "port": 2379, "timeout": DEFAULT_TIMEOUT_S, **client}
        self._user, self._password = self._arguments.pop("user", None), self._arguments.pop("password", None)
        self._prefix = prefix.rstrip("/") + "/"
        self._messages = Messages(self._prefix)
        self._address = f"{self._arguments['host']}:{self._arguments['port']}"
        self._lock = threading.Lock()
        self._client = self._connect()
        self._log_in()

    def get(self, key: str) -> Entry | None:
        response = self._read(lambda client: client.get_response(self._prefix + key))
        return self._entry(response.kvs[0]) if response.kvs else None

    def scan(self, prefix: str) -> Listing:
        response = self._read(lambda client: client.get_prefix_response(self._prefix + prefix, sort_order="ascend"))
        entries = tuple(self._entry(found) for found in response.kvs)
        return Listing(entries, response.header.revision, response.header.cluster_id)

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> bool:
        return bool(self._transact(self._messages.transaction(Transaction(compares, operations))).succeeded)

    def read(self, *reads: Read) -> tuple[Found, ...]:
        request = self._messages.reads(reads)
        response = self._read(lambda client: self._transaction(client, request))
        return self._found(response.responses)

    def transact_all(self, transactions: Sequence[Transaction]) -> tuple[int, ...]:
        revisions: list[int] = []
        for request in self._messages.nested(transactions):
            response = self._transact(request)
            done = [each.response_txn.succeeded for each in response.responses]
            revisions += [response.header.revision if each else 0 for each in done]
        return tuple(revisions)

    def transact_and_read(self, transaction: Transaction, reads: Sequence[Read]) -> tuple[int, tuple[Found, ...]]:
        response = self._transact(self._messages.transaction_and_reads(transaction, reads))
        first, *rest = response.responses
        return response.header.revision if first.response_txn.succeeded else 0, self._found(rest)

    def _found(self, responses: Iterable[Any]) -> tuple[Found, ...]:
        ranges = [each.response_range for each in responses]
        return tuple(Found(tuple(self._entry(kv) for kv in found.kvs), found.count) for found in ranges)

    def _transact(self, request: Any) -> Any:
        return self._call(lambda client: self._transaction(client, request))

    def _transaction(self, client: Any, request: Any) -> Any:
        return client.kvstub.Txn(request, self._arguments["timeout"], metadata=client.metadata)

    def grant_lease(self, ttl_s: int, lease: int = 0) -> int:
        try:
            return int(self._call(lambda client: client.lease(ttl_s, lease).id))
        except Refused as refusal:
            if lease and "lease already exists" in str(refusal):
                return lease
            raise

    def refresh_lease(self, lease: int) -> int:
        answers = self._call(lambda client: [int(answer.TTL) for answer in client.refresh_lease(lease)])
        return max(answers, default=0)

    def revoke_lease(self, lease: int) -> None:
        with contextlib.suppress(LeaseGone):
            self._call(lambda client: client.revoke_lease(lease))

    def watch(self, prefixes: Sequence[str], revision: int) -> EtcdWatch:
        return self._stream(is_lasting=False).watch(prefixes, revision)

    def watch_hub(self) -> WatchHub:
        """What many watches can share one stream through."""
        return WatchHub(lambda: self._stream(is_lasting=True))

    def _stream(self, is_lasting: bool) -> WatchStream:
        client = self._client
        return WatchStream(client.channel, client.metadata, self._prefix, self._address, is_lasting)

    def alarms(self) -> tuple[str, ...]:
        found = self._call(lambda client: list(client.list_alarms()))
        return tuple(sorted({ALARMS.get(alarm.alarm_type, str(alarm.alarm_type)) for alarm in found}))

    def close(self) -> None:
        self._client.close()

    def _connect(self) -> Any:
        if bool(self._user) != bool(self._password):
            raise BadConfig("etcd: user: and password: go together")
        try:
            return etcd3.client(grpc_options=CHANNEL_OPTIONS, **self._arguments)
        except OSError as problem:
            raise BadConfig(f"etcd: cannot read {problem.filename}: {problem.strerror}") from problem
        except Exception as problem:  # etcd3 raises bare Exception and ValueError for arguments that do not fit
            raise BadConfig(f"etcd: {problem}") from problem

    def _read(self, run: Callable[[Any], T]) -> T:
        """A call that changes nothing; a cluster that chooses a leader is given the usual time to do so."""
        deadline = time.monotonic() + self._arguments["timeout"]
        while True:
            try:
                return self._call(run)
            except Electing:
                if time.monotonic() > deadline:
                    raise
                time.sleep(ELECTION_PAUSE_S)

    def _call(self, run: Callable[[Any], T]) -> T:
        """One call with its errors translated. A dead password token is replaced: such a call did nothing."""
        tokens = 1
        while True:
            token = self._client.metadata
            try:
                return run(self._client)
            except RAISED as problem:
                if not self._user or not token_died(problem) or tokens == MAX_TOKENS:
                    raise self._translated(problem) from problem
            self._log_in(token)
            tokens += 1

    def _log_in(self, dead: object = None) -> None:
        """Have a token, unless another thread has replaced the dead one already.

        The channel stays, and with it what other threads are at. The etcd3 package would do this when it connects, but
        also hands the token to gRPC as call credentials, which refuses these on a connection without TLS.
        """
        with self._lock:
            if not self._user or self._client.metadata != dead:
                return
            request = etcdrpc.AuthenticateRequest(name=self._user, password=self._password)
            try:
                found = etcdrpc.AuthStub(self._client.channel).Authenticate(request, self._arguments["timeout"])
            except RAISED as problem:
                raise self._translated(problem) from problem
            self._client.metadata = (("token", found.token),)

    def _translated(self, problem: BaseException) -> Unreachable | Refused:
        return translated(problem, self._address, self._arguments["timeout"])

    def _entry(self, found: Any) -> Entry:
        key = found.key.decode(errors="replace").removeprefix(self._prefix)
        return Entry(key, found.value, found.create_revision, found.mod_revision, found.lease)
