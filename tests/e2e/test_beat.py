"""Beat with real processes: one leader, nothing piles up, and the tasks that it sends for the way back."""

from __future__ import annotations

import itertools
import json
import logging
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from ops.local.servers import LocalServer, mongo_server, redis_server
from tests.e2e.apps.service import Beat, beat, call, environment, producer, service
from tests.e2e.workers import wait_until
from worker.connection.reconnect import NUDGE_SECONDS

logger = logging.getLogger(__name__)

QUICK = {
    "CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "1",
    "CELERY_PYMONGO_RECONNECT_INTERVAL_SECONDS": "1",
    "CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS": "2",
}
ENTRIES = ("mongo.health.check", "mongo.pool.snapshot", "mongo.reconnect.attempt")
LOCK = "celery-pymongo:default:redbeat:lock"
QUEUE = "celery-pymongo:default:mongo.health"


@pytest.fixture
def client(redis: LocalServer) -> Iterator[redis_py.Redis]:
    """A client of an emptied Redis."""
    with redis_py.Redis.from_url(redis.uri, socket_timeout=5) as client:
        client.flushall()
        yield client


def waiting(client: redis_py.Redis) -> list[dict[str, Any]]:
    """The messages that wait in the queue of the scheduled tasks, oldest first."""
    raw: Any = client.lrange(QUEUE, 0, -1)
    return [json.loads(message) for message in reversed(raw)]


# --- one leader ---


def test_a_standby_takes_over_from_a_killed_leader_within_12_s(
    mongo: LocalServer, redis: LocalServer, client: redis_py.Redis, tmp_path: Path
) -> None:
    env = environment(mongo.uri, redis.uri, **QUICK)
    with beat(env, tmp_path, name="leader") as leader:
        leader.wait_for_sent("mongo.health.check")
        with beat(env, tmp_path, name="standby") as standby:
            standby.wait_for_log("another beat leads, this one stands by")
            before = leader.sent()
            leader.wait_for_sent("mongo.health.check", count=leader.sent("mongo.health.check") + 2)
            assert leader.sent() > before
            assert standby.sent() == 0
            leader.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            standby.wait_for_sent("mongo.health.check", seconds=20)
            took = time.monotonic() - killed
            logger.info("the stand-by sent %.1f s after the leader was killed", took)
            assert took < 12
            assert standby.terminate() == 0
    assert client.exists(LOCK) == 0


def test_a_beat_that_ends_by_sigterm_releases_its_lock(
    mongo: LocalServer, redis: LocalServer, client: redis_py.Redis, tmp_path: Path
) -> None:
    with beat(environment(mongo.uri, redis.uri, **QUICK), tmp_path) as leader:
        leader.wait_for_sent("mongo.health.check")
        assert client.exists(LOCK) == 1
        assert leader.terminate() == 0
    assert client.exists(LOCK) == 0
    assert "Traceback" not in leader.text


def test_the_plain_scheduler_is_a_setting_and_holds_no_lock(
    mongo: LocalServer, redis: LocalServer, client: redis_py.Redis, tmp_path: Path
) -> None:
    env = environment(mongo.uri, redis.uri, CELERY_PYMONGO_SCHEDULER="plain", **QUICK)
    with beat(env, tmp_path) as sender:
        wait_until(lambda: len(waiting(client)) >= 3, what="messages sent by plain beat", seconds=20)
        assert not list(client.scan_iter("*redbeat*"))
        # 1 where SIGTERM meets Celery's own scheduler in the middle of a tick: it stores a closed shelf.
        assert sender.terminate() in (0, 1)


# --- nothing piles up ---


