"""The one table of what runs here; processes.py and units.py start and stop it, status.py shows it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from placet.onebox.layout import PROJECT, StateDirectory
from placet.onebox.settings import Settings

GUNICORN_CONFIG = Path(__file__).with_name("gunicorn_conf.py")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Service:
    """One long-running program.

    `ports` are what it binds, for a plain word when another program has them. A change of argv, environment or of
    one of `files` means that it has to be restarted. `keeps_children`: what it leaves behind (guests) stays.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    files: tuple[Path, ...] = ()
    keeps_children: bool = False
    stop_s: int = 15

    def digest(self) -> str:
        """Changes whenever a running one has to be restarted to be what is wanted."""
        found = hashlib.sha256(repr((self.argv, sorted(self.env.items()))).encode())
        for path in self.files:
            found.update(path.read_bytes() if path.is_file() else b"")
        return found.hexdigest()[:16]


def services(settings: Settings, state: StateDirectory) -> list[Service]:
    """What runs on this machine, in the order in which it is started."""
    found: list[Service] = []
    if settings.etcd.ours:
        found.append(_etcd(settings, state))
    if settings.placement.ours:
        found.append(_placement(settings, state))
    if settings.libvirt.ours:
        found += [_hypervisor(state, "virtlogd"), _hypervisor(state, "libvirtd")]
    after = tuple(service.name for service in found)
    machines = () if settings.libvirt.ours else ("libvirtd.service",)
    found.append(
        Service(
            "compute",
            (sys.executable, str(PROJECT / "compute.py"), "--config", str(state.compute_yaml)),
            _python_env(state),
            after=after + machines,
            files=(state.compute_yaml,),
            stop_s=60,
        )
    )
    return found


def _etcd(settings: Settings, state: StateDirectory) -> Service:
    etcd = settings.etcd
    addresses = [LOOPBACK, *([settings.listen] if settings.listen else [])]
    scheme = "https" if etcd.ca else "http"
    clients = ",".join(f"{scheme}://{address}:{etcd.port}" for address in addresses)
    peer = f"http://{LOOPBACK}:{etcd.peer_port}"
    argv = {
        "name": "placet",
        "data-dir": str(state.root / "etcd"),
        "listen-client-urls": clients,
        "advertise-client-urls": clients,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"placet={peer}",
        # without these etcd fills up and then refuses even destroys
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
        "quota-backend-bytes": str(8 * 2**30),
        "logger": "zap",
        **_etcd_tls(settings),
    }
    words = tuple(word for name, value in argv.items() for word in (f"--{name}", value))
    tls = ("--client-cert-auth",) if etcd.ca else ()
    ports = [*((address, etcd.port) for address in addresses), (LOOPBACK, etcd.peer_port or 0)]
    return Service("etcd", ("etcd", *words, *tls), ports=tuple(ports))


def _etcd_tls(settings: Settings) -> dict[str, str]:
    etcd = settings.etcd
    if not (etcd.ca and etcd.cert and etcd.key):
        return {}
    return {"trusted-ca-file": etcd.ca, "cert-file": etcd.cert, "key-file": etcd.key}


def _placement(settings: Settings, state: StateDirectory) -> Service:
    port = settings.placement.port
    addresses = [LOOPBACK, *([settings.listen] if settings.listen else [])]
    argv = [sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONFIG)]
    argv += ["--workers", str(settings.placement.workers)]
    for address in addresses:
        argv += ["--bind", f"{address}:{port}"]
    return Service(
        "placement",
        (*argv, "placement.wsgi.api:application"),
        {"OS_PLACEMENT_CONFIG_DIR": str(placement_conf(state).parent)},
        ports=tuple((address, port) for address in addresses),
        files=(placement_conf(state), GUNICORN_CONFIG),
    )


def _hypervisor(state: StateDirectory, daemon: str) -> Service:
    return Service(
        daemon,
        (sys.executable, "-m", "placet.onebox.hypervisor", str(state.root), daemon),
        _python_env(state),
        after=("virtlogd",) if daemon == "libvirtd" else (),
        # never restart virtlogd for a changed setting: guests' console logs would end
        files=(state.libvirt / "etc" / "libvirtd.conf", state.libvirt / "etc" / "qemu.conf")
        if daemon == "libvirtd"
        else (),
        keeps_children=True,
    )


def placement_conf(state: StateDirectory) -> Path:
    """Placement's own configuration file."""
    return state.root / "placement" / "placement.conf"


def _python_env(state: StateDirectory) -> dict[str, str]:
    return {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", "PLACET_STATE_DIR": str(state.root)}
