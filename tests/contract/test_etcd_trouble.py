"""What goes wrong with a real etcd, and what the store makes of it: each call ends, each watch that may have missed
something says so, and after the trouble the same store works again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from placet.errors import BadConfig, LeaseGone, Refused, Unreachable, WatchLost
from placet.store import Delete, Event, Put, Watch
from placet.store import etcd as store_etcd
from placet.store import watch as store_watch
from placet.store.etcd import EtcdStore
from placet.store.watch import SILENCE_S
from tests.support.nodes import until
from tests.support.proxy import Link, link_to
from tests.support.services import Etcd, etcd_server

T = TypeVar("T")
MIB = 2**20
PASSWORD = "pw"
CALL_S = 4.0  # short, as some tests wait for its end, but a busy machine answers in it
PATIENT_S = 60.0
LOST_WITHIN_S = 6 * SILENCE_S


@pytest.fixture
def server() -> Iterator[Etcd]:
    """An etcd that the test may ill-treat."""
    with etcd_server() as running:
        yield running


@pytest.fixture
def store(server: Etcd) -> Iterator[EtcdStore]:
    opened = EtcdStore({**server.client, "timeout": CALL_S})
    yield opened
    opened.close()


@pytest.fixture
def patient(server: Etcd, monkeypatch: pytest.MonkeyPatch) -> Iterator[EtcdStore]:
    """A store for so much that it may take long: neither a call's nor a watch's silence is too much."""
    monkeypatch.setattr(store_watch, "SILENCE_S", LOST_WITHIN_S)
    opened = EtcdStore({**server.client, "timeout": PATIENT_S})
    yield opened
    opened.close()


@pytest.fixture
def link(etcd: Etcd) -> Iterator[Link]:
    with link_to(etcd.port) as running:
        yield running


@pytest.fixture
def far(link: Link) -> Iterator[EtcdStore]:
    """A store at the other end of the link."""
    opened = EtcdStore({"host": "127.0.0.1", "port": link.port, "timeout": CALL_S}, f"/far-{uuid.uuid4()}")
    yield opened
    opened.close()


def put(store: EtcdStore, key: str, value: bytes = b"") -> None:
    store.transact([], [Put(key, value)])


def watch_from_now(store: EtcdStore) -> Watch:
    return store.watch([""], store.scan("").revision + 1)


def take(watch: Watch, count: int) -> list[Event]:
    found: list[Event] = []

    def are_there() -> bool:
        found.extend(watch.wait(0.2))
        return len(found) >= count

    until(are_there, f"{count} events")
    return found


def loss(watch: Watch) -> str:
    """Why a watch is lost, which it must say within a bounded time."""
    deadline = time.monotonic() + LOST_WITHIN_S
    while time.monotonic() < deadline:
        try:
            watch.wait(0.5)
        except WatchLost as lost:
            return str(lost)
    raise AssertionError(f"the watch said nothing for {LOST_WITHIN_S:g} s")


def answered(call: Callable[[], T], timeout_s: float = 60.0) -> T:
    """What a call returns once etcd is reachable again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except Unreachable:
            assert time.monotonic() < deadline, "etcd did not become reachable again"
            time.sleep(0.05)


# Users, passwords, tokens


@dataclass
class Guarded:
    """An etcd that asks for a password: `guest` may use what is under /mine/, and nothing else."""

    server: Etcd

    def store(self, prefix: str = "/mine", password: str = PASSWORD) -> EtcdStore:
        user = {"user": "guest", "password": password, "timeout": PATIENT_S}
        return EtcdStore({**self.server.client, **user}, prefix)

    def end_tokens(self) -> None:
        """A password that is set anew ends all tokens of its user."""
        words = ("--user", "root:root", "user", "passwd", "guest", "--interactive=false")
        self.server.ctl(*words, told=PASSWORD)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with etcd_server("--auth-token-ttl", "3") as server:
        for words in (
            "user add root:root",
            "user grant-role root root",
            "role add guest",
            "role grant-permission guest --prefix=true readwrite /mine/",
            "user add guest:pw",
            "user grant-role guest guest",
            "auth enable",
        ):
            server.ctl(*words.split())
        yield Guarded(server)


