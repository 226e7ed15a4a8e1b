"""A whole cloud on this machine, by `python -m placet.onebox`: started, killed, stopped, found again, removed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import psutil
import pytest

from placet.onebox import checks
from placet.onebox.guests import Found, Guests
from placet.onebox.layout import PROJECT, StateDirectory
from placet.onebox.processes import PlainProcesses
from placet.onebox.services import Service, services
from placet.onebox.settings import Settings, load

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for libvirt and networks")

Result = subprocess.CompletedProcess[str]
DEADLINE_S = 300
PATIENCE_S = 120


@dataclass(frozen=True)
class OneBox:
    """One state directory and the programs that work on it."""

    state: StateDirectory

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PLACET_STATE_DIR": str(self.state.root), "PYTHONPATH": str(PROJECT)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "placet.onebox", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=self.environment
        )

    def run(self, *words: str) -> Result:
        process = self.start(*words)
        out, err = process.communicate(timeout=DEADLINE_S)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def up(self) -> Result:
        found = self.run("up", "--no-vm")
        assert found.returncode == 0, found.stdout + found.stderr
        return found

    def schedule(self, *words: str) -> str:
        command = [sys.executable, str(PROJECT / "schedule.py"), *words]
        found = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.environment, timeout=DEADLINE_S
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    @property
    def settings(self) -> Settings:
        found = load(self.state.settings)
        assert found is not None
        return found

    @property
    def services(self) -> list[Service]:
        return services(self.settings, self.state)

    def pids(self) -> dict[str, int]:
        running = {service.name: PlainProcesses(self.state).find(service.name) for service in self.services}
        return {name: found.pid for name, found in running.items() if found}

    def guests(self) -> Found:
        return Guests(self.settings, self.state).look()

    def processes(self) -> list[psutil.Process]:
        """Every process that has the state directory in its words: ours, QEMU, dnsmasq, the metadata service."""
        root = str(self.state.root)
        return [each for each in psutil.process_iter() if root in " ".join(_words(each)) and each.pid != os.getpid()]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"did not come about within {PATIENCE_S} s"
        time.sleep(0.05)


def _new_box() -> OneBox:
    root = Path(tempfile.mkdtemp(prefix="placet-", dir="/var/tmp"))
    root.rmdir()
    return OneBox(StateDirectory(root))


@pytest.fixture(scope="module")
def box() -> Iterator[OneBox]:
    found = _new_box()
    try:
        found.up()
        yield found
    finally:
        if found.state.settings.exists():
            found.run("destroy", "--yes")
        shutil.rmtree(found.state.root, ignore_errors=True)


@pytest.fixture
def guest(box: OneBox) -> Iterator[str]:
    """A VM with an IP."""
    placed = box.schedule("resources=VCPU:1,MEMORY_MB:128,DISK_GB:1", "--wait").splitlines()[0]
    found = placed.rsplit(" ", 1)[1]
    yield found
    box.schedule("destroy", found)


def _qemu(guest: str) -> psutil.Process:
    return next(each for each in psutil.process_iter() if f"guest={guest}" in " ".join(_words(each)))


def test_up_brings_every_service_and_status_says_so(box: OneBox) -> None:
    found = box.run("status")
    assert found.returncode == 0, found.stdout
    assert all(re.search(rf"^{service.name} +running, pid", found.stdout, re.M) for service in box.services)


def test_every_line_fits_a_terminal(box: OneBox) -> None:
    lines = [*box.up().stdout.splitlines(), *box.run("status").stdout.splitlines()]
    assert [line for line in lines if len(line) > 80 and str(box.state.root) not in line] == []


def test_up_again_starts_nothing(box: OneBox) -> None:
    before = box.pids()
    box.up()
    assert box.pids() == before


@pytest.mark.parametrize("name", ["etcd", "placement", "virtlogd", "libvirtd", "compute"])
def test_what_was_killed_is_started_again(box: OneBox, name: str) -> None:
    before = box.pids()
    os.kill(before[name], signal.SIGKILL)
    assert box.run("status").returncode == 1
    box.up()
    after = box.pids()
    assert after.pop(name) != before.pop(name) and after == before
    assert box.run("status").returncode == 0


def test_everything_killed_at_once_is_started_again(box: OneBox) -> None:
    for pid in box.pids().values():
        os.kill(pid, signal.SIGKILL)
    box.up()
    assert box.run("status").returncode == 0


@pytest.mark.parametrize("name", ["libvirtd", "virtlogd"])
def test_the_parent_starts_a_daemon_that_dies_again(box: OneBox, name: str) -> None:
    before = box.pids()
    (daemon,) = (each for each in psutil.Process(before[name]).children() if each.name() == name)
    daemon.kill()
    uri, log_socket = box.settings.libvirt.uri, box.state.libvirt / "run" / "virtlogd-sock"
    _wait_until(lambda: not daemon.is_running() and not checks.libvirtd(uri) and not checks.listens(log_socket))
    assert box.pids() == before


def test_a_service_whose_settings_changed_is_restarted_alone(box: OneBox) -> None:
    before = box.pids()
    text = box.state.compute_yaml.read_text()
    box.state.compute_yaml.write_text(text + "workers: 3\n")
    try:
        assert "edited, so kept: compute.yaml" in box.up().stdout
        after = box.pids()
        assert after.pop("compute") != before.pop("compute") and after == before
    finally:
        box.state.compute_yaml.write_text(text)
        box.up()


def test_two_ups_at_once_take_turns(box: OneBox) -> None:
    os.kill(box.pids()["placement"], signal.SIGKILL)
    first = box.start("up", "--no-vm")
    begun = _said(first, "state")
    first.send_signal(signal.SIGSTOP)  # in the midst of it, however fast it is and however late the other comes
    second = box.start("up", "--no-vm")
    try:
        _said(second, "waiting for it")
    finally:
        first.send_signal(signal.SIGCONT)
    texts = [begun + first.communicate(timeout=DEADLINE_S)[0], second.communicate(timeout=DEADLINE_S)[0]]
    assert [each.returncode for each in (first, second)] == [0, 0]
    assert sum("started" in text for text in texts) == 1


def _said(process: subprocess.Popen[str], words: str) -> str:
    """What it says until there is a line with these words."""
    assert process.stdout is not None
    told = ""
    while words not in told:
        line = process.stdout.readline()
        assert line, f"it ended before it said {words!r}:\n{told}"
        told += line
    return told


def test_guests_run_as_an_unprivileged_user_with_private_files(box: OneBox, guest: str) -> None:
    assert _qemu(guest).username() == "libvirt-qemu"
    assert box.state.root.stat().st_mode & 0o777 == 0o711
    assert box.state.key.stat().st_mode & 0o777 == 0o600


def test_down_keeps_guests_running_and_up_finds_them(box: OneBox, guest: str) -> None:
    qemu = _qemu(guest)
    console = box.state.root / "instances" / guest / "console.log"
    down = box.run("down")
    assert down.returncode == 0 and "1 guest still running" in down.stdout
    assert set(box.pids()) == {"virtlogd"}
    box.up()
    assert qemu.is_running() and box.guests().running == (guest,)
    written = console.stat().st_size
    with checks.connection(box.settings.libvirt.uri) as hypervisor:
        hypervisor.lookupByName(guest).reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
    _wait_until(lambda: console.stat().st_size > written)  # virtlogd still has its end of the pipe


def test_a_guest_outlives_a_kill_of_all_services(box: OneBox, guest: str) -> None:
    qemu = _qemu(guest)
    for pid in box.pids().values():
        os.kill(pid, signal.SIGKILL)
    box.up()
    assert qemu.is_running() and box.guests().running == (guest,)


def test_down_without_guests_stops_all_and_can_be_repeated(box: OneBox) -> None:
    assert box.run("down").returncode == 0
    assert box.pids() == {} and box.processes() == []
    assert box.settings.network.bridge not in psutil.net_if_stats()
    assert box.run("down").returncode == 0
    assert box.run("status").returncode == 1
    box.up()


def test_a_port_that_somebody_else_took_is_named_with_a_remedy(box: OneBox) -> None:
    assert box.run("down").returncode == 0
    with socket.create_server(("127.0.0.1", box.settings.etcd.port)):
        found = box.run("up", "--no-vm")
    assert found.returncode == 1
    assert f"127.0.0.1:{box.settings.etcd.port}" in found.stderr and "--etcd-port" in found.stderr
    box.up()


def test_an_etcd_that_does_not_start_shows_the_end_of_its_log(box: OneBox) -> None:
    assert box.run("down").returncode == 0
    member, hidden = box.state.root / "etcd" / "member", box.state.root / "etcd" / "hidden"
    member.rename(hidden)
    member.write_text("not a directory")
    found = box.run("up", "--no-vm")
    assert found.returncode == 1 and "etcd.log" in found.stderr and "what to do:" in found.stderr
    member.unlink()
    hidden.rename(member)
    box.up()


def test_a_pid_file_that_names_somebody_elses_process_ends_nobody(box: OneBox) -> None:
    with subprocess.Popen(["sleep", "60"]) as somebody:
        try:
            record = {"pid": somebody.pid, "since": time.time(), "digest": ""}
            box.state.pid_file("reused").write_text(json.dumps(record))
            assert PlainProcesses(box.state).find("reused") is None
            assert not PlainProcesses(box.state).stop("reused", 1)
            assert somebody.poll() is None
        finally:
            somebody.kill()


def test_destroy_without_a_terminal_wants_yes(box: OneBox) -> None:
    found = box.run("destroy")
    assert found.returncode == 2 and "--yes" in found.stderr
    assert box.run("status").returncode == 0


def test_a_second_cloud_stands_beside_the_first_and_goes_without_it(box: OneBox, guest: str) -> None:
    second = _new_box()
    try:
        second.up()
        assert second.run("status").returncode == 0
        assert second.guests().running == ()
    finally:
        destroyed = second.run("destroy", "--yes")
    assert destroyed.returncode == 0, destroyed.stderr
    assert not second.state.root.exists() and second.processes() == []
    assert box.guests().running == (guest,) and box.run("status").returncode == 0


def test_destroy_refuses_to_take_a_domain_that_is_not_placets(box: OneBox) -> None:
    with checks.connection(box.settings.libvirt.uri) as hypervisor:
        text = "<domain type='qemu'><name>mine</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
        foreign = hypervisor.defineXML(text)
        try:
            found = box.run("destroy", "--yes")
            assert found.returncode == 1 and "mine" in found.stderr
            assert box.state.settings.exists()
        finally:
            foreign.undefine()
    box.up()


def test_a_directory_that_is_no_clouds_is_not_destroyed(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("dear to somebody")
    found = OneBox(StateDirectory(tmp_path)).run("destroy", "--yes")
    assert found.returncode == 1 and "no cloud" in found.stderr
    assert (tmp_path / "photo.jpg").exists()


def test_refused_options_leave_no_directory_behind() -> None:
    empty = _new_box()
    assert empty.run("up", "--network", "10.0.0.0/28").returncode == 2
    assert not empty.state.root.exists()


def test_destroy_works_with_everything_down_and_leaves_nothing(box: OneBox) -> None:
    box.schedule("resources=VCPU:1,MEMORY_MB:128,DISK_GB:1", "--wait")
    bridge = box.settings.network.bridge
    assert box.run("down").returncode == 0
    found = box.run("destroy", "--yes")
    assert found.returncode == 0, found.stderr
    assert "1 removed" in found.stdout
    assert not box.state.root.exists() and box.processes() == []
    assert bridge not in psutil.net_if_stats()
    assert str(box.state.root) not in Path("/proc/mounts").read_text()
