"""What a request asks of a node taken by itself, condition by condition. Pure; no step of a request's way.

Only what a node's own figures can answer: the unsuffixed `resources`, `required`, `root_required`, `member_of` and
`in_tree`, and whom the user keeps out. What granular groups, nested or shared providers need, Placement alone knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from placet.config import BASE_CLASSES
from placet.node_facts import DRAINED, FREE, UP, Elsewhere, Lack, NodeFacts
from placet.query import Query

FLAT_PARAMETERS = ("resources", "required", "root_required", "member_of", "in_tree", "limit")
LEAVING_OUT = 1.0  # how far from what was asked it is to leave a word out; a changed amount is nearer than that


@dataclass(frozen=True)
class Change:
    """One condition changed so that a node meets it: replaced, or left out. `words` follow "fits"."""

    words: str
    condition: Condition
    replacement: Condition | None
    size: float


class Condition(Protocol):
    """Something that a node meets or lacks."""

    def lack(self, node: NodeFacts, /) -> Lack | None:
        """What the node lacks; None when it meets the condition."""

    def change(self, node: NodeFacts, /) -> Change | None:
        """The smallest change of this condition by which the node, which lacks it, meets it; None if there is none."""


@dataclass(frozen=True)
class IsOpen:
    """The node is up and takes new instances."""

    def lack(self, node: NodeFacts, /) -> Lack | None:
        return None if node.state == UP else Lack(node.state)

    def change(self, node: NodeFacts, /) -> Change | None:
        if node.state == DRAINED:
            return Change(f"after `schedule.py undrain {node.name}`", self, None, 2.0)
        return Change(f"once {node.name} is up again", self, None, 3.0)


@dataclass(frozen=True)
class NotKeptOut:
    """No flag of the user's excludes the node: `flag` is `--host`, `--avoid` or `--group`."""

    flag: str

    def lack(self, node: NodeFacts, /) -> Lack | None:
        return Lack(f"excluded by {self.flag}") if self._words(node) else None

    def change(self, node: NodeFacts, /) -> Change | None:
        return Change(f"without {self._words(node)}", self, None, LEAVING_OUT)

    def _words(self, node: NodeFacts) -> str | None:
        return next((words for words in node.kept_out if words.split(" ")[0] == self.flag), None)


class _Word(ABC):
    """A condition that is a word of the query: what can be changed is to leave it out."""

    @abstractmethod
    def lack(self, node: NodeFacts, /) -> Lack | None: ...

    @property
    @abstractmethod
    def word(self) -> str: ...

    def change(self, _node: NodeFacts, /) -> Change | None:
        return Change(f"without {self.word}", self, None, LEAVING_OUT)


@dataclass(frozen=True)
class InTree(_Word):
    uuid: str

    def lack(self, node: NodeFacts, /) -> Lack | None:
        return None if node.uuid == self.uuid else Lack(f"not {self.word}")

    @property
    def word(self) -> str:
        return f"in_tree={self.uuid}"


@dataclass(frozen=True)
class MemberOf(_Word):
    """`value` is Placement's; `zone` the name of the zone that it stands for, if it does."""

    value: str
    zone: str | None = None

    def lack(self, node: NodeFacts, /) -> Lack | None:
        if self.value in node.within:
            return None
        return Lack(f"not in zone {self.zone}" if self.zone else f"not {self.word}")

    @property
    def word(self) -> str:
        return f"--zone {self.zone}" if self.zone else f"member_of={self.value}"


@dataclass(frozen=True)
class HasTrait(_Word):
    """One of several traits, as `parameter` asks for it."""

    parameter: str
    traits: tuple[str, ...]

    def lack(self, node: NodeFacts, /) -> Lack | None:
        if node.traits.intersection(self.traits):
            return None
        one = len(self.traits) == 1
        return Lack(f"lack trait {self.traits[0]}" if one else f"have none of {', '.join(self.traits)}")

    @property
    def word(self) -> str:
        value = self.traits[0] if len(self.traits) == 1 else f"in:{','.join(self.traits)}"
        return f"{self.parameter}={value}"


@dataclass(frozen=True)
class LacksTrait(_Word):
    """A trait that `parameter` forbids."""

    parameter: str
    trait: str

    def lack(self, node: NodeFacts, /) -> Lack | None:
        return Lack(f"have the forbidden trait {self.trait}") if self.trait in node.traits else None

    @property
    def word(self) -> str:
        return f"{self.parameter}=!{self.trait}"


