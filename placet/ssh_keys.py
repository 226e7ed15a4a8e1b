"""ssh public keys as people hand them in: one line of OpenSSH's format, checked before anything is done with it. Pure.

The line is sshd(8)'s, under AUTHORIZED_KEYS FILE FORMAT, without options: these would be promises of ours.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from placet.errors import Usage

TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
MIN_RSA_BITS = 2048
MAX_BYTES = 16 * 1024


def parse_public_key(text: str) -> str:
    """The one key in the text of a .pub file, as `TYPE BASE64 COMMENT` or without a comment. Raises Usage."""
    line = _only_line(text)
    words = line.split(maxsplit=2)
    if words[0] not in TYPES:
        raise Usage(f"no ssh public key: {_wrong_type(words[0], line)}")
    if len(words) == 1:
        raise Usage(f"no ssh public key: nothing follows {words[0]!r}; give the whole line of the .pub file")
    blob = _blob(words[1])
    _check(words[0], blob)
    comment = "".join(each for each in " ".join(words[2:]) if each.isprintable())
    return f"{words[0]} {base64.b64encode(blob).decode()} {comment}".rstrip()


def key_type(line: str) -> str:
    """The type of a key that parse_public_key gave."""
    return line.split(maxsplit=2)[0]


def comment(line: str) -> str:
    """Its comment, "" when it has none."""
    return "".join(line.split(maxsplit=2)[2:])


def fingerprint(line: str) -> str:
    """Its fingerprint as `ssh-keygen -l` prints it: `SHA256:` and 43 characters of base64."""
    digest = hashlib.sha256(base64.b64decode(line.split(maxsplit=2)[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def same_key(line: str, other: str) -> bool:
    """Whether two lines are of one key, whatever their comments say."""
    return line.split(maxsplit=2)[:2] == other.split(maxsplit=2)[:2]


def _only_line(text: str) -> str:
    if re.match(r"\s*(-----BEGIN [A-Z ]*PRIVATE KEY|PuTTY-User-Key-File)", text):
        raise Usage("that is a private key: keep it, and give the .pub file that lies beside it")
    if text.startswith("---- BEGIN SSH2 PUBLIC KEY"):
        raise Usage("that is no key of OpenSSH's format; `ssh-keygen -i -f FILE` makes it one")
    if len(text) > MAX_BYTES:
        raise Usage(f"no ssh public key: {len(text)} characters; give one key's .pub file")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise Usage("no ssh public key: it is empty; give the .pub file")
    if len(lines) > 1:
        raise Usage(f"{len(lines)} lines, where one key is wanted; give each key in a file of its own")
    return lines[0]


def _wrong_type(word: str, line: str) -> str:
    if any(f" {kind} " in line for kind in TYPES):
        return "there are options before it; give the key alone, without them"
    if word == "ssh-dss":
        return "ssh-dss is too weak, sshd refuses it; make another: ssh-keygen -t ed25519"
    if word.endswith("-cert-v01@openssh.com"):
        return "that is a certificate; give the .pub file of the key itself"
    return f"its type is {word[:40]!r}, taken are {', '.join(TYPES)}"


def _blob(word: str) -> bytes:
    try:
        return base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise Usage(f"no ssh public key: its base64 is broken ({problem}); copy the whole line") from problem


def _check(kind: str, blob: bytes) -> None:
    """Whether the bytes are a key of that kind, and one that holds. The library takes 60 ms to load."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key  # noqa: PLC0415

    line = f"{kind} {base64.b64encode(blob).decode()}"
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise Usage(f"no ssh public key: what follows {kind!r} is no such key; copy the whole line") from problem
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise Usage(
            f"an RSA key of {key.key_size} bits, where {MIN_RSA_BITS} are the least that holds; "
            "make another: ssh-keygen -t ed25519"
        )
