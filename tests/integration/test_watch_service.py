"""The fleet watched by a running service: while all its slots are busy, and its beat."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from ops.local.servers import LocalServer
from tests.e2e.apps.service import beat, call, environment, producer, service
from tests.e2e.workers import wait_until
from worker.delivery.stores import Stores
from worker.health.inquiry import ask_mains
from worker.settings.fields import load_settings
from worker.store import records

SOON = {
    "CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "0.5",
    "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "0.5",
}


@pytest.fixture
def env(mongo: LocalServer, redis: LocalServer) -> dict[str, str | None]:
    return environment(mongo.uri, redis.uri, **SOON)


@pytest.fixture
def stores(env: dict[str, str | None], redis: LocalServer) -> Stores:
    with redis_py.Redis.from_url(redis.uri) as plain:
        plain.flushdb()
    return Stores.of(load_settings({name: value for name, value in env.items() if value}, env_file=None))


def verdict(stores: Stores) -> dict[str, Any]:
    return stores.registry.load(records.VERDICT, "verdict") or {"judged_at": 0.0, "verdict": None}


def test_a_fleet_whose_slots_are_all_busy_has_a_fresh_and_right_verdict(
    env: dict[str, str | None], stores: Stores, mongo: LocalServer, tmp_path: Path
) -> None:
    """Nor does a beat run: whoever sees that the verdict is stale renews it."""
    with service(env, tmp_path, pool="prefork", concurrency=1) as node, producer(env) as app:
        node.wait_ready()
        app.send_task("probe.nap", [60], queue="celery")
        node.wait_for_log(r"probe\.nap\[.* received")
        first = verdict(stores)["judged_at"]
        wait_until(lambda: verdict(stores)["judged_at"] > first, what="a new verdict")
        wait_until(lambda: verdict(stores)["verdict"] == "ok", what="a verdict that is ok")
        mongo.kill()
        try:
            wait_until(lambda: verdict(stores)["verdict"] == "down", what="a verdict that is down")
            assert "cannot use MongoDB" in verdict(stores)["reasons"][0]
        finally:
            mongo.start()
        wait_until(lambda: verdict(stores)["verdict"] == "ok", what="a verdict that is ok again")
        node.send_signal(signal.SIGKILL)


def test_a_main_tells_of_its_processes_and_one_that_is_gone_does_not_keep_us(
    env: dict[str, str | None], tmp_path: Path
) -> None:
    with service(env, tmp_path) as node, producer(env) as app:
        node.wait_ready()
        started = time.monotonic()
        rows = ask_mains(app, [node.hostname, "w9@gone"])
        assert time.monotonic() - started < 10
        assert list(rows) == [node.hostname]
        [row] = rows[node.hostname]
        assert (row["slot"], row["pid"], row["alive"]) == (0, node.pid, True)
        node.terminate()


@pytest.mark.full
def test_the_beat_that_leads_has_a_pulse_and_a_stand_by_has_none(
    env: dict[str, str | None], stores: Stores, tmp_path: Path
) -> None:
    with beat(env, tmp_path, name="leader") as leader, service(env, tmp_path) as node, producer(env) as app:
        node.wait_ready()
        leader.wait_for_sent("mongo.health.check")
        with beat(env, tmp_path, name="standby") as standby:
            standby.wait_for_log("another beat leads, this one stands by")
            leader.wait_for_sent("mongo.health.check", count=leader.sent("mongo.health.check") + 5)
            pulse = stores.pulse.read()
            assert pulse is not None
            assert (pulse.pid, pulse.scheduler) == (leader.pid, "Scheduler")
            assert pulse.silence < 5
            assert call(app, "mongo.health.check")["layers"]["beat"] == "ok"
            leader.send_signal(signal.SIGKILL)
            wait_until(lambda: is_of(stores, standby.pid), what="the stand-by's pulse", seconds=30)
            standby.terminate()
        node.terminate()


def is_of(stores: Stores, pid: int) -> bool:
    pulse = stores.pulse.read()
    return pulse is not None and pulse.pid == pid


@pytest.mark.full
def test_a_warm_shutdown_that_waits_for_a_long_task_is_no_reason(
    env: dict[str, str | None], stores: Stores, tmp_path: Path
) -> None:
    with service(env, tmp_path, pool="prefork", concurrency=3) as node, producer(env) as app:
        node.wait_ready()
        wait_until(lambda: len(stores.registry.fleet().processes) == 3, what="three processes")
        napping = app.send_task("probe.nap", [22], queue="celery")
        node.wait_for_log(r"probe\.nap\[.* received")
        node.send_signal(signal.SIGTERM)
        wait_until(lambda: len(stores.registry.fleet().processes) == 1, what="two goodbyes")
        seen = set()

        def is_over() -> bool:
            seen.update(verdict(stores).get("reasons", []))
            return bool(napping.ready())

        wait_until(is_over, what="the end of the task", seconds=40)
        assert not [reason for reason in seen if "missing" in reason]
        # A child whose last message MAIN did not count before it stopped waits 30 s (billiard's workloop).
        node.wait(seconds=45)
