"""A Docker engine of its own for tests: no registry, no firewall rules, nothing of the machine's engine touched.

Its images are kept in the cache directory, so that a Dockerfile is built anew only where it changed. In place of
the registry's `debian:bookworm-slim` stands an image that mmdebstrap makes, which trusts and asks whom this machine
trusts and asks: its certificates, apt sources and pip settings.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.debian_guest import apt

BASE = "debian:bookworm-slim"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_SETTINGS = Path("/etc/pip.conf")
RECIPE = ["mmdebstrap", "--variant=minbase", "--quiet", "--aptopt=apt.conf"]
RECIPE += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
READY_S = 180.0
# RFC 2544's range; the engine takes the first /24 that this machine has no route to
POOL = "base=198.18.0.0/16,size=24"
# what dockerd and containerd make at fixed places, innermost first
FIXED_PLACES = [
    *(Path("/run", name) for name in ("docker/plugins", "docker", "containerd/s", "containerd")),
    *(Path("/opt/containerd", name) for name in ("bin", "lib", "")),
]


class DockerEngine:
    """A running engine. `environment` leads docker's client, and with it docker.sh, to it."""

    def __init__(self, directory: Path, images: Path) -> None:
        self._directory = directory
        self._images = images
        self._parent: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{directory}/docker.sock",
            "DOCKER_CONFIG": str(directory),
        }

    def docker(self, *words: str) -> str:
        """A docker command's stdout. Raises CalledProcessError."""
        command = ["docker", *words]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def start(self) -> None:
        """Start it in namespaces of its own, so that its processes and mounts end with it, and with this process."""
        (self._directory / "daemon.json").write_text("{}")
        options = {
            "host": self.environment["DOCKER_HOST"],
            "data-root": self._images,
            "exec-root": self._directory / "exec",
            "pidfile": self._directory / "pid",
            "config-file": self._directory / "daemon.json",
            "cgroup-parent": f"/{self._directory.name}",
            "storage-driver": "overlay2",
            # published ports are then served by docker-proxy alone, which is what 127.0.0.1 goes through anyway
            "iptables": "false",
            "ip6tables": "false",
            "bridge": "none",
            "default-address-pool": POOL,
        }
        dockerd = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
        alone = ["setpriv", "--pdeathsig=KILL", "--", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        alone += ["--mount-proc", "docker-init", "-s", "--"]
        with self._log.open("ab") as log:
            self._parent = subprocess.Popen([*alone, *dockerd], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        while not self._answers():
            if self._parent.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"dockerd did not come up:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it as a machine's shutdown does, so that it takes its bridges with it."""
        assert self._parent is not None
        children = Path(f"/proc/{self._parent.pid}/task/{self._parent.pid}/children")
        if self._parent.poll() is None:
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGTERM)
        try:
            self._parent.wait(60)
        except subprocess.TimeoutExpired:
            self._parent.kill()
            self._parent.wait()
        for group in Path("/sys/fs/cgroup").glob(f"**/{self._directory.name}"):
            group.rmdir()

    def remove_all_but_images(self) -> None:
        """Remove containers, volumes and networks; a run that was killed may have left some."""
        for kind, everything in {"container": ("--all",), "volume": (), "network": ("--filter=type=custom",)}.items():
            if found := self.docker(kind, "ls", "--quiet", *everything).split():
                self.docker(kind, "rm", "--force", *found) if kind != "network" else self.docker(kind, "rm", *found)

    def keep_images(self, name: str) -> None:
        """Tag what docker.sh built under a name, so that a later run finds it built."""
        for service in ("etcd", "placement"):
            self.docker("tag", f"{name}-{service}", f"kept:{service}")
        # the stage that has no name; BuildKit would keep it by itself
        for stage in self.docker("image", "ls", "--quiet", "--filter", "label=placet.stage=venv").split()[:1]:
            self.docker("tag", stage, "kept:venv")

    def _answers(self) -> bool:
        return (
            subprocess.run(["docker", "version"], env=self.environment, check=False, capture_output=True).returncode
            == 0
        )

    @property
    def _log(self) -> Path:
        return self._directory / "dockerd.log"


@contextlib.contextmanager
def docker_engine(cache: Path) -> Iterator[DockerEngine]:
    """An engine that has the base image; one at a time for each cache."""
    images = cache / "docker-engine"
    images.mkdir(mode=0o711, parents=True, exist_ok=True)
    absent = [place for place in FIXED_PLACES if not place.exists()]
    directory = Path(tempfile.mkdtemp(prefix="placet-docker-"))
    engine = DockerEngine(directory, images)
    with (cache / "docker-engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            engine.start()
            engine.remove_all_but_images()
            _import_base(engine, directory)
            yield engine
            engine.remove_all_but_images()
            engine.docker("image", "prune", "--force")
        finally:
            engine.stop()
            shutil.rmtree(directory)
            for place in absent:
                with contextlib.suppress(OSError):  # somebody else's engine uses it by now
                    place.rmdir()


def _import_base(engine: DockerEngine, directory: Path) -> None:
    """Make the base image unless this recipe's is there."""
    settings, sources = apt.settings(), apt.sources()
    digest = hashlib.sha256(json.dumps([settings, RECIPE, *map(str, sources), *_copies()]).encode())
    for path in (CERTIFICATES, PIP_SETTINGS, *sources):
        digest.update(path.read_bytes() if path.is_file() else b"")
    label = f"placet.base={digest.hexdigest()}"
    if engine.docker("image", "ls", "--quiet", "--filter", f"label={label}", BASE):
        return
    (directory / "apt.conf").write_text(settings)
    command = [*RECIPE, *_copies(), "bookworm", "base.tar", *map(str, sources)]
    made = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True)
    assert made.returncode == 0, f"mmdebstrap: {made.stderr[-3000:]}"
    engine.docker("import", "--change", f"LABEL {label}", str(directory / "base.tar"), BASE)


def _copies() -> list[str]:
    """Options for what is copied in. The second place of the certificates survives update-ca-certificates."""
    kept = Path("/usr/local/share/ca-certificates/machine.crt")
    copies = {CERTIFICATES: CERTIFICATES, kept: CERTIFICATES, PIP_SETTINGS: PIP_SETTINGS}
    install = '--customize-hook=install -D -m 0644 {} "$1{}"'
    return [install.format(source, target) for target, source in copies.items() if source.is_file()]
