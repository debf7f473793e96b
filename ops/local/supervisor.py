"""Starts services in order, starts again what ends, stops all in the reverse order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .child import Child
from .servers import ServerError
from .supervision import Act, Watch, failed, started, step

POLL_SECONDS = 0.05
HURRY_SECONDS = 3.0


class StartError(RuntimeError):
    """Something did not come up the first time, so going on makes no sense; the sentence says what."""


@dataclass
class Service:
    """A program to keep running.

    `ready` tells when those after it may start. `last_words` are the signals to try before SIGKILL,
    each for `stop_seconds`; in a hurry only the last one, and briefly.
    """

    child: Child
    start: Callable[[], None]
    ready: Callable[[], bool] = lambda: True
    stop_seconds: float = 10.0
    last_words: Sequence[signal.Signals] = (signal.SIGTERM,)
    describe: Callable[[], str] = lambda: ""
    must_start: bool = True
    watch: Watch = field(default_factory=Watch)
    was_ready: bool = False

    @property
    def name(self) -> str:
        return self.child.name


class Supervisor:
    """Watches the services; `say` is told each start, end and restart in one line."""

    def __init__(self, services: Sequence[Service], *, say: Callable[[str], None]) -> None:
        self.services = list(services)
        self._say = say

    @property
    def is_complete(self) -> bool:
        """Whether every service has been ready once."""
        return all(service.was_ready for service in self.services)

    def tick(self) -> None:
        """Do what is due now.

        Raises:
            StartError: a service that must start did not.
        """
        for service in self.services:
            self._attend(service)
            if not service.was_ready:
                self._await(service)
                break

    def away(self) -> str:
        """Names of what does not run now; empty when all does."""
        return ", ".join(service.name for service in self.services if not service.child.is_running)

    def stop(self, *, is_hurried: Callable[[], bool]) -> None:
        """Stop the last one first; each has its time, none when hurried."""
        for service in reversed(self.services):
            if service.child.is_running:
                self._say(f"stopping {service.name}")
                _stop(service, is_hurried)

    def _attend(self, service: Service) -> None:
        now = time.monotonic()
        service.watch, act = step(service.watch, running=service.child.is_running, now=now)
        if act is Act.ENDED:
            self._tell_end(service, now)
        elif act is Act.START:
            self._start(service, now)

    def _start(self, service: Service, now: float) -> None:
        again = service.watch.failures > 0
        try:
            service.start()
        except (ServerError, OSError) as error:
            if not service.was_ready:
                raise StartError(str(error)) from error
            service.watch = failed(service.watch, now)
            self._say(f"{error}; again in {service.watch.due_at - now:g} s")
            return
        service.watch = started(service.watch, now)
        if again:
            self._say(f"{service.name} started again (pid {service.child.pid})")

    def _tell_end(self, service: Service, now: float) -> None:
        how = _describe_end(service.child.returncode)
        if service.must_start and not service.was_ready:
            raise StartError(f"{service.name} {how} at its start, see {service.child.log}")
        self._say(f"{service.name} {how}, starting it again in {service.watch.due_at - now:g} s")

    def _await(self, service: Service) -> None:
        try:
            service.was_ready = service.child.is_running and service.ready()
        except ServerError as error:
            raise StartError(str(error)) from error


def _describe_end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _stop(service: Service, is_hurried: Callable[[], bool]) -> None:
    child = service.child
    for word in service.last_words:
        if not is_hurried() and _asked(child, word, service.stop_seconds, is_hurried):
            return
    if not (is_hurried() and _asked(child, service.last_words[-1], HURRY_SECONDS, lambda: False)):
        child.kill()


def _asked(child: Child, word: signal.Signals, seconds: float, give_up: Callable[[], bool]) -> bool:
    child.signal(word)
    child.signal(signal.SIGCONT)  # a suspended program hears nothing else
    return _ended(child, seconds, give_up)


def _ended(child: Child, seconds: float, give_up: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not child.wait(POLL_SECONDS):
        if give_up() or time.monotonic() > deadline:
            return False
    return True
