"""How images are asked for: by the address that was checked, with the host's own name, through proxies, by TLS."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from placet.images import ImageCache
from placet.model import ImageRef
from tests.support.hostile_http import Asked, Send, Web, answer, hostile_http, redirect
from tests.support.image_files import cache_at, files_of, limits, raw, refusal


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return cache_at(tmp_path / "cache")


@pytest.fixture
def disk(tmp_path: Path) -> bytes:
    return raw(tmp_path / "disk").read_bytes()


class Names:
    """In place of DNS: `names` leads each name to addresses, one set a look-up, the last for ever; `asked` counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, *args: Any, **more: Any) -> list[Any]:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            self.asked.append(host)
        else:
            return self._real(host, port, *args, **more)
        if host not in self.names:
            return self._real(host, port, *args, **more)
        answers = self.names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (family[ipaddress.ip_address(address).version], socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def test_a_name_is_looked_up_once_and_that_address_is_asked(
    cache: ImageCache, web: Web, names: Names, disk: bytes
) -> None:
    names.names["rebinding.example"] = [["127.0.0.1"], ["169.254.169.254"]]
    web.serve("/a", disk)

    cache.fetch(ImageRef(f"http://rebinding.example:{web.port}/a"))

    assert names.asked == ["rebinding.example"]
    assert web.asked[0].headers["host"] == f"rebinding.example:{web.port}"


def test_a_name_that_leads_to_a_forbidden_address_too_is_refused(cache: ImageCache, web: Web, names: Names) -> None:
    names.names["two-faced.example"] = [["127.0.0.1", "169.254.169.254"]]

    assert refusal(cache, f"http://two-faced.example:{web.port}/a").code == "image-refused"
    assert web.asked == []


def test_the_next_address_is_asked_when_one_does_not_answer(
    cache: ImageCache, web: Web, names: Names, disk: bytes
) -> None:
    names.names["two.example"] = [["127.0.0.2", "127.0.0.1"]]
    web.serve("/a", disk)

    assert cache.fetch(ImageRef(f"http://two.example:{web.port}/a")).format == "raw"


def test_a_redirect_is_looked_up_and_checked_anew(cache: ImageCache, web: Web, names: Names) -> None:
    names.names["a.example"] = [["127.0.0.1"], ["169.254.169.254"]]
    web.pages["/a"] = redirect(f"http://a.example:{web.port}/b")

    assert refusal(cache, f"http://a.example:{web.port}/a").code == "image-refused"
    assert web.paths() == ["/a"]


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::a9fe:a9fe]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "0xa9.254.43518",
        "0",
        "0.0.0.0",
        "[::]",
    ],
)
def test_numbers_of_any_kind_are_checked_as_the_address_they_mean(cache: ImageCache, host: str) -> None:
    assert refusal(cache, f"http://{host}/latest/meta-data").code == "image-refused"


def test_a_host_that_is_not_listed_is_not_even_looked_up(tmp_path: Path, web: Web, names: Names, disk: bytes) -> None:
    cache = cache_at(tmp_path / "cache", hosts=["127.0.0.1"])
    web.serve("/a", disk)
    web.pages["/away"] = redirect("http://elsewhere.example/a")

    assert cache.fetch(ImageRef(f"{web.url}/a")).format == "raw"
    before = files_of(cache)
    for url in ("http://elsewhere.example/a", f"http://localhost:{web.port}/a", f"{web.url}/away"):
        with pytest.raises(Exception, match="not among image_hosts"):
            cache.fetch(ImageRef(url))
    assert names.asked == []
    assert files_of(cache) == before


