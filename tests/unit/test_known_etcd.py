"""What a node remembers of its etcd: whatever is not the known one puts repairs in doubt, over restarts too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from placet.errors import Conflict, PlacetError
from placet.known_etcd import KnownEtcd

CLOUD, OTHER = "cloud-1", "cloud-2"
CLUSTER = 0xABC


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known-etcd.json"


@pytest.fixture
def known(path: Path) -> KnownEtcd:
    """A node that joined, and has seen revision 100."""
    found = KnownEtcd(path)
    found.join(CLOUD)
    assert found.look(CLOUD, CLUSTER, 100) is None
    found.save()
    return found


def test_a_node_belongs_to_no_cloud_until_it_joins_and_to_it_ever_after(path: Path) -> None:
    fresh = KnownEtcd(path)
    assert fresh.cloud is None and not path.exists()
    fresh.join(CLOUD)
    fresh.join(CLOUD)
    assert KnownEtcd(path).cloud == CLOUD


def test_another_cloud_is_refused_with_what_to_do(known: KnownEtcd, path: Path) -> None:
    with pytest.raises(Conflict, match=rf"{CLOUD}.*{OTHER}.*etcd_prefix.*remove {path}"):
        known.join(OTHER)
    assert KnownEtcd(path).cloud == CLOUD


def test_the_known_etcd_is_never_in_doubt_however_far_it_goes_on(known: KnownEtcd) -> None:
    assert [known.look(CLOUD, CLUSTER, revision) for revision in (100, 101, 5000, 5000)] == [None] * 4
    assert known.doubt is None


@pytest.mark.parametrize(
    ("cloud", "cluster", "revision", "words"),
    [
        (None, CLUSTER, 200, "no record of cloud cloud-1: it was emptied, or etcd_prefix"),
        (OTHER, CLUSTER, 200, "holds cloud cloud-2"),
        (CLOUD, 0xDEF, 200, "another cluster \\(def\\) than the known one \\(abc\\)"),
        (CLOUD, CLUSTER, 99, "went back from 100 to 99"),
    ],
)
def test_every_other_etcd_is_in_doubt_also_after_a_restart_until_it_is_accepted(
    known: KnownEtcd, path: Path, cloud: str | None, cluster: int, revision: int, words: str
) -> None:
    for node in (known, KnownEtcd(path)):
        assert re.search(words, str(node.look(cloud, cluster, revision)))
        assert node.doubt
    assert known.look(CLOUD, CLUSTER, 300), "a doubt lasts though etcd seems right again"
    assert known.accept()
    assert known.doubt is None
    assert known.look(CLOUD, CLUSTER, 301) is None


def test_what_is_accepted_is_the_known_one_from_then_on(known: KnownEtcd, path: Path) -> None:
    assert known.look(CLOUD, 0xDEF, 7)
    assert known.accept()
    assert KnownEtcd(path).look(CLOUD, 0xDEF, 8) is None
    assert KnownEtcd(path).look(CLOUD, CLUSTER, 101)


@pytest.mark.parametrize("cloud", [None, OTHER])
def test_an_etcd_without_our_cloud_can_never_be_accepted(known: KnownEtcd, cloud: str | None) -> None:
    assert known.look(cloud, CLUSTER, 101)
    assert not known.accept()
    assert known.doubt


def test_nothing_is_accepted_before_anything_was_seen(path: Path) -> None:
    fresh = KnownEtcd(path)
    assert not fresh.accept()
    fresh.join(CLOUD)
    assert not fresh.accept()


def test_a_revision_is_remembered_over_a_restart_once_saved_and_seldom_by_itself(known: KnownEtcd, path: Path) -> None:
    known.look(CLOUD, CLUSTER, 150)
    assert KnownEtcd(path).look(CLOUD, CLUSTER, 120) is None, "not written for so little"
    known.look(CLOUD, CLUSTER, 200)
    assert KnownEtcd(path).look(CLOUD, CLUSTER, 199)
    known.look(CLOUD, CLUSTER, 210)
    known.save()
    assert KnownEtcd(path).look(CLOUD, CLUSTER, 209)


def test_the_subnet_outlives_restarts_and_doubts(known: KnownEtcd, path: Path) -> None:
    known.keep_subnet("198.19.7.0/24")
    assert KnownEtcd(path).subnet == "198.19.7.0/24"
    known.look(CLOUD, 0xDEF, 7)
    known.accept()
    assert KnownEtcd(path).subnet == "198.19.7.0/24"


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 2, "cloud": "c"}', b'{"version": 1}', b"\xff\xfe"])
def test_a_file_that_cannot_be_read_stops_the_node_and_names_itself(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(PlacetError, match=str(path)):
        KnownEtcd(path)
    assert path.read_bytes() == content


def test_one_that_may_not_be_read_names_itself_too(path: Path) -> None:
    path.mkdir()
    with pytest.raises(PlacetError, match=str(path)):
        KnownEtcd(path)


def test_a_write_that_was_cut_off_leaves_the_old_one(known: KnownEtcd, path: Path) -> None:
    path.with_suffix(".part").write_bytes(b'{"version": 1, "clo')
    assert KnownEtcd(path).cloud == CLOUD
