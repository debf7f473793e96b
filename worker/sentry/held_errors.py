"""Errors that an outage may explain: held until it is known whether it does.

Moments are monotonic seconds of this process. An error that no outage explains, or one that was too short to
be told, is sent after all: nothing is lost but what the outage's own event counts.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

GRACE_SECONDS = 3.0
"""An operation may fail before the first heartbeat does, and a tick may be that late to tell of the end."""

MOST = 200
"""Errors that are held at a time; what comes beyond that is sent at once."""


class Fate(Enum):
    """What becomes of an error that is held."""

    KEEP = "keep"
    COUNT = "count"
    SEND = "send"


@dataclass(frozen=True)
class Episode:
    """When this process was last cut off. `ended` is None while it is, `began` where it never was."""

    began: float | None = None
    ended: float | None = None

    def seen(self, now: float, *, down_seconds: float) -> "Episode":
        """Return the episode after a look: `down_seconds` is 0.0 where the process is not cut off."""
        if down_seconds > 0:
            is_same = self.began is not None and self.ended is None
            return self if is_same else Episode(now - down_seconds)
        return self if self.began is None or self.ended is not None else Episode(self.began, now)


@dataclass(frozen=True)
class Circumstances:
    """`confirm`: how long an outage lasts before it counts as one. `is_open`: the fleet's has been told.

    `echo`: how long after the end an operation that had begun in the outage may still fail of it.
    """

    episode: Episode
    confirm: float
    echo: float
    is_open: bool = False


def fate(at: float, began: float, now: float, around: Circumstances) -> Fate:
    """Return what becomes of an error that came `at` a moment, in a task that `began` at another."""
    episode = around.episode
    if episode.began is None or not _is_within(at, began, episode, around.echo):
        return Fate.KEEP if now - at < GRACE_SECONDS else Fate.SEND
    end = now if episode.ended is None else episode.ended
    if around.is_open or end - episode.began >= around.confirm:
        return Fate.COUNT
    return Fate.KEEP if episode.ended is None else Fate.SEND


def _is_within(at: float, began: float, episode: Episode, echo: float) -> bool:
    if episode.began is None or at < episode.began - GRACE_SECONDS:
        return False
    if episode.ended is None or at <= episode.ended + GRACE_SECONDS:
        return True
    return began < episode.ended and at <= episode.ended + echo


@dataclass(frozen=True)
class Held:
    """An event as it would be sent, of which task, and since when."""

    at: float
    began: float
    task: str
    event: Any


class Shelf:
    """The held errors of one process. Any thread puts one there, one thread sorts them."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        self._held: list[Held] = []
        self._lock = threading.Lock()

    def put(self, held: Held) -> bool:
        """Keep one; False where there is no room."""
        with self._lock:
            if len(self._held) >= MOST:
                return False
            self._held.append(held)
            return True

    def sort(self, now: float, around: Circumstances, *, is_last: bool = False) -> Counter[str]:
        """Send those that no outage explains; return how many one does, by task. `is_last`: none is kept."""
        with self._lock:
            waiting, self._held = self._held, []
        counted: Counter[str] = Counter()
        kept = []
        for held in waiting:
            decided = fate(held.at, held.began, now, around)
            if decided is Fate.COUNT:
                counted[held.task] += 1
            elif decided is Fate.KEEP and not is_last:
                kept.append(held)
            else:
                self._send(held.event)
        with self._lock:
            self._held = kept + self._held
        return counted
