"""The cache's limit: what is unused for longest goes first, what is in use never."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.errors import Fault, Unreachable
from placet.images import ImageCache
from placet.images.eviction import RECENT_S, Entry, victims
from placet.model import ImageRef
from tests.support.hostile_http import hostile_http
from tests.support.image_files import MIB, boot_sector, cache_at, files_of, limits, refusal

LONG = RECENT_S + 1

paths = st.integers(0, 30).map(lambda number: Path(f"/cache/{number}.raw"))
entries = st.lists(
    st.builds(Entry, paths, st.integers(0, 50), st.integers(0, 2000)), unique_by=lambda entry: entry.path
)


@given(entries, st.integers(0, 60), st.integers(0, 400), st.frozensets(st.integers(0, 30)))
def test_only_what_nobody_needs_goes_and_no_more_than_is_needed(
    found: list[Entry], needed: int, limit: int, used: frozenset[int]
) -> None:
    in_use, now = {f"{n}.raw" for n in used}, 2000.0

    gone = victims(found, needed, limit, in_use, now)

    free = [entry for entry in found if entry.path.name not in in_use and entry.used_at < now - RECENT_S]
    assert set(gone) <= set(free)
    left = sum(entry.size for entry in found if entry not in gone) + needed
    assert left <= limit or set(gone) == set(free)
    assert not gone or left + gone[-1].size > limit
    assert all(entry.used_at <= other.used_at for entry in gone for other in set(free) - set(gone))


class Node:
    """A cache of 4 MiB on a node; `time` is its clock, `used` what its disks lie on."""

    def __init__(self, directory: Path) -> None:
        self.images = directory / "images"
        self.images.mkdir()
        self.time = 10_000.0
        self.used: set[Path] = set()
        self.cache = self.restarted(directory / "cache")

    def restarted(self, directory: Path) -> ImageCache:
        self.cache = cache_at(
            directory,
            [self.images],
            limits(cache_bytes=4 * MIB + 65536),
            in_use=lambda: frozenset(self.used),
            now=lambda: self.time,
        )
        return self.cache

    def source(self, name: str, mib: int = 1) -> str:
        path = self.images / name
        if not path.exists():
            path.write_bytes(boot_sector() + os.urandom(mib * MIB - 512))
        return str(path)

    def fetch(self, name: str, mib: int = 1) -> Path:
        found = self.cache.fetch(ImageRef(self.source(name, mib)))
        self.time += LONG
        return found.path


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_longest_unused_goes_first(node: Node) -> None:
    first, second, third, fourth = (node.fetch(name) for name in "abcd")
    node.fetch("a")

    node.fetch("e", mib=2)

    assert [path.exists() for path in (first, second, third, fourth)] == [True, False, False, True]
    assert len(files_of(node.cache)) == 3 * 3, "of what went, nothing is left: neither facts nor source"


def test_what_was_used_when_is_known_after_a_restart(node: Node, tmp_path: Path) -> None:
    first, second = node.fetch("a", 2), node.fetch("b", 2)
    node.fetch("a")

    node.restarted(tmp_path / "cache")
    node.fetch("c")

    assert (first.exists(), second.exists()) == (True, False)


def test_what_a_disk_lies_on_stays_though_the_limit_is_passed(node: Node) -> None:
    kept = [node.fetch(name, 2) for name in "ab"]
    node.used = set(kept)

    added = node.fetch("c", 2)

    assert all(path.exists() for path in (*kept, added))
    node.used = {kept[1]}
    node.fetch("d")
    assert [path.exists() for path in (*kept, added)] == [False, True, False]


def test_what_was_just_fetched_stays_since_a_disk_may_be_about_to_be_made_of_it(node: Node) -> None:
    first = node.fetch("a", 3)
    node.time -= LONG

    node.fetch("b", 3)

    assert first.exists()


def test_nothing_goes_while_nobody_can_tell_what_is_used(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    first = node.fetch("a", 3)

    def unknown() -> frozenset[Path]:
        raise Unreachable("libvirtd does not answer")

    monkeypatch.setattr(node.cache._directory, "_in_use", unknown)

    assert node.fetch("b", 3).exists()
    assert first.exists()


def test_an_image_that_is_over_the_limit_alone_is_refused_before_it_is_brought(node: Node) -> None:
    fault = refusal(node.cache, node.source("a", 5))

    assert fault.code == "image-cache-full"
    assert "image_cache_gb" in str(fault)
    with hostile_http() as web:
        assert refusal(node.cache, web.serve("/a", Path(node.source("a")).read_bytes())).code == "image-cache-full"


def test_one_that_only_turns_out_to_be_is_refused_too_and_nothing_went_for_it(node: Node) -> None:
    first = node.fetch("a", 3)
    with hostile_http() as web:
        url = web.serve("/b", Path(node.source("b", 5)).read_bytes(), Content_Length="")
        with pytest.raises(Fault) as caught:
            node.cache.fetch(ImageRef(url))

    assert caught.value.code == "image-cache-full"
    assert first.exists()


def test_room_is_made_before_the_download_when_its_size_is_known(node: Node) -> None:
    first = node.fetch("a", 3)
    there: list[bool] = []
    with hostile_http() as web:
        body = Path(node.source("b", 3)).read_bytes()
        url = web.serve("/b", body)
        node.cache.fetch(ImageRef(url), lambda _words: there.append(first.exists()))

    assert there and not any(there)
