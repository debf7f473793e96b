"""No message goes with a worker that is killed, or a connection that is lost, just when it is taken."""

from __future__ import annotations

import json
import random
import signal
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from celery import Celery

from ops.local.servers import LocalServer
from tests.e2e.workers import Worker, wait_until
from tests.faults.proxy import FaultProxy
from tests.faults.route import Route

APP = "tests.e2e.apps.fixes_app"
POOLS = {"prefork": 4, "threads": 4, "gevent": 4, "solo": 1}
MARKER = "taken-just-now"
KILLS = 50
WAITING = 2000
"""How many messages wait in the queue, at least, when a worker starts."""

Start = Callable[..., Worker]


@pytest.fixture
def ask(redis: LocalServer) -> Iterator[redis_client.Redis]:
    with redis_client.Redis.from_url(redis.uri, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def sender(redis: LocalServer) -> Iterator[Celery]:
    app = Celery("sender", broker=redis.uri, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def route(redis: LocalServer) -> Iterator[Route]:
    with FaultProxy() as proxy:
        yield proxy.route(redis.uri)


@pytest.fixture
def start(redis: LocalServer, tmp_path: Path) -> Start:
    """Make a worker; `visible` is the visibility timeout in seconds, Celery's own where none is given."""

    def make(pool: str, *, uri: str = redis.uri, visible: int | None = None) -> Worker:
        env = {"FIXES_REDIS": uri, "FIXES_VISIBILITY_TIMEOUT": str(visible or "")}
        return Worker(
            APP,
            tmp_path / f"{pool}.log",
            pool=pool,
            concurrency=POOLS[pool],
            queues=(pool,),
            env=env,
            options=("--without-mingle", "--without-gossip"),
            name=pool,
        )

    return make


def send(sender: Celery, task_ids: Iterable[str], *, queue: str) -> None:
    with sender.producer_or_acquire() as producer:
        for one in task_ids:
            sender.send_task(f"{APP}.mark", task_id=one, queue=queue, producer=producer, ignore_result=True)


def ids(messages: Iterable[str]) -> set[str]:
    """The tasks of messages as they wait in a queue, or are noted as unacknowledged."""
    decoded = map(json.loads, messages)
    return {(one[0] if isinstance(one, list) else one)["headers"]["id"] for one in decoded}


def lost(ask: redis_client.Redis, sent: Collection[str], *, queue: str) -> set[str]:
    """The tasks that neither ran nor wait anywhere; while nobody takes messages."""
    client: Any = ask
    waiting = ids(client.lrange(queue, 0, -1)) | ids(client.hvals("unacked"))
    return set(sent).difference(waiting, client.smembers("done"))


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_killed_before_it_reads_what_it_took_loses_nothing(
    pool: str, start: Start, route: Route, ask: Any, sender: Celery
) -> None:
    """Redis has taken the message from its queue, and its reply is still on the way."""
    with start(pool, uri=route.uri) as killed:
        killed.wait_ready()
        route.hold(MARKER.encode())
        send(sender, [MARKER], queue=pool)
        wait_until(lambda: route.stats().caught, what="the reply that has the message", seconds=30)
        killed.terminate(signal.SIGKILL)
    assert ask.llen(pool) == 0
    assert lost(ask, [MARKER], queue=pool) == set()
    with start(pool, visible=1):
        wait_until(lambda: ask.sismember("done", MARKER), what="its second delivery", seconds=30)


@pytest.mark.parametrize("pool", ["prefork", "gevent"])  # with an event loop, and without
def test_a_connection_lost_with_what_was_taken_delays_nothing(
    pool: str, start: Start, route: Route, ask: Any, sender: Celery
) -> None:
    """The worker lives: it gives the message back when it is connected again, and no timeout has to pass."""
    with start(pool, uri=route.uri) as alive:
        alive.wait_ready()
        route.hold(MARKER.encode())
        send(sender, [MARKER], queue=pool)
        wait_until(lambda: route.stats().caught, what="the reply that has the message", seconds=30)
        route.reset()
        route.clear()
        wait_until(lambda: ask.sismember("done", MARKER), what="its second delivery", seconds=30)
        wait_until(lambda: not ask.exists("unacked", pool), what="its acknowledgement")
        assert alive.terminate() == 0


@pytest.mark.full  # ten minutes
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pool", POOLS)
def test_many_kills_under_load_lose_nothing(pool: str, start: Start, ask: Any, sender: Celery) -> None:
    """Each worker is killed at a random moment; every message is accounted for, then and in the end."""
    dice = random.Random(pool)  # noqa: S311  # repeatable
    sent: set[str] = set()
    for kill in range(KILLS):
        more = [str(uuid.uuid4()) for _ in range(WAITING - ask.llen(pool))]
        send(sender, more, queue=pool)
        sent.update(more)
        before = ask.scard("done")
        with start(pool) as killed:
            wait_until(partial(_is_working, ask, before), what="a task's end", seconds=60)
            time.sleep(dice.uniform(0.0, 0.5))
            killed.send_signal(signal.SIGKILL)
        assert lost(ask, sent, queue=pool) == set(), f"kill {kill + 1}"
    with start(pool, visible=5):
        wait_until(lambda: ask.scard("done") == len(sent), what="every task's end", seconds=300)
        wait_until(lambda: not ask.exists("unacked", pool), what="every acknowledgement", seconds=60)


def _is_working(ask: Any, before: int) -> bool:
    return bool(ask.scard("done") > before)