def test_a_user_with_a_password_can_do_everything_without_tls_too(guarded: Guarded) -> None:
    store = guarded.store()
    watch = watch_from_now(store)
    put(store, "a", b"1")
    assert [event.key for event in take(watch, 1)] == ["a"]
    lease = store.grant_lease(30)
    assert store.refresh_lease(lease) > 0
    store.revoke_lease(lease)
    assert store.alarms() == ()
    store.close()


def test_a_wrong_password_is_told_without_it(guarded: Guarded) -> None:
    with pytest.raises(Refused, match="authentication failed") as told:
        guarded.store(password="hunter2")
    assert "hunter2" not in str(told.value)


def test_a_user_without_a_password_is_a_bad_configuration(guarded: Guarded) -> None:
    with pytest.raises(BadConfig, match="go together"):
        EtcdStore({**guarded.server.client, "user": "guest"})


@pytest.mark.parametrize("known", [True, False], ids=["a user without permission", "nobody"])
def test_a_refused_watch_is_lost_and_not_silent(guarded: Guarded, known: bool) -> None:
    store = guarded.store("/theirs") if known else EtcdStore(guarded.server.client)
    with pytest.raises(Refused, match=r"permission denied|user name is empty"):
        store.scan("")
    assert "cancelled" in loss(store.watch([""], 1))
    store.close()


@pytest.mark.parametrize("how", ["ended", "expired"])
def test_a_dead_token_is_replaced_for_calls_and_for_watches(guarded: Guarded, how: str) -> None:
    store = guarded.store()
    put(store, "before")
    if how == "ended":
        guarded.end_tokens()
    else:
        told = "deleted a simple token"
        before = guarded.server.running.log.read_text().count(told)
        until(lambda: guarded.server.running.log.read_text().count(told) > before, "the token's time is over")
    watch = watch_from_now(store)
    put(store, "after")
    assert [event.key for event in take(watch, 1)] == ["after"]
    store.close()


def test_a_watch_with_a_dead_token_is_lost_and_the_list_that_follows_makes_the_next_one_good(guarded: Guarded) -> None:
    store = guarded.store()
    revision = store.scan("").revision
    guarded.end_tokens()
    assert "invalid auth token" in loss(store.watch([""], revision + 1))
    watch = watch_from_now(store)
    put(store, "after")
    assert [event.key for event in take(watch, 1)] == ["after"]
    store.close()


def test_a_hub_whose_token_died_loses_its_watches_and_has_a_new_stream_for_the_next(guarded: Guarded) -> None:
    store = guarded.store()
    hub, told = store.watch_hub(), threading.Event()
    revision = store.scan("").revision
    before = hub.watch([""], revision + 1, told.set)
    put(store, "before")
    assert [event.key for event in take(before, 1)] == ["before"]
    guarded.end_tokens()
    told.clear()
    assert "cancelled" in loss(hub.watch([""], revision + 1, told.set))
    assert "cancelled" in loss(before), "nobody knows what it may have missed"
    assert told.is_set()
    put(store, "after")  # with a new token
    assert [event.key for event in take(hub.watch([""], revision + 1, told.set), 2)] == ["before", "after"]
    hub.close()
    store.close()


def test_a_token_that_dies_under_many_threads_disturbs_no_call_and_no_watch(guarded: Guarded) -> None:
    store = guarded.store()
    watch = watch_from_now(store)
    stop = threading.Event()

    def write(writer: int) -> int:
        number = 0
        while not stop.is_set():
            put(store, f"{writer}/{number}")
            number += 1
        return number

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, number) for number in range(8)]
        try:
            for _ in range(3):
                guarded.end_tokens()
        finally:
            stop.set()
        written = sum(writer.result() for writer in writers)
    assert len({event.key for event in take(watch, written)}) == written
    store.close()


# History: compaction, backups, restarts


def test_compaction_disturbs_no_open_watch_and_ends_one_that_resumes_before_it(server: Etcd, store: EtcdStore) -> None:
    old = store.scan("").revision
    watch = store.watch([""], old + 1)
    for number in range(3):
        put(store, f"before/{number}")
    take(watch, 3)
    server.ctl("compact", str(store.scan("").revision))
    put(store, "after")
    assert [event.key for event in take(watch, 1)] == ["after"]
    assert "compacted" in loss(store.watch([""], old + 1))
    resumed = watch_from_now(store)
    put(store, "later")
    assert [event.key for event in take(resumed, 1)] == ["later"]


