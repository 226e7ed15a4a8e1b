"""What up.sh's Python part decides: ports, ranges, settings, files, units. Nothing is started."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from placet import compute_config, config
from placet.errors import BadConfig, Usage
from placet.lifecycle import Stage
from placet.onebox import configs, settings
from placet.onebox.choose import Chooser, remarks
from placet.onebox.first_vm import FirstVm
from placet.onebox.hypervisor import forget_earlier_boots
from placet.onebox.layout import StateDirectory
from placet.onebox.machine import Machine
from placet.onebox.options import UpOptions, join_target, parse
from placet.onebox.services import Service, services
from placet.onebox.settings import Settings
from placet.onebox.sshkey import make_key
from placet.onebox.steps import StepFailed, Steps, explain
from placet.onebox.units import unit_name, unit_text

FIRST = StateDirectory(Path(config.DEFAULT_STATE_DIR))
SECOND = StateDirectory(Path("/srv/second"))


class MachineWith(Machine):
    """A machine whose facts are given."""

    def __init__(self, taken: set[int] | None = None, routes: tuple[str, ...] = (), libvirt: bool = False) -> None:
        self.taken = taken or set()
        self.routes = [IPv4Network(route) for route in routes]
        self.libvirt = libvirt

    def port_is_free(self, address: str, port: int) -> bool:
        return port not in self.taken

    def networks(self) -> list[IPv4Network]:
        return self.routes

    def libvirt_answers(self) -> bool:
        return self.libvirt

    def address_towards(self, host: str) -> str:
        return "192.0.2.7"


def fresh(options: UpOptions | None = None, state: StateDirectory = FIRST, machine: Machine | None = None) -> Settings:
    return Chooser(options or UpOptions(), state, machine or MachineWith()).fresh(lambda: "uuid-1")


def again(known: Settings, options: UpOptions, state: StateDirectory = FIRST) -> Settings:
    return Chooser(options, state, MachineWith()).again(known)


def test_the_first_cloud_takes_the_well_known_ports_and_range() -> None:
    found = fresh()
    assert (found.etcd.port, found.etcd.peer_port, found.placement.url) == (2379, 2380, "http://127.0.0.1:8080")
    assert (found.network.range, found.network.bridge) == ("198.19.0.0/16", "placet0")


def test_an_etcd_that_is_there_already_is_left_alone_and_named() -> None:
    found = fresh(machine=MachineWith(taken={2379}))
    assert (found.etcd.port, found.etcd.peer_port) == (12379, 12380)
    assert any("2379 was in use" in remark for remark in remarks(found, FIRST))


def test_a_taken_peer_port_moves_both() -> None:
    assert fresh(machine=MachineWith(taken={2380})).etcd.port == 12379


def test_a_second_cloud_takes_other_ports_and_another_range_bridge_and_libvirtd() -> None:
    first, second = fresh(machine=MachineWith(libvirt=True)), fresh(state=SECOND, machine=MachineWith(libvirt=True))
    assert second.etcd.port != first.etcd.port and second.placement.url != first.placement.url
    assert not IPv4Network(first.network.range).overlaps(IPv4Network(second.network.range))
    assert second.network.bridge != first.network.bridge and len(second.network.bridge) <= 15
    assert not first.libvirt.ours and second.libvirt.ours


def test_a_range_that_the_machine_has_a_route_into_is_not_taken() -> None:
    assert fresh(machine=MachineWith(routes=("198.19.4.0/24",))).network.range.startswith("198.18.")


def test_a_machine_with_everything_in_use_is_told_which_option_to_give() -> None:
    with pytest.raises(Usage, match="--network"):
        fresh(machine=MachineWith(routes=("198.18.0.0/15",)))


def test_options_win_over_what_would_be_chosen() -> None:
    found = fresh(UpOptions(etcd_port=4000, placement_port=4100, network="10.1.0.0/20", own_libvirt=True))
    assert (found.etcd.port, found.placement.port, found.network.range) == (4000, 4100, "10.1.0.0/20")
    assert found.libvirt.ours


def test_a_machine_that_joins_starts_neither_etcd_nor_placement() -> None:
    found = fresh(UpOptions(join="192.0.2.1:12379"))
    assert [service.name for service in services(found, FIRST)] == ["virtlogd", "libvirtd", "compute"]
    assert (found.etcd.url, found.placement.url) == ("http://192.0.2.1:12379", "http://192.0.2.1:8080")
    assert found.address == "192.0.2.7"


@pytest.mark.parametrize("text", ["", ":1", "host:x", "host:1:2:3"])
def test_a_malformed_join_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="expected HOST"):
        join_target(text)


def test_sqlite_gets_one_writer_and_says_so() -> None:
    with pytest.raises(Usage, match="postgresql"):
        fresh(UpOptions(placement_workers=2))
    assert fresh(UpOptions(placement_workers=2, placement_db="postgresql://db/placement")).placement.workers == 2


def test_tls_needs_all_three_files() -> None:
    with pytest.raises(Usage, match="all three"):
        fresh(UpOptions(etcd_ca="/ca.pem"))


def test_a_later_run_keeps_what_was_chosen() -> None:
    known = fresh(machine=MachineWith(taken={2379, 8080}))
    assert again(known, UpOptions()) == known


def test_a_later_run_changes_ports_without_losing_the_certificates() -> None:
    known = fresh(UpOptions(etcd_ca="/ca", etcd_cert="/cert", etcd_key="/key"))
    found = again(known, UpOptions(etcd_port=4000, listen="192.0.2.1"))
    assert (found.etcd.port, found.etcd.peer_port, found.etcd.ca, found.address) == (4000, 4001, "/ca", "192.0.2.1")


@pytest.mark.parametrize(
    "options",
    [
        UpOptions(etcd="192.0.2.9:2379"),
        UpOptions(join="192.0.2.9"),
        UpOptions(placement="http://192.0.2.9"),
        UpOptions(network="10.0.0.0/16"),
        UpOptions(placement_db="postgresql://db/placement"),
    ],
)
def test_what_a_cloud_stands_on_cannot_be_changed_under_its_guests(options: UpOptions) -> None:
    with pytest.raises(Usage, match="destroy"):
        again(fresh(), options)


def test_listening_elsewhere_says_who_owns_the_nodes_then() -> None:
    assert any("whoever reaches it owns every node" in line for line in remarks(fresh(UpOptions(listen="::1")), FIRST))


def test_settings_survive_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "onebox.json"
    settings.save(fresh(), path)
    assert settings.load(path) == fresh()
    assert path.stat().st_mode & 0o777 == 0o600


def test_settings_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "onebox.json"
    path.write_text("{")
    with pytest.raises(BadConfig, match=r"onebox\.json"):
        settings.load(path)


@pytest.mark.parametrize("state", [FIRST, SECOND])
def test_the_files_that_are_written_are_ones_that_placet_reads(state: StateDirectory, tmp_path: Path) -> None:
    chosen = fresh(UpOptions(etcd_ca="/ca", etcd_cert="/cert", etcd_key="/key"), state)
    configs.write(tmp_path / "compute.yaml", configs.compute_keys(chosen, state))
    configs.write(tmp_path / "schedule.yaml", configs.schedule_keys(chosen, state))
    compute = compute_config.load_compute(str(tmp_path / "compute.yaml"))
    schedule = config.load_schedule(str(tmp_path / "schedule.yaml"))
    assert compute.etcd == schedule.etcd == chosen.etcd.client_keys()
    assert compute.placement.endpoint == schedule.placement.endpoint == chosen.placement.url
    assert compute.network.range == chosen.network.range and compute.state_dir == str(state.root)
    assert schedule.keys == (f"{state.root}/keys/id_ed25519.pub",)


def test_a_file_that_was_edited_is_kept_and_one_that_was_not_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "compute.yaml"
    assert configs.write(path, {"workers": 4}) and configs.write(path, {"workers": 5})
    path.write_text(path.read_text() + "resize: false\n")
    assert not configs.write(path, {"workers": 6})
    assert "workers: 5" in path.read_text() and "resize: false" in path.read_text()


def test_a_service_has_to_restart_when_one_of_its_files_changes(tmp_path: Path) -> None:
    service = Service("compute", ("python",), files=(tmp_path / "compute.yaml",))
    before = service.digest()
    (tmp_path / "compute.yaml").write_text("workers: 5")
    assert service.digest() != before


def test_no_setting_restarts_virtlogd_as_guests_consoles_would_end() -> None:
    virtlogd = next(service for service in services(fresh(), FIRST) if service.name == "virtlogd")
    assert virtlogd.files == ()


def test_etcd_compacts_and_has_a_quota_and_asks_for_certificates_where_it_has_them() -> None:
    plain, tls = (services(fresh(each), FIRST)[0].argv for each in (UpOptions(), TLS))
    assert plain[plain.index("--auto-compaction-retention") + 1] == "10m"
    assert plain[plain.index("--quota-backend-bytes") + 1] == str(8 * 2**30)
    assert "--client-cert-auth" in tls and "--client-cert-auth" not in plain


TLS = UpOptions(etcd_ca="/ca", etcd_cert="/cert", etcd_key="/key")


def test_units_of_two_clouds_have_different_names() -> None:
    assert unit_name("etcd", FIRST) == "placet-etcd.service"
    assert unit_name("etcd", SECOND) == f"placet-{SECOND.tag}-etcd.service"


def test_a_unit_that_leaves_guests_behind_ends_its_main_process_alone() -> None:
    table = {service.name: unit_text(service, FIRST) for service in services(fresh(), FIRST)}
    assert "KillMode=process" in table["libvirtd"] and "KillMode=mixed" in table["compute"]
    assert "placet-etcd.service" in table["compute"].split("After=")[1].splitlines()[0]


def test_a_units_words_are_quoted_for_systemd() -> None:
    text = unit_text(Service("odd", ("/bin/true", 'a "b" 50% $HOME \\')), FIRST)
    assert 'ExecStart="/bin/true" "a \\"b\\" 50%% $$HOME \\\\"' in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    chosen = fresh(UpOptions(listen="192.0.2.1"))
    paths = []
    for service in services(chosen, FIRST):
        path = tmp_path / unit_name(service.name, FIRST)
        path.write_text(unit_text(service, StateDirectory(tmp_path)))
        paths.append(path)
    command = ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_what_an_earlier_boot_left_in_run_is_forgotten_once(tmp_path: Path) -> None:
    boot, leftover = tmp_path / "boot", tmp_path / "libvirt" / "run" / "qemu" / "guest.pid"
    leftover.parent.mkdir(parents=True)
    for boot_id, is_kept in (("first", False), ("first", True), ("second", False)):
        leftover.parent.mkdir(exist_ok=True)
        leftover.write_text("123")
        boot.write_text(boot_id)
        forget_earlier_boots(tmp_path / "libvirt", boot)
        assert leftover.exists() == is_kept


def test_without_a_verb_it_is_up_and_flags_are_not_abbreviated() -> None:
    assert parse([]).verb == "up" and parse(["--no-vm"]).up.no_vm
    assert parse(["destroy", "--yes"]).yes
    with pytest.raises(SystemExit):
        parse(["--no-v"])


def test_a_failure_says_what_the_log_ends_with_and_what_to_do(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    text = explain(StepFailed("etcd ended", "make room", log))
    assert "etcd ended" in text and "line 99" in text and "line 80" not in text and "what to do: make room" in text


def test_a_step_prints_one_line_with_its_time_within_80_columns() -> None:
    clock, out = iter([10.0, 12.5]), io.StringIO()
    Steps(out, clock=lambda: next(clock)).run("etcd", lambda: " ".join(["word"] * 30))
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("etcd          2.5 s  word") and all(len(line) <= 80 for line in lines)


def test_a_state_directory_whose_socket_no_program_could_reach_is_refused() -> None:
    with pytest.raises(Usage, match="107"):
        fresh(state=StateDirectory(Path("/srv") / ("x" * 90)))


def test_the_key_belongs_to_the_user_behind_sudo_and_is_never_made_anew(tmp_path: Path) -> None:
    private = tmp_path / "id_ed25519"
    sudo = {"SUDO_UID": "12345", "SUDO_GID": "23456"} if os.geteuid() == 0 else {}
    assert make_key(private, sudo)
    made = private.read_bytes()
    found = private.stat()
    if sudo:
        assert (found.st_uid, found.st_gid) == (12345, 23456)
    assert found.st_mode & 0o777 == 0o600
    assert not make_key(private, sudo)
    assert private.read_bytes() == made


def test_what_is_told_of_the_first_vm_fits_a_terminal_however_far_its_boot_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = {"uuid": "u" * 36, "node": "node-1", "state": "ACTIVE", "ip": "198.19.255.254"}
    shown_json = json.dumps({**shown, "stages": {stage.value: 9.9 for stage in Stage}})
    monkeypatch.setattr(FirstVm, "_schedule", lambda *_: subprocess.CompletedProcess((), 0, shown_json, ""))
    vm = FirstVm(SECOND)
    vm.make()
    assert max(map(len, vm.summary())) <= 80
    assert any(line.endswith("started 9.9, ip 9.9 s") for line in vm.summary())
