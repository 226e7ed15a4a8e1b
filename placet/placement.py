"""OpenStack Placement, spoken to through keystoneauth1. Step 2 of a request's way: the claim.

Microversion 1.39 is pinned (https://docs.openstack.org/placement/latest/placement-api-microversion-history.html).
Nothing here decides or retries; each method is one exchange and says what Placement answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from keystoneauth1 import adapter, exceptions, session, token_endpoint

from placet.candidates import SHARING_TRAIT, Candidate, ProviderSummary
from placet.config import PlacementConfig
from placet.errors import BadConfig, BadQuery, Refused, Unreachable
from placet.model import Allocations
from placet.resources import Inventory

MICROVERSION = "1.39"
CONCURRENT_UPDATE = "placement.concurrent_update"
CONSUMER_TYPE = "INSTANCE"


class Claim(Enum):
    """What a claim came to. UNSURE: it may have been applied (timeout, concurrent update): read it. REFUSED (400):
    it was not, but it may have left an empty consumer behind."""

    DONE = "done"
    NO_ROOM = "no room"
    UNSURE = "unsure"
    REFUSED = "refused"


@dataclass(frozen=True)
class Allocation:
    """What a consumer holds. `generation` is None when Placement does not know the consumer."""

    allocations: Allocations
    generation: int | None = None
    user: str | None = None
    consumer_type: str | None = None


@dataclass(frozen=True)
class Provider:
    """`parent` is the provider that it is nested in; a node and a shared pool have none."""

    uuid: str
    name: str
    generation: int
    parent: str | None = None


class Placement:
    """Raises Unreachable when no answer came, Refused when the answer was an error that no method expects."""

    def __init__(self, config: PlacementConfig) -> None:
        self._endpoint = config.endpoint.rstrip("/")
        self._timeout_s = config.timeout_s
        self._api = adapter.Adapter(
            session.Session(auth=_auth(config), timeout=config.timeout_s),
            service_type="placement",
            default_microversion=MICROVERSION,
            endpoint_override=self._endpoint,
            raise_exc=False,
            connect_retries=0,
        )

    def candidates(self, parameters: Iterable[tuple[str, str]]) -> list[Candidate]:
        """`GET /allocation_candidates`. Raises BadQuery with Placement's words when it does not take the query."""
        answer = self._send("GET", "/allocation_candidates", params=list(parameters))
        if answer.status_code in (400, 414):
            raise BadQuery(f"Placement does not take this query: {_detail(answer)}")
        body = self._expect(answer, 200)
        summaries = {uuid: _summary(found) for uuid, found in body["provider_summaries"].items()}
        return [_candidate(found, summaries) for found in body["allocation_requests"]]

    def claim(self, consumer: str, candidate: Candidate, user: str, generation: int | None) -> Claim:
        """`PUT /allocations/{consumer}` of a candidate, once. `generation` is null for a consumer that is new."""
        try:
            answer = self._send("PUT", f"/allocations/{consumer}", json=_claim(candidate, user, generation))
        except Unreachable:
            return Claim.UNSURE
        if answer.status_code == 204:
            return Claim.DONE
        if answer.status_code == 409 and _code(answer) != CONCURRENT_UPDATE:
            return Claim.NO_ROOM
        if answer.status_code == 400:
            return Claim.REFUSED
        if answer.status_code == 409 or answer.status_code >= 500:
            return Claim.UNSURE
        raise self._refusal(answer)

    def claim_many(self, candidates: Mapping[str, Candidate], user: str) -> Claim:
        """`POST /allocations` of a candidate for each new consumer, once: all of them are DONE, or none is (NO_ROOM,
        whatever the reason); UNSURE when no answer came."""
        body = {consumer: _claim(candidate, user, None) for consumer, candidate in candidates.items()}
        try:
            answer = self._send("POST", "/allocations", json=body)
        except Unreachable:
            return Claim.UNSURE
        if answer.status_code == 204:
            return Claim.DONE
        if answer.status_code in (400, 409):
            return Claim.NO_ROOM
        if answer.status_code >= 500:
            return Claim.UNSURE
        raise self._refusal(answer)

    def shared_classes(self) -> frozenset[str]:
        """The resource classes that are offered by providers which several nodes share."""
        body = self._expect(self._send("GET", "/resource_providers", params={"required": SHARING_TRAIT}), 200)
        return frozenset(name for found in body["resource_providers"] for name in self.inventories(found["uuid"])[0])

    def allocation(self, consumer: str) -> Allocation:
        """`GET /allocations/{consumer}`; empty for a consumer that holds nothing."""
        body: dict[str, Any] = self._expect(self._send("GET", f"/allocations/{consumer}"), 200)
        found = {uuid: dict(held["resources"]) for uuid, held in body["allocations"].items()}
        return Allocation(found, body.get("consumer_generation"), body.get("user_id"), body.get("consumer_type"))

    def release(self, consumer: str, held: Allocation) -> bool:
        """`PUT` of nothing with the generation that was read, never a DELETE; False when it changed meanwhile."""
        body: dict[str, Any] = {
            "allocations": {},
            "consumer_generation": held.generation,
            "consumer_type": held.consumer_type,
            "project_id": held.user,
            "user_id": held.user,
        }
        answer = self._send("PUT", f"/allocations/{consumer}", json=body)
        if answer.status_code == 409:
            return False
        self._expect(answer, 204)
        return True

    def providers(self, member_of: str | None = None) -> list[Provider]:
        """All resource providers, or those in an aggregate."""
        return self._listed({"member_of": member_of} if member_of else {})

    def provider(self, uuid: str) -> Provider | None:
        """One resource provider."""
        answer = self._send("GET", f"/resource_providers/{uuid}")
        return None if answer.status_code == 404 else _provider(self._expect(answer, 200))

    def tree(self, node: str) -> list[str]:
        """The UUIDs of a provider that has no parent and of those nested in it, the innermost first."""
        parents = {found.uuid: found.parent for found in self._listed({"in_tree": node})}

        def depth(uuid: str) -> int:
            parent = parents[uuid]
            return 1 + depth(parent) if parent in parents else 0

        return sorted(parents, key=depth, reverse=True)

    def _listed(self, filters: Mapping[str, str]) -> list[Provider]:
        body = self._expect(self._send("GET", "/resource_providers", params=filters), 200)
        return [_provider(found) for found in body["resource_providers"]]

    def create_provider(self, uuid: str, name: str) -> bool:
        """`POST /resource_providers`; False when the UUID or the name is taken."""
        answer = self._send("POST", "/resource_providers", json={"uuid": uuid, "name": name})
        if answer.status_code == 409:
            return False
        self._expect(answer, 200)
        return True

    def delete_provider(self, provider: str) -> bool:
        """`DELETE /resource_providers/{uuid}` with its inventory and traits; True when it is gone, or was before, False
        when it still has allocations."""
        answer = self._send("DELETE", f"/resource_providers/{provider}")
        if answer.status_code == 409:
            return False
        if answer.status_code != 404:
            self._expect(answer, 204)
        return True

    def inventories(self, provider: str) -> tuple[dict[str, Inventory], int]:
        """What a provider offers, and the generation at which that was read."""
        body = self._expect(self._send("GET", f"/resource_providers/{provider}/inventories"), 200)
        return {name: _inventory(found) for name, found in body["inventories"].items()}, body[GENERATION]

    def put_inventories(self, provider: str, inventories: Mapping[str, Inventory], generation: int) -> bool:
        """Replace what a provider offers; False when someone else changed it since `generation`."""
        offered = {name: _inventory_body(found) for name, found in inventories.items()}
        body = {"inventories": offered, GENERATION: generation}
        answer = self._send("PUT", f"/resource_providers/{provider}/inventories", json=body)
        if answer.status_code == 409 and _code(answer) == CONCURRENT_UPDATE:
            return False
        self._expect(answer, 200)
        return True

    def usages(self, provider: str) -> dict[str, int]:
        """What of each resource class is claimed."""
        body = self._expect(self._send("GET", f"/resource_providers/{provider}/usages"), 200)
        return dict(body["usages"])

    def provider_allocations(self, provider: str) -> dict[str, dict[str, int]]:
        """`GET /resource_providers/{uuid}/allocations`: what each consumer holds of it, {consumer: {class: amount}}."""
        body = self._expect(self._send("GET", f"/resource_providers/{provider}/allocations"), 200)
        return {consumer: dict(held["resources"]) for consumer, held in body["allocations"].items()}

    def traits(self, provider: str) -> tuple[frozenset[str], int]:
        """A provider's traits, and the generation at which they were read."""
        body = self._expect(self._send("GET", f"/resource_providers/{provider}/traits"), 200)
        return frozenset(body["traits"]), body[GENERATION]

    def put_traits(self, provider: str, traits: Iterable[str], generation: int) -> bool:
        """Replace a provider's traits; False when someone else changed it since `generation`."""
        body = {"traits": sorted(traits), GENERATION: generation}
        answer = self._send("PUT", f"/resource_providers/{provider}/traits", json=body)
        if answer.status_code == 409:
            return False
        self._expect(answer, 200)
        return True

    def aggregates(self, provider: str) -> tuple[frozenset[str], int]:
        """The aggregates that a provider is in, and the generation at which they were read."""
        body = self._expect(self._send("GET", f"/resource_providers/{provider}/aggregates"), 200)
        return frozenset(body["aggregates"]), body[GENERATION]

    def put_aggregates(self, provider: str, aggregates: Iterable[str], generation: int) -> bool:
        """Replace the aggregates of a provider; False when someone else changed it since `generation`."""
        body = {"aggregates": sorted(aggregates), GENERATION: generation}
        answer = self._send("PUT", f"/resource_providers/{provider}/aggregates", json=body)
        if answer.status_code == 409:
            return False
        self._expect(answer, 200)
        return True

    def known_traits(self) -> frozenset[str]:
        """Every trait there is: OpenStack's own, and those that somebody made."""
        return frozenset(self._expect(self._send("GET", "/traits"), 200)["traits"])

    def create_trait(self, name: str) -> None:
        """`PUT /traits/{name}`: have a CUSTOM_ trait be there."""
        self._expect(self._send("PUT", f"/traits/{name}"), 201, 204)

    def resource_classes(self) -> frozenset[str]:
        """Every resource class there is: OpenStack's own, and those that somebody made."""
        body = self._expect(self._send("GET", "/resource_classes"), 200)
        return frozenset(found["name"] for found in body["resource_classes"])

    def create_resource_class(self, name: str) -> None:
        """`PUT /resource_classes/{name}`: have a CUSTOM_ class be there."""
        self._expect(self._send("PUT", f"/resource_classes/{name}"), 201, 204)

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            return self._api.request(path, method, **arguments)
        except (exceptions.ConnectTimeout, exceptions.RequestTimeout) as problem:
            raise Unreachable(
                f"Placement at {self._endpoint} did not answer within {self._timeout_s:g} s; is it overloaded?"
            ) from problem
        except exceptions.ConnectionError as problem:
            raise Unreachable(
                f"Placement at {self._endpoint} is not reachable; start it (./up.sh) or set placement: in the YAML"
            ) from problem
        except exceptions.ClientException as problem:
            raise Refused(f"Placement at {self._endpoint}: {problem}") from problem

    def _expect(self, answer: Any, *statuses: int) -> Any:
        if answer.status_code not in statuses:
            raise self._refusal(answer)
        try:
            return answer.json() if answer.content else None
        except ValueError as problem:
            raise Refused(f"{self._endpoint} does not speak Placement; see placement: in the YAML") from problem

    def _refusal(self, answer: Any) -> Refused | Unreachable:
        if answer.status_code >= 500:
            return Unreachable(f"Placement at {self._endpoint} answered {answer.status_code}: {_detail(answer)}")
        if answer.status_code in (401, 403):
            return Refused(f"Placement at {self._endpoint} does not know us; check placement: in the YAML")
        return Refused(f"Placement at {self._endpoint} answered {answer.status_code}: {_detail(answer)}")


