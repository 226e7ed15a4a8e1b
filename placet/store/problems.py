"""What etcd's client raises, told in Placet's own errors. The store's edge to gRPC's status codes."""

from __future__ import annotations

from placet.errors import LeaseGone, Refused, Unreachable
from placet.store.etcd3_package import etcd3, grpc

RAISED = (etcd3.exceptions.Etcd3Exception, grpc.RpcError)

# Codes that gRPC itself gives to a call that broke off; when etcd answers with one, its words begin with its name.
BROKEN_OFF = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
ETCD_SAYS = ("etcdserver:", "auth:")


class Electing(Unreachable):
    """The cluster is choosing a leader, or can't: what was asked was not carried out where it was a read."""


# The server names a token that has ended, is from before its restart, or older than the last change of roles.
DEAD_TOKEN = ("invalid auth token", "revision of auth store is old")


def translated(problem: BaseException, address: str, timeout_s: float) -> Unreachable | Refused:
    """Unreachable when it is open whether the call was carried out, Refused when etcd said that it was not."""
    code, details = _code(problem), _details(problem)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unreachable(f"etcd at {address} did not answer within {timeout_s:g} s; is it overloaded?")
    if code is grpc.StatusCode.UNAVAILABLE and details.startswith(ETCD_SAYS):  # no leader, too slow, stopping
        return Electing(f"etcd at {address} can't serve now ({details}); is a majority of it up, its disk too slow?")
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unreachable(f"etcd at {address} is not reachable; start it (./up.sh) or set etcd: in the YAML")
    if code in BROKEN_OFF and not details.startswith(ETCD_SAYS):
        return Unreachable(f"the call to etcd at {address} broke off: {details}")
    if "database space exceeded" in details:
        return Refused(
            f"etcd at {address} is full (NOSPACE) and takes no writes: compact and defragment it, then "
            "`etcdctl alarm disarm`; or start it with a greater --quota-backend-bytes"
        )
    refusal = LeaseGone if "lease not found" in details else Refused
    return refusal(f"etcd at {address} refused: {details}")


def token_died(problem: BaseException) -> bool:
    """Whether a call did nothing because its password token is no longer good."""
    details = _details(problem)
    return _code(problem) is grpc.StatusCode.UNAUTHENTICATED or any(words in details for words in DEAD_TOKEN)


def _error(problem: BaseException) -> BaseException | None:
    """gRPC's own error: the etcd3 package keeps it as the context of some of its exceptions."""
    return problem if isinstance(problem, grpc.RpcError) else problem.__context__


def _code(problem: BaseException) -> grpc.StatusCode | None:
    error = _error(problem)
    return error.code() if isinstance(error, grpc.Call) else None


def _details(problem: BaseException) -> str:
    error = _error(problem)
    return (error.details() if isinstance(error, grpc.Call) else str(problem)) or type(problem).__name__