@dataclass(frozen=True)
class HasAmount:
    """So much of a resource class, in one claim."""

    resource_class: str
    asked: int

    def lack(self, node: NodeFacts, /) -> Lack | None:
        name, offer, free = self.resource_class, node.offer(self.resource_class), node.free(self.resource_class)
        if offer is None:
            return Lack(f"offer no {name}")
        if free < self.asked:
            return Lack(f"lack {name}", FREE, free, self.asked)
        if self.asked > (offer.max_unit or offer.capacity):
            return Lack(f"take less {name} at once", "max_unit", offer.max_unit or offer.capacity, self.asked)
        if self.asked < offer.min_unit:
            return Lack(f"take more {name} at once", "min_unit", offer.min_unit, self.asked, most=False)
        if self.asked % offer.step_size:
            return Lack(f"take other steps of {name}", "step_size", offer.step_size, self.asked, most=False)
        return None

    def change(self, node: NodeFacts, /) -> Change | None:
        amount = self._nearest(node)
        if amount is not None:
            size = abs(amount - self.asked) / max(amount, self.asked)
            words = f"with {self.resource_class}:{amount}"
            return Change(words, self, HasAmount(self.resource_class, amount), size)
        if self.resource_class in BASE_CLASSES:
            return None  # one that is left out is filled in
        return Change(f"without {self.resource_class}", self, None, LEAVING_OUT)

    def _nearest(self, node: NodeFacts) -> int | None:
        """The amount nearest to what was asked that the node can give."""
        offer, free = node.offer(self.resource_class), node.free(self.resource_class)
        if offer is None:
            return None
        step, lowest, highest = offer.step_size, max(1, offer.min_unit), min(free, offer.max_unit or free)
        below = min(self.asked, highest) // step * step
        above = -(-max(self.asked, lowest) // step) * step
        found = [amount for amount in (below, above) if lowest <= amount <= highest]
        return min(found, key=lambda amount: abs(amount - self.asked), default=None)


def conditions_of(
    query: Query, kept_out: tuple[str, ...], zones: Mapping[str, str], elsewhere: Elsewhere
) -> tuple[list[Condition], bool]:
    """What is asked of each node, the lasting things before those that change, and whether that is all of the query.

    `kept_out` are the flags by which the user excludes nodes, `zones` the names of aggregates.
    """
    asked: list[Condition] = [IsOpen(), *(NotKeptOut(flag) for flag in kept_out)]
    for kind in ("in_tree", "member_of", "root_required", "required", "resources"):
        for name, value in query.parameters:
            if name == kind:
                asked += _parsed(name, value, zones)
    flat = all(name in FLAT_PARAMETERS for name, _ in query.parameters)
    if elsewhere.classes.isdisjoint(query.amounts):
        elsewhere = Elsewhere(elsewhere.providers)
    known = [each for each in dict.fromkeys(asked) if not _may_be_met_by(each, elsewhere)]
    return known, flat and not elsewhere.classes and len(known) == len(set(asked))


def _parsed(name: str, value: str, zones: Mapping[str, str]) -> Iterator[Condition]:
    if name == "in_tree":
        yield InTree(value)
    elif name == "member_of":
        yield MemberOf(value, zones.get(value))
    elif name == "resources":
        for part in value.split(","):
            resource_class, _, amount = part.partition(":")
            yield HasAmount(resource_class, int(amount))
    elif value.startswith("in:"):
        yield HasTrait(name, tuple(value[3:].split(",")))
    else:
        for trait in filter(None, value.split(",")):
            yield LacksTrait(name, trait[1:]) if trait.startswith("!") else HasTrait(name, (trait,))


def _may_be_met_by(condition: Condition, elsewhere: Elsewhere) -> bool:
    """Whether a provider that is no node may meet it for a node, or more than a node's own figures decide it."""
    if isinstance(condition, HasAmount):
        return condition.resource_class in elsewhere.classes
    if isinstance(condition, HasTrait):
        return not elsewhere.traits.isdisjoint(condition.traits) and condition.parameter != "root_required"
    return isinstance(condition, InTree) and condition.uuid in elsewhere.providers
