"""Building what schedule.py uses and handing it to each other; each function imports only what it needs.

`schedule.py <uuid>` must not load keystoneauth1, nor `schedule.py` libvirt: hence the imports inside.
"""

from __future__ import annotations

import random
import time
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from placet.asking import Asking
    from placet.claims import Claims
    from placet.compute_config import ComputeConfig
    from placet.config import ScheduleConfig
    from placet.consoles import Console
    from placet.destroying import Destroyer
    from placet.doctor import Doctor
    from placet.image_records import ImageRecords
    from placet.instances import Instances
    from placet.key_records import KeyRecords
    from placet.nodes import Nodes
    from placet.placement import Placement
    from placet.scheduler import Scheduler
    from placet.store import Store
    from placet.story import Story
    from placet.zones import Zones

NO_CLOUD = "start a node (./up.sh, compute.py) or mend etcd_prefix:; if it lost its data: schedule.py doctor"


def new_uuid() -> str:
    """A fresh random UUID."""
    return str(uuid.uuid4())


def new_random() -> random.Random:
    """A source of randomness of one's own."""
    return random.Random()  # noqa: S311 - it spreads load and retries, it keeps no secret


def store(config: ScheduleConfig | ComputeConfig) -> Store:
    """etcd, as configured."""
    from placet.store.etcd import EtcdStore

    return EtcdStore(config.etcd, config.etcd_prefix)


def story(opened: Store) -> Story:
    """What tells in etcd of what a command did."""
    from placet.story import Story

    return Story(opened, "schedule.py", new_uuid(), time.time)


def instances(opened: Store) -> Instances:
    """What looks at instances."""
    from placet.instances import Instances

    return Instances(opened, time.time, time.monotonic)


def destroyer(opened: Store) -> Destroyer:
    """What asks that instances go."""
    from placet.destroying import Destroyer

    return Destroyer(opened, story(opened), time.time, time.monotonic)


def nodes(opened: Store) -> Nodes:
    """What an operator does with nodes."""
    from placet.nodes import Nodes

    return Nodes(opened, story(opened), time.time)


def zones(config: ScheduleConfig, opened: Store) -> Zones:
    """What an operator does with zones."""
    from placet.placement import Placement
    from placet.zones import Zones

    return Zones(opened, Placement(config.placement), nodes(opened), time.time, new_uuid)


def asking(opened: Store) -> Asking:
    """What asks nodes to do something once."""
    from placet.asking import Asking

    return Asking(opened, new_uuid, time.monotonic)


def images(opened: Store) -> ImageRecords:
    """What an operator does with images."""
    from placet.image_records import ImageRecords

    return ImageRecords(opened, asking(opened), time.time)


def console(opened: Store, instance: str, lines: int) -> Console:
    """What reads an instance's console, from its last `lines` on."""
    from placet.consoles import Console

    return Console(instances(opened), asking(opened), instance, lines, time.time)


def ssh_keys(config: ScheduleConfig, opened: Store) -> KeyRecords:
    """What a user does with ssh keys."""
    from placet.key_records import KeyRecords

    return KeyRecords(opened, config.project, time.time)


def placement(config: ScheduleConfig, opened: Store) -> tuple[Placement, Claims]:
    """Placement, and what claims and releases there for this cloud. Raises NotFound when etcd holds no cloud."""
    from placet.claims import Claims
    from placet.cloud import read_cloud
    from placet.placement import Placement

    reached = Placement(config.placement)
    return reached, Claims(reached, _known(read_cloud(opened), config))


def _known(cloud: str | None, config: ScheduleConfig) -> str:
    if cloud is None:
        from placet.errors import NotFound

        raise NotFound(f"etcd has no cloud under {config.etcd_prefix}: {NO_CLOUD}")
    return cloud


def doctor(config: ScheduleConfig, opened: Store) -> Doctor:
    """What compares and mends."""
    from placet.doctor import Doctor
    from placet.index_repair import IndexRepair
    from placet.placement import Placement

    told = story(opened)
    index = IndexRepair(opened, told, time.time)
    return Doctor(opened, Placement(config.placement), asking(opened), index, told, time.time)


def scheduler(config: ScheduleConfig, opened: Store) -> Scheduler:
    """What places instances. Raises NothingFits when etcd holds no cloud: nobody ever offered anything.

    Both services are asked while what is needed besides is loaded: half of a command's time is loading.
    """
    from concurrent.futures import ThreadPoolExecutor

    from placet.cloud import read_cloud
    from placet.errors import NotFound, NothingFits

    beside = ThreadPoolExecutor(2, thread_name_prefix="beside")
    cloud = beside.submit(read_cloud, opened)

    from placet.placement import Placement
    from placet.sharing import Sharing

    reached = Placement(config.placement)
    sharing = Sharing(reached, time.monotonic, beside)

    from placet.claims import Claims
    from placet.scheduler import Scheduler

    try:
        claims = Claims(reached, _known(cloud.result(), config))
    except NotFound as problem:
        raise NothingFits(str(problem)) from problem
    clocks, random = (time.time, time.monotonic), new_random()
    return Scheduler(opened, reached, claims, story(opened), *clocks, random, sharing, beside, config.policy)
