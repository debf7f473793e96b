"""The monitor beside real pools: what it says is what they say, also where events were lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError, WaitQueueTimeoutError

from worker.mongo.holder import Client
from worker.pool.adapter import read_gauges
from worker.pool.monitor import PoolMonitor
from worker.tracking.flight import Kind
from worker.tracking.work import Work, current_work

Records = list[tuple[Kind, float, str]]


class SoftTimeLimitExceeded(Exception):
    """As billiard's, which a signal raises in the main thread."""


@pytest.fixture
def records() -> Records:
    return []


@pytest.fixture
def monitor(records: Records) -> PoolMonitor:
    return PoolMonitor(record=lambda *record: records.append(record), commands=True)


@contextmanager
def opened(mongo: Any, monitor: PoolMonitor, **options: Any) -> Iterator[Client]:
    listeners = monitor.listeners()
    with MongoClient[dict[str, Any]](mongo.uri, event_listeners=listeners, **options) as client:
        yield client


def wait_until(is_so: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.005)


def is_equal(monitor: PoolMonitor, client: Client) -> bool:
    return monitor.gauges() == read_gauges(client)


def tick(monitor: PoolMonitor, client: Client) -> int:
    """Two ticks are what a pool at rest takes; return the drift that they found."""
    return sum(monitor.tick(client, time.monotonic() + later).drift for later in (0, 2))


@contextmanager
def holding(client: Client) -> Iterator[Any]:
    """Keep one connection of the pool, as an exhaust cursor or a long operation does."""
    session_pool = next(iter(client._topology._servers.values())).pool
    with session_pool.checkout() as connection:
        yield connection


def test_the_gauges_are_the_pools_own_while_it_works_and_after(mongo, monitor):
    with opened(mongo, monitor, maxPoolSize=3) as client:
        client.admin.command("ping")
        with holding(client), holding(client):
            (gauges,) = monitor.gauges().values()
            assert (gauges.size, gauges.in_use, gauges.max) == (2, 2, 3)
            assert is_equal(monitor, client)
        assert is_equal(monitor, client)
        assert tick(monitor, client) == 0
    assert monitor.gauges() == {}
    assert monitor.holders == {}


def test_a_time_limit_that_ends_a_wait_on_a_full_pool_is_a_drift_that_a_tick_mends(mongo, monitor, records):
    """PyMongo tells that the checkout began, and nothing else."""

    def limit(*_: object) -> None:
        raise SoftTimeLimitExceeded

    with opened(mongo, monitor, maxPoolSize=1) as client:
        client.admin.command("ping")
        before = signal.signal(signal.SIGALRM, limit)
        try:
            with holding(client):
                for _ in range(3):
                    signal.setitimer(signal.ITIMER_REAL, 0.05)
                    with pytest.raises(SoftTimeLimitExceeded):
                        client.admin.command("ping")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        (gauges,) = monitor.gauges().values()
        assert gauges.waiting == 3, "the drift did not come about"
        assert tick(monitor, client) == 3
        assert is_equal(monitor, client)
        assert tick(monitor, client) == 0
    assert monitor.totals(time.monotonic()).count["drift"] == 3
    assert [number for kind, number, _ in records if kind is Kind.DRIFT] == [3]


def test_a_busy_pool_does_not_drift(mongo, monitor):
    """Threads fight over two connections; each look may meet them between an event and its counter."""
    with opened(mongo, monitor, maxPoolSize=2) as client:
        is_over = threading.Event()

        def work() -> None:
            while not is_over.is_set():
                client.admin.command("ping")

        with ThreadPoolExecutor(8) as threads:
            running = [threads.submit(work) for _ in range(8)]
            drift = 0
            for look in range(60):
                drift += monitor.tick(client, time.monotonic() + 2 * look).drift
                time.sleep(0.02)
            is_over.set()
        for each in running:
            each.result()
        assert drift == 0
        assert is_equal(monitor, client)
        assert monitor.totals(time.monotonic()).count["checked_out"] > 100


def test_waits_and_holds_have_the_name_of_their_task(mongo, monitor):
    with opened(mongo, monitor, maxPoolSize=1, waitQueueTimeoutMS=50) as client:
        client.admin.command("ping")
        token = current_work.set(Work("tasks.long", "id-1", time.monotonic()))
        monitor.suspects.add("tasks.long")
        with holding(client):
            (holder,) = monitor.holders.values()
            with ThreadPoolExecutor(1) as other, pytest.raises(WaitQueueTimeoutError):
                other.submit(client.admin.command, "ping").result()
        current_work.reset(token)
        assert holder.work is not None
        assert (holder.work.name, holder.thread) == ("tasks.long", threading.get_ident())
        assert holder.stack is not None
        assert "test_monitor.py" in holder.stack[0]
        assert monitor.tasks["tasks.long"].checkouts == 1
        assert monitor.slowest[0].id == "id-1"
        assert monitor.slowest[0].seconds >= 0.05
        (stats,) = monitor.get_stats(time.monotonic()).values()
        assert stats["db.client.connection.timeouts"] == 1


def test_the_round_trip_time_is_the_drivers_own(mongo, monitor):
    with opened(mongo, monitor) as client:
        client.admin.command("ping")
        monitor.tick(client, time.monotonic())
        (server,) = client.topology_description.server_descriptions().values()
        totals = monitor.totals(time.monotonic())
        assert totals.rtt["n"] == 1
        assert server.round_trip_time is not None
        assert totals.rtt["max"] == pytest.approx(server.round_trip_time * 1000, abs=0.01)
        (stats,) = monitor.get_stats(time.monotonic()).values()
        assert stats["db.client.operation.duration"]["ping.ok"]["count"] == 1


def test_a_replaced_client_counts_until_it_has_given_all_back(mongo, monitor):
    with opened(mongo, monitor) as old:
        old.admin.command("ping")
        with opened(mongo, monitor) as new:
            new.admin.command("ping")
            with holding(old):
                old.close()
                (gauges,) = monitor.gauges().values()
                assert (gauges.size, gauges.in_use) == (2, 1)
                assert tick(monitor, new) == 0
            assert tick(monitor, new) == 0
            assert is_equal(monitor, new)
            assert len(monitor._clients) == 1


def test_a_server_that_dies_and_returns_leaves_the_gauges_right(mongo, monitor, records):
    with opened(mongo, monitor, serverSelectionTimeoutMS=200, heartbeatFrequencyMS=500) as client:
        client.admin.command("ping")
        mongo.kill()
        with pytest.raises(PyMongoError):
            client.admin.command("ping")
        mongo.start()

        def is_back() -> bool:
            try:
                return bool(client.admin.command("ping"))
            except PyMongoError:
                return False

        wait_until(is_back, 30)
        wait_until(lambda: is_equal(monitor, client))
        assert tick(monitor, client) == 0
        totals = monitor.totals(time.monotonic())
        assert totals.count["heartbeats_failed"] > 0
        kinds = {kind for kind, _, _ in records}
        assert {Kind.HEARTBEAT_FAILED, Kind.HEARTBEAT_FOUND, Kind.CONNECTION_CLOSED} <= kinds
        assert monitor.errors == 0