GENERATION = "resource_provider_generation"
PREAMBLES = (
    "The server could not comply with the request since it is either malformed or otherwise incorrect.",
    "There was a conflict when trying to complete your request.",
)


def _claim(candidate: Candidate, user: str, generation: int | None) -> dict[str, Any]:
    return {
        "allocations": {uuid: {"resources": amounts} for uuid, amounts in candidate.allocations.items()},
        "mappings": candidate.mappings,
        "consumer_generation": generation,
        "consumer_type": CONSUMER_TYPE,
        "project_id": user,
        "user_id": user,
    }


def _auth(config: PlacementConfig) -> Any:
    if config.auth_type is None:
        return token_endpoint.Token(config.endpoint, config.token)
    from keystoneauth1 import loading  # it looks through all packages there are

    try:
        return loading.get_plugin_loader(config.auth_type).load_from_options(**config.auth)
    except (exceptions.NoMatchingPlugin, exceptions.MissingRequiredOptions, TypeError) as problem:
        raise BadConfig(f"placement.auth: {problem}") from problem


def _error(answer: Any) -> Mapping[str, Any]:
    try:
        return dict(answer.json()["errors"][0])
    except (ValueError, KeyError, IndexError, TypeError):
        return {}


def _code(answer: Any) -> str:
    return str(_error(answer).get("code", ""))


