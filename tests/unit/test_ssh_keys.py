"""ssh public keys: what OpenSSH would take and is strong enough is taken, all else is refused with the remedy."""

from __future__ import annotations

import base64
import struct
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from placet.errors import Usage
from placet.ssh_keys import TYPES, comment, fingerprint, key_type, parse_public_key, same_key

Private = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# `ssh-keygen -l` prints this fingerprint for this key
KNOWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@laptop"


@cache
def private(kind: str) -> Private:
    if kind == "ssh-ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    if kind.startswith("rsa-"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))
    curves = {"nistp256": ec.SECP256R1(), "nistp384": ec.SECP384R1(), "nistp521": ec.SECP521R1()}
    return ec.derive_private_key(12345, curves[kind.removeprefix("ecdsa-sha2-")])


def public(kind: str) -> str:
    return private(kind).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def field(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def security_key(kind: str, plain: str) -> str:
    """A key of a FIDO token, which is a plain one under another name and for an application (PROTOCOL.u2f)."""
    blob = base64.b64decode(public(plain).split()[1])
    inner = blob[4 + len(plain) :]
    return f"{kind} {base64.b64encode(field(kind.encode()) + inner + field(b'ssh:')).decode()}"


GOOD = {
    "ssh-ed25519": lambda: public("ssh-ed25519"),
    "ssh-rsa": lambda: public("rsa-2048"),
    "ecdsa-sha2-nistp256": lambda: public("ecdsa-sha2-nistp256"),
    "ecdsa-sha2-nistp384": lambda: public("ecdsa-sha2-nistp384"),
    "ecdsa-sha2-nistp521": lambda: public("ecdsa-sha2-nistp521"),
    "sk-ssh-ed25519@openssh.com": lambda: security_key("sk-ssh-ed25519@openssh.com", "ssh-ed25519"),
    "sk-ecdsa-sha2-nistp256@openssh.com": lambda: security_key(
        "sk-ecdsa-sha2-nistp256@openssh.com", "ecdsa-sha2-nistp256"
    ),
}


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_is_taken_and_comes_back_as_it_was(kind: str) -> None:
    line = f"{GOOD[kind]()} me@laptop"
    assert parse_public_key(line) == line
    assert (key_type(line), comment(line)) == (kind, "me@laptop")


@pytest.mark.parametrize("text", ["{}", "{}\n", "  {}\r\n", "# a comment\n\n{}\n", "{}\n# another"])
def test_what_surrounds_the_line_does_not_matter(text: str) -> None:
    assert parse_public_key(text.format(KNOWN)) == KNOWN


def test_a_comment_may_say_anything() -> None:
    line = KNOWN.replace("me@laptop", "not the PRIVATE KEY of ssh-rsa fame")
    assert parse_public_key(line) == line


def test_a_comment_is_optional_and_loses_control_characters() -> None:
    bare = KNOWN.rsplit(" ", 1)[0]
    assert parse_public_key(bare) == bare and comment(bare) == ""
    assert parse_public_key(f"{bare}   two \x1b[31m words  ") == f"{bare} two [31m words"


def test_the_fingerprint_is_openssh_s() -> None:
    assert fingerprint(KNOWN) == "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"


def test_two_lines_are_one_key_whatever_their_comments_say() -> None:
    assert same_key(KNOWN, KNOWN.replace("me@laptop", "other"))
    assert not same_key(KNOWN, public("ecdsa-sha2-nistp256"))


def pem() -> str:
    return private("ssh-ed25519").private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def with_blob(kind: str, blob: bytes) -> str:
    return f"{kind} {base64.b64encode(blob).decode()}"


BLOB = base64.b64decode(KNOWN.split()[1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("# only a comment\n", "it is empty"),
        ("hello world", "its type is 'hello'"),
        ("ssh-ed25519", "nothing follows"),
        ("ssh-ed25519 AAAA", "is no such key"),
        ("ssh-ed25519 §§§", "its base64 is broken"),
        (KNOWN.replace("AAAAC3", "AAAAC3*"), "its base64 is broken"),
        (f"{KNOWN}\n{KNOWN}", "2 lines"),
        (f'from="10.0.0.0/8",no-pty {KNOWN}', "options before it"),
        (f'command="echo hello" {KNOWN}', "options before it"),
        (f"ssh-rsa {KNOWN.split()[1]}", "is no such key"),
        (with_blob("ssh-ed25519", BLOB[:-1]), "is no such key"),
        (with_blob("ssh-ed25519", BLOB + b"\0"), "is no such key"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "too weak"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "a certificate"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "ssh-keygen -i"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "private key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA", "private key"),
        ("x" * 20_000, "20000 characters"),
    ],
)
def test_what_is_no_such_line_is_refused(text: str, words: str) -> None:
    with pytest.raises(Usage) as caught:
        parse_public_key(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_private_key_is_never_repeated() -> None:
    with pytest.raises(Usage, match=r"the \.pub file that lies beside it") as caught:
        parse_public_key(pem())
    assert pem().splitlines()[1][:16] not in str(caught.value)


def test_a_short_rsa_key_is_refused() -> None:
    with pytest.raises(Usage, match="1024 bits, where 2048 are the least"):
        parse_public_key(public("rsa-1024"))


def test_a_point_that_is_on_no_curve_is_refused() -> None:
    blob = bytearray(base64.b64decode(public("ecdsa-sha2-nistp256").split()[1]))
    blob[-1] ^= 1
    with pytest.raises(Usage, match="is no such key"):
        parse_public_key(with_blob("ecdsa-sha2-nistp256", bytes(blob)))


@given(st.sampled_from(TYPES), st.binary(max_size=120) | st.just(BLOB), st.integers(0, 400), st.binary(max_size=4))
def test_no_bytes_are_anything_but_a_key_or_refused(kind: str, blob: bytes, place: int, change: bytes) -> None:
    altered = blob[:place] + change + blob[place + len(change) :]
    try:
        line = parse_public_key(with_blob(kind, altered))
    except Usage:
        return
    assert parse_public_key(line) == line


@given(st.text(max_size=200))
def test_no_text_is_anything_but_a_key_or_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_public_key(text)
