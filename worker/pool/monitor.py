"""The pool monitor of a process: what its client's pools hold, did and took, and who holds what."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..mongo.holder import Client
from ..tracking.checkouts import Checkouts, Holder
from ..tracking.flight import Kind
from ..tracking.listening import Address, Errors, Record
from ..tracking.task_times import Hold, TasksTimes
from ..tracking.work import Work
from ..tracking.writes import WriteCounter
from .adapter import PoolGauges, read_gauges, read_inside, read_round_trips
from .command_times import CommandTimes
from .heartbeat_counter import HeartbeatCounter
from .pool_events import PoolEvents
from .pool_state import PoolState
from .reconcile import LOOK_SECONDS, Look, Off, drift
from .server_counts import Sample, ServerCounts, together
from .stats import Totals, server_stats, totals

__all__ = ["Holder", "PoolMonitor", "Tick"]


@dataclass(frozen=True)
class Tick:
    """What one tick found. `drift`: connections by which gauges were corrected. `adapter_gone`: PyMongo no
    longer has the counters that gauges are corrected by; true in one tick only.
    """

    drift: int = 0
    adapter_gone: bool = False


def _nothing(kind: Kind, number: float, text: str) -> None:
    """Record nothing."""


class PoolMonitor:
    """Counts what the pools of one process do. Give each client its own `listeners()`, call `tick` often.

    Its listeners run in the process's threads and greenlets, all else may run in any one of them. `record`
    is called for each event worth a line of the flight recorder, none of them in an ordinary checkout.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        record: Record = _nothing,
        commands: bool = False,
    ) -> None:
        self._clock = clock
        self._record = record
        self._commands = commands
        self._errors = Errors(record)
        self._checkouts = Checkouts(clock)
        self._counts: dict[str, ServerCounts] = {}
        # Of the clients there are, the newest last. One that was replaced goes once all it held came back.
        self._clients: list[PoolEvents] = []
        self._round_trips: dict[str, float] = {}
        self._is_adapter_gone = False
        self.holders: dict[int, Holder] = self._checkouts.holders
        self.suspects: set[str] = self._checkouts.suspects

    @property
    def tasks(self) -> TasksTimes:
        """Waiting and holding by task name."""
        return self._checkouts.tasks

    @property
    def slowest(self) -> list[Hold]:
        """The ten longest holds, the longest first."""
        return self._checkouts.slowest.read()

    @property
    def errors(self) -> int:
        """How often a handler of ours failed; each time some gauge or counter may have missed an event."""
        return self._errors.number

    def listeners(self, *, writers: Callable[[], Iterable[Work]] | None = None) -> list[Any]:
        """Return new listeners for one new client. One counts the writes of each task where `writers` tells
        which works run now.
        """
        events = PoolEvents(self._checkouts, self._counts_of, record=self._record, errors=self._errors)
        self._clients.append(events)
        beats = HeartbeatCounter(self._counts_of, record=self._record, errors=self._errors)
        commands = [CommandTimes(self._counts_of, errors=self._errors)] if self._commands else []
        counters = [] if writers is None else [WriteCounter(writers, errors=self._errors)]
        return [events, beats, *commands, *counters]

    def _counts_of(self, address: Address) -> ServerCounts:
        host, port = address
        name = f"{host}:{port}"
        return self._counts.get(name) or self._counts.setdefault(name, ServerCounts(self._clock()))

    # -- the reporter's tick -----------------------------------------------------------------------

    def tick(self, client: Client, now: float) -> Tick:
        """Correct the gauges of this client's pools where they drifted, and take a sample of each counter."""
        truth = read_gauges(client)
        is_gone_now = truth is None and not self._is_adapter_gone
        self._is_adapter_gone = truth is None
        events = self._events_of(client)
        corrected = 0 if truth is None or events is None else self._reconcile(events, truth, client, now=now)
        self._forget_drained()
        self._take_round_trips(client)
        for counts in list(self._counts.values()):
            counts.sample(now)
        return Tick(corrected, is_gone_now)

    def _events_of(self, client: Client) -> PoolEvents | None:
        """Return the listener of this client: another may just be taking its place."""
        theirs: list[Any] = list(client.options.event_listeners)
        return next((events for events in self._clients if events in theirs), None)

    def _reconcile(
        self, events: PoolEvents, truth: dict[str, PoolGauges], client: Client, *, now: float
    ) -> int:
        return sum(
            self._look_at(pool, truth[pool.name], client, now=now)
            for pool in list(events.pools.values())
            if pool.name in truth
        )

    def _look_at(self, pool: PoolState, truth: PoolGauges, client: Client, *, now: float) -> int:
        pool.min, pool.max = truth.min, truth.max
        own = pool.gauges()
        off = Off(truth.size - own.size, truth.in_use - own.in_use, truth.waiting - own.waiting)
        inside = read_inside(client).get(pool.name) if off else None
        if not off or (inside and inside.connecting):
            pool.looks.clear()
            return 0
        if pool.looks and now - pool.looks[-1].at < LOOK_SECONDS:
            return 0
        pool.looks.append(Look(now, pool.signature, off))
        wrong = drift(list(pool.looks))
        if wrong:
            self._correct(pool, wrong, inside.idle if inside else frozenset())
            # What is left may be a drift as well, seen for the first time.
            pool.looks.append(Look(now, pool.signature, off - wrong))
        return wrong.amount

    def _correct(self, pool: PoolState, wrong: Off, idle: frozenset[int]) -> None:
        pool.looks.clear()
        pool.correct(wrong, idle)
        pool.counts.drift += wrong.amount
        self._record(Kind.DRIFT, float(wrong.amount), pool.name)

    def _forget_drained(self) -> None:
        for events in self._clients[:-1]:
            if events.is_drained:
                # In place: listeners() may be adding those of another client.
                self._clients.remove(events)

    def _take_round_trips(self, client: Client) -> None:
        for name, seconds in read_round_trips(client).items():
            if name in self._counts and self._round_trips.get(name) != seconds:
                self._round_trips[name] = seconds
                self._counts[name].rtt.observe(seconds)

    # -- reading -----------------------------------------------------------------------------------

    def gauges(self) -> dict[str, PoolGauges]:
        """Return the gauges by server: with what a replaced client still holds, without closed pools."""
        found: dict[str, PoolGauges] = {}
        for events in list(self._clients):
            for pool in [pool for pool in list(events.pools.values()) if not pool.is_drained]:
                found[pool.name] = pool.gauges().plus(found.get(pool.name, NO_POOL))
        return found

    def oldest(self) -> dict[str, float]:
        """Return since when (monotonic s) the oldest operation of each server has its connection."""
        found: dict[str, float] = {}
        # list() of a dict's values is atomic, iterating over them is not.
        for holder in list(self.holders.values()):
            found[holder.server] = min(holder.since, found.get(holder.server, holder.since))
        return found

    def ever(self, now: float) -> Sample:
        """Return what all servers' pools counted since the process began, which no reset takes back."""
        return together([counts.read(now) for counts in list(self._counts.values())], now)

    def totals(self, now: float) -> Totals:
        """Return all servers' numbers together; `now` is monotonic."""
        counts = list(self._counts.values())
        counted = [each.since_reset(now) for each in counts]
        return totals(self.gauges(), counted, [each.last_minute(now) for each in counts])

    def get_stats(self, now: float) -> dict[str, dict[str, Any]]:
        """Return the statistics by server, by the keys of `stats.STATS`."""
        gauges = self.gauges()
        return {
            name: server_stats(gauges.get(name, NO_POOL), counts.since_reset(now), counts.last_minute(now))
            for name, counts in list(self._counts.items())
        }

    def pop_stats(self, now: float) -> dict[str, dict[str, Any]]:
        """Return the statistics and begin counting anew; gauges and the last minute go on."""
        stats = self.get_stats(now)
        for counts in list(self._counts.values()):
            counts.reset(now)
        self._checkouts.reset()
        return stats


NO_POOL = PoolGauges(size=0, in_use=0, idle=0, waiting=0, min=0, max=0)
