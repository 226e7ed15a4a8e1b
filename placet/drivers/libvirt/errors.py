"""libvirt's errors as ours, in one place."""

from __future__ import annotations

from typing import Any

import libvirt

from placet.errors import Fault, PlacetError, Unreachable

CONNECTION_DOMAINS = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
CONNECTION_CODES = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_RPC,
        libvirt.VIR_ERR_AUTH_FAILED,
        # "cannot acquire state change lock": another call on the same domain hangs; later it may not
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
    }
)


def translate(error: libvirt.libvirtError, uri: str, doing: str) -> PlacetError:
    """`Unreachable` when libvirtd did not answer, else `Fault`; `doing` says what was tried, in words."""
    line = first_line(error)
    if error.get_error_code() in CONNECTION_CODES or error.get_error_domain() in CONNECTION_DOMAINS:
        return unreachable(uri, line)
    if "No space left on device" in line:
        return Fault("disk-full", f"{doing}: {line}; free some space on the node")
    return Fault("hypervisor", f"{doing}: {line}; libvirt's log on the node says more")


def unreachable(uri: str, reason: str) -> Unreachable:
    """libvirtd is not there, or was and went."""
    return Unreachable(
        f"libvirt at {uri} does not answer ({reason}); start libvirtd: systemctl start libvirtd, or ./up.sh"
    )


def is_code(error: libvirt.libvirtError, *codes: int) -> bool:
    """Whether it is one of libvirt's VIR_ERR_ codes."""
    return error.get_error_code() in codes


def first_line(error: libvirt.libvirtError) -> str:
    """What it says, without the XML and command output that may follow."""
    message: Any = error.get_error_message() or str(error)
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return f"{lines[0]} {lines[-1]}"
    return lines[0] if lines else "no reason given"
