"""Comparing Placement, etcd and every node's hypervisor, and mending what is safe to mend.

A node audits itself (sweep.py) and answers over etcd (asking.py); index_repair.py compares what no single node sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from placet import keys
from placet.asking import Asking
from placet.cloud import found_cloud, read_cloud
from placet.cluster import Cluster, read_cluster
from placet.errand_records import AuditReport, Finding
from placet.findings import finding, is_safe, repaired
from placet.index_repair import IndexRepair
from placet.placement import Placement
from placet.registration import PROVIDER_PREFIX
from placet.store import Store
from placet.story import Note, Story

ANSWER_S, CALL_S = 20.0, 5.0  # for a node that is alive, and for one that may be


class Doctor:
    """`clock` gives seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        placement: Placement,
        asking: Asking,
        index: IndexRepair,
        story: Story,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._placement = placement
        self._asking = asking
        self._index = index
        self._story = story
        self._clock = clock

    def examine(self, repair: bool) -> list[Finding]:
        """Every disagreement; with `repair`, mended where that is safe. Raises PlacetError when a service is away."""
        done: list[Finding] = []
        while True:
            found = self._look(repair)
            mended = [each for each in found if each.repaired]
            if not mended or all(each.kind != "more-findings" for each in found):
                return sorted([*done, *found], key=lambda each: (each.kind, each.subject))
            done += mended

    def _look(self, repair: bool) -> list[Finding]:
        """Nodes answer first: they write again what etcd has lost of them, and only then it is read."""
        asked = {keys.last(entry.key) for entry in self._store.scan(keys.ALIVE).entries}
        found = [*self._of_etcd()]
        if read_cloud(self._store) is None:
            known = self._out_there(asked)
            found.append(self._lost_cloud({report.cloud for report in known.values()}, repair))
            asked |= known.keys()
        reports = self._asking.audits(asked, repair, ANSWER_S)
        cluster = read_cluster(self._store)
        cluster.reports = reports
        found += self._of_nodes(cluster, asked)
        found += self._index.examine(cluster)
        found += self._of_providers(cluster)
        if repair:
            found = [self._mended(each, cluster) for each in found]
        return list({(each.kind, each.subject): each for each in found}.values())

    def _of_etcd(self) -> list[Finding]:
        return [finding("etcd-alarm", alarm, "etcd takes no more writes") for alarm in self._store.alarms()]

    def _out_there(self, alive: set[str]) -> dict[str, AuditReport]:
        """Who answers in an etcd that was emptied: a node that it forgot listens there still."""
        roots = (each for each in self._placement.providers() if each.parent is None)
        providers = {each.uuid for each in roots if each.name.startswith(PROVIDER_PREFIX)}
        return self._asking.audits(alive | providers, repair=False, within_s=CALL_S)

    def _lost_cloud(self, known: set[str], repair: bool) -> Finding:
        """The cloud's own record, which an emptied etcd has lost: its nodes know the id, if they all know the same."""
        nodes = "its nodes know its id" if len(known) == 1 else "its nodes know several" if known else "no node answers"
        detail = f"etcd has no record of a cloud: it was emptied, or etcd_prefix is wrong; {nodes}"
        lost = finding("lost-cloud", keys.CLOUD, detail)
        if repair and len(known) == 1 and found_cloud(self._store, next(iter(known)), self._clock()):
            return repaired(lost)
        return lost

    def _of_nodes(self, cluster: Cluster, asked: set[str]) -> Iterator[Finding]:
        for node, report in cluster.reports.items():
            yield from report.findings
            if report.left_out:
                yield finding("more-findings", node, f"{report.left_out} more than fit into one answer", node)
        for node in asked - cluster.reports.keys():
            yield finding("deaf-node", node, f"no answer to an audit in {ANSWER_S:g} s", node)
        for node, count in cluster.silent().items():
            some = "1 instance" if count == 1 else f"{count} instances"
            yield finding("silent-node", node, f"{some} there can't be checked", node)

    def _of_providers(self, cluster: Cluster) -> Iterator[Finding]:
        for provider in self._placement.providers():
            is_node = provider.name.startswith(PROVIDER_PREFIX) and provider.parent is None
            if not is_node or provider.uuid in cluster.identities:
                continue
            held = self._placement.provider_allocations(provider.uuid)
            if cluster.cloud is None or self._is_ours(held, cluster.cloud):
                yield finding("unknown-provider", provider.uuid, f"{len(held)} allocations, and etcd has no such node")

    def _is_ours(self, held: Mapping[str, object], cloud: str) -> bool:
        """Another cloud may share this Placement: a provider on which only it holds something is its own."""
        users = {self._placement.allocation(consumer).user for consumer in held}
        return not users or cloud in users

    def _mended(self, found: Finding, cluster: Cluster) -> Finding:
        if found.repaired or not is_safe(found) or not self._index.mend(found, cluster):
            return found
        self._story.tell(Note(found.subject, "repaired", f"{found.kind}: {found.detail}"))
        return repaired(found)