def test_after_a_kill_and_a_restart_a_new_watch_from_the_old_revision_sees_what_was_missed(
    server: Etcd, store: EtcdStore
) -> None:
    put(store, "before")
    seen = store.scan("").revision
    watch = store.watch([""], seen + 1)
    other = EtcdStore(server.client)
    server.kill()
    assert loss(watch)
    with pytest.raises(Unreachable):
        store.scan("")
    server.start()
    answered(lambda: put(other, "missed"))
    other.close()
    resumed = store.watch([""], seen + 1)
    while True:  # gRPC may not have tried again yet
        try:
            assert [event.key for event in take(resumed, 1)] == ["missed"]
            break
        except WatchLost:
            answered(lambda: store.scan(""))
            resumed = store.watch([""], seen + 1)


@pytest.mark.parametrize("cluster", ["etcd-cluster", "another"])
def test_a_restored_backup_ends_watches_and_a_list_tells_it(
    server: Etcd, store: EtcdStore, tmp_path: Path, cluster: str
) -> None:
    put(store, "kept")
    backup = server.snapshot(tmp_path / "backup")
    for number in range(5):
        put(store, f"lost/{number}")
    before = store.scan("")
    watch = store.watch([""], before.revision + 1)
    server.restore(backup, cluster)
    assert loss(watch)
    after = answered(lambda: store.scan(""))
    assert [entry.key for entry in after.entries] == ["kept"]
    assert after.revision < before.revision
    assert (after.cluster_id != before.cluster_id) is (cluster == "another")
    assert "went back" in loss(store.watch([""], before.revision + 1))


def test_no_event_is_lost_or_doubled_while_etcd_is_killed_and_restarted(server: Etcd, store: EtcdStore) -> None:
    wanted = {f"{number:03}" for number in range(500)}
    half, killed = threading.Event(), threading.Event()

    def write() -> None:
        writer = EtcdStore({**server.client, "timeout": 1.0})
        for key in sorted(wanted):
            answered(partial(put, writer, key))
            if key == "250":
                half.set()
            if key == "450":  # some are left for afterwards, however late the kill comes
                assert killed.wait(60)
        writer.close()

    follower = Follower(store)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(write), pool.submit(follower.follow, wanted)]
        assert half.wait(60)
        server.kill()
        killed.set()
        server.start()
        for each in running:
            each.result(180)
    assert follower.keys == wanted
    assert follower.losses > 0
    assert len(follower.events) == len(set(follower.events)), "an event came twice"


class Follower:
    """Lists, watches from there, and does so again when the watch is lost: as every user of the seam."""

    def __init__(self, store: EtcdStore) -> None:
        self.keys: set[str] = set()
        self.events: list[tuple[str, int]] = []
        self.losses = 0
        self._store = store

    def follow(self, wanted: set[str], timeout_s: float = 150.0) -> None:
        """Until all wanted keys were seen."""
        deadline = time.monotonic() + timeout_s
        while not wanted <= self.keys:
            listing = answered(lambda: self._store.scan(""))
            self.keys |= {entry.key for entry in listing.entries}
            watch = self._store.watch([""], listing.revision + 1)
            try:
                while not wanted <= self.keys:
                    assert time.monotonic() < deadline, f"{len(self.keys)} keys, {self.losses} losses"
                    self._take(watch.wait(0.2))
            except WatchLost:
                self.losses += 1
            finally:
                watch.close()

    def _take(self, events: tuple[Event, ...]) -> None:
        self.keys |= {event.key for event in events}
        self.events += [(event.key, event.revision) for event in events]


# A server or a link that says nothing


def test_a_paused_server_ends_calls_by_their_deadline_and_watches_soon_after(server: Etcd, store: EtcdStore) -> None:
    watch = watch_from_now(store)
    server.pause()
    for call in (lambda: store.scan(""), lambda: put(store, "a"), lambda: store.grant_lease(5)):
        started = time.monotonic()
        with pytest.raises(Unreachable):
            call()
        assert time.monotonic() - started < 60, f"the deadline is {CALL_S:g} s"
    assert loss(watch)
    server.resume()
    resumed = answered(lambda: watch_from_now(store))
    answered(lambda: put(store, "b"))
    assert "b" in {event.key for event in take(resumed, 1)}


