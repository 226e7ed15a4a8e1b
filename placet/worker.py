"""Carrying out, on a node, what was decided for one instance. Step 4 of a request's way, and the status of step 5.

A worker looks afresh each time: spec, destroy and status from etcd, the domain from the hypervisor. It writes a
status only while the spec is there and nobody asked for a destroy, so that a destroy wins over anything in flight.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from placet import keys
from placet.claims import Claims
from placet.closing import closing
from placet.drivers import Driver
from placet.errors import Conflict, Fault
from placet.failpoints import reach
from placet.fetching import Fetches, Waiting
from placet.guest_records import GuestRecords
from placet.images import ImageCache
from placet.lateness import next_look, with_lateness
from placet.lifecycle import Stage
from placet.log import log, warn
from placet.metadata import guest_record
from placet.model import BadRecord, Spec, is_uuid
from placet.node_records import Status
from placet.published import Publications, with_ready
from placet.reconcile import (
    MAX_RESTARTS,
    Action,
    Fail,
    Step,
    at_stage,
    plan,
    report,
    same_but_for_time,
    with_fault,
    with_restart,
)
from placet.reports import Report, Reports, Superseded
from placet.spec_files import SpecFiles
from placet.specs import spec_at
from placet.store import CreatedAt, Delete, Store
from placet.story import Note, Story

CONSOLE_LINES = 20  # some of them empty


@dataclass
class Work:
    """One look at one instance: its spec, made at `spec_revision`, and its status as it stands in etcd."""

    instance: str
    spec: Spec | None
    report: Report
    destroy: int | None = None  # the destroy key's create_revision
    spec_revision: int = 0

    @property
    def status(self) -> Status | None:
        return self.report.status


class Worker:
    """Brings one instance at a time to what is wanted; safe to use from many threads for different instances."""

    def __init__(
        self,
        node: str,
        cloud: str,
        store: Store,
        claims: Claims,
        driver: Driver,
        images: ImageCache,
        records: GuestRecords,
        specs: SpecFiles,
        story: Story,
        look_again: Callable[[str], None],
        look_later: Callable[[str, float], None],
        clock: Callable[[], float],
        fetchers: Executor | None = None,
    ) -> None:
        """`fetchers` are threads that fetch images, shared with others; by default it has its own."""
        self._node = node
        self._cloud = cloud
        self._store = store
        self._claims = claims
        self._driver = driver
        self._records = records
        self._specs = specs
        self._story = story
        self._reports = Reports(node, store, story, clock)
        self._publications = Publications(node, store, records.published)
        self._look_again = look_again
        self._look_later = look_later
        self._fetches = Fetches(images, look_again, fetchers)
        self._clock = clock
        self._doings: dict[Action, Callable[[Work], None]] = {
            Action.CHECK_CLAIM: self._check_claim,
            Action.CREATE_DISK: self._create_disk,
            Action.DEFINE: self._define,
            Action.START: self._start,
            Action.RESTART: self._restart,
            Action.REPORT: self._report,
            Action.REMOVE_DOMAIN: self._remove_domain,
            Action.REMOVE_DISK: self._remove_disk,
            Action.RELEASE: self._release,
            Action.REMOVE_KEYS: self._remove_keys,
        }

    def reconcile(self, instance: str) -> None:
        """Look at one instance and do what is due. Raises Unreachable for what is worth another try."""
        work = self._look(instance)
        if work is None:
            return
        reach("build.spec-read" if work.destroy is None else "destroy.asked")
        try:
            observed = self._driver.observe(instance)
            made_for = self._specs.made_for(instance)
            for step in plan(work.spec, work.destroy is not None, work.status, observed, self._cloud, made_for):
                self._take(step, work)
        except Fault as fault:
            if work.destroy is not None:
                raise  # a destroy is tried again until it is done
            self._fail(work, fault.code, str(fault))
        except Superseded:
            log("superseded", instance=instance)
            self._look_again(instance)
        except Waiting as wait:
            self._reports.say(work.report, str(wait), is_news=wait.is_first)

    def _take(self, step: Step, work: Work) -> None:
        if isinstance(step, Fail):
            raise Fault(step.code, step.message)
        self._doings[step](work)

    def say_why(self, instance: str, reason: str) -> None:
        """Let the status tell what an instance waits for, while it is tried again. Raises PlacetError."""
        work = self._look(instance)
        if work is not None:
            self._reports.say(work.report, reason)

    def close(self) -> None:
        """Begin nothing more; a download that is under way is given up with the process."""
        self._fetches.close()

    def _look(self, instance: str) -> Work | None:
        """What etcd says of it; None when nothing is to be done, a bad record having been reported."""
        if not is_uuid(instance):
            warn("not-a-uuid", instance=instance)
            return None
        report = self._reports.read(instance)
        destroy = self._store.get(keys.destroy(self._node, instance))
        entry = self._store.get(keys.spec(self._node, instance))
        if destroy is not None:
            return Work(instance, None, report, destroy.create_revision)
        if entry is None:
            return None
        try:
            return Work(instance, spec_at(entry), report, spec_revision=entry.create_revision)
        except BadRecord as bad:
            if report.status is None or report.status.fault is None:
                self._fail(Work(instance, None, report), "bad-spec", str(bad))
            return None

    def _check_claim(self, work: Work) -> None:
        """A node boots only what Placement says it holds."""
        spec = _spec(work)
        if work.status is None:
            self._reports.write(work.report, self._reports.begun(work.report))
            reach("build.status-written")
        held = self._claims.held(work.instance)
        if not held.allocations:
            raise Fault("no-allocation", "Placement holds nothing for it; nobody claimed these resources")
        if held.allocations != spec.allocations or not self._claims.is_of(self._node, held):
            raise Fault("allocation-mismatch", "Placement holds other amounts for it than its spec says")

    def _create_disk(self, work: Work) -> None:
        spec = _spec(work)
        image = self._fetches.image(spec)
        self._advance(work, Stage.IMAGE)
        self._remember(spec)
        self._driver.create_disk(spec, image)
        reach("build.disk-made")

    def _define(self, work: Work) -> None:
        spec = _spec(work)
        self._driver.define(spec)
        reach("build.domain-defined")
        with _node_files("keep the guest's metadata"):
            self._records.write(guest_record(spec, self._driver.observe(work.instance).addresses))
        self._advance(work, Stage.DEFINED)

    def _remember(self, spec: Spec) -> None:
        with _node_files("remember its spec"):
            self._specs.remember(spec)
            self._records.published.remove(spec.instance)  # an earlier guest's of this UUID

    def _start(self, work: Work) -> None:
        self._driver.start(work.instance)
        reach("build.domain-started")

    def _restart(self, work: Work) -> None:
        """It is written before it is done, so that a guest that takes its node's agent down is not started for ever."""
        status = with_restart(self._reports.begun(work.report), self._clock())
        if status is None:
            raise Fault("guest-crashed", f"it ended again and again, {MAX_RESTARTS} times of late; see its console log")
        self._reports.write(work.report, status)
        self._driver.start(work.instance)

    def _report(self, work: Work) -> None:
        observed = self._driver.observe(work.instance)
        spec, now = _spec(work), self._clock()
        status = self._with_own_word(work, report(spec, work.status, observed, now))
        status = with_lateness(spec, status, now, lambda: self._console(work.instance))
        has_ip = Stage.IP.value in status.stages
        if has_ip:
            reach("build.ip-seen")
        if not same_but_for_time(work.status, status):
            self._reports.write(work.report, status)
        if has_ip:
            reach("build.ip-written")
        if (pause_s := next_look(spec, status, now)) is not None:
            self._look_later(work.instance, pause_s)

    def _console(self, instance: str) -> bytes:
        try:
            return self._driver.console(instance, CONSOLE_LINES).data
        except Fault:  # it has none
            return b""

    def _with_own_word(self, work: Work, status: Status) -> Status:
        """What the guest has published goes to etcd, and into the status whether it is ready. Raises Superseded."""
        published = self._publications.read(work.instance)
        if published is not None and not self._publications.write(published, work.spec_revision):
            raise Superseded(f"instance {work.instance} changed in etcd meanwhile")
        return with_ready(status, published)

    def _remove_domain(self, work: Work) -> None:
        self._driver.remove_domain(work.instance)
        reach("destroy.domain-gone")

    def _remove_disk(self, work: Work) -> None:
        self._driver.remove_disk(work.instance)
        self._records.remove(work.instance)
        self._specs.forget(work.instance)
        self._fetches.forget(work.instance)
        reach("destroy.disk-gone")

    def _release(self, work: Work) -> None:
        """What it holds of this node. After `destroy --force` its UUID may have been placed anew, elsewhere."""
        try:
            self._claims.release(work.instance, self._node)
        except Conflict as problem:  # nothing there is ours to release: that must not keep it from going
            warn("foreign-allocation", instance=work.instance, reason=problem)
        reach("destroy.allocation-gone")

    def _remove_keys(self, work: Work) -> None:
        key = work.instance
        destroy_key = keys.destroy(self._node, key)
        gone = [keys.spec(self._node, key), keys.status(self._node, key), destroy_key]
        gone.append(keys.published(self._node, key))
        # a late repetition must not take the keys of one that was placed anew under this UUID
        same, closed = closing(self._store, key, self._node, self._clock())
        same.append(CreatedAt(destroy_key, work.destroy or 0))
        if not self._story.transact(same, [*closed, *map(Delete, gone)], Note(key, "destroyed")):
            raise Superseded(f"the destroy of {key} changed meanwhile, or is done")
        reach("destroy.keys-gone")
        log("destroyed", instance=work.instance)

    def _advance(self, work: Work, stage: Stage) -> None:
        self._reports.write(work.report, at_stage(self._reports.begun(work.report), stage, self._clock()))

    def _fail(self, work: Work, code: str, message: str) -> None:
        warn("fault", instance=work.instance, code=code, message=message)
        try:
            self._reports.write(work.report, with_fault(self._reports.begun(work.report), code, message, self._clock()))
        except Superseded:
            log("superseded", instance=work.instance)
            self._look_again(work.instance)


@contextlib.contextmanager
def _node_files(doing: str) -> Iterator[None]:
    """What the node keeps for itself of an instance. Raises Fault `disk-full`, `node-files`."""
    try:
        yield
    except OSError as problem:
        code = "disk-full" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else "node-files"
        raise Fault(code, f"the node cannot {doing}: {problem.strerror}") from problem


def _spec(work: Work) -> Spec:
    if work.spec is None:
        raise Superseded(f"instance {work.instance} has no spec")
    return work.spec