def test_an_unknown_name_is_unreachable(cache: ImageCache) -> None:
    assert refusal(cache, "http://nowhere.invalid/a").code == "image-unreachable"
    assert refusal(cache, "http://a..b/x").code == "image-unreachable"


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with a certificate for `images.example`, of an authority that the machine trusts."""
    with hostile_http(certificate(tmp_path, monkeypatch)) as web:
        yield web


def certificate(directory: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem"]
    names = ["-subj", "/CN=images.example", "-addext", "subjectAltName=DNS:images.example"]
    argv = ["openssl", "req", "-x509", *key, "-out", "cert.pem", *names, "-days", "2"]
    subprocess.run(argv, cwd=directory, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


def test_tls_asks_for_the_hosts_name_at_the_pinned_address(
    cache: ImageCache, secured: Web, names: Names, disk: bytes
) -> None:
    names.names["images.example"] = [["127.0.0.1"], ["169.254.169.254"]]
    secured.serve("/a", disk)

    assert cache.fetch(ImageRef(f"https://images.example:{secured.port}/a")).format == "raw"


@pytest.mark.parametrize("host", ["127.0.0.1", "other.example"])
def test_a_certificate_for_another_name_is_refused(cache: ImageCache, secured: Web, names: Names, host: str) -> None:
    names.names["other.example"] = [["127.0.0.1"]]

    fault = refusal(cache, f"https://{host}:{secured.port}/a")

    assert fault.code == "image-unreachable"
    assert "certificate" in str(fault)
    assert secured.asked == []


def test_a_certificate_that_nobody_trusts_is_refused(
    cache: ImageCache, secured: Web, names: Names, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names.names["images.example"] = [["127.0.0.1"]]
    (tmp_path / "none.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))

    assert "certificate" in str(refusal(cache, f"https://images.example:{secured.port}/a"))


def test_a_redirect_from_https_to_http_is_refused(cache: ImageCache, secured: Web, names: Names) -> None:
    names.names["images.example"] = [["127.0.0.1"]]
    secured.pages["/a"] = redirect("http://images.example/a")

    fault = refusal(cache, f"https://images.example:{secured.port}/a")

    assert fault.code == "image-refused"
    assert "from https to http://" in str(fault)


def test_a_silent_tls_server_is_cut_off(tmp_path: Path) -> None:
    cache = cache_at(tmp_path / "cache", limited=limits(timeout_s=0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fault = refusal(cache, f"https://127.0.0.1:{silent.getsockname()[1]}/a")

    assert fault.code == "image-unreachable"


@pytest.fixture
def proxied(web: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    """`web` as the proxy that the environment names."""
    monkeypatch.setenv("http_proxy", web.url.replace("//", "//me:pw@"))
    monkeypatch.setenv("https_proxy", web.url)
    monkeypatch.setenv("no_proxy", "direct.example")
    return web


def test_a_proxy_is_asked_for_names_that_only_it_knows(cache: ImageCache, proxied: Web, disk: bytes) -> None:
    proxied.pages["http://inside.invalid:80/a"] = lambda _asked, send: answer(send, disk)

    assert cache.fetch(ImageRef("http://inside.invalid/a")).format == "raw"
    assert proxied.asked[0].headers["host"] == "inside.invalid"
    assert proxied.asked[0].headers["proxy-authorization"] == "Basic bWU6cHc="


def test_even_through_a_proxy_forbidden_addresses_are_not_asked(cache: ImageCache, proxied: Web, names: Names) -> None:
    names.names["metadata.example"] = [["169.254.169.254"]]

    assert refusal(cache, "http://169.254.169.254/a").code == "image-refused"
    assert refusal(cache, "http://metadata.example/a").code == "image-refused"
    assert proxied.asked == []


def test_no_proxy_is_heeded(cache: ImageCache, proxied: Web, names: Names, disk: bytes) -> None:
    names.names["direct.example"] = [["127.0.0.1"]]
    proxied.serve("/a", disk)

    cache.fetch(ImageRef(f"http://direct.example:{proxied.port}/a"))

    assert proxied.paths() == ["/a"]


def relay(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def test_https_goes_through_a_tunnel_of_the_proxys(
    cache: ImageCache, proxied: Web, secured: Web, names: Names, disk: bytes
) -> None:
    secured.serve("/a", disk)

    def tunnel(asked: Asked, send: Send) -> None:
        with socket.create_connection(("127.0.0.1", secured.port)) as far:
            send(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=relay, args=(far, asked.wire))
            back.start()
            relay(asked.wire, far)
            back.join()

    proxied.pages[f"images.example:{secured.port}"] = tunnel

    assert cache.fetch(ImageRef(f"https://images.example:{secured.port}/a")).format == "raw"
    assert [(asked.method, asked.path) for asked in proxied.asked] == [("CONNECT", f"images.example:{secured.port}")]


def test_a_proxy_that_refuses_is_told(cache: ImageCache, proxied: Web) -> None:
    proxied.pages["images.example:443"] = lambda _asked, send: answer(send, b"", "403 Forbidden")

    assert "the proxy 127.0.0.1 answered HTTP 403" in str(refusal(cache, "https://images.example/a"))
