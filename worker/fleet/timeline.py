"""What the fleet was over a span of time: from Redis, and from MongoDB what is older than its stream.

Redis' snapshots are read one by one. MongoDB keeps weeks of them, so it adds them up by itself, and what is
fetched is a row per so many seconds.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import pymongo
from pymongo.errors import PyMongoError
from redis import RedisError

from ..mongo.reasons import summary
from ..store import records, redis_errors
from ..store.records import Unreadable, UnreadableError
from .drill_notes import DrillNotes, Noted
from .history import Entry, History

Pick = Literal["max", "min", "avg"]

# So many rows are all that a picture can show.
_ROWS = 2000
_LEAST_SECONDS = 0.2
# Of a number of a snapshot; what is beyond it none of ours has.
_MOST = 1e15
_PING_SECONDS = 2.0


Fields = Mapping[str, Pick]
"""The numbers of a snapshot that are read: where in it each stands, and what counts of several."""


@dataclass(frozen=True)
class Row:
    """What was between two moments (unix seconds, the same where it is one snapshot); None is unknown."""

    first: float
    last: float
    values: dict[str, float | None]


@dataclass
class Source:
    """Where rows came from: how many, of which time, or why there are none."""

    name: str
    rows: int = 0
    first: float | None = None
    last: float | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return dict(vars(self))


@dataclass
class Past:
    """The rows of a span, the oldest first, and what became of each source that was asked.

    `now` is by Redis' clock, or by this host's where Redis is away.
    """

    now: float
    since: float
    until: float
    rows: list[Row] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    drills: list[Noted] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """What is asked of a span: `span` gives its two ends for what is now, all in unix seconds.

    `interval` is how far apart snapshots should be. The answer takes `seconds` at most, and one command of
    Redis' more.
    """

    fields: Fields
    span: Callable[[float], tuple[float, float]]
    interval: float
    seconds: float


def read(
    history: History,
    collection: Callable[[], Any] | None,
    asked: Question,
    *,
    drills: DrillNotes | None = None,
) -> Past:
    """Return what was in a span; never raises for Redis or MongoDB.

    `collection` gives that of the history that lasts, None where none is kept.
    """
    ends_at = time.monotonic() + asked.seconds
    recent = Source("redis")
    try:
        now = history.now()
        oldest = history.oldest()
        past = Past(now, *asked.span(now), sources=[recent])
        steps = {path: path.split(".") for path in asked.fields}
        bad: list[Unreadable] = []
        past.rows = [_row(entry, steps) for entry in _before(history, past, ends_at, bad)]
        past.drills = [] if drills is None else drills.read(since=past.since, until=past.until)
        if bad:
            recent.problem = recent.problem or records.words(bad)
    except (RedisError, OSError, UnreadableError) as error:
        now, oldest = time.time(), None
        past = Past(now, *asked.span(now), sources=[recent])
        is_away = redis_errors.is_away(error)
        if isinstance(error, UnreadableError):
            recent.problem = str(error)
        elif is_away:
            recent.problem = getattr(error, "why", None) or f"no answer ({type(error).__name__})"
        else:
            recent.problem = redis_errors.what_it_does(error)
    _note(recent, past.rows)
    until = past.until if oldest is None else min(oldest.at, past.until)
    if collection is not None and until - past.since > 1.5 * asked.interval:
        _read_older(past, collection, asked, until=until, ends_at=ends_at)
    return past


def _before(history: History, past: Past, ends_at: float, bad: list[Unreadable]) -> Iterable[Entry]:
    for entry in history.walk(since=past.since, until=past.until, bad=bad):
        if time.monotonic() > ends_at:
            past.sources[0].problem = "too slow: only its first part was read"
            return
        yield entry


def _read_older(
    past: Past, collection: Callable[[], Any], asked: Question, *, until: float, ends_at: float
) -> None:
    source = Source("mongodb")
    left = max(_LEAST_SECONDS, ends_at - time.monotonic())
    width = max(asked.interval, (past.until - past.since) / _ROWS)
    try:
        with pymongo.timeout(left):
            there = collection()
            # A server that is away shall not cost all the time that a long answer may take.
            with pymongo.timeout(min(_PING_SECONDS, left)):
                there.database.client.admin.command("ping")
            rows = _added_up(there, asked.fields, since=past.since, until=until, width=width)
    except (PyMongoError, OSError) as error:
        source.problem = f"no answer ({summary(error)})"
        rows = []
    past.sources.append(source)
    _note(source, rows)
    past.rows = rows + past.rows


def _added_up(collection: Any, fields: Fields, *, since: float, until: float, width: float) -> list[Row]:
    # A field of a group has no dots in its name.
    names = {f"n{number}": path for number, path in enumerate(fields)}
    picks = {name: {f"${fields[path]}": f"$snapshot.{path}"} for name, path in names.items()}
    width_ms = max(1, round(width * 1000))
    pipeline: list[dict[str, Any]] = [
        {"$match": {"at": {"$gte": _moment(since), "$lt": _moment(until)}}},
        {
            "$group": {
                "_id": {"$floor": {"$divide": [{"$toLong": "$at"}, width_ms]}},
                "first": {"$min": "$at"},
                "last": {"$max": "$at"},
                **picks,
            }
        },
        {"$sort": {"_id": 1}},
    ]
    with collection.aggregate(pipeline) as found:
        return [
            Row(
                _unix(row["first"]),
                _unix(row["last"]),
                {path: _number(row.get(name)) for name, path in names.items()},
            )
            for row in found
        ]


def _row(entry: Entry, steps: Mapping[str, list[str]]) -> Row:
    return Row(
        entry.at, entry.at, {path: _number(_at(entry.snapshot, names)) for path, names in steps.items()}
    )


def _at(snapshot: Any, names: list[str]) -> Any:
    found = snapshot
    for name in names:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and -_MOST <= value <= _MOST else None


def _note(source: Source, rows: list[Row]) -> None:
    source.rows = len(rows)
    if rows:
        source.first, source.last = rows[0].first, rows[-1].last


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _unix(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
