"""Bringing one service to where it answers: left alone if it does, started or restarted if not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from placet.onebox.layout import StateDirectory
from placet.onebox.machine import Machine, who_listens
from placet.onebox.services import Service
from placet.onebox.steps import StepFailed
from placet.onebox.supervisor import Running, Supervisor

# given the time at which the service started: None when it answers, else what it does instead
Check = Callable[[float], "str | None"]

READY_DEADLINE_S = 60.0
ANSWER_DEADLINE_S = 10.0
LOOK_AGAIN_S = 0.05


@dataclass(frozen=True)
class Starter:
    """Starts the services of one state directory."""

    supervisor: Supervisor
    state: StateDirectory
    machine: Machine

    def ensure(self, service: Service, check: Check) -> str:
        """What was done, for the step's line. Raises StepFailed."""
        running = self.supervisor.find(service.name)
        if running is not None and running.digest == service.digest():
            if _wait(lambda: check(running.since), ANSWER_DEADLINE_S) is None:
                return f"running since {time.strftime('%H:%M:%S', time.localtime(running.since))}"
            done = "did not answer: restarted"
        else:
            done = "started" if running is None else "settings changed: restarted"
        if running is not None:
            self.supervisor.stop(service.name, service.stop_s)
        self._start(service, check)
        return done

    def _start(self, service: Service, check: Check) -> None:
        if self.supervisor.find(service.name) is None:
            self.supervisor.stop(service.name, service.stop_s)  # what a kill -9 left holding its ports
        self._refuse_taken_ports(service)
        began = time.time()
        self.supervisor.start(service)
        wrong = _wait(lambda: self._look(service, check, began), READY_DEADLINE_S)
        if wrong is not None:
            raise StepFailed(
                f"{service.name} was started but {wrong}", "see its log; mend that and run ./up.sh again",
                self.state.log(service.name),
            )  # fmt: skip

    def _look(self, service: Service, check: Check, began: float) -> str | None:
        if self.supervisor.has_failed(service.name):
            raise StepFailed(
                f"{service.name} ended as soon as it was started", "see its log; mend that and run ./up.sh again",
                self.state.log(service.name),
            )  # fmt: skip
        return check(began)

    def _refuse_taken_ports(self, service: Service) -> None:
        for address, port in service.ports:
            if not self.machine.port_is_free(address, port):
                option = f"./up.sh --{service.name}-port N"
                raise StepFailed(
                    f"{service.name} can't have {address}:{port}: {who_listens(port)} has it",
                    f"stop that, or give another port: {option}",
                )


def _wait(look: Callable[[], str | None], deadline_s: float) -> str | None:
    """Look until there is nothing wrong; what still was at the deadline."""
    end = time.monotonic() + deadline_s
    while (wrong := look()) is not None and time.monotonic() < end:
        time.sleep(LOOK_AGAIN_S)
    return wrong


def describe(running: Running | None) -> str:
    """A service in `status`."""
    if running is None:
        return "stopped"
    return f"running, pid {running.pid}, since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(running.since))}"
