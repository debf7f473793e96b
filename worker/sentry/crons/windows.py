"""What became of runs at short intervals, window by window: beat and workers write it, beat reads it."""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...store import records
from ...store.records import UnreadableError
from .entries import Monitor

logger = logging.getLogger("celery_pymongo.sentry")

if TYPE_CHECKING:
    import redis

_KEPT_SECONDS = 86_400
_AT_A_TIME = 100
# Unix seconds.
_LATEST = 1e11


@dataclass(frozen=True)
class Window:
    """A window that has ended: its monitor's slug and configuration, its seconds, and its counts."""

    slug: str
    config: dict[str, Any]
    seconds: int
    counts: dict[str, int]


@dataclass(frozen=True)
class Ended:
    """How one run of a window ended: `ok` or `failed`."""

    slug: str
    window: int
    how: str


class Windows:
    """The windows of one deployment. Methods raise redis.RedisError; moments are beat's, unix seconds.

    `hasty` is a client with shorter timeouts, for a process that ends.
    """

    def __init__(
        self, redis: "redis.Redis", key: Callable[..., str], *, hasty: "redis.Redis | None" = None
    ) -> None:
        self._redis: Any = redis
        self._hasty: Any = hasty or redis
        self._key = key

    @property
    def _open(self) -> str:
        return self._key("crons", "open")

    def sent(self, monitor: Monitor, at: float) -> int:
        """Note that a run is sent; return its window."""
        window, last = monitor.window_of(at), self._key("crons", monitor.slug, "last")
        before = self._redis.set(last, repr(at), ex=_KEPT_SECONDS, get=True)
        counts = self._counts(monitor.slug, window)
        seconds = monitor.window or 60
        told = json.dumps([monitor.slug, window, seconds, monitor.config], separators=(",", ":"))
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hincrby(counts, "sent", 1)
            if monitor.is_late(records.number_of(before, most=_LATEST), at):
                pipe.hincrby(counts, "late", 1)
            pipe.expire(counts, _KEPT_SECONDS)
            pipe.zadd(self._open, {told: window + seconds + monitor.grace}).expire(self._open, _KEPT_SECONDS)
            pipe.execute()
        return window

    def ended(self, runs: Iterable[Ended], *, hastily: bool = False) -> None:
        """Note how runs ended."""
        with (self._hasty if hastily else self._redis).pipeline(transaction=False) as pipe:
            for run in runs:
                pipe.hincrby(self._counts(run.slug, run.window), run.how, 1)
                pipe.expire(self._counts(run.slug, run.window), _KEPT_SECONDS)
            pipe.execute()

    def due(self, at: float) -> list[Window]:
        """Take the windows whose verdict is due, the oldest first; nobody else gets them."""
        found = []
        for told in self._redis.zrangebyscore(self._open, "-inf", at, start=0, num=_AT_A_TIME):
            try:
                slug, window, seconds, config = records.CRON_WINDOW.read(told, self._open)
            except UnreadableError as error:
                logger.debug("%s", error)
                # The next ones would never come.
                self._redis.zrem(self._open, told)
                continue
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self._open, told).hgetall(self._counts(slug, window))
                is_ours, counts = pipe.execute(raise_on_error=False)
            is_hash = not records.is_other(counts)
            read = records.counts_of(counts) if is_hash else {}
            known = {name: number for name, number in read.items() if number is not None}
            # Of one whose counts cannot be read nothing is told: it is missed.
            if is_ours and is_hash and len(known) == len(read):
                found.append(Window(slug, config, seconds, known))
        return found

    def _counts(self, slug: str, window: int) -> str:
        return self._key("crons", slug, window)
