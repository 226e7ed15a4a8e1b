"""A build whose image takes long says how far it is, and its history is not flooded with it."""

from __future__ import annotations

from dataclasses import replace
from time import sleep

from placet import keys
from placet.lifecycle import Stage
from placet.model import Happening, ImageRef, decode
from tests.support.clouds import TestCloud, request
from tests.support.hostile_http import Asked, Send, head, hostile_http
from tests.support.nodes import PATIENCE_S, FakeMachine, until


def test_a_build_says_how_far_its_image_is(cloud: TestCloud, machine: FakeMachine) -> None:
    body = machine.image.read_bytes()
    seen: set[str | None] = set()
    half = len(body) // 2

    def slow(_asked: Asked, send: Send) -> None:
        send(head(Content_Length=str(len(body))) + body[:half])
        at = half
        while not (web.closing.is_set() or done) and at < len(body) - 1:
            send(body[at : at + 1])
            at += 1
            sleep(0.02)
        send(body[at:])

    def percent_told() -> bool:
        status = cloud.instances.get(asked.instance).status
        seen.add(status.task if status else None)
        return any(task and task.startswith("image 5") and task.endswith(" MB/s") for task in seen)

    done: list[bool] = []
    with hostile_http() as web, machine.agent():
        web.pages["/image"] = slow
        until(lambda: cloud.store.scan(keys.ALIVE).entries, "alive")
        asked = replace(request("resources=VCPU:1"), image=ImageRef(f"{web.url}/image"))
        cloud.scheduler().create(asked)
        until(percent_told, "it says how far the image is")
        done.append(True)
        status = cloud.instances.wait_for(asked.instance, Stage.IP, PATIENCE_S)

    assert status.task is None
    events = [
        decode(Happening, entry.value, entry.key) for entry in cloud.store.scan(keys.events(asked.instance)).entries
    ]
    assert [event.reason for event in events if event.what == "waiting"] == [f"fetching {web.url}/image"]
