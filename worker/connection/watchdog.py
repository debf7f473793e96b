"""Watches the servers of a client for one that hangs, and takes back what waits for it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from .. import events
from ..events import Event
from ..mongo.holder import Client
from ..pool import adapter
from ..tracking.listening import Address
from . import hang
from .hang import Outcome, Patience
from .heartbeats import Heartbeats

logger = logging.getLogger("celery_pymongo.link")


class Watchdog:
    """Asks servers of one client that are silent for too long, and gives up those that hang: their operations
    are interrupted, so that each goes on where another server takes it, or ends.

    One thread calls `look`, which blocks for nothing: a server is asked by a thread that lives as long as its
    answer takes. `waits` tells since when (monotonic s) the oldest operation runs, by `host:port`.
    `is_alarmed` says whether this process, or another one of its node, is cut off; `speaks`: whether it is
    for this one to tell a person, since nothing else does.
    """

    def __init__(  # noqa: PLR0913 - the last four are the world around it
        self,
        client: Client,
        heartbeats: Heartbeats,
        ping_seconds: float,
        *,
        waits: Callable[[], Mapping[str, float]],
        is_alarmed: Callable[[], bool],
        speaks: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self._heartbeats = heartbeats
        self._patience = Patience(client.options.heartbeat_frequency, ping_seconds)
        self._waits = waits
        self._is_alarmed = is_alarmed
        self._speaks = speaks
        self._clock = clock
        # Since when each server was silent that is asked, or that hangs; once it is heard that is past.
        self._asked: dict[Address, float] = {}
        self._hung: dict[Address, float] = {}

    def look(self) -> float | None:
        """Ask the servers that are due; return the seconds until there may be more to do, else None."""
        now, waits = self._clock(), self._waits()
        silent = self._silent()
        if silent and self._is_alarmed():
            waits = dict.fromkeys(map(_name, silent), 0.0)
        due = []
        for address, since in silent.items():
            if self._asked.get(address) == since:
                continue
            ask_at = hang.ask_at(since, self._patience, awaited_since=waits.get(_name(address)))
            if ask_at > now:
                due.append(ask_at - now)
                continue
            self._asked[address] = since
            threading.Thread(
                target=self._ask, args=(address, since), name="celery-pymongo-asking", daemon=True
            ).start()
        return min(due, default=None)

    def hung_since(self) -> float | None:
        """Return since when writes wait for a server that hangs (monotonic s); None where they do not."""
        silent = self._silent()
        hung = {address: since for address, since in self._hung.items() if silent.get(address) == since}
        return self._heartbeats.missed_since(hung)

    def _silent(self) -> dict[Address, float]:
        present = self.client.topology_description.server_descriptions()
        return {a: since for a, since in self._heartbeats.silent_since.items() if a in present}

    def _ask(self, address: Address, since: float) -> None:
        began = self._clock()
        has_answered = adapter.answers(self.client, address, self._patience.answer)
        now = self._clock()
        if self._silent().get(address) != since:
            # Heard meanwhile.
            return
        outcome = hang.outcome(self._patience, has_answered=has_answered, took=now - began)
        if outcome is Outcome.HUNG:
            self._give_up(address, since, now - since)
        elif outcome is Outcome.UNKNOWN:
            self._asked.pop(address, None)
        else:
            self._heartbeats.hear(address)
            if now - since > self._patience.heartbeat:
                # The server is well, and the connection of its heartbeats is dead.
                adapter.renew_heartbeat(self.client, address)

    def _give_up(self, address: Address, since: float, seconds: float) -> None:
        self._hung[address] = since
        # First: a task that fails of the interruption finds the circuit open.
        self._heartbeats.give_up(address, hang.reason(seconds))
        message = "%s hangs: no answer for %.0f s; what waits for it is interrupted"
        args, level = (_name(address), seconds), logging.WARNING if self._speaks() else logging.DEBUG
        events.say(logger, level, Event.SERVER_HUNG, message, *args, seconds=seconds)
        adapter.interrupt(self.client, address, f"no answer for {seconds:.0f} s")


def _name(address: Address) -> str:
    host, port = address
    return f"{host}:{port}"
