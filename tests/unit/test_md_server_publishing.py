"""What a guest may publish of itself, and what it may not: /placet/v1/ready and /placet/v1/data."""

from __future__ import annotations

from pathlib import Path

import pytest

from md_server.messages import Answer
from md_server.publishing import MAX_KEYS, MAX_VALUE_BYTES, WRITES_AT_ONCE, WRITES_PER_S
from md_server.rates import MANY, Rates
from placet.model import MAX_RECORD_BYTES, encode
from placet.node_records import Published
from tests.support.md_server import InMemory, guest

WEB, DB, STRICT = "10.0.0.1", "10.0.0.2", "10.0.0.3"
TTL = {"X_aws_ec2_metadata_token_ttl_seconds": "60"}
READY, DATA = "/placet/v1/ready", "/placet/v1/data/"


@pytest.fixture
def service(tmp_path: Path) -> InMemory:
    return InMemory(tmp_path, [guest("web", WEB), guest("db", DB), guest("strict", STRICT, "required")])


def published(service: InMemory, name: str, ip: str) -> Published | None:
    return service.files.read(guest(name, ip).instance)


def words(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


def test_a_guest_says_that_it_is_ready(service: InMemory) -> None:
    assert words(service.ask(WEB, "GET", READY)) == (404, "not ready yet\n")

    assert service.ask(WEB, "PUT", READY).status == 200

    assert published(service, "web", WEB) == Published(guest("web", WEB).instance, service.now, service.now)
    assert words(service.ask(WEB, "GET", READY)) == (200, "2027-01-15T08:00:00Z")


def test_ready_is_said_once_and_not_taken_back(service: InMemory) -> None:
    service.ask(WEB, "PUT", READY, b"done, in some words")
    first = service.now
    service.now += 10.0
    service.ask(WEB, "PUT", READY)

    found = published(service, "web", WEB)
    assert found is not None and found.ready_at == found.updated_at == first
    assert service.ask(WEB, "DELETE", READY).headers["Allow"] == "GET, HEAD, PUT"


def test_values_are_listed_read_changed_and_removed(service: InMemory) -> None:
    service.ask(WEB, "PUT", DATA + "state", "läuft".encode())
    service.ask(WEB, "PUT", DATA + "a.b_c-1", b"")

    assert words(service.ask(WEB, "GET", DATA)) == (200, "a.b_c-1\nstate")
    assert words(service.ask(WEB, "GET", DATA + "state")) == (200, "läuft")
    service.ask(WEB, "PUT", DATA + "state", b"done")
    assert words(service.ask(WEB, "GET", DATA + "state")) == (200, "done")
    assert service.ask(WEB, "DELETE", DATA + "state").status == 200
    assert service.ask(WEB, "GET", DATA + "state").status == 404
    assert service.ask(WEB, "DELETE", DATA + "state").status == 404
    assert words(service.ask(WEB, "GET", "/placet/v1/")) == (200, "data/\nready")


def test_each_guest_publishes_for_itself_alone(service: InMemory) -> None:
    service.ask(WEB, "PUT", DATA + "secret", b"of web")

    assert words(service.ask(DB, "GET", DATA)) == (200, "")
    assert service.ask(DB, "GET", DATA + "secret").status == 404
    assert service.ask("10.0.0.9", "PUT", READY).status == 404, "nobody's address"
    assert published(service, "db", DB) is None


@pytest.mark.parametrize("key", ["ä", "a b", "a%00", "a%0Ab", "x" * 65, "a$"])
def test_a_key_is_a_short_plain_word(service: InMemory, key: str) -> None:
    assert service.ask(WEB, "PUT", DATA + key, b"v").status == 400
    assert published(service, "web", WEB) is None


@pytest.mark.parametrize("place", ["", "a/b", "../ready/x", "%2e%2e/b/c"])
def test_there_are_no_other_places(service: InMemory, place: str) -> None:
    assert service.ask(WEB, "PUT", DATA + place, b"v").status in (404, 405)
    assert service.ask(WEB, "PUT", "/placet/v2/ready").status == 405
    assert service.ask(WEB, "GET", "/placet/v1/other").status == 404
    assert published(service, "web", WEB) is None


def test_a_value_is_text_of_at_most_4_kib(service: InMemory) -> None:
    assert service.ask(WEB, "PUT", DATA + "a", b"x" * MAX_VALUE_BYTES).status == 200
    assert service.ask(WEB, "PUT", DATA + "a", b"x" * (MAX_VALUE_BYTES + 1)).status == 413
    status, why = words(service.ask(WEB, "PUT", DATA + "a", b"\xff"))
    assert (status, "UTF-8" in why) == (400, True)
    assert len(service.ask(WEB, "GET", DATA + "a").body) == MAX_VALUE_BYTES


def test_there_are_at_most_32_values(service: InMemory) -> None:
    for number in range(MAX_KEYS):
        assert service.ask(WEB, "PUT", f"{DATA}{number}", b"v").status == 200
    status, why = words(service.ask(WEB, "PUT", DATA + "more", b"v"))
    assert (status, "DELETE one" in why) == (409, True)
    assert service.ask(WEB, "PUT", DATA + "0", b"other").status == 200, "one that is there can change"
    service.ask(WEB, "DELETE", DATA + "1")
    assert service.ask(WEB, "PUT", DATA + "more", b"v").status == 200


def test_what_is_published_is_never_more_than_a_record_holds(service: InMemory) -> None:
    answers = [service.ask(WEB, "PUT", f"{DATA}{number}", b"\x01" * MAX_VALUE_BYTES) for number in range(MAX_KEYS)]

    assert {answer.status for answer in answers} == {200, 413}, "each such byte is six in JSON"
    found = published(service, "web", WEB)
    assert found is not None and MAX_RECORD_BYTES // 2 < len(encode(found)) <= MAX_RECORD_BYTES


def test_writes_are_rationed_and_reads_are_not(service: InMemory) -> None:
    burst = [service.ask(WEB, "PUT", DATA + "n", str(number).encode()).status for number in range(WRITES_AT_ONCE + 1)]
    assert burst == [200] * WRITES_AT_ONCE + [429]
    assert service.ask(WEB, "PUT", READY).headers["Retry-After"] == "1"
    assert service.ask(WEB, "GET", DATA + "n").status == 200
    assert service.ask(DB, "PUT", READY).status == 200, "the others have rations of their own"
    service.now += 1.0
    later = [service.ask(WEB, "DELETE", DATA + "none").status for _ in range(int(WRITES_PER_S) + 1)]
    assert later == [404] * int(WRITES_PER_S) + [429], "an attempt counts, whatever comes of it"


def test_rations_of_many_are_forgotten_once_they_are_whole_again() -> None:
    rates = Rates(1.0, 2)
    for number in range(MANY + 1):
        rates.take(str(number), 0.0)
    assert not all(rates.take("0", 0.0) for _ in range(2))
    for number in range(MANY):
        rates.take(f"later-{number}", 100.0)
    assert len(rates._buckets) <= MANY + 1


def test_what_changes_nothing_is_not_written(service: InMemory) -> None:
    service.ask(WEB, "PUT", DATA + "a", b"v")
    before = published(service, "web", WEB)
    service.now += 1.0
    assert service.ask(WEB, "PUT", DATA + "a", b"v").status == 200
    assert published(service, "web", WEB) == before


def test_where_tokens_are_required_they_are_for_this_too(service: InMemory) -> None:
    assert service.ask(STRICT, "PUT", READY).status == 401
    assert service.ask(STRICT, "GET", DATA).status == 401

    token = service.ask(STRICT, "PUT", "/latest/api/token", b"", **TTL).body.decode()
    assert service.ask(STRICT, "PUT", READY, X_aws_ec2_metadata_token=token).status == 200
    assert service.ask(WEB, "PUT", READY, X_aws_ec2_metadata_token=token).status == 401, "another's token"


def test_nothing_is_published_by_a_forwarded_request(service: InMemory) -> None:
    for method, place in (("PUT", READY), ("PUT", DATA + "a"), ("DELETE", DATA + "a")):
        assert service.ask(WEB, method, place, b"", X_Forwarded_For="1.2.3.4").status == 403
    assert published(service, "web", WEB) is None


def test_a_node_that_cannot_write_says_so(service: InMemory, tmp_path: Path) -> None:
    (tmp_path / "published").rmdir()
    status, why = words(service.ask(WEB, "PUT", READY))
    assert (status, "try again" in why) == (507, True)
