"""Reading what the words of `create` name for a guest: files, standard input, keys by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from placet import guest_inputs, keys
from placet.errors import Usage
from placet.model import GuestFile, KeyRecord, decode

if TYPE_CHECKING:
    from placet.store import Store

MAX_KEY_FILE_BYTES = 64 * 1024


def read_user_data(word: str | None) -> tuple[str, str]:
    """The user-data that a file or, for `-`, standard input holds, and its encoding. Raises Usage."""
    if word is None:
        return guest_inputs.encode_user_data(b"")
    size = guest_inputs.MAX_USER_DATA_BYTES
    data = sys.stdin.buffer.read(size + 1) if word == "-" else _read("user-data", word, size)[0]
    return guest_inputs.encode_user_data(data)


def read_files(words: Sequence[str]) -> tuple[GuestFile, ...]:
    """The files of `--file GUESTPATH=LOCAL`, with the local ones' content and permissions. Raises Usage."""
    found = []
    for path, local in guest_inputs.parse_files(words).items():
        content, mode = _read("file", local, guest_inputs.MAX_FILES_BYTES)
        found.append(guest_inputs.guest_file(path, content, mode))
    return guest_inputs.check_files(found)


def read_keys(words: Iterable[str], store: Store, project: str) -> tuple[str, ...]:
    """The ssh public keys that files or, by name, etcd hold, each once. Raises Usage."""
    found: dict[str, None] = {}
    for word in words:
        found |= dict.fromkeys(_key_file(word) if _is_file(word) else [_named_key(word, store, project)])
    return tuple(found)


def _is_file(word: str) -> bool:
    try:
        return "/" in word or (Path(word).exists() and not Path(word).is_dir())
    except OSError:  # too long for a file's name
        return False


def _key_file(word: str) -> list[str]:
    """A file's keys: usually one, else a line each."""
    # what checks keys takes 60 ms to load
    from placet.ssh_keys import parse_public_key

    data, _ = _read("key", word, MAX_KEY_FILE_BYTES)
    if len(data) > MAX_KEY_FILE_BYTES:
        raise Usage(f"key {word}: over {MAX_KEY_FILE_BYTES // 1024} KiB; give the .pub file")
    text = data.decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    try:
        return [parse_public_key(line) for line in lines or [text]]
    except Usage as problem:
        raise Usage(f"key {word}: {problem}") from problem


def _named_key(word: str, store: Store, project: str) -> str:
    entry = store.get(keys.ssh_key(project, word))
    if entry is None:
        raise Usage(f"key {word!r} is no file here and no key of project {project!r}; see `schedule.py key list`")
    return decode(KeyRecord, entry.value, entry.key).key


def _read(what: str, path: str, size: int) -> tuple[bytes, int]:
    """A file's content, of a longer one `size` + 1 bytes, and its mode. It may be a pipe."""
    try:
        with Path(path).open("rb") as file:
            return file.read(size + 1), os.fstat(file.fileno()).st_mode
    except OSError as problem:
        raise Usage(f"{what} {path}: {problem.strerror}") from problem
