"""What a user gives a guest along: user-data, small files, properties, a host name. Checked here; pure, step 1.

How they reach the guest is placet/metadata/'s.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence

from placet.errors import Usage
from placet.model import GuestFile, Spec, raw_user_data

MAX_USER_DATA_BYTES = 64 * 1024
MAX_FILES = 16
MAX_FILES_BYTES = 32 * 1024
MAX_PROPERTIES = 64
MAX_VALUE_CHARACTERS = 255
MAX_PATH_BYTES = 4095  # Linux's PATH_MAX, its final NUL left out
MAX_NAME_BYTES = 255
MAX_HOSTNAME = 253

LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
PROPERTY = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
MODE = re.compile(r"0[0-7]{3}")


def encode_user_data(data: bytes) -> tuple[str, str]:
    """User-data as text, and how it became text: `utf-8` or `base64`. Raises Usage."""
    if len(data) > MAX_USER_DATA_BYTES:
        raise Usage(f"user-data is over {MAX_USER_DATA_BYTES // 1024} KiB; compress it (gzip) or let it fetch the rest")
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(data).decode(), "base64"


def check_hostname(word: str) -> str:
    """A host name of RFC 1123, or a full domain name of such labels. Raises Usage."""
    labels = word.split(".")
    is_number = len(labels) > 1 and labels[-1].isdigit()  # RFC 1123, 2.1: nothing that reads as an address
    if len(word) > MAX_HOSTNAME or is_number or not all(LABEL.fullmatch(label) for label in labels):
        raise Usage(f"{word!r} is no host name: labels of letters, digits and '-', at most 63, joined by dots")
    return word


def parse_properties(words: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` each. Raises Usage."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not PROPERTY.fullmatch(key) or key in (".", ".."):
            raise Usage(f"property {word!r} is not KEY=VALUE; a key is up to 64 letters, digits and _ . : -")
        if key in found:
            raise Usage(f"property {key!r} is given twice; give it once")
        if len(value) > MAX_VALUE_CHARACTERS:
            raise Usage(f"property {key!r} has {len(value)} characters, over {MAX_VALUE_CHARACTERS}; shorten it")
        found[key] = value
    if len(found) > MAX_PROPERTIES:
        raise Usage(f"{len(found)} properties are over the {MAX_PROPERTIES} that an instance may have; give fewer")
    return found


def parse_files(words: Sequence[str]) -> dict[str, str]:
    """`GUESTPATH=LOCAL` each, as local paths by the guest's. Raises Usage."""
    if len(words) > MAX_FILES:
        raise Usage(f"{len(words)} files are over the {MAX_FILES} that a guest may get; let user-data fetch the rest")
    found: dict[str, str] = {}
    for word in words:
        guest_path, _, local = word.partition("=")
        if not local:
            raise Usage(f"file {word!r} is not GUESTPATH=LOCAL, as in /etc/motd=motd.txt")
        path = check_guest_path(guest_path)
        if path in found:
            raise Usage(f"file {path} is given twice; give it once")
        found[path] = local
    return found


def check_guest_path(word: str) -> str:
    """A file's absolute path in the guest, normalised. Raises Usage."""
    parts = [part for part in word.split("/") if part not in ("", ".")]
    path = "/" + "/".join(parts)
    if not word.startswith("/") or word.endswith(("/", "/.")) or ".." in parts:
        raise Usage(f"file {word!r}: the path in the guest must be a file's, absolute and without '..'")
    if not word.isprintable():
        raise Usage(f"file {word!r}: no control characters in the path in the guest")
    if len(path.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise Usage(f"file {word!r:.60}: the path in the guest is too long")
    return path


def guest_file(path: str, content: bytes, mode: int) -> GuestFile:
    """A file for a guest; of `mode` the permissions count."""
    return GuestFile(path, base64.b64encode(content).decode(), f"{mode & 0o777:04o}")


def check_files(files: Sequence[GuestFile]) -> tuple[GuestFile, ...]:
    """The files, if they are not too large together. Raises Usage."""
    size = sum(len(base64.b64decode(file.content)) for file in files)
    if size > MAX_FILES_BYTES:
        raise Usage(f"files have {size} bytes, over {MAX_FILES_BYTES // 1024} KiB; let user-data fetch large ones")
    return tuple(files)


def flaw_of(spec: Spec) -> str | None:
    """What no guest could be given of a spec that somebody wrote by hand; None when all is well."""
    try:
        raw_user_data(spec)
        for file in spec.files:
            base64.b64decode(file.content, validate=True)
            check_guest_path(file.path)
    except (ValueError, Usage) as problem:
        return f"user-data or files: {problem}"
    wrong = next((file.mode for file in spec.files if not MODE.fullmatch(file.mode)), None)
    return None if wrong is None else f"files: mode {wrong!r} is not as in 0644"
