"""An etcd that demands client certificates: the `etcd:` keys of a configuration are what its client takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from placet.errors import BadConfig, Unreachable
from placet.store import Put
from placet.store.etcd import EtcdStore
from tests.support.services import Process, fast_directory, free_port


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def make_certificates(directory: Path) -> None:
    """An authority `ca` and a certificate `node` for 127.0.0.1, which serves and is a client."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(directory, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    openssl(directory, "req", *curve, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=node")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl(directory, "x509", "-req", "-in", "node.csr", *signed, "-out", "node.pem")


@pytest.fixture(scope="module")
def secured() -> Iterator[dict[str, Any]]:
    """The `etcd:` keys for a running etcd that asks for certificates."""
    with fast_directory("etcd-tls") as directory:
        make_certificates(directory)
        port, peer = free_port(), free_port()
        files = {name: str(directory / name) for name in ("ca.pem", "node.pem", "node.key")}
        argv = ["etcd", "--data-dir", str(directory / "etcd"), "--client-cert-auth", "--logger", "zap"]
        argv += [
            "--trusted-ca-file",
            files["ca.pem"],
            "--cert-file",
            files["node.pem"],
            "--key-file",
            files["node.key"],
        ]
        argv += [f"--listen-client-urls=https://127.0.0.1:{port}", f"--advertise-client-urls=https://127.0.0.1:{port}"]
        argv += [
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        ]
        argv += [f"--initial-cluster=default=http://127.0.0.1:{peer}"]
        process = Process(argv, directory / "log")
        certificates = {"ca_cert": files["ca.pem"], "cert_cert": files["node.pem"], "cert_key": files["node.key"]}
        yield {"host": "127.0.0.1", "port": port, **certificates}
        process.stop()


def test_with_the_certificates_everything_works_watches_too(secured: dict[str, Any]) -> None:
    store = EtcdStore(secured)
    deadline = time.monotonic() + 120
    while True:
        try:
            revision = store.scan("").revision
            break
        except Unreachable:
            assert time.monotonic() < deadline, "etcd did not start"
            time.sleep(0.1)
    watch = store.watch(["a"], revision + 1)
    store.transact([], [Put("a", b"1")])
    assert [event.key for event in watch.wait(60)] == ["a"]
    watch.close()
    store.close()


def test_without_them_it_is_unreachable(secured: dict[str, Any]) -> None:
    for wrong in ({"host": secured["host"], "port": secured["port"]}, {**secured, "cert_cert": None, "cert_key": None}):
        store = EtcdStore({key: value for key, value in wrong.items() if value is not None})
        with pytest.raises(Unreachable):
            store.scan("")
        store.close()


def test_a_certificate_file_that_is_not_there_is_named(secured: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match=r"/nonexistent\.pem"):
        EtcdStore({**secured, "ca_cert": "/nonexistent.pem"})
