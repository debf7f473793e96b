"""Which drills put a load on MongoDB, and when: so that nobody takes what the history shows for trouble.

In Redis a capped stream beside that of the snapshots, with the same commands: a drill notes that it begins
and how long it will take, and once it is over that nothing is left.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..store import records
from ..store.records import UnreadableError

if TYPE_CHECKING:
    import redis

# Drills are few, and of interest for as long as the history in MongoDB may be.
_MOST = 2000
_KEPT_SECONDS = 90 * 86_400


@dataclass(frozen=True, slots=True)
class Noted:
    """A drill: its name and when, unix seconds by Redis' clock. `until` lies ahead while it runs, and is when
    it was to end where it was killed.
    """

    name: str
    since: float
    until: float


class DrillNotes:
    """The notes of one deployment. Methods raise redis.RedisError."""

    def __init__(self, redis: "redis.Redis", key: Callable[..., str]) -> None:
        self._redis: Any = redis
        self._key = key

    @property
    def _stream(self) -> str:
        return self._key("drills")

    def note(self, drill_id: str, name: str, *, seconds: float) -> None:
        """Note that a drill has so many seconds left: all of them as it begins, none once it is over."""
        text = json.dumps({"id": drill_id, "name": name, "seconds": seconds}, separators=(",", ":"))
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(self._stream, {"drill": text}, maxlen=_MOST, approximate=True)
            pipe.expire(self._stream, _KEPT_SECONDS)
            pipe.execute()

    def read(self, *, since: float, until: float) -> list[Noted]:
        """Return the drills that ran at some moment of a span (unix seconds), in the order that they began.

        What cannot be read is left out.
        """
        found: dict[str, Noted] = {}
        reply = records.replied(lambda: self._redis.xrange(self._stream, "-", int(until * 1000)))
        for stream_id, members in records.listed(reply, records.DRILL.at(self._stream), []):
            at = int(stream_id.partition(b"-")[0]) / 1000
            try:
                told = records.DRILL.read(members.get(b"drill"), self._stream, stream_id)
            except UnreadableError:
                continue
            begun = found.get(told["id"])
            first = at if begun is None else begun.since
            found[told["id"]] = Noted(told["name"], first, at + told["seconds"])
        return [noted for noted in found.values() if noted.until >= since]
