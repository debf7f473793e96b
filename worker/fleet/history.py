"""What the fleet was: snapshots of the last days in Redis, and of the last weeks in MongoDB.

In Redis a capped stream, readable while MongoDB is away (`+xadd +xrange +xrevrange +expire`; to read only,
`+time +xrange`). In MongoDB a collection whose `_id` is the stream's, `at` its time and `snapshot` the rest;
the user needs readWrite on its database.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from .. import events
from ..events import Event
from ..mongo import calls
from ..mongo.classify import classify, is_login_refused
from ..store import records
from ..store.records import Unreadable, UnreadableError
from .registry import TooLargeError

if TYPE_CHECKING:
    import redis

logger = logging.getLogger("celery_pymongo.history")

LENGTH = 11_520
"""How many snapshots Redis keeps: 48 hours, one each 15 s."""

SNAPSHOT_BYTES = 8192
"""The most that one may have: together they take 90 MiB of Redis at most."""

_KEPT_SECONDS = 7 * 86_400
_PER_CALL = 1000
_PER_BATCH = 100
_OFF_SECONDS = 60.0

_STREAM_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
# How far Redis' clock may be ahead of this host's; what is of times to come would be the newest for ever.
_AHEAD_SECONDS = 86_400.0

_DUPLICATE_KEY = 11_000
# IndexOptionsConflict, IndexKeySpecsConflict: the index is there with another age.
_INDEX_CONFLICTS = (85, 86)


@dataclass(frozen=True, slots=True)
class Entry:
    """One snapshot; `at` is unix seconds by Redis' clock, as is the time in its id."""

    id: str
    at: float
    snapshot: dict[str, Any]