def test_messages_that_nobody_took_expire_before_their_successors_and_are_never_run(
    mongo: LocalServer, redis: LocalServer, client: redis_py.Redis, tmp_path: Path
) -> None:
    env = environment(mongo.uri, redis.uri, **QUICK)
    with beat(env, tmp_path) as sender:
        sender.wait_for_sent("mongo.health.check", count=4)
        sender.terminate()
    headers = [message["headers"] for message in waiting(client)]
    assert {header["task"] for header in headers} == set(ENTRIES)
    assert all(header["expires"] for header in headers)
    for _, of_one in itertools.groupby(sorted(headers, key=by_task), key=by_task):
        expiries = [header["expires"] for header in of_one]
        assert expiries == sorted(set(expiries))
    time.sleep(1.9)  # the longest of them expires after 1.8 s
    with service(env, tmp_path, queues=["mongo.health"]) as node, producer(env) as app:
        node.wait_ready()
        wait_until(lambda: client.llen(QUEUE) == 0, what="an empty queue")
        stats: Any = app.control.inspect(destination=[node.hostname], timeout=5).stats()
        # Revoked messages count as received; what ran has a result, and of these none has.
        assert sum(stats[node.hostname]["total"].values()) <= len(headers)
        ids = [header["id"] for header in headers]

        def are_revoked() -> bool:
            return {app_result(client, task_id) for task_id in ids} == {"REVOKED"}

        wait_until(are_revoked, what="every message revoked, and none run")
        node.terminate()


def by_task(header: dict[str, Any]) -> str:
    return str(header["task"])


def app_result(client: redis_py.Redis, task_id: str) -> str | None:
    raw: Any = client.get(f"celery-pymongo:default:celery-task-meta-{task_id}")
    return None if raw is None else str(json.loads(raw)["status"])


# --- Redis goes away ---


def errors(beat: Beat) -> list[str]:
    """What it logged above INFO."""
    return re.findall(r"^\[[^]]*(?:WARNING|ERROR|CRITICAL)[^]]*\] (.*)$", beat.text, re.M)


@pytest.mark.parametrize("ending", ["hang", "restart", "empty"])
def test_a_beat_waits_for_its_redis_in_one_line_and_goes_on(
    mongo: LocalServer, tmp_path: Path, ending: str
) -> None:
    options = ["--appendonly", "no"] if ending == "empty" else []
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(tmp_path / "redis", options=options))
        env = environment(mongo.uri, server.uri, REDIS_SOCKET_TIMEOUT_SECONDS="1", **QUICK)
        sender = stack.enter_context(beat(env, tmp_path, loglevel="INFO"))
        sender.wait_for_log("Sending due task|this beat leads")
        client = stack.enter_context(redis_py.Redis.from_url(server.uri, socket_timeout=5))
        wait_until(lambda: client.llen(QUEUE) > 0, what="a message of beat's", seconds=20)
        if ending == "hang":
            server.suspend()
            sender.wait_for_log(r"beat\.waiting")
            time.sleep(12)  # longer than the lock lives
            server.resume()
        else:
            server.kill()
            sender.wait_for_log(r"beat\.waiting")
            server.start()
        sender.wait_for_log(r"beat\.resumed", seconds=40)
        before = client.llen(QUEUE)
        wait_until(lambda: client.llen(QUEUE) > before, what="messages again", seconds=20)
        said = [line for line in errors(sender) if "beat.lock_lost" not in line]
        assert len(said) == 1, said
        assert said[0].startswith("beat.waiting: Redis does not answer (")
        # Before the signal: while Python clears a result away it prints a stack of Python's own.
        assert "Traceback" not in sender.text
        assert sender.terminate() == 0


