"""The history on real servers: outages, forgotten streams, missing privileges."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis as redis_py

from ops.local.servers import LocalServer, mongo_server
from tests.e2e.apps.secured import app_uri, secured_server
from worker.fleet.history import LENGTH, History, collection_name
from worker.settings.fields import Settings, load_settings
from worker.store.redis_client import connect

STREAM = "celery-pymongo:default:history"
# Yesterday: what is older than its age MongoDB deletes.
START = int(time.time() - 86_400) * 1000
SNAPSHOT = {"coverage": {"seen": 4, "expected": 4}, "totals": {"pool": {"size": 4}}, "by name": {"a.b": 1}}


def settings_of(redis: LocalServer) -> Settings:
    return load_settings({"REDIS_URL": redis.uri}, env_file=None)


def open_history(redis: LocalServer, *, days: int = 30) -> History:
    settings = settings_of(redis)
    return History(connect(settings), settings.key, days=days)


@pytest.fixture
def history(redis: LocalServer, redis_client: redis_py.Redis) -> History:
    """A history on an empty Redis."""
    return open_history(redis)


@pytest.fixture
def collection(mongo_client: pymongo.MongoClient[dict[str, Any]]) -> Any:
    """The collection, which does not exist yet."""
    found = mongo_client["celery_pymongo"][collection_name("default")]
    found.drop()
    return found


def add(client: Any, number: int, *, start: int = START) -> list[str]:
    """Add snapshots of the past, 15 s apart, and return their ids."""
    ids = [f"{start + n * 15_000}-0" for n in range(number)]
    with client.pipeline(transaction=False) as pipe:
        for n, stream_id in enumerate(ids):
            pipe.xadd(STREAM, {"snapshot": json.dumps(SNAPSHOT | {"n": n})}, id=stream_id)
        pipe.execute()
    return ids


def kept(collection: Any) -> list[str]:
    return [found["_id"] for found in collection.find({}, sort=[("at", 1), ("_id", 1)])]


# --- Redis ---


def test_what_is_added_is_read_back_with_its_time(history: History, redis_client: redis_py.Redis) -> None:
    before = time.time()
    stream_id = history.append(SNAPSHOT)
    (entry,) = history.read()
    assert (entry.id, entry.snapshot) == (stream_id, SNAPSHOT)
    assert entry.at == pytest.approx(before, abs=5)
    assert 6 * 86_400 < redis_client.ttl(STREAM) <= 7 * 86_400


def test_the_newest_of_a_span_are_read_oldest_first(history: History, redis_client: redis_py.Redis) -> None:
    add(redis_client, 10)
    start = START / 1000
    assert [entry.snapshot["n"] for entry in history.read()] == list(range(10))
    assert [entry.snapshot["n"] for entry in history.read(count=3)] == [7, 8, 9]
    assert [entry.snapshot["n"] for entry in history.read(since=start + 15, until=start + 60)] == [1, 2, 3, 4]
    assert [entry.snapshot["n"] for entry in history.read(until=start + 60, count=2)] == [3, 4]
    assert history.read(since=start + 1000) == []


def test_the_stream_is_capped_at_two_days(history: History, redis_client: redis_py.Redis) -> None:
    add(redis_client, LENGTH + 300)
    history.append(SNAPSHOT)
    assert LENGTH <= redis_client.xlen(STREAM) <= LENGTH + 100


# --- MongoDB ---


def test_backfill_inserts_each_snapshot_once_under_its_id(
    history: History, redis_client: redis_py.Redis, collection: Any
) -> None:
    ids = add(redis_client, 250)
    assert history.backfill(collection) == 250
    assert history.backfill(collection) == 0
    assert kept(collection) == ids
    assert collection.find_one({"_id": ids[1]}) == {
        "_id": ids[1],
        "at": datetime.fromtimestamp(START / 1000 + 15, UTC).replace(tzinfo=None),
        "snapshot": SNAPSHOT | {"n": 1},
    }
    (index,) = [index for index in collection.list_indexes() if index["name"] != "_id_"]
    assert (dict(index["key"]), index["expireAfterSeconds"]) == ({"at": 1}, 30 * 86_400)


def test_one_call_inserts_at_most_a_thousand_the_oldest_first(
    history: History, redis_client: redis_py.Redis, collection: Any
) -> None:
    ids = add(redis_client, 1100)
    assert history.backfill(collection, seconds=20) == 1000
    assert kept(collection) == ids[:1000]
    assert history.backfill(collection) == 100
    assert kept(collection) == ids


def test_a_changed_setting_changes_how_long_documents_are_kept(
    redis: LocalServer, history: History, redis_client: redis_py.Redis, collection: Any
) -> None:
    add(redis_client, 1)
    history.backfill(collection)
    open_history(redis, days=7).backfill(collection)
    assert collection.index_information()["at_1"]["expireAfterSeconds"] == 7 * 86_400


def test_what_an_outage_kept_out_is_inserted_after_it(
    redis: LocalServer, redis_client: redis_py.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = open_history(redis)
    with mongo_server(tmp_path) as server, pymongo.MongoClient[dict[str, Any]](server.uri) as client:
        collection = client["celery_pymongo"][collection_name("default")]
        ids = [history.append(SNAPSHOT)]
        assert history.backfill(collection) == 1
        server.kill()
        for _ in range(3):
            ids.append(history.append(SNAPSHOT))
            started = time.monotonic()
            assert history.backfill(collection, seconds=0.2) == 0
            assert time.monotonic() - started < 10
        server.start()
        ids.append(history.append(SNAPSHOT))
        assert history.backfill(collection, seconds=10) == 4
        assert kept(collection) == ids
    loud = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert [record for record in loud if record.name.startswith("celery_pymongo")] == []


def test_a_redis_that_lost_its_stream_goes_on_behind_what_was_kept(
    history: History, redis_client: redis_py.Redis, collection: Any
) -> None:
    old = add(redis_client, 3)
    history.backfill(collection)
    redis_client.flushdb()
    assert history.backfill(collection) == 0
    new = [history.append(SNAPSHOT), history.append(SNAPSHOT)]
    assert history.backfill(collection) == 2
    assert kept(collection) == old + new


def test_a_redis_whose_clock_went_back_with_its_stream_is_kept_too(
    history: History, redis_client: redis_py.Redis, collection: Any
) -> None:
    old = add(redis_client, 3)
    history.backfill(collection)
    redis_client.flushdb()
    before = add(redis_client, 2, start=START - 86_400_000)
    assert history.backfill(collection) == 2
    assert history.backfill(collection) == 0
    before += add(redis_client, 1, start=START - 80_000_000)
    assert history.backfill(collection) == 1
    assert kept(collection) == before + old


def test_two_at_a_time_insert_each_snapshot_once(
    redis: LocalServer, redis_client: redis_py.Redis, mongo: LocalServer, collection: Any
) -> None:
    ids = add(redis_client, 500)
    with ThreadPoolExecutor(3) as pool:
        counts = pool.map(lambda _: open_history(redis).backfill(collection, seconds=20), range(3))
        total = sum(counts)
    total += open_history(redis).backfill(collection, seconds=20)
    assert total == 500
    assert kept(collection) == ids


# --- privileges ---


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[LocalServer]:
    """A MongoDB where "app" may not touch our database."""
    with secured_server(tmp_path) as server:
        yield server


def test_missing_privileges_leave_redis_alone_and_are_told_once(
    secured: LocalServer, history: History, caplog: pytest.LogCaptureFixture
) -> None:
    with pymongo.MongoClient[dict[str, Any]](app_uri(secured)) as client:
        collection = client["celery_pymongo"][collection_name("default")]
        for _ in range(3):
            history.append(SNAPSHOT)
            assert history.backfill(collection) == 0
    records = [record for record in caplog.records if record.name.startswith("celery_pymongo")]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert "history.refused: MongoDB does not take the history (OperationFailure, code 13)" in caplog.text
    assert len(history.read()) == 3


def test_read_and_write_are_privileges_enough(
    secured: LocalServer, redis: LocalServer, redis_client: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with pymongo.MongoClient[dict[str, Any]](app_uri(secured)) as client:
        collection = client["shop"]["history_default"]
        for days in (30, 7):
            add(redis_client, 1, start=START - days * 1000)
            open_history(redis, days=days).backfill(collection)
            assert collection.index_information()["at_1"]["expireAfterSeconds"] == days * 86_400
    assert caplog.text == ""
