"""The fleet watched with a real Redis and a real MongoDB: verdicts, snapshots, and either of them away."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis as redis_py
from celery import Celery
from celery.beat import Scheduler

from ops.local.servers import LocalServer
from tests.e2e.workers import wait_until
from tests.unit.fleet_reports import report
from worker.board.process_identity import boot_id, born
from worker.delivery.stores import Stores
from worker.fleet.beat_pulse import BeatPulse
from worker.fleet.history import collection_name
from worker.health.facts import View
from worker.health.watch import Watch
from worker.process.process import Mongo, Place
from worker.settings.fields import Settings, load_settings

NODE = "w1@h"


@pytest.fixture
def settings(mongo: LocalServer, redis: LocalServer) -> Settings:
    """A deployment of the test's own."""
    env = {
        "MONGODB_URI": mongo.uri,
        "REDIS_URL": redis.uri,
        "CELERY_PYMONGO_DEPLOYMENT": f"t{uuid4().hex[:8]}",
        "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "1",
    }
    return load_settings(env, env_file=None)


@pytest.fixture
def process(settings: Settings) -> Iterator[Mongo]:
    made = Mongo(settings)
    made.place = Place(NODE)
    made.get_client().admin.command("ping")
    yield made
    made.close()


@pytest.fixture
def stores(settings: Settings) -> Stores:
    return Stores.of(settings)