def _detail(answer: Any) -> str:
    """Placement's own words on one line, without those that it puts before each."""
    words = " ".join(str(_error(answer).get("detail") or answer.reason).split())
    return next((words.removeprefix(each) for each in PREAMBLES if words.startswith(each)), words).strip()[:300]


def _provider(found: Mapping[str, Any]) -> Provider:
    return Provider(found["uuid"], found["name"], found["generation"], found["parent_provider_uuid"])


def _summary(found: Mapping[str, Any]) -> ProviderSummary:
    resources = {name: (amounts["capacity"], amounts["used"]) for name, amounts in found["resources"].items()}
    return ProviderSummary(found["root_provider_uuid"], resources, frozenset(found["traits"]))


def _candidate(found: Mapping[str, Any], summaries: Mapping[str, ProviderSummary]) -> Candidate:
    allocations = {uuid: dict(held["resources"]) for uuid, held in found["allocations"].items()}
    return Candidate(allocations, found["mappings"], summaries)


def _inventory(found: Mapping[str, Any]) -> Inventory:
    names = ("total", "reserved", "allocation_ratio", "max_unit", "min_unit", "step_size")
    return Inventory(*(found[name] for name in names))


def _inventory_body(inventory: Inventory) -> dict[str, Any]:
    return {
        "total": inventory.total,
        "reserved": inventory.reserved,
        "allocation_ratio": inventory.allocation_ratio,
        "max_unit": inventory.max_unit or inventory.total,
        "min_unit": inventory.min_unit,
        "step_size": inventory.step_size,
    }
