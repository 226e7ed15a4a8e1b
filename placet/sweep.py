"""A node's own audit: it compares what it sees with etcd and Placement, and mends what is safe to mend.

Runs every minute or so, when the watch was lost, and when a doctor asks. `audit.py` decides what is wrong; here it is
read and mended. While etcd is not the one the node knows (known_etcd.py) nothing is mended until somebody accepts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from placet import keys
from placet.audit import NodeFacts, audit
from placet.candidates import Candidate
from placet.claims import Claims
from placet.cloud import read_cloud
from placet.drivers import Driver
from placet.errand_records import AuditReport, Finding
from placet.errors import Conflict, PlacetError
from placet.failpoints import reach
from placet.findings import finding, is_safe, repaired
from placet.known_etcd import KnownEtcd
from placet.log import warn
from placet.model import INTENT_TTL_S, Allocations, BadRecord, Intent, Spec, decode, encode
from placet.node_records import Status
from placet.placement import CONSUMER_TYPE, Placement
from placet.spec_files import SpecFiles
from placet.specs import is_live, spec_at
from placet.store import Absent, Compare, Entry, Listing, ModifiedAt, Put, Store
from placet.story import Note, Story

ANSWER_BYTES = 128 * 1024  # of findings and strays: with a stray of the largest size still a record that is read


class Sweep:
    """One node's. `run` is for one thread at a time."""

    def __init__(
        self,
        node: str,
        cloud: str,
        store: Store,
        placement: Placement,
        claims: Claims,
        driver: Driver,
        known: KnownEtcd,
        specs: SpecFiles,
        story: Story,
        restore_keys: Callable[[], None],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`restore_keys` writes again what the node put into etcd when it registered."""
        self._node = node
        self._cloud = cloud
        self._store = store
        self._placement = placement
        self._claims = claims
        self._driver = driver
        self._known = known
        self._specs = specs
        self._story = story
        self._restore_keys = restore_keys
        self._clock = clock
        self._monotonic = monotonic
        self._destroys: dict[str, float] = {}
        self._told: set[tuple[str, str]] = set()
        self._mendings: Mapping[str, Callable[[Finding], bool]] = {
            "leaked-allocation": self._release,
            "lost-allocation": self._claim_again,
        }

    def run(self, repair: bool = True, accept: bool = False) -> AuditReport:
        """Compare, mend if `repair`, tell what is new; `accept` takes an etcd that was in doubt. Raises PlacetError."""
        found, strays = self._examine(accept)
        if repair and self._known.doubt is None:
            self._restore_keys()
            found = [self._mended(each) for each in found]
        self._tell(found)
        self._known.save()
        return self._report(found, strays)

    def _report(self, found: list[Finding], strays: Mapping[str, Spec]) -> AuditReport:
        """As much as fits into one record; whoever has mended that may ask again."""
        shown: list[Finding] = []
        size = 0
        for each in found:
            stray = strays.get(each.subject)
            size += len(encode(each)) + (len(encode(stray)) if stray else 0)
            if shown and size > ANSWER_BYTES:
                break
            shown.append(each)
        told = tuple(strays[each.subject] for each in shown if each.subject in strays)
        return AuditReport(self._node, self._cloud, self._clock(), tuple(shown), told, len(found) - len(shown))

    def _examine(self, accept: bool) -> tuple[list[Finding], dict[str, Spec]]:
        cloud = read_cloud(self._store)
        listing = self._store.scan(keys.specs(self._node))
        doubt = self._known.look(cloud, listing.cluster_id, listing.revision)
        accepted = bool(doubt and accept and self._known.accept())
        facts = self._facts()
        found = [each for each in audit(facts) if self._is_confirmed(each)]
        strays = {each.subject: facts.remembered[each.subject] for each in found if each.kind == "stray"}
        if doubt:
            other = finding("other-etcd", self._node, doubt, self._node)
            found.insert(0, repaired(other) if accepted else other)
        if accepted:
            self._story.tell(Note(self._node, "etcd-accepted", doubt or ""))
        if facts.present is None:
            found.insert(0, finding("blind-node", self._node, "its hypervisor does not answer", self._node))
        return found, strays

    def _facts(self) -> NodeFacts:
        """Allocations are read first: what is placed or destroyed meanwhile then shows in etcd."""
        tree = self._placement.tree(self._node)
        held = self._held_of(tree)
        present = self._present()
        remembered = self._specs.all()
        listing = self._store.scan(keys.specs(self._node))
        specs = {keys.last(e.key): _spec(e) for e in listing.entries}
        statuses = {
            keys.last(entry.key): status
            for entry in self._store.scan(keys.statuses(self._node)).entries
            if (status := _status(entry.value, entry.key)) is not None
        }
        destroys = self._pending(self._store.scan(keys.destroys(self._node)))
        loose = {consumer for consumer in held if consumer not in specs and consumer not in destroys}
        placed = frozenset(consumer for consumer in loose if self._is_placed(consumer))
        return NodeFacts(self._node, specs, statuses, destroys, held, placed, present, remembered, frozenset(tree))

    def _held_of(self, tree: Iterable[str]) -> dict[str, Allocations]:
        """What each consumer holds of the node's providers."""
        found: dict[str, Allocations] = {}
        for provider in tree:
            for consumer, amounts in self._placement.provider_allocations(provider).items():
                found.setdefault(consumer, {})[provider] = amounts
        return found

    def _is_confirmed(self, found: Finding) -> bool:
        """Whether a second look says the same: what was read at different times may only seem to disagree."""
        if found.kind in ("stray", "unknown-guest"):
            return found.subject in (self._present() or ())
        if found.kind == "lost-allocation":
            return not self._claims.is_of(self._node, self._claims.held(found.subject))
        return True

    def _present(self) -> frozenset[str] | None:
        try:
            return self._driver.instances()
        except PlacetError as problem:
            warn("hypervisor-not-listed", reason=problem)
            return None

    def _pending(self, listing: Listing) -> dict[str, float]:
        """For how long this node has known of each destroy: no other machine's clock tells that."""
        now = self._monotonic()
        known = self._destroys
        self._destroys = {keys.last(e.key): known.get(keys.last(e.key), now) for e in listing.entries}
        return {instance: now - since for instance, since in self._destroys.items()}

    def _is_placed(self, consumer: str) -> bool:
        """Whether an allocation that this node has no spec of is nothing to mend: somebody speaks for it, it is another
        cloud's, or it has gone by now."""
        if self._store.get(keys.intent(consumer)) is not None or is_live(self._store, consumer):
            return True
        held = self._claims.held(consumer)
        return not held.allocations or held.user != self._cloud or held.consumer_type != CONSUMER_TYPE

    def _mended(self, found: Finding) -> Finding:
        mend = self._mendings.get(found.kind)
        try:
            if mend is None or not is_safe(found) or not mend(found):
                return found
        except PlacetError as problem:  # what can't be mended now does not keep the rest from it
            warn("repair-failed", kind=found.kind, subject=found.subject, reason=problem)
            return found
        self._story.tell(Note(found.subject, "repaired", f"{found.kind}: {found.detail}"))
        return repaired(found)

    def _release(self, found: Finding) -> bool:
        """Under an intent of our own, so that nobody places this UUID meanwhile: read again, release as read."""
        instance = found.subject
        index = self._store.get(keys.instance(instance))
        if self._is_placed(instance):
            return False
        lease = self._store.grant_lease(INTENT_TTL_S)
        try:
            intent = encode(Intent(instance, f"sweep {self._node}", "sweep"))
            free: list[Compare] = [
                Absent(keys.intent(instance)),
                Absent(keys.spec(self._node, instance)),
                ModifiedAt(keys.instance(instance), index.mod_revision if index else 0),
            ]
            if not self._store.transact(free, [Put(keys.intent(instance), intent, lease)]):
                return False
            reach("sweep.intent-written")
            self._claims.release_as_read(instance, self._claims.held(instance))
            reach("sweep.released")
        finally:
            self._store.revoke_lease(lease)
        return True

    def _claim_again(self, found: Finding) -> bool:
        """What runs here holds what its spec says, if there is still room; a destroy meanwhile wins."""
        key = keys.spec(self._node, found.subject)
        entry = self._store.get(key)
        spec = _spec(entry) if entry else None
        if entry is None or spec is None:
            return False
        candidate = Candidate(spec.allocations, {"": sorted(spec.allocations)}, {})
        if not self._claims.claim(found.subject, candidate, lambda _held: self._check_wanted(entry)):
            return False
        self._check_wanted(entry)  # what was claimed for nothing the next sweep releases, under an intent
        return True

    def _check_wanted(self, spec: Entry) -> None:
        """Raises Conflict when it is not the spec that was read, or it is to go."""
        now, destroy = self._store.get(spec.key), keys.destroy(self._node, keys.last(spec.key))
        if now is None or now.create_revision != spec.create_revision or self._store.get(destroy) is not None:
            raise Conflict(f"{spec.key} changed while its allocation was claimed again")

    def _tell(self, found: list[Finding]) -> None:
        """An event and a line of the log for what is new; what lasts is told once."""
        now = {(each.kind, each.subject) for each in found if not each.repaired}
        for each in found:
            if each.repaired:
                warn("repaired", kind=each.kind, subject=each.subject, detail=each.detail)
            elif (each.kind, each.subject) not in self._told:
                warn("found", kind=each.kind, subject=each.subject, detail=each.detail)
                self._story.tell(Note(each.subject, "found", f"{each.kind}: {each.detail}"))
        self._told = now


def _spec(entry: Entry) -> Spec | None:
    try:
        return spec_at(entry)
    except BadRecord:
        return None


def _status(value: bytes, key: str) -> Status | None:
    try:
        return decode(Status, value, key)
    except BadRecord:
        return None
