"""The metadata service, as a real process on loopback; guests are told apart by the loopback address they come from."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from placet.guest_records import GuestRecords
from placet.metadata_process import MetadataProcess
from tests.support.md_server import LOOPBACK, Service, command_line, guest, started_port, wait_for

WEB, DB, STRICT, NOBODY = "127.1.0.1", "127.1.0.2", "127.1.0.3", "127.1.0.9"
TTL = "60"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("md")
    found = Service(directory / "records", directory / "log")
    for record in (guest("web", WEB), guest("db", DB), guest("strict", STRICT, "required")):
        found.records.write(record)
    yield found
    found.end_stdin()
    assert found.process.wait(60) == 0, "it ends with its starter"
    assert "Traceback" not in found.log_file.read_text()


def test_each_guest_gets_its_own_data(service: Service) -> None:
    for name, ip in (("web", WEB), ("db", DB)):
        status, body, headers = service.ask(ip, "/openstack/latest/meta_data.json")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body)["hostname"] == name
        assert service.ask(ip, "/latest/user-data")[1].decode() == guest(name, ip).user_data


def test_an_unknown_source_gets_404_for_everything(service: Service) -> None:
    for path in ("/", "/latest/meta-data/", "/openstack/latest/meta_data.json", "/latest/api/token"):
        assert service.ask(NOBODY, path)[0] == 404
    assert service.ask(NOBODY, "/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds=TTL)[0] == 404
    assert f"{NOBODY} is no guest's address" in service.log_file.read_text()


def test_no_header_makes_one_guest_another(service: Service) -> None:
    for header in ("X_Forwarded_For", "X_Real_IP", "Forwarded", "X_Instance_ID", "Host"):
        request = {header: DB}
        assert service.ask(WEB, "/latest/meta-data/hostname", "GET", None, **request)[1] == b"web"


def test_a_guest_that_comes_goes_or_changes_is_seen_by_the_next_request(service: Service) -> None:
    late = "127.1.0.4"
    assert service.ask(late, "/latest/meta-data/hostname")[0] == 404

    service.records.write(guest("late", late))
    assert service.ask(late, "/latest/meta-data/hostname")[1] == b"late"

    service.records.write(guest("later", late))
    assert service.ask(late, "/latest/meta-data/hostname")[1] == b"later"

    service.records.remove(guest("late", late).instance)
    assert service.ask(late, "/latest/meta-data/hostname")[0] == 404


def test_directories_list_what_is_in_them(service: Service) -> None:
    status, body, headers = service.ask(WEB, "/latest")

    assert (status, body) == (200, b"dynamic\nmeta-data\nuser-data")
    assert headers["content-type"].startswith("text/plain")
    assert b"2009-04-04" in service.ask(WEB, "/")[1]


def test_head_has_the_length_and_no_body(service: Service) -> None:
    status, body, headers = service.ask(WEB, "/latest/user-data", "HEAD")

    assert (status, body, headers["content-length"]) == (200, b"", str(len(guest("web", WEB).user_data)))


def test_other_methods_and_paths_are_refused(service: Service) -> None:
    assert service.ask(WEB, "/latest/none")[0] == 404
    assert service.ask(WEB, "/latest/../../etc/passwd")[0] == 404
    for method in ("POST", "DELETE", "PATCH", "BREW"):
        status, _, headers = service.ask(WEB, "/latest", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_a_connection_is_kept_and_requests_may_follow_each_other_unasked(service: Service) -> None:
    request = b"GET /latest/meta-data/hostname HTTP/1.1\r\nHost: x\r\n\r\n"
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    received = service.raw(WEB, request * 9 + last)

    assert received.count(b"HTTP/1.1 200") == 10
    assert received.endswith(b"\r\n\r\nweb")


def test_a_token_opens_the_ec2_tree_of_its_own_guest(service: Service) -> None:
    status, token, headers = service.ask(STRICT, "/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds=TTL)
    given = token.decode()

    assert (status, headers["x-aws-ec2-metadata-token-ttl-seconds"]) == (200, "60")
    assert service.ask(STRICT, "/latest/meta-data/hostname", X_aws_ec2_metadata_token=given)[1] == b"strict"
    assert service.ask(STRICT, "/latest/meta-data/hostname")[0] == 401
    assert service.ask(WEB, "/latest/meta-data/hostname", X_aws_ec2_metadata_token=given)[0] == 401, (
        "another's token is none"
    )


def test_where_tokens_are_optional_a_wrong_one_is_still_wrong(service: Service) -> None:
    assert service.ask(WEB, "/latest/meta-data/hostname")[0] == 200
    assert service.ask(WEB, "/latest/meta-data/hostname", X_aws_ec2_metadata_token="YWJj")[0] == 401


@pytest.mark.parametrize("ttl", ["0", "21601", "-1", "x", "", "9" * 400])
def test_a_token_needs_a_sensible_time_to_live(service: Service, ttl: str) -> None:
    assert service.ask(WEB, "/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds=ttl)[0] == 400


def test_no_token_for_a_forwarded_request(service: Service) -> None:
    assert (
        service.ask(
            WEB, "/latest/api/token", "PUT", X_Forwarded_For="1.2.3.4", X_aws_ec2_metadata_token_ttl_seconds=TTL
        )[0]
        == 403
    )


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET /" + b"x" * 100_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 10_000, b"431"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000), b"413"),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000), b"413"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_what_is_malformed_or_too_large_is_refused_and_hung_up_on(service: Service, sent: bytes, status: bytes) -> None:
    assert service.raw(WEB, sent)[9:12] in (status, b""), "said, unless what was left unread reset the connection"
    assert service.ask(WEB, "/latest/meta-data/hostname")[0] == 200


def test_the_service_is_small(service: Service) -> None:
    resident = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1]) * 4096

    assert resident < 40 * 2**20


def test_the_service_has_none_of_roots_privileges_but_to_look(service: Service) -> None:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert {int(found[name], 16) for name in ("CapEff", "CapPrm")} == {1 << 2}, "CAP_DAC_READ_SEARCH"
    assert found["NoNewPrivs"] == "1"


def test_a_taken_port_is_told_in_one_line(service: Service, tmp_path: Path) -> None:
    command = [*command_line(tmp_path / "records"), "--port", str(service.port)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"port {service.port}" in done.stderr


def test_a_missing_device_is_told_after_the_wait(tmp_path: Path) -> None:
    command = command_line(tmp_path / "records", "--device", "none0", "--wait", "0.1")

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "no network device none0" in done.stderr


def test_the_agents_child_is_started_again_when_it_died_and_ends_with_stop(tmp_path: Path) -> None:
    log_file = tmp_path / "log"
    GuestRecords(tmp_path / "records")
    options = (*LOOPBACK, "--port", "0")
    child = MetadataProcess(tmp_path / "records", tmp_path / "published", "", *options, log_file=log_file)
    try:
        assert not child.ensure(), "it was not there"
        started_port(log_file)
        assert child.ensure()
        first = subprocess.Popen(["kill", "-KILL", str(child.pid)])
        first.wait()
        deadline = time.monotonic() + 60
        while child.ensure():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        wait_for(lambda: re.search(r"(?s)service-started.*service-started", log_file.read_text()))
        assert child.ensure()
    finally:
        child.stop()
    assert child.pid is None
    assert "metadata-service-stopped" in log_file.read_text()


def test_sigterm_ends_the_service_well(tmp_path: Path) -> None:
    service = Service(tmp_path / "records", tmp_path / "log")

    service.process.send_signal(signal.SIGTERM)

    assert service.process.wait(60) == 0
    service.end_stdin()


def test_what_a_guest_publishes_lies_in_a_file_of_its_own_for_root_alone(service: Service) -> None:
    assert service.ask(WEB, "/placet/v1/ready", "PUT")[0] == 200
    assert service.ask(WEB, "/placet/v1/data/colour", "PUT", b"blue")[0] == 200

    assert service.ask(WEB, "/placet/v1/data/colour")[1] == b"blue"
    assert service.ask(DB, "/placet/v1/data/colour")[0] == 404
    files = list((service.log_file.parent / "published").iterdir())
    assert [path.name for path in files] == [f"{guest('web', WEB).instance}.json"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    found = service.published.read(guest("web", WEB).instance)
    assert found is not None and found.ready_at is not None and found.data == {"colour": "blue"}


def test_what_was_published_outlives_the_service(service: Service, tmp_path: Path) -> None:
    other = Service(tmp_path / "records", tmp_path / "log")
    other.records.write(guest("web", WEB))
    other.ask(WEB, "/placet/v1/data/colour", "PUT", b"blue")
    other.process.kill()
    other.process.wait()
    again = Service(tmp_path / "records", tmp_path / "log")

    again.ask(WEB, "/placet/v1/data/size", "PUT", b"large")

    assert again.ask(WEB, "/placet/v1/data")[1] == b"colour\nsize"
    for each in (other, again):
        each.end_stdin()
    assert again.process.wait(60) == 0
