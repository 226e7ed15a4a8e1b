"""Giving up what root may, once the sockets are there: whatever a guest made this process do, it could do little.

What is left is to pass through directories of others on the way to the records (a state directory in a home).
capset(2), capabilities(7); PR_SET_NO_NEW_PRIVS is in prctl(2).
"""

from __future__ import annotations

import ctypes
import os

CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522
PR_SET_NO_NEW_PRIVS = 38


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    """The lower 32 capabilities, then the others."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def drop_privileges() -> None:
    """For good: no program that this process starts has more. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(CAPABILITY_VERSION_3, 0), (_Data * 2)()
    _check(libc.capget(ctypes.byref(header), data))
    kept = data[0].permitted & (1 << CAP_DAC_READ_SEARCH)
    data[0], data[1] = _Data(kept, kept, 0), _Data(0, 0, 0)
    _check(libc.capset(ctypes.byref(header), data))
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
