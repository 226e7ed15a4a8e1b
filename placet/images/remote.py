"""An image that comes by http or https: revalidated when it is known, resumed when the connection breaks."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import timedelta
from email.utils import parsedate_to_datetime

from placet.errors import Fault
from placet.images.addresses import HostRules
from placet.images.connection import Answer, Broken, answer_of
from placet.images.part import Part
from placet.images.places import Place, place_of, redirected
from placet.images.transfer import Journey, Transfer

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
CHUNK_BYTES = 1 << 20
MAX_FAILURES = 3  # one after the other, without lasting progress in between
PROGRESS_BYTES = 1 << 20
PAUSE_S = 0.5
STRONG_AFTER = timedelta(seconds=60)
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Web:
    """How this node reaches servers: which hosts it may ask, and how it waits (`pause` takes seconds)."""

    def __init__(self, rules: HostRules, pause: Callable[[float], None]) -> None:
        self._rules = rules
        self.pause = pause

    @contextlib.contextmanager
    def opened(self, url: str, known: Mapping[str, str], journey: Journey) -> Iterator[RemoteSource]:
        """The image at `url`, asked for only if it is no longer the `known` version (empty: none is known).

        Raises Fault: `image-refused`, `image-not-found`, `image-unreachable`.
        """
        with contextlib.ExitStack() as stack:
            place = place_of(url, journey.name)
            conditions = _conditions(known)
            try:
                answer = self.ask(stack, place, conditions, journey, {200, 304} if conditions else {200})
            except Broken as problem:
                raise unreachable(journey.name, problem) from problem
            version = dict(known) if answer.status == 304 else _version(answer)
            yield RemoteSource(self, place, stack, answer, version, journey)

    def ask(
        self,
        stack: contextlib.ExitStack,
        place: Place,
        headers: Mapping[str, str],
        journey: Journey,
        expected: Set[int],
    ) -> Answer:
        """The answer to a GET, with a status that is `expected`; redirects are followed, and every hop is checked as
        the first one. Raises Fault, Broken."""
        for _ in range(MAX_REDIRECTS + 1):
            hop = stack.enter_context(contextlib.ExitStack())
            answer = hop.enter_context(answer_of(place, headers, self._rules, journey))
            location = answer.header("Location")
            if answer.status not in REDIRECTS or not location:
                _check_status(journey.name, answer.status, expected)
                return answer
            hop.close()
            place = redirected(place, location, journey.name)
        raise Fault(
            "image-not-found",
            f"image {journey.name}: more than {MAX_REDIRECTS} redirects; give the address they lead to",
        )


class RemoteSource:
    """See `transfer.Source`. `stack` holds the connection that `answer` comes by."""

    def __init__(
        self,
        web: Web,
        place: Place,
        stack: contextlib.ExitStack,
        answer: Answer,
        version: dict[str, str],
        journey: Journey,
    ) -> None:
        self._web = web
        self._place = place
        self._stack = stack
        self._answer = answer
        self._journey = journey
        self.version = version
        self.size = answer.left

    def copy_to(self, part: Part, transfer: Transfer) -> None:
        answer: Answer | None = self._answer
        kept = part.validator is not None and part.validator == _validator(self._answer)
        if kept or self._answer.status == 304:  # an agent before this one had begun; or what was known has just gone
            answer = None
        failures = before = 0
        while True:
            try:
                self._receive(answer or self._ask_for_the_rest(part), part, transfer)
                return
            except Broken as problem:
                lasting = part.validator is not None and transfer.done >= before + PROGRESS_BYTES
                failures, before = 1 if lasting else failures + 1, transfer.done
                self._pause(failures, problem)
                answer = None

    def _pause(self, failures: int, problem: Broken) -> None:
        pause_s = PAUSE_S * 2**failures
        if failures > MAX_FAILURES or self._journey.remaining_s < pause_s:
            raise unreachable(self._journey.name, problem) from problem
        self._journey.tell(f"image: trying again, the connection broke: {problem}")
        self._web.pause(pause_s)

    def _ask_for_the_rest(self, part: Part) -> Answer:
        """What `part` holds the beginning of; or the whole, where there is no telling."""
        if part.validator and part.size:
            answer = self._ask_again({"Range": f"bytes={part.size}-", "If-Range": part.validator}, {200, 206, 416})
            if answer.status == 200 or (answer.status == 206 and _continues(answer, part.size, self.version)):
                return answer
        return self._ask_again({}, {200})

    def _ask_again(self, headers: Mapping[str, str], expected: Set[int]) -> Answer:
        self._stack.close()
        return self._web.ask(self._stack, self._place, headers, self._journey, expected)

    def _receive(self, answer: Answer, part: Part, transfer: Transfer) -> None:
        if answer.status == 206:
            transfer.begin(part.size, None if answer.left is None else part.size + answer.left)
        else:
            self.version = _version(answer)
            part.begin(_validator(answer))
            transfer.begin(0, answer.left)
        try:
            while chunk := answer.read(CHUNK_BYTES):
                part.file.write(chunk)
                transfer.advance(len(chunk))
        finally:
            part.file.flush()


def unreachable(name: str, problem: Exception) -> Fault:
    """The fault of a server that does not answer, or breaks off."""
    return Fault(
        "image-unreachable", f"image {name}: {problem}; check the URL and this node's way to it, then try again"
    )


def _conditions(known: Mapping[str, str]) -> dict[str, str]:
    asked = {"If-None-Match": known.get("etag", ""), "If-Modified-Since": known.get("last_modified", "")}
    return {name: value for name, value in asked.items() if value}


def _version(answer: Answer) -> dict[str, str]:
    found = {"etag": answer.header("ETag"), "last_modified": answer.header("Last-Modified")}
    if not any(found.values()):
        return {}
    return {**found, "length": answer.header("Content-Length")}


def _validator(answer: Answer) -> str | None:
    """What names this version for a range request: a strong ETag, or a date that no later change can share
    (RFC 9110, 8.8.2.2); None where there is neither."""
    etag, modified = answer.header("ETag"), answer.header("Last-Modified")
    if etag:
        return etag if etag.startswith('"') else None
    try:
        old = parsedate_to_datetime(answer.header("Date")) - parsedate_to_datetime(modified) >= STRONG_AFTER
    except (ValueError, TypeError):
        return None
    return modified if old else None


def _continues(answer: Answer, have: int, version: Mapping[str, str]) -> bool:
    """Whether a 206 is the rest of what is here: it begins there, goes to the end, and is of the same version."""
    match = CONTENT_RANGE.fullmatch(answer.header("Content-Range").strip())
    if match is None:
        return False
    start, last, total = map(int, match.groups())
    same = not answer.header("ETag") or answer.header("ETag") == version.get("etag")
    whole = version.get("length") in ("", None, str(total))
    return (start, last) == (have, total - 1) and same and whole


def _check_status(name: str, status: int, expected: Set[int]) -> None:
    if status in expected:
        return
    if status >= 500 or status < 400:
        raise Broken(f"the server answered HTTP {status}")
    raise Fault("image-not-found", f"image {name}: HTTP {status}; check the URL, curl should get it without a login")