def test_a_cut_connection_loses_the_watch_and_the_next_one_is_good(link: Link, far: EtcdStore) -> None:
    watch = watch_from_now(far)
    link.cut()
    assert loss(watch)
    resumed = answered(lambda: watch_from_now(far))
    put(far, "a")
    assert [event.key for event in take(resumed, 1)] == ["a"]


def test_a_silent_link_loses_the_watch_and_after_it_heals_the_next_one_is_good(link: Link, far: EtcdStore) -> None:
    watch = watch_from_now(far)
    link.silence()
    assert loss(watch)
    with pytest.raises(Unreachable):
        far.scan("")
    assert loss(far.watch([""], 1)), "nor does a new one wait for ever"
    link.heal()
    resumed = answered(lambda: watch_from_now(far))
    put(far, "a")
    assert [event.key for event in take(resumed, 1)] == ["a"]


@pytest.fixture
def quick_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch's heartbeat, faster than it is: no test waits for the real one."""
    monkeypatch.setattr(store_watch, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(store_watch, "SILENCE_S", 5.0)


@pytest.mark.parametrize("connected", [True, False])
def test_silence_is_noticed_by_the_watchs_own_heartbeat(
    link: Link, quick_heart: None, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    monkeypatch.setattr(store_etcd, "CHANNEL_OPTIONS", [])  # no keepalive
    far = EtcdStore({"host": "127.0.0.1", "port": link.port, "timeout": CALL_S})
    if connected:
        far.scan("")
    link.silence()
    assert "silent for" in loss(far.watch([""], 1))
    far.close()


def test_a_slow_link_loses_nothing(link: Link, far: EtcdStore) -> None:
    watch = watch_from_now(far)
    link.delay(0.2)
    for number in range(5):
        put(far, str(number))
    assert [event.key for event in take(watch, 5)] == ["0", "1", "2", "3", "4"]
    assert watch.wait(2 * 0.2) == ()


def test_a_watch_that_rests_is_kept_alive_and_not_lost(etcd: Etcd, quick_heart: None) -> None:
    store = EtcdStore(etcd.client, f"/rest-{uuid.uuid4()}")
    watch = watch_from_now(store)
    assert watch.wait(1.5 * store_watch.SILENCE_S) == ()
    put(store, "a")
    assert [event.key for event in take(watch, 1)] == ["a"]
    store.close()


# Ends


def test_a_watch_on_a_paused_server_is_closed_at_once(server: Etcd, store: EtcdStore) -> None:
    watches = [watch_from_now(store)]
    server.pause()
    watches.append(store.watch([""], 1))
    for watch in watches:
        closing = threading.Thread(target=watch.close, daemon=True)
        closing.start()
        closing.join(60)
        assert not closing.is_alive(), "close hangs"
        with pytest.raises(WatchLost):
            take(watch, 1)


WAITING_PROCESS = """
import json, resource, sys, threading, time
from placet.duties import RETRY_S
from placet.errors import PlacetError
from placet.store.etcd import EtcdStore

store = EtcdStore(json.loads(sys.argv[1]))

def watch():
    while True:
        try:
            following = store.watch([""], store.scan("").revision + 1)
            print("watching", flush=True)
            while True:
                following.wait(1.0)
        except PlacetError:
            time.sleep(RETRY_S)

threading.Thread(target=watch, daemon=True).start()
for line in sys.stdin:
    if line == "measure\\n":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(usage.ru_utime + usage.ru_stime, flush=True)
"""


@pytest.fixture
def waiting(server: Etcd) -> Iterator[subprocess.Popen[str]]:
    """A process that watches and, when the watch is lost, tries again like the agent. It ends when its input does."""
    argv = [sys.executable, "-c", WAITING_PROCESS, json.dumps({**server.client, "timeout": 1.0})]
    pipe = subprocess.PIPE
    root = Path(__file__).parents[2]
    process = subprocess.Popen(argv, cwd=root, stdin=pipe, stdout=pipe, text=True, env=dict(os.environ))
    assert process.stdout and process.stdout.readline() == "watching\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("trouble", ["killed", "paused"])
def test_nothing_spins_while_etcd_is_away(server: Etcd, waiting: subprocess.Popen[str], trouble: str) -> None:
    def processor_s() -> float:
        assert waiting.stdin and waiting.stdout
        waiting.stdin.write("measure\n")
        waiting.stdin.flush()
        return float(waiting.stdout.readline())

    server.kill() if trouble == "killed" else server.pause()
    before, started = processor_s(), time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(3)
    assert processor_s() - before < 0.5 * (time.monotonic() - started)


@pytest.mark.parametrize("trouble", ["none", "killed", "paused"])
def test_a_process_that_watches_ends_when_it_wants_to(
    server: Etcd, waiting: subprocess.Popen[str], trouble: str
) -> None:
    if trouble != "none":
        server.kill() if trouble == "killed" else server.pause()
    assert waiting.stdin
    waiting.stdin.close()
    waiting.stdin = None
    assert waiting.wait(60) == 0


def test_fifty_watches_leave_no_threads(etcd: Etcd) -> None:
    store = EtcdStore(etcd.client, f"/fifty-{uuid.uuid4()}")
    before = set(threading.enumerate())
    watches = [watch_from_now(store) for _ in range(50)]
    put(store, "a")
    assert all(len(take(watch, 1)) == 1 for watch in watches)
    assert len(set(threading.enumerate()) - before) >= 50
    for watch in watches:
        watch.close()
    until(lambda: not set(threading.enumerate()) - before, "their threads are gone")
    store.close()


# Sizes, leases, alarms


def test_what_is_over_four_mebibytes_comes_whole_in_a_list_and_in_a_watch(patient: EtcdStore) -> None:
    for number in range(8):
        put(patient, f"big/{number}", bytes([number]) * MIB)
    listing = patient.scan("")
    assert [entry.value for entry in listing.entries] == [bytes([number]) * MIB for number in range(8)]
    events = take(patient.watch([""], 1), 8)
    assert [event.entry for event in events] == list(listing.entries)


def test_a_list_over_the_limit_is_refused_and_smaller_ones_work(patient: EtcdStore) -> None:
    for number in range(65):
        put(patient, f"{number:02}", bytes(MIB))
    with pytest.raises(Refused, match="larger than max"):
        patient.scan("")
    assert "larger than max" in loss(patient.watch([""], 1))
    assert len(patient.scan("0").entries) == 10


def test_what_is_too_much_for_etcd_is_refused_in_words_and_nothing_of_it_is_done(etcd: Etcd) -> None:
    store = EtcdStore(etcd.client, f"/much-{uuid.uuid4()}")
    with pytest.raises(Refused, match=r"too large|larger than max"):
        store.transact([], [Put("small", b""), Put("big", bytes(2 * MIB))])
    with pytest.raises(Refused, match="too many operations"):
        store.transact([], [Put(str(number), b"") for number in range(129)])
    assert store.scan("").entries == ()
    assert store.transact([], [Put(str(number), b"") for number in range(128)])
    store.close()


def test_a_lease_that_is_gone_is_told_by_refresh_and_by_put(etcd: Etcd) -> None:
    store = EtcdStore(etcd.client, f"/lease-{uuid.uuid4()}")
    lease = store.grant_lease(5)
    store.transact([], [Put("leased", b"", lease)])
    until(lambda: store.get("leased") is None, "the lease has ended")
    assert store.refresh_lease(lease) == 0
    with pytest.raises(LeaseGone):
        store.transact([], [Put("leased", b"", lease)])
    store.close()


def test_a_full_etcd_says_so_refuses_with_the_remedy_and_the_remedy_helps() -> None:
    with etcd_server("--quota-backend-bytes", str(4 * MIB)) as server:
        store = EtcdStore(server.client)
        with pytest.raises(Refused, match="NOSPACE") as told:
            for number in range(100):
                put(store, "filling", bytes([number]) * (MIB // 2))
        for word in ("compact", "defragment", "etcdctl alarm disarm", str(server.port)):
            assert word in str(told.value)
        until(lambda: store.alarms() == ("NOSPACE",), "the alarm")
        assert store.get("filling"), "reading goes on"
        server.ctl("compact", str(store.scan("").revision))
        server.ctl("defrag")
        server.ctl("alarm", "disarm")
        assert store.alarms() == ()
        assert store.transact([], [Delete("filling")])
        store.close()
