"""URLs of images taken apart, and the proxy that the environment names for one. Pure but for the environment."""

from __future__ import annotations

import base64
import urllib.request
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

from placet.errors import Fault
from placet.images.transfer import shown

PORTS = {"http": 80, "https": 443}
SAFE = "%/:=&?~#+!$,;'@()*[]"  # what may stand in a target as it is


@dataclass(frozen=True)
class Place:
    """Where to ask, and what for. `target` is path and query; `authorization` a header's value, or ""."""

    scheme: str
    host: str
    port: int
    target: str
    authorization: str = ""

    @property
    def authority(self) -> str:
        """Host and port, as a URL or a CONNECT has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """As browsers write it: without the scheme's own port."""
        return self.authority.removesuffix(f":{PORTS[self.scheme]}")

    @property
    def url(self) -> str:
        """The whole, without a secret of the authority part."""
        return f"{self.scheme}://{self.authority}{self.target}"


def place_of(url: str, image: str) -> Place:
    """The place of an http or https URL; `image` is for messages. Raises Fault `image-refused`."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").removesuffix("."), parts.port
    except ValueError as problem:
        raise _no_url(url, image, problem) from problem
    if scheme not in PORTS or not host or port == 0:
        raise Fault("image-refused", f"image {image}: {shown(url)} is no http or https URL with a host")
    if not host.isascii() or "%" in host or not host.isprintable() or " " in host:
        raise Fault("image-refused", f"image {image}: host {host!r} is no plain name; write it as DNS does (xn--…)")
    target = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
    return Place(scheme, host, port or PORTS[scheme], target, _basic(parts.username, parts.password))


def redirected(place: Place, location: str, image: str) -> Place:
    """Where a redirect from `place` leads. Secrets are for the first host alone. Raises Fault `image-refused`."""
    meant = location.encode("latin-1", "replace").decode("utf-8", "replace")
    try:
        url = urljoin(place.url, meant)
    except ValueError as problem:
        raise _no_url(meant, image, problem) from problem
    found = place_of(url, image)
    if place.scheme == "https" and found.scheme == "http":
        raise Fault(
            "image-refused", f"image {image}: redirected from https to {shown(url)}; give an address that stays safe"
        )
    same = (place.scheme, place.host, place.port) == (found.scheme, found.host, found.port)
    return Place(found.scheme, found.host, found.port, found.target, place.authorization if same else "")


def proxy_for(place: Place) -> Place | None:
    """As `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say. Raises Fault for one that is not http."""
    proxies = urllib.request.getproxies()
    url = proxies.get(place.scheme) or proxies.get("all")
    if not url or urllib.request.proxy_bypass(place.host):
        return None
    proxy = place_of(url if "://" in url else f"http://{url}", "through a proxy")
    if proxy.scheme != "http":
        raise Fault("image-refused", f"proxy {shown(url)}: only http:// proxies are known; correct the environment")
    return proxy


def _no_url(url: str, image: str, problem: ValueError) -> Fault:
    return Fault("image-refused", f"image {image}: {shown(url)} is no URL ({problem}); correct it")


def _basic(user: str | None, password: str | None) -> str:
    if user is None:
        return ""
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