@pytest.fixture
def app(redis: LocalServer) -> Iterator[Celery]:
    app = Celery("watched", broker=redis.uri, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def watch(app: Celery, process: Mongo, stores: Stores) -> Watch:
    return Watch(View(app, process, stores))


@pytest.fixture
def publish(stores: Stores) -> Callable[..., None]:
    """Let a process report; it is of this host unless told otherwise."""

    def publish(slot: int, node: str = NODE, **changes: Any) -> None:
        told = report(node, slot, host=boot_id(), pid=os.getpid(), born=born(os.getpid())) | changes
        stores.registry.publish(f"{node}/{slot}", json.dumps(told, separators=(",", ":")).encode())

    return publish


@pytest.fixture
def plain(redis: LocalServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis.uri) as client:
        yield client


@pytest.fixture
def grow_old(settings: Settings, plain: redis_py.Redis) -> Callable[[str, float], None]:
    """Let a report be so many seconds older than it is."""

    def grow_old(member: str, seconds: float) -> None:
        plain.zincrby(settings.key("members"), -seconds, member)
        plain.delete(settings.key("silent-until"))

    return grow_old


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event")]


def test_a_healthy_fleet_is_ok_and_stays_so_since_then(watch: Watch, publish: Any) -> None:
    for slot in range(2):
        publish(slot, slots=2)
    first, second = watch.check(), watch.check()
    assert (first["verdict"], first["reasons"]) == ("ok", [])
    assert first["fleet"]["counts"]["live"] == 2
    assert second["since"] == first["since"]
    assert json.loads(json.dumps(second)) == second


def test_silent_processes_are_busy_where_they_live_and_lost_where_they_died(
    watch: Watch, publish: Any, grow_old: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="celery_pymongo")
    publish(0, slots=3)
    publish(1, slots=3)
    publish(2, slots=3, pid=2**22 + 1)
    for slot in (1, 2):
        grow_old(f"{NODE}/{slot}", 20)
    coverage = watch.snapshot()["coverage"]
    assert (coverage["busy"], coverage["lost"]) == ([f"{NODE}/1"], [f"{NODE}/2"])
    assert said(caplog).count("process.lost") == 1
    # Buried: the slot is empty from now on.
    after = watch.snapshot()["coverage"]
    assert (after["lost"], after["missing"]) == ([], [f"{NODE}/2"])
    assert said(caplog).count("process.lost") == 1


def test_a_node_that_is_gone_is_named_until_it_is_old_news(
    watch: Watch, stores: Stores, publish: Any, grow_old: Any, caplog: pytest.LogCaptureFixture
) -> None:
    publish(0)
    for slot in range(2):
        publish(slot, "w2@gone", slots=2, host="another", task={"name": "shop.bill", "id": "1", "seconds": 3})
        grow_old(f"w2@gone/{slot}", 61)
    for _ in range(3):
        found = watch.snapshot()
        assert found["coverage"]["lost"] == ["w2@gone/0", "w2@gone/1"]
    assert (said(caplog).count("node.lost"), said(caplog).count("process.lost")) == (1, 2)
    checked = watch.check()
    assert (checked["verdict"], checked["nodes"]["rows"]["w2@gone"]["verdict"]) == ("degraded", "down")
    assert checked["reasons"] == ["2 of 3 processes are lost: w2@gone/0, w2@gone/1"]
    assert [mortem["task"]["name"] for mortem in stores.registry.postmortems().found] == ["shop.bill"] * 2


def test_a_change_of_verdict_is_said_once_by_all_who_find_it(
    app: Celery, process: Mongo, settings: Settings, publish: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # Each node has told of its outage: the fleet's verdict is for whoever looks closer.
    caplog.set_level(logging.DEBUG, logger="celery_pymongo.health")
    watches = [Watch(View(app, process, Stores.of(settings))) for _ in range(3)]
    publish(0)
    watches[0].check()
    publish(1, circuit="open", outage=3.0)
    assert {watch.check()["verdict"] for watch in watches} == {"degraded"}
    assert [line for line in caplog.messages if "ok -> degraded" in line] == [
        f"health.changed: ok -> degraded (1 of 2 processes is cut off from MongoDB, for 3 s: {NODE}/1)"
    ]


def test_a_queue_that_nobody_consumes_is_a_reason(
    watch: Watch, app: Celery, publish: Any, redis: LocalServer
) -> None:
    publish(0, queues=["celery"])
    with app.connection_for_write() as connection:
        connection.SimpleQueue("mongo.data").put("message")
        assert watch.check()["reasons"] == ["nobody consumes the 1 message in mongo.data"]
        connection.SimpleQueue("mongo.data").clear()


def test_numbers_equal_what_the_server_counts(watch: Watch, process: Mongo, publish: Any) -> None:
    """One process, this one: its pool and two monitoring sockets."""

    def counted() -> Any:
        pools = process.pool()["servers"]
        publish(
            0, appname=process.appname, servers={name: [pool["size"], 0, 0] for name, pool in pools.items()}
        )
        found = watch.snapshot()["server"]
        return found["ours"][NODE], found["strays"]

    def is_equal() -> bool:
        ours, strays = counted()
        return bool(strays == 0 and ours["counted"] == ours["reported"] >= 3)

    wait_until(is_equal, what="the same numbers")


def test_the_history_is_in_redis_and_in_mongodb(
    watch: Watch, stores: Stores, process: Mongo, settings: Settings, publish: Any
) -> None:
    publish(0)
    watch.snapshot()
    watch.snapshot()
    [entry] = stores.history.read()
    collection = process.get_client()[settings.history_database][collection_name(settings.deployment)]
    assert [document["_id"] for document in collection.find()] == [entry.id]
    assert entry.snapshot["totals"]["processes"] == 1


# --- what is away ---


def test_without_mongodb_the_fleet_is_down_and_the_snapshot_goes_on(
    watch: Watch, publish: Any, mongo: LocalServer, stores: Stores
) -> None:
    publish(0)
    mongo.kill()
    try:
        checked = watch.check()
        assert (checked["verdict"], checked["layers"]["liveness"]) == ("down", "ok")
        assert checked["reasons"][0].startswith(f"{NODE}/0 cannot use MongoDB: outage: ")
        found = watch.snapshot()
        assert (found["server"]["source"], found["server"]["current"]) == (None, None)
        assert len(stores.history.read()) == 1
    finally:
        mongo.start()


@pytest.mark.parametrize("way", ["kill", "suspend"])
def test_without_redis_the_verdict_is_still_right_and_soon_there(
    watch: Watch, publish: Any, redis: LocalServer, way: str
) -> None:
    publish(0)
    watch.check()
    getattr(redis, way)()
    try:
        started = time.monotonic()
        checked, found = watch.check(), watch.snapshot()
        watch.run_if_stale()
        assert time.monotonic() - started < 20
    finally:
        redis.resume() if way == "suspend" else redis.start()
    assert (checked["verdict"], checked["fleet"], checked["layers"]["liveness"]) == ("ok", None, "unknown")
    assert (found["coverage"], found["process"]["pid"]) == (None, os.getpid())


# --- beat ---


def test_a_beat_that_ticks_is_known(watch: Watch, stores: Stores, app: Celery) -> None:
    assert "beat" in watch.check()["unknown"]
    scheduler = Scheduler(app)
    stores.pulse.attach(scheduler)
    scheduler.tick()
    assert watch.check()["layers"]["beat"] == "ok"


def test_beats_that_tick_at_once_are_told_apart_and_old_ones_are_forgotten(
    watch: Watch, stores: Stores, settings: Settings, plain: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, now = settings.key("beats"), time.time()
    plain.hset(key, "gone:1", f"{now - 90_000} {now - 86_500} {{}}")
    stores.pulse.beat("Scheduler")
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    other = BeatPulse(plain, settings.key)
    other.beat("Scheduler")
    told = stores.pulse.read_all().found
    assert len({beat.pid for beat in told}) == len(told) == 2
    assert all(0 <= beat.silence <= beat.age < 5 for beat in told)
    assert plain.ttl(key) > 86_000


def test_a_beat_that_stopped_is_a_reason(
    watch: Watch, stores: Stores, settings: Settings, plain: redis_py.Redis
) -> None:
    stores.pulse.beat("Scheduler")
    key = settings.key("beats")
    beats: Any = plain.hgetall(key)
    ((name, text),) = beats.items()
    first, last, document = text.decode().split(" ", 2)
    plain.hset(key, name, f"{float(first) - 40} {float(last) - 40} {document}")
    assert watch.check()["reasons"] == ["beat has not ticked for 40 s: nothing is sent on schedule"]