class History:
    """The history of one deployment. `key` prefixes keys (`settings.key`); `days` 0 keeps none in MongoDB.

    What asks Redis raises redis.RedisError where it fails, UnreadableError where the stream is none. Entries
    that cannot be read are left out, and added to `bad`.
    """

    def __init__(
        self,
        redis: "redis.Redis",
        key: Callable[..., str],
        *,
        days: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis: Any = redis
        self._key = key
        self._days = days
        self._clock = clock
        self._off_until = float("-inf")
        self._is_told = False
        self._indexed: str | None = None

    @property
    def _stream(self) -> str:
        return self._key("history")

    def append(self, snapshot: dict[str, Any]) -> str:
        """Add a snapshot and return its id; a deployment that is given up leaves nothing after a week.

        Raises TooLargeError above SNAPSHOT_BYTES.
        """
        text = json.dumps(snapshot, separators=(",", ":")).encode()
        if len(text) > SNAPSHOT_BYTES:
            raise TooLargeError(f"a snapshot of {len(text)} bytes; {SNAPSHOT_BYTES} is the most")
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(self._stream, {"snapshot": text}, maxlen=LENGTH, approximate=True)
            pipe.expire(self._stream, _KEPT_SECONDS)
            added: bytes = pipe.execute()[0]
        return added.decode()

    def read(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        count: int | None = None,
        bad: list[Unreadable] | None = None,
    ) -> list[Entry]:
        """Return the newest `count` snapshots from `since` to `until` (unix seconds), the oldest first."""
        first = "-" if since is None else int(since * 1000)
        last = "+" if until is None else int(until * 1000)
        pairs = self._pairs(lambda: self._redis.xrevrange(self._stream, last, first, count))
        return list(self._readable(reversed(pairs), bad))

    def now(self) -> float:
        """Return Redis' own time, unix seconds: the clock of all that is in the stream."""
        seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)

    def oldest(self) -> Entry | None:
        """Return the oldest snapshot that Redis still has, of those that can be read."""
        pairs = self._pairs(lambda: self._redis.xrange(self._stream, count=_PER_BATCH))
        return next(self._readable(pairs), None)

    def walk(self, *, since: float, until: float, bad: list[Unreadable] | None = None) -> Iterator[Entry]:
        """Yield the snapshots from `since` to `until` (unix seconds), the oldest first, a batch at a time."""
        start, last = str(int(since * 1000)), int(until * 1000)
        while found := self._pairs(lambda: self._redis.xrange(self._stream, start, last, _PER_CALL)):  # noqa: B023 - called at once
            yield from self._readable(found, bad)
            start = f"({found[-1][0].decode()}"

    def backfill(self, collection: Any, *, seconds: float = 2.0) -> int:
        """Insert what the stream has beyond the collection, and return how many; never raises for MongoDB.

        At most 1000 snapshots and `seconds` per call, the oldest first, so that what is cut short goes on
        with the next call. Without the privileges it says so once and is off for a minute.
        """
        if self._days == 0 or self._clock() < self._off_until:
            return 0
        inserted = 0
        try:
            with calls.bounded(seconds):
                self._ensure_index(collection)
                for batch in self._beyond(collection):
                    inserted += _insert(collection, batch)
        except PyMongoError as error:
            self._fail(error)
        else:
            self._is_told = False
        return inserted

    def _beyond(self, collection: Any) -> Iterator[list[Entry]]:
        newest = collection.find_one({}, {"_id": 1}, sort=[("_id", -1)])
        kept = str(newest["_id"]) if newest else ""
        start = kept if _STREAM_ID.fullmatch(kept) else "-"
        found = self._redis.xrange(self._stream, start, "+", _PER_CALL)
        if not found and start != "-" and self._is_behind(start):
            # Redis lost its stream, and its clock went back: the new ids are below those that were kept.
            found = self._redis.xrange(self._stream, "-", "+", _PER_CALL)
        entries = [entry for entry in self._readable(found) if _is_plain(entry)]
        for place in range(0, len(entries), _PER_BATCH):
            yield entries[place : place + _PER_BATCH]

    def _pairs(self, ask: Callable[[], Any]) -> list[tuple[bytes, Any]]:
        reply = records.replied(ask)
        if isinstance(reply, Exception):
            raise UnreadableError(records.ENTRY.at(self._stream)) from reply
        found: list[tuple[bytes, Any]] = reply
        return found

    def _readable(
        self, pairs: Iterable[tuple[bytes, Any]], bad: list[Unreadable] | None = None
    ) -> Iterator[Entry]:
        for stream_id, fields in pairs:
            try:
                yield _entry(self._stream, stream_id, fields)
            except UnreadableError as error:
                if bad is not None:
                    bad.append(error.record)

    def _is_behind(self, kept: str) -> bool:
        newest = self._redis.xrevrange(self._stream, count=1)
        return bool(newest) and _order(newest[0][0].decode()) < _order(kept)

    def _ensure_index(self, collection: Any) -> None:
        if self._indexed == collection.full_name:
            return
        age = self._days * 86_400
        try:
            collection.create_index("at", expireAfterSeconds=age)
        except OperationFailure as error:
            if error.code not in _INDEX_CONFLICTS:
                raise
            # collMod would keep the index, and asks for more than readWrite.
            collection.drop_index("at_1")
            collection.create_index("at", expireAfterSeconds=age)
        self._indexed = collection.full_name

    def _fail(self, error: PyMongoError) -> None:
        name = type(error).__name__
        is_cut_off = isinstance(error, ConnectionFailure) or is_login_refused(error)
        if is_cut_off or classify(error).is_transient:
            # That is told elsewhere; the stream keeps what is missing.
            logger.debug("the history waits: %s", name)
            return
        self._off_until = self._clock() + _OFF_SECONDS
        if self._is_told:
            return
        self._is_told = True
        message = (
            "MongoDB does not take the history (%s, code %s): Redis alone keeps it, tried again each minute"
        )
        code = getattr(error, "code", None)
        events.say(logger, logging.WARNING, Event.HISTORY_REFUSED, message, name, code, error=name, code=code)


def collection_name(deployment: str) -> str:
    """Return the collection of a deployment's history."""
    return f"history_{deployment}"


def _insert(collection: Any, batch: list[Entry]) -> int:
    """Insert what is not there yet, in order: what is cut short is continued behind the last one."""
    ids = [entry.id for entry in batch]
    there = {found["_id"] for found in collection.find({"_id": {"$in": ids}}, {"_id": 1})}
    missing = [_document(entry) for entry in batch if entry.id not in there]
    if not missing:
        return 0
    try:
        return len(collection.insert_many(missing, ordered=True).inserted_ids)
    except BulkWriteError as error:
        if any(part["code"] != _DUPLICATE_KEY for part in error.details["writeErrors"]):
            raise
        # Another process is at it: the rest is its.
        return int(error.details["nInserted"])


def _document(entry: Entry) -> dict[str, Any]:
    return {"_id": entry.id, "at": datetime.fromtimestamp(entry.at, UTC), "snapshot": entry.snapshot}


def _entry(key: str, stream_id: bytes, fields: dict[bytes, bytes] | None) -> Entry:
    name = stream_id.decode()
    at = _order(name)[0] / 1000
    if at > time.time() + _AHEAD_SECONDS:
        raise UnreadableError(records.ENTRY.at(key, name))
    return Entry(name, at, records.ENTRY.read((fields or {}).get(b"snapshot"), key, name))


def _is_plain(entry: Entry) -> bool:
    """Say whether MongoDB can take it: else all that comes after it would wait for ever."""
    from ..store.record_shapes import plain

    try:
        plain(entry.snapshot)
    except ValueError:
        return False
    return True


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number)
