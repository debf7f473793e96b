"""The past is read from Redis, from MongoDB where it is older, and from either while the other is away."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
import redis as redis_py

from ops.local.servers import LocalServer
from worker.fleet import timeline
from worker.fleet.drill_notes import DrillNotes
from worker.fleet.history import History, collection_name
from worker.settings.fields import Settings, load_settings
from worker.store.redis_client import connect

FIELDS: timeline.Fields = {"totals.pool.in_use": "max", "circuits.half-open": "max", "coverage.seen": "min"}
DAY, STEP = 86_400, 15


@pytest.fixture
def settings(mongo: LocalServer, redis: LocalServer) -> Settings:
    return load_settings({"REDIS_URL": redis.uri, "MONGODB_URI": mongo.uri}, env_file=None)


@pytest.fixture
def history(settings: Settings) -> History:
    return History(connect(settings), settings.key, days=30)


@pytest.fixture
def collection(mongo_client: pymongo.MongoClient[dict[str, Any]]) -> Iterator[Any]:
    found = mongo_client["celery_pymongo"][collection_name("default")]
    found.drop()
    yield found
    found.drop()


@pytest.fixture
def add(settings: Settings, redis_client: redis_py.Redis) -> Callable[..., None]:
    """Add snapshots so many seconds ago, each with its number in use."""

    def add(*ago: float) -> None:
        now = time.time()
        for number, seconds in enumerate(sorted(ago, reverse=True)):
            told = {
                "totals": {"pool": {"in_use": number}},
                "circuits": {"half-open": 1},
                "coverage": {"seen": 4 - number % 2},
            }
            at = f"{int((now - seconds) * 1000)}-{number}"
            redis_client.xadd(settings.key("history"), {"snapshot": json.dumps(told)}, id=at)

    return add


def ask(history: History, collection: Any, *, ago: float = 3600, seconds: float = 5) -> timeline.Past:
    question = timeline.Question(FIELDS, lambda now: (now - ago, now), STEP, seconds)
    return timeline.read(history, None if collection is None else lambda: collection, question)


def in_use(found: timeline.Past) -> list[float | None]:
    return [row.values["totals.pool.in_use"] for row in found.rows]


def test_what_redis_has_is_read_snapshot_by_snapshot_and_mongodb_is_not_asked(
    history: History, collection: Any, add: Any
) -> None:
    add(*range(0, 4000, STEP))
    found = ask(history, collection)
    assert [source.name for source in found.sources] == ["redis"]
    assert found.sources[0].rows == len(found.rows) == 240
    assert in_use(found) == list(range(27, 267))
    assert found.rows[-1].values["circuits.half-open"] == 1


def test_more_than_a_batch_is_read_in_order(history: History, add: Any) -> None:
    add(*(n / 10 for n in range(2500)))
    assert in_use(ask(history, None)) == list(range(2500))


def test_what_is_older_comes_from_mongodb_added_up_by_the_server(
    history: History, collection: Any, add: Any, settings: Settings, redis_client: redis_py.Redis
) -> None:
    """Thirty snapshots of a day ago, of which a month's picture needs one row per step."""
    add(*(DAY + n for n in range(30)))
    assert history.backfill(collection) == 30
    redis_client.delete(settings.key("history"))
    add(30, 15, 0.5)
    found = ask(history, collection, ago=2 * DAY)
    assert [(source.name, source.problem) for source in found.sources] == [("redis", None), ("mongodb", None)]
    assert found.sources[1].rows in (1, 2)
    old, recent = found.rows[:-3], found.rows[-3:]
    assert max(row.values["totals.pool.in_use"] or 0 for row in old) == 29
    assert min(row.values["coverage.seen"] or 0 for row in old) == 3
    assert old[0].first == pytest.approx(time.time() - DAY - 29, abs=5)
    assert old[-1].last == pytest.approx(time.time() - DAY, abs=5)
    assert [row.values["totals.pool.in_use"] for row in recent] == [0, 1, 2]
    assert [row.first for row in found.rows] == sorted(row.first for row in found.rows)


def test_no_snapshot_counts_twice_where_both_have_it(history: History, collection: Any, add: Any) -> None:
    add(*range(0, 1500, STEP))
    assert history.backfill(collection) == 100
    found = ask(history, collection)
    assert found.sources[0].rows == len(found.rows) == 100
    assert found.sources[1].rows == 0


def test_while_redis_is_away_mongodb_has_it(
    history: History, collection: Any, add: Any, redis: LocalServer
) -> None:
    add(*range(0, 600, STEP))
    history.backfill(collection)
    redis.kill()
    try:
        found = ask(history, collection)
    finally:
        redis.start()
    assert found.sources[0].problem == "no answer (ConnectionError)"
    assert found.sources[1].rows == len(found.rows) == 40
    assert in_use(found)[-1] == 39


def test_while_mongodb_is_away_redis_has_the_last_days_and_it_takes_no_longer_than_asked(
    history: History, settings: Settings, add: Any
) -> None:
    add(*range(0, 600, STEP))
    nobody = pymongo.MongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=30_000)
    with nobody:
        started = time.monotonic()
        found = ask(history, nobody["celery_pymongo"]["history_default"], seconds=1)
        assert time.monotonic() - started < 15
    assert len(found.rows) == 40
    assert str(found.sources[1].problem).startswith("no answer (127.0.0.1:")


def test_with_neither_nothing_is_known_and_both_say_why(settings: Settings) -> None:
    away = load_settings({"REDIS_URL": "redis://127.0.0.1:1"}, env_file=None)
    nobody = pymongo.MongoClient[dict[str, Any]]("mongodb://127.0.0.1:1")
    with nobody:
        found = ask(History(connect(away), away.key, days=30), nobody["a"]["b"], seconds=0.5)
    assert found.rows == []
    assert [bool(source.problem) for source in found.sources] == [True, True]
    assert found.now == pytest.approx(time.time(), abs=5)


def test_drills_are_told_of_by_those_that_end_and_by_those_that_are_killed(
    history: History, settings: Settings, redis_client: redis_py.Redis
) -> None:
    notes = DrillNotes(connect(settings), settings.key)
    before = time.time()
    notes.note("a", "workload", seconds=600)
    notes.note("b", "exhaust", seconds=30)
    notes.note("a", "workload", seconds=0)
    redis_client.xadd(settings.key("drills"), {"drill": "odd"})
    question = timeline.Question(FIELDS, lambda now: (now - 60, now), STEP, 5)
    first, second = timeline.read(history, None, question, drills=notes).drills
    assert (first.name, second.name) == ("workload", "exhaust")
    assert before - 1 < first.since <= first.until < before + 5
    assert 29 < second.until - second.since < 31
    later = timeline.Question(FIELDS, lambda now: (now + 40, now + 60), STEP, 5)
    assert timeline.read(history, None, later, drills=notes).drills == []
    redis_client.set(settings.key("drills"), "odd")
    assert timeline.read(history, None, question, drills=notes).drills == []