def test_a_beat_that_starts_before_its_redis_waits_for_it(mongo: LocalServer, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        server.kill()
        env = environment(mongo.uri, server.uri, REDIS_SOCKET_TIMEOUT_SECONDS="1", **QUICK)
        with beat(env, tmp_path, loglevel="INFO") as sender:
            sender.wait_for_log(r"beat\.waiting")
            server.start()
            with redis_py.Redis.from_url(server.uri, socket_timeout=5) as client:
                wait_until(lambda: client.llen(QUEUE) > 0, what="a message of beat's", seconds=30)
            assert len(errors(sender)) == 1


def test_a_beat_that_is_told_to_end_while_its_redis_is_away_ends_without_a_stack(
    mongo: LocalServer, tmp_path: Path
) -> None:
    with redis_server(tmp_path / "redis") as server:
        env = environment(mongo.uri, server.uri, REDIS_SOCKET_TIMEOUT_SECONDS="1", **QUICK)
        with beat(env, tmp_path, loglevel="INFO") as sender:
            sender.wait_for_log("this beat leads")
            server.kill()
            sender.wait_for_log(r"beat\.waiting")
            assert sender.terminate() == 0
            assert "Traceback" not in sender.text


# --- the way back, as beat sends it ---


@pytest.mark.full
def test_reconnection_tasks_do_nothing_while_healthy_and_add_nothing_to_the_nudging_in_an_outage(
    redis: LocalServer, client: redis_py.Redis, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(mongo_server(tmp_path / "mongo"))
        env = environment(
            server.uri,
            redis.uri,
            CELERY_PYMONGO_PING_TIMEOUT_SECONDS="0.2",
            MONGODB_SERVER_SELECTION_TIMEOUT_MS="200",
            CELERY_PYMONGO_BACKOFF_CAP_SECONDS="600",
            CELERY_PYMONGO_BACKOFF_BASE_SECONDS="1",
        )
        node = stack.enter_context(service(env, tmp_path))
        app = stack.enter_context(producer(env))
        node.wait_ready()
        healthy = call(app, "mongo.reconnect.attempt")
        assert (healthy["attempt"], healthy["circuit"]) == (None, "closed")
        forced = call(app, "mongo.reconnect.run")
        assert (forced["connected"], forced["attempts"]) == (True, 1)
        server.kill()
        node.wait_for_log(r"circuit\.opened:")
        killed = time.monotonic()
        reports = [call(app, "mongo.reconnect.attempt") for _ in range(20)]
        # Asked while no attempt is due it does nothing: the failures counted are those of one process.
        assert len([report for report in reports if report["attempt"]]) < len(reports) / 2
        wait_until(
            lambda: len(numbers(node.text)) >= 3 and time.monotonic() - killed > 4,
            what="three attempts, and four seconds",
            seconds=20,
        )
        failed, seconds = numbers(node.text), time.monotonic() - killed
        # The 1st, 2nd, 4th, 8th… are told. The only process of its node is the one that keeps nudging: twice
        # to four times a second, but for the first few, whose backoff is shorter.
        assert failed == [2**place for place in range(len(failed))]
        assert failed[-1] <= seconds / (NUDGE_SECONDS / 2) + 4
        started = time.monotonic()
        run = app.send_task("mongo.reconnect.run", kwargs={"attempts": 3})
        echo = call(app, "probe.echo", "free")
        ended = run.get(timeout=20)
        assert (ended["connected"], ended["attempts"], echo) == (False, 3, "free")
        logger.info("reconnect.run took %.1f s for 3 attempts", time.monotonic() - started)
        server.start()
        assert call(app, "mongo.reconnect.run", 10, seconds=30)["connected"] is True
        wait_until(lambda: "circuit.closed" in node.text, what="a closed circuit")


def numbers(text: str) -> list[int]:
    """The numbers of the attempts that failed, as the log tells them."""
    return [
        int(line.split("attempt ")[1].split()[0]) for line in text.splitlines() if "reconnect.failed" in line
    ]


def test_a_run_never_sleeps_in_its_slot(redis: LocalServer, client: redis_py.Redis, tmp_path: Path) -> None:
    """With one slot and long pauses between attempts other tasks run at once."""
    env = environment(
        "mongodb://127.0.0.1:9/",
        redis.uri,
        CELERY_PYMONGO_PING_TIMEOUT_SECONDS="0.1",
        CELERY_PYMONGO_BACKOFF_BASE_SECONDS="60",
        CELERY_PYMONGO_BACKOFF_CAP_SECONDS="60",
    )
    with service(env, tmp_path) as node, producer(env) as app:
        node.wait_ready()
        run = app.send_task("mongo.reconnect.run", kwargs={"attempts": 2})
        # One slot, and the run is before it: the pause before the second attempt is up to a minute.
        assert call(app, "probe.echo", "free", seconds=5) == "free"
        assert run.state == "RETRY"
