"""What a request gets from the metadata service: its trees, as clients of EC2 and OpenStack walk them, and tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from md_server.documents import KEPT, Documents
from placet import metadata
from placet.schema import changed
from tests.support.md_server import InMemory, guest

WEB, STRICT, OTHER = "10.0.0.1", "10.0.0.2", "10.0.0.3"
TTL = {"X_aws_ec2_metadata_token_ttl_seconds": "60"}
# what cloud-init, cloudbase-init and afterburn ask for, each its own versions
PROBED = (
    *("/", "/latest", "/latest/", "/openstack", "/openstack/", "/2009-04-04/", "/openstack/latest"),
    *(f"/{version}/meta-data/instance-id" for version in ("2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23")),
    *(f"/{version}/dynamic/instance-identity/document" for version in ("latest", "2021-03-23")),
    *(f"/latest/meta-data/{item}" for item in ("hostname", "local-hostname", "local-ipv4", "mac", "placement/")),
    *(f"/openstack/{version}/meta_data.json" for version in ("2012-08-10", "2015-10-15", "2018-08-27", "latest")),
    *(f"/openstack/latest/{name}" for name in ("network_data.json", "vendor_data.json", "vendor_data2.json")),
    *("/latest/user-data", "/openstack/latest/user_data"),
)


@pytest.fixture
def service(tmp_path: Path) -> InMemory:
    strict = [guest("strict", STRICT, "required"), guest("other", OTHER, "required")]
    return InMemory(tmp_path, [guest("web", WEB), *strict])


@pytest.mark.parametrize("path", PROBED)
def test_what_clients_probe_is_there_and_has_a_head(service: InMemory, path: str) -> None:
    answer = service.ask(WEB, "GET", path)

    assert (answer.status, bool(answer.body)) == (200, True)
    assert service.ask(WEB, "HEAD", path) == answer, "the connection leaves the body out"


@pytest.mark.parametrize(
    "path",
    [
        *("//latest/meta-data/hostname", "/latest//meta-data///hostname/", "/latest/meta-data/hostname?x=/y"),
        *("/latest/meta%2Ddata/hostname", "http://169.254.169.254/latest/meta-data/hostname"),
        "HTTP://[fe80::a9fe:a9fe]/latest/meta-data/hostname",
    ],
)
def test_a_path_may_be_spelled_in_other_ways(service: InMemory, path: str) -> None:
    assert service.ask(WEB, "GET", path).body == b"web"


@pytest.mark.parametrize(
    "path",
    [
        *("/latest/meta-data/hostname%", "/%zz", "/%ff%fe", "/latest/%2e%2e/%2e%2e/etc/passwd", "*"),
        *("/latest/meta-data/hostname/x", "/openstacker", "/latest/none", "/placet", "http://x/none"),
    ],
)
def test_what_leads_nowhere_is_not_found(service: InMemory, path: str) -> None:
    assert service.ask(WEB, "GET", path).status == 404


@pytest.mark.parametrize("path", ["", "//", "http://", "http://169.254.169.254", "/?x"])
def test_what_says_no_path_means_the_root(service: InMemory, path: str) -> None:
    assert service.ask(WEB, "GET", path) == service.ask(WEB, "GET", "/")


def test_the_identity_document_is_of_the_guest_that_asks(service: InMemory) -> None:
    found = json.loads(service.ask(WEB, "GET", "/latest/dynamic/instance-identity/document").body)

    assert found["privateIp"] == WEB
    assert found["instanceId"] == service.ask(WEB, "GET", "/latest/meta-data/instance-id").body.decode()


def test_where_a_token_is_required_nothing_is_told_without_one(service: InMemory) -> None:
    token = service.ask(STRICT, "PUT", "/latest/api/token", b"", **TTL).body.decode()
    for path in PROBED:
        assert service.ask(STRICT, "GET", path).status == 401, "another tree would be a way round it"
        assert service.ask(STRICT, "GET", path, X_aws_ec2_metadata_token=token).status == 200
        assert service.ask(OTHER, "GET", path, X_aws_ec2_metadata_token=token).status == 401, "it is another's"


def test_a_token_ends_with_its_time(service: InMemory) -> None:
    token = service.ask(STRICT, "PUT", "//latest/api/token/", b"", **TTL).body.decode()
    service.now += 59
    assert service.ask(STRICT, "GET", "/", X_aws_ec2_metadata_token=token).status == 200
    service.now += 1
    assert service.ask(STRICT, "GET", "/", X_aws_ec2_metadata_token=token).status == 401


def test_a_token_is_asked_for_by_put_alone(service: InMemory) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE"):
        answer = service.ask(WEB, method, "/latest/api/token", b"", **TTL)
        assert (answer.status, answer.headers["Allow"]) == (405, "PUT")


def test_documents_are_made_anew_for_a_new_record_and_only_for_that() -> None:
    documents, record = Documents(), guest("web", WEB)
    first = documents._tree(record)

    assert documents._tree(record) is first
    assert documents.find(changed(record, hostname="www"), ["latest", "meta-data", "hostname"]) == b"www"
    assert documents.find(record, ["latest", "meta-data", "hostname"]) == b"web"


def test_of_many_guests_those_that_asked_of_late_are_kept() -> None:
    documents = Documents()
    records = [changed(guest("web", WEB), instance=str(number)) for number in range(KEPT + 1)]
    trees = [documents._tree(record) for record in records[:KEPT]]
    assert documents._tree(records[0]) is trees[0]
    documents._tree(records[KEPT])

    assert documents._tree(records[0]) is trees[0]
    assert documents._tree(records[1]) is not trees[1]
    assert metadata.find(trees[1], "latest/meta-data/hostname") == b"web"
