"""Images that are fetched for instances, in threads of their own. Step 4 of a request's way: no worker waits for one.

An instance is looked at again whenever there are new words on how far its image is, about once a second, and when it
is there.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from placet.hypervisor import CachedImage
from placet.images import ImageCache, shown
from placet.model import Spec

FETCHERS = 64  # most of them wait for an image that one of them brings
MOMENT_S = 1.0


class Waiting(Exception):
    """Something takes its time, and asks for another look when there is news of it: no worker waits for it.

    `is_first` tells the beginning of a wait from the words that follow.
    """

    def __init__(self, words: str, is_first: bool) -> None:
        super().__init__(words)
        self.is_first = is_first


@dataclass
class _Fetch:
    """One instance's image under way."""

    words: str
    image: Future[CachedImage]
    is_told: bool = False


class Fetches:
    """Of one node. Safe to use from many threads for different instances."""

    def __init__(self, images: ImageCache, look_again: Callable[[str], None], threads: Executor | None = None) -> None:
        self._images = images
        self._look_again = look_again
        self._fetches: dict[str, _Fetch] = {}
        self._threads = threads or ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")

    def image(self, spec: Spec) -> CachedImage:
        """The image of an instance; raises Waiting when that takes longer than a moment, Fault when it failed."""
        fetch = self._fetches.get(spec.instance) or self._begin(spec)
        patience_s = 0.0 if fetch.is_told else MOMENT_S
        if not wait([fetch.image], patience_s).done:
            raise self._waiting(spec.instance, fetch)
        del self._fetches[spec.instance]
        return fetch.image.result()

    def forget(self, instance: str) -> None:
        """Nobody wants it any more; what is brought is brought, for the next who does."""
        self._fetches.pop(instance, None)

    def close(self) -> None:
        """Begin nothing more; a download that is under way is given up with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, spec: Spec) -> _Fetch:
        instance = spec.instance
        fetch = _Fetch(f"fetching {shown(spec.image.source)}", Future())

        def heard(words: str) -> None:
            fetch.words = words
            if fetch.is_told and self._fetches.get(instance) is fetch:
                self._look_again(instance)

        self._fetches[instance] = fetch
        fetch.image = self._threads.submit(self._images.fetch, spec.image, heard)
        return fetch

    def _waiting(self, instance: str, fetch: _Fetch) -> Waiting:
        is_first = not fetch.is_told
        fetch.is_told = True
        if is_first:
            fetch.image.add_done_callback(lambda _: self._look_again(instance))
        return Waiting(fetch.words, is_first)
