"""The one sender of a fleet's outage: what each process does for it at its tick, in its reporter thread."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from redis import RedisError

from ...fleet.fleet import STALE_SECONDS
from .. import messages
from ..messages import Scale
from .ledger import Counts, Ledger
from .state import Facts, Kind, Outage, Terms, merge, step

if TYPE_CHECKING:
    from ...fleet.registry import Reading, Registry

logger = logging.getLogger("celery_pymongo.sentry")

TICK_SECONDS = 2.0

IDLE_SECONDS = 30.0
"""How often one process of a node looks whether others left an outage behind that nobody tells the end of."""

AFTERMATH_SECONDS = 120.0
"""Queues that grew in an outage are worked off after it."""

_CLOSED = "closed"
_MISSES = 2
# The longest pause of a process's reports after Redis was away, and a tick.
_SILENT_SECONDS = 35.0


@dataclass(frozen=True)
class Own:
    """What a process sees by itself. `down_seconds` is 0.0 where it reaches MongoDB; `leads`: it is the first
    of its node that reports; `node_down` are the members of its node that are cut off, of `node_size` in all.
    """

    member: str
    owner: str
    down_seconds: float
    leads: bool
    node_down: tuple[str, ...] = ()
    node_size: int = 1
    error: str | None = None


class Teller:
    """Keeps the fleet's state, as this process knows it, and tells what follows where it is the sender.

    One thread uses it. `send` takes an event; `flight` returns this process's flight recorder.
    """

    def __init__(  # noqa: PLR0913 - the last three are the world around it
        self,
        ledger: Ledger,
        registry: "Registry",
        terms: Terms,
        *,
        deployment: str,
        send: Callable[[dict[str, Any]], None],
        flight: Callable[[], list[dict[str, Any]]],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._terms = terms
        self._deployment = deployment
        self._send = send
        self._flight = flight
        self._wall = wall
        self._state: Outage | None = None
        self._is_alone = False
        self._misses = 0
        self._down_since: float | None = None
        self._due_at = float("-inf")
        self._look_at = float("-inf")
        self._requeued = 0
        self._errors: Counter[str] = Counter()

    @property
    def is_open(self) -> bool:
        """Whether the fleet's outage was told, and its end was not: as of the last look."""
        return self._state is not None and not self._state.is_over

    def is_near(self, wall: float) -> bool:
        """Whether an outage is open, or was over a moment ago: what follows from it is told by it."""
        return self._state is not None and (self.is_open or wall - self._state.last_down < AFTERMATH_SECONDS)

    def count(self, *, requeued: int = 0, errors: Mapping[str, int] | None = None) -> None:
        """Note what the outage cost this process since the last time."""
        self._requeued += requeued
        self._errors.update(errors or {})

    def tick(self, now: float, own: Own, *, is_redis_away: bool) -> None:
        """Look, and tell what is to be told; at most each two seconds. `now` is monotonic seconds."""
        if now < self._due_at or not self._is_concerned(now, own):
            return
        began = time.monotonic()
        try:
            if not is_redis_away:
                self._go_together(own)
        except (RedisError, OSError) as error:
            logger.debug("Redis does not say of the outage: %s", type(error).__name__)
            is_redis_away = True
        # One answer that was late is no reason: the fleet may have told already what this process would.
        self._misses = self._misses + 1 if is_redis_away else 0
        if self._misses >= _MISSES:
            self._go_alone(own)
        # To read a large fleet takes its time: it may take a fifth of this thread's.
        self._due_at = now + max(TICK_SECONDS, 5 * (time.monotonic() - began))

    def leave(self, own: Own) -> None:
        """Say what this process still knows: it ends. Never raises; bounded by the hasty client."""
        state = self._state
        try:
            if state is not None and self.is_open and (self._requeued or self._errors):
                self._ledger.add(state.id, requeued=self._requeued, errors=self._errors, hastily=True)
            if state is not None and state.pending is not None and state.pending.by == own.owner:
                # It was flushed: the successor need not send it again.
                self._ledger.write(own.owner, replace(state, pending=None), hastily=True)
        except (RedisError, OSError) as error:
            logger.debug("the outage's counts were not handed over: %s", type(error).__name__)

    def _is_concerned(self, now: float, own: Own) -> bool:
        is_pending = self._state is not None and self._state.pending is not None
        if own.down_seconds > 0 or own.node_down or self.is_open or is_pending or self._is_alone:
            return True
        # What was held against an outage that never came to be one.
        self._requeued, self._errors = 0, Counter()
        is_look = own.leads and now >= self._look_at
        if is_look:
            self._look_at = now + IDLE_SECONDS
        return is_look

    def _go_together(self, own: Own) -> None:
        is_sender = own.leads and self._ledger.take(own.owner)
        state = self._ledger.read()
        if is_sender and self._is_alone:
            state = self._return(state, own)
        self._state, self._is_alone = state, False
        if state is not None and not state.is_over:
            self._hand_over(state)
        if is_sender:
            self._decide(state, own)

    def _return(self, known: Outage | None, own: Own) -> Outage | None:
        merged = merge(known, self._state)
        if merged is not None and merged != known:
            self._ledger.write(own.owner, merged)
        return merged

    def _hand_over(self, state: Outage) -> None:
        if self._requeued or self._errors:
            self._ledger.add(state.id, requeued=self._requeued, errors=self._errors)
            self._requeued, self._errors = 0, Counter()

    def _decide(self, state: Outage | None, own: Own) -> None:
        reading = self._registry.fleet()
        down = _cut_off(reading)
        facts = Facts(
            now=reading.now,
            down_seconds=max(down.values(), default=None),
            is_known=reading.now - reading.silent_until > _SILENT_SECONDS,
        )
        after, kind = step(state, facts, self._terms, own=own.owner)
        if after is None or (after == state and kind is None):
            return
        # First the state, then the event: who has lost the lock meanwhile sends nothing.
        if not self._ledger.write(own.owner, after):
            return
        self._state = after
        if not after.is_over:
            self._ledger.touch(after.id, down)
            self._hand_over(after)
        if kind is not None:
            fresh = _fresh(reading)
            scale = Scale(len(fresh), len({member.rpartition("/")[0] for member in fresh}))
            self._tell(kind, after, self._ledger.counts(after.id), scale, own)

    def _go_alone(self, own: Own) -> None:
        """Go on without Redis: one sender per node, which knows of its node alone."""
        if not own.leads:
            return
        now = self._wall()
        is_down = own.down_seconds > 0 or bool(own.node_down)
        if is_down and self._down_since is None:
            self._down_since = now - own.down_seconds
        elif not is_down:
            self._down_since = None
        facts = Facts(now, None if self._down_since is None else now - self._down_since)
        after, kind = step(self._state, facts, self._terms, own=own.owner)
        if after is None:
            return
        self._is_alone = True
        self._state = replace(after, pending=None)
        if kind is not None:
            members = own.node_down or ((own.member,) if own.down_seconds > 0 else ())
            counts = Counts(self._requeued, dict(self._errors), frozenset(members))
            self._tell(kind, after, counts, Scale(own.node_size, 1, is_fleet=False), own)

    def _tell(self, kind: Kind, outage: Outage, counts: Counts, scale: Scale, own: Own) -> None:
        args = (kind, outage, counts, scale)
        flight = self._flight()
        self._send(messages.of_outage(*args, deployment=self._deployment, flight=flight, error=own.error))


def _fresh(reading: "Reading") -> dict[str, dict[str, Any]]:
    now = reading.now
    return {seen.member: seen.report for seen in reading.processes if now - seen.at < STALE_SECONDS}


def _cut_off(reading: "Reading") -> dict[str, float]:
    """Return how long each process that is cut off has been, as far as it is heard of."""
    return {
        seen.member: float(seen.report.get("outage") or 0.0) + reading.now - seen.at
        for seen in reading.processes
        if reading.now - seen.at < STALE_SECONDS and seen.report.get("circuit", _CLOSED) != _CLOSED
    }
