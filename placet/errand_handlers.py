"""The errands of kinds `image` and `console`, as a node carries them out; operations.py calls these and answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from placet.drivers import Driver
from placet.errand_records import ConsoleText, Errand, ImageReport
from placet.errors import Fault, PlacetError
from placet.hypervisor import CachedImage
from placet.images import ImageCache
from placet.log import warn
from placet.model import ImageRef
from placet.operations import Tell

REPORT_EVERY_S = 1.0
MAX_LINES = 10_000


class BringImage:
    """Brings an image to this node, and tells every second how far it has come."""

    def __init__(self, node: str, images: ImageCache, clock: Callable[[], float], every_s: float = REPORT_EVERY_S):
        self._node = node
        self._images = images
        self._clock = clock
        self._every_s = every_s

    def __call__(self, errand: Errand, tell: Tell) -> ImageReport | None:
        """None once whoever asked has gone: what is half here is brought to its end, and kept. Raises Fault."""
        if errand.image is None:
            raise Fault("bad-errand", f"errand {errand.id} names no image")
        words = ["image: asked for"]
        fetch = self._begin(errand.image, words)
        while not wait([fetch], self._every_s).done:
            if not self._told(ImageReport(self._node, self._clock(), task=words[-1]), tell):
                return None
        image = fetch.result()
        return ImageReport(
            node=self._node,
            at=self._clock(),
            done=True,
            digest=f"sha256:{image.digest}" if image.digest else None,
            format=image.source_format or image.format,
            virtual_size=image.virtual_size,
            size=image.size,
        )

    def _begin(self, image: ImageRef, words: list[str]) -> Future[CachedImage]:
        """In a thread of its own, which holds up nobody's end: a download may take half an hour."""
        outcome: Future[CachedImage] = Future()

        def hear(progress: str) -> None:
            words[:] = [progress]

        def bring() -> None:
            try:
                outcome.set_result(self._images.fetch(image, hear))
            except BaseException as problem:  # it is raised where the outcome is read
                outcome.set_exception(problem)

        threading.Thread(target=bring, name="image-errand", daemon=True).start()
        return outcome

    def _told(self, report: ImageReport, tell: Tell) -> bool:
        try:
            return tell(report)
        except PlacetError as problem:  # etcd is away for now; the image goes on coming
            warn("progress-not-told", reason=problem)
            return True


class ReadConsole:
    """Reads a piece of a guest's console log."""

    def __init__(self, node: str, driver: Driver, clock: Callable[[], float]) -> None:
        self._node = node
        self._driver = driver
        self._clock = clock

    def __call__(self, errand: Errand, _tell: Tell) -> ConsoleText:
        """Raises Fault, `no-console` when there is none."""
        if errand.instance is None:
            raise Fault("bad-errand", f"errand {errand.id} names no instance")
        lines = min(max(errand.lines, 0), MAX_LINES)
        piece = self._driver.console(errand.instance, lines, errand.offset)
        text = piece.data.decode(errors="replace")
        return ConsoleText(self._node, errand.instance, self._clock(), text, piece.offset)
