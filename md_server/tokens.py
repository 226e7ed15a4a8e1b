"""IMDSv2 session tokens: a guest asks for one by PUT, which a request forged through it can't. Pure.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html

Nothing is kept: a token is its expiry and a MAC of that and the instance. A restarted server has another secret;
clients then get 401 and ask again, as they must anyway when a token expires.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct

MIN_TTL_S, MAX_TTL_S = 1, 21_600
_EXPIRY = struct.Struct(">Q")


class Tokens:
    """Issues and checks the tokens of one server; `secret` is random and never leaves it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, instance: str, ttl_s: int, now: float) -> str:
        """A token that is good for this instance and `ttl_s` seconds."""
        expiry = _EXPIRY.pack(int(now) + ttl_s)
        return base64.urlsafe_b64encode(expiry + self._mac(instance, expiry)).decode()

    def valid(self, token: bytes, instance: str, now: float) -> bool:
        """Whether this server issued the token to this instance and it has not expired."""
        try:
            decoded = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        expiry, mac = decoded[: _EXPIRY.size], decoded[_EXPIRY.size :]
        return hmac.compare_digest(mac, self._mac(instance, expiry)) and now < _EXPIRY.unpack(expiry)[0]

    def _mac(self, instance: str, expiry: bytes) -> bytes:
        return hmac.digest(self._secret, expiry + instance.encode(), "sha256")
