"""What agent and metadata service tell each other of the node's guests, through two directories of files.

The agent's worker writes the guests' records, md_server reads them; md_server writes what guests publish of themselves
(placet/published.py), the agent reads that. Either works on while the other is away.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from placet import model
from placet.log import warn
from placet.metadata import DEFAULT_NETWORK, GuestRecord
from placet.networks import link_local_of
from placet.node_records import Published
from placet.record_files import Changes, records_in

PUBLISHED = "published"


class GuestRecords:
    """The agent's side. What guests publish lies in a directory beside the records'; without one nobody publishes."""

    def __init__(self, directory: Path | None) -> None:
        self._files = records_in(directory)
        self.published = PublishedFiles(directory.with_name(PUBLISHED) if directory else None)

    def write(self, record: GuestRecord) -> None:
        """Write the record; one that is there already and the same is left alone. Raises OSError."""
        value = model.encode(record)
        if self._files.read(record.instance) != value:
            self._files.write(record.instance, value)

    def remove(self, instance: str) -> None:
        """Forget a guest, and then what it published: nobody is known any more who could publish it again."""
        self._files.remove(instance)
        self.published.remove(instance)

    def instances(self) -> frozenset[str]:
        """The UUIDs of all guests that have a record."""
        return self._files.instances()

    def has(self, instance: str) -> bool:
        """Whether there is a record of this guest."""
        return self._files.has(instance)


class PublishedFiles:
    """What guests have published, both sides of it."""

    def __init__(self, directory: Path | None) -> None:
        self._files = records_in(directory)
        self.directory = directory or Path()

    def read(self, instance: str) -> Published | None:
        """What one guest has published; None for nothing, or for nothing that can be read. Raises OSError."""
        value = self._files.read(instance)
        if value is None:
            return None
        try:
            return model.decode(Published, value, str(self._files.path(instance)))
        except model.BadRecord as bad:
            warn("bad-published-file", reason=bad)
            return None

    def write(self, published: Published) -> None:
        """Put it in place of what the guest had published before. Raises OSError."""
        self._files.write(published.instance, model.encode(published))

    def remove(self, instance: str) -> None:
        """Forget what a guest has published; nothing is no error."""
        self._files.remove(instance)

    def instances(self) -> frozenset[str]:
        """The UUIDs of all that have published something."""
        return self._files.instances()


class GuestsByAddress:
    """md_server's side: which guest has an IP, as the records say now."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changes = Changes(directory)
        self._records: dict[Path, tuple[GuestRecord, tuple[str, ...]]] = {}
        self._by_ip: dict[str, GuestRecord | None] = {}
        self.problems: list[str] = []

    def find(self, ip: str, now_ns: int) -> GuestRecord | None:
        """The guest whose address `ip` is. None when it is nobody's, or, of a stale record's making, two guests'.

        `now_ns` is the wall clock. What could not be read is added to `problems`, which the caller empties.
        """
        try:
            changed = self._changes.look(now_ns)
        except OSError as problem:
            self.problems.append(f"{self._directory}: {problem.strerror}")
            return None
        for path, is_there in changed.items():
            self._take(path, is_there)
        if changed:
            self._sort()
        return self._by_ip.get(ip)

    def _take(self, path: Path, is_there: bool) -> None:
        self._records.pop(path, None)
        try:
            if is_there:
                record = model.decode(GuestRecord, path.read_bytes(), str(path))
                self._records[path] = (record, tuple(dict.fromkeys(addresses_of(record))))
        except FileNotFoundError:
            return  # removed since it was listed
        except (model.BadRecord, ValueError) as problem:
            self.problems.append(f"{path}: {problem}")

    def _sort(self) -> None:
        self._by_ip = {}
        for record, ips in self._records.values():
            for ip in ips:
                if ip in self._by_ip:
                    self.problems.append(f"{ip} is in two guests' records: it is answered as nobody's")
                self._by_ip[ip] = None if ip in self._by_ip else record


def addresses_of(record: GuestRecord) -> Iterable[str]:
    """The addresses a guest is known by: those of its record, and what its cards on the node's own network make of
    their MACs (link-local IPv6). Raises ValueError for what is none."""
    yield from (str(ip_address(ip)) for ip in record.ips)
    yield from (str(link_local_of(nic.mac)) for nic in record.nics if nic.network == DEFAULT_NETWORK)
