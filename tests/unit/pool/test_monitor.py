"""The monitor by its events: what is counted, who holds what, and what a tick does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import greenlet  # type: ignore[import-untyped]  # it ships none
import pytest
from pymongo import MongoClient
from pymongo import monitoring as driver

from worker.mongo.holder import Client
from worker.pool.adapter import PoolGauges
from worker.pool.monitor import PoolMonitor
from worker.tracking.flight import Kind
from worker.tracking.task_times import NAMES, OTHER, SLOWEST
from worker.tracking.work import Work, current_work

A, B = ("a", 27017), ("b", 27018)


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Driver:
    """Sends one client's events as PyMongo does: through its own publisher."""

    def __init__(self, listeners: list[Any], address: Any = A) -> None:
        self.to = driver._EventListeners(listeners)
        self.address = address
        self.to.publish_pool_created(address, {"maxPoolSize": 5, "minPoolSize": 1})

    def open(self, number: int) -> None:
        self.to.publish_connection_created(self.address, number)
        self.to.publish_connection_ready(self.address, number, 0.01)

    def begin(self) -> None:
        self.to.publish_connection_check_out_started(self.address)

    def out(self, number: int, wait: float = 0.001) -> None:
        self.begin()
        self.to.publish_connection_checked_out(self.address, number, wait)

    def back(self, number: int) -> None:
        self.to.publish_connection_checked_in(self.address, number)

    def close(self, number: int, reason: str = "idle") -> None:
        self.to.publish_connection_closed(self.address, number, reason)

    def end(self) -> None:
        self.to.publish_pool_closed(self.address)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records() -> list[Any]:
    return []


@pytest.fixture
def monitor(clock: Clock, records: list[Any]) -> PoolMonitor:
    return PoolMonitor(clock=clock, record=lambda *record: records.append(record))


@pytest.fixture
def pool(monitor: PoolMonitor) -> Driver:
    return Driver(monitor.listeners())


@pytest.fixture
def task() -> Iterator[Callable[..., Work]]:
    token = current_work.set(None)

    def begin(name: str = "tasks.find", number: int = 1) -> Work:
        work = Work(name, f"id-{number}", 0.0)
        current_work.set(work)
        return work

    yield begin
    current_work.reset(token)


@pytest.fixture
def client(monitor: PoolMonitor) -> Iterator[Client]:
    """One that has not connected: it has no pools, and answers all that a tick asks."""
    made: Client = MongoClient("a", 27017, connect=False, event_listeners=monitor.listeners())
    yield made
    made.close()


def fake(listener: Any, **pools: Any) -> Any:
    """What of a client a tick looks at."""
    servers = {(name, 27017): SimpleNamespace(pool=pool) for name, pool in pools.items()}
    return SimpleNamespace(
        _topology=SimpleNamespace(_servers=servers),
        options=SimpleNamespace(event_listeners=[listener]),
        topology_description=SimpleNamespace(server_descriptions=dict),
    )


def true_pool(*idle: int, active: int = 0, operations: int = 0, connecting: int = 0) -> Any:
    return SimpleNamespace(
        active_sockets=active,
        operation_count=operations,
        conns=[SimpleNamespace(id=number) for number in idle],
        opts=SimpleNamespace(min_pool_size=1, max_pool_size=5),
        _pending=connecting,
    )


def test_a_pool_is_followed_from_its_creation_to_its_end(monitor, pool):
    assert monitor.gauges() == {"a:27017": PoolGauges(0, 0, 0, 0, 1, 5)}
    pool.open(1)
    pool.begin()
    assert monitor.gauges()["a:27017"] == PoolGauges(1, 0, 1, 1, 1, 5)
    pool.to.publish_connection_checked_out(A, 1, 0.0)
    assert monitor.gauges()["a:27017"] == PoolGauges(1, 1, 0, 0, 1, 5)
    pool.back(1)
    assert monitor.gauges()["a:27017"] == PoolGauges(1, 0, 1, 0, 1, 5)
    pool.close(1)
    assert monitor.gauges()["a:27017"] == PoolGauges(0, 0, 0, 0, 1, 5)
    pool.end()
    assert monitor.gauges() == {}
    assert monitor.get_stats(100.0)["a:27017"]["db.client.connection.count"] == {"idle": 0, "used": 0}
    assert monitor.errors == 0


def test_servers_are_counted_apart_and_told_together(monitor):
    listeners = monitor.listeners()
    a, b = Driver(listeners), Driver(listeners, B)
    a.open(1)
    b.open(1)
    b.out(1)
    b.close(9, "stale")
    assert {name: gauges.in_use for name, gauges in monitor.gauges().items()} == {"a:27017": 0, "b:27018": 1}
    totals = monitor.totals(100.0).to_dict()
    pool = {"size": 2, "in_use": 1, "idle": 1, "waiting": 0, "min": 1, "max": 5, "usage": 0.2}
    assert totals["pool"] == pool
    assert totals["servers"] == {"a:27017": [1, 0, 0], "b:27018": [1, 1, 0]}
    assert totals["count"] == {
        "created": 2,
        "closed": 1,
        "checked_out": 1,
        "failed": 0,
        "timeouts": 0,
        "cleared": 0,
        "heartbeats_failed": 0,
        "drift": 0,
    }
    assert json.loads(json.dumps(totals)) == totals


def test_where_one_pool_has_no_limit_the_process_has_none(monitor):
    listeners = monitor.listeners()
    Driver(listeners)
    Driver(listeners, B).to.publish_pool_created(B, {"maxPoolSize": 0})
    assert monitor.totals(100.0).pool["max"] is None


def test_a_pool_that_is_full_is_full_however_many_servers_there_are(monitor):
    """Summed over three servers it would be a third full."""
    listeners = monitor.listeners()
    full, *_ = [Driver(listeners, address) for address in (A, B, ("c", 27019))]
    for number in range(5):
        full.open(number)
        full.out(number)
    pool = monitor.totals(100.0).pool
    assert (pool["in_use"], pool["max"], pool["usage"]) == (5, 5, 1.0)


def test_no_server_is_no_connections(monitor):
    totals = monitor.totals(100.0)
    pool = {"size": 0, "in_use": 0, "idle": 0, "waiting": 0, "min": 0, "max": 0, "usage": None}
    assert (totals.pool, totals.servers) == (pool, {})
    assert totals.wait["n"] == 0


def test_a_checkout_that_failed_is_counted_by_reason_and_recorded(monitor, pool, records):
    for reason in ("timeout", "connectionError", "timeout"):
        pool.begin()
        pool.to.publish_connection_check_out_failed(A, reason, 0.25)
    (stats,) = monitor.get_stats(100.0).values()
    assert stats["db.client.connection.failed"] == {"timeout": 2, "connectionError": 1}
    assert stats["db.client.connection.timeouts"] == 2
    assert monitor.gauges()["a:27017"].waiting == 0
    assert records[-1] == (Kind.CHECKOUT_FAILED, 250.0, "a:27017 timeout")


def test_nothing_is_recorded_of_an_ordinary_checkout(pool, records):
    pool.open(1)
    del records[:]
    pool.out(1, 0.0999)
    pool.back(1)
    assert records == []
    pool.out(1, 0.2)
    assert records == [(Kind.SLOW_CHECKOUT, 200.0, "a:27017")]


def test_what_happens_to_connections_and_pools_is_recorded(pool, records):
    pool.to.publish_pool_ready(A)
    pool.open(1)
    pool.to.publish_pool_cleared(A, None)
    pool.close(1, "stale")
    assert records == [
        (Kind.POOL_READY, 0.0, "a:27017"),
        (Kind.CONNECTION_CREATED, 0.0, "a:27017"),
        (Kind.CONNECTION_READY, 10.0, "a:27017"),
        (Kind.POOL_CLEARED, 0.0, "a:27017"),
        (Kind.CONNECTION_CLOSED, 0.0, "a:27017 stale"),
    ]


def test_a_holder_says_who_holds_what_since_when(monitor, pool, clock, task):
    work = task()
    pool.out(1, 0.002)
    (holder,) = monitor.holders.values()
    assert (holder.work, holder.server, holder.wait, holder.since) == (work, "a:27017", 0.002, 100.0)
    assert (holder.thread, holder.greenlet) == (threading.get_ident(), None)
    assert (holder.stack, holder.flagged) == (None, False)
    clock.now += 0.5
    pool.back(1)
    assert monitor.holders == {}
    assert monitor.totals(100.5).use["max"] == 500.0


def test_the_oldest_operation_of_each_server_is_told(monitor, pool, clock):
    assert monitor.oldest() == {}
    pool.open(1)
    pool.open(2)
    pool.out(1)
    began, clock.now = clock.now, clock.now + 5.0
    pool.out(2)
    assert monitor.oldest() == {"a:27017": began}
    pool.back(1)
    assert monitor.oldest() == {"a:27017": began + 5.0}


def test_a_greenlet_that_holds_is_known(monitor, pool):
    made = greenlet.greenlet(lambda: pool.out(1))
    made.switch()
    (holder,) = monitor.holders.values()
    assert holder.greenlet is not None
    assert holder.greenlet() is made


def test_only_suspects_have_their_stack_recorded(monitor, pool, task):
    monitor.suspects.add("tasks.slow")
    task("tasks.slow")
    pool.out(1)
    task("tasks.fast")
    pool.out(2)
    suspect, other = monitor.holders.values()
    assert suspect.stack is not None
    assert "test_only_suspects_have_their_stack_recorded" in "".join(suspect.stack)
    assert other.stack is None


def test_waits_and_holds_are_added_up_by_task(monitor, pool, clock, task):
    task()
    for held in (0.25, 0.5):
        pool.out(1, 0.125)
        clock.now += held
        pool.back(1)
    pool.begin()
    pool.to.publish_connection_check_out_failed(A, "timeout", 2.0)
    assert monitor.tasks["tasks.find"].to_dict() == {
        "checkouts": 2,
        "failed": 1,
        "waited": 2.25,
        "longest_wait": 2.0,
        "held": 0.75,
        "longest_hold": 0.5,
    }


def test_work_outside_a_task_is_nobodys(monitor, pool, task):
    pool.out(1)
    pool.back(1)
    pool.to.publish_connection_check_out_failed(A, "timeout", 2.0)
    assert monitor.tasks == {}
    assert monitor.slowest == []


def test_made_up_task_names_do_not_fill_the_memory(monitor, pool, task):
    for number in range(NAMES + 20):
        task(f"tasks.{number}")
        pool.out(1)
        pool.back(1)
    assert len(monitor.tasks) == NAMES + 1
    assert monitor.tasks[OTHER].checkouts == 20


def test_the_slowest_ten_holds_are_kept(monitor, pool, clock, task):
    for number in range(30):
        work = task(number=number)
        pool.out(1)
        clock.now += (number * 7) % 30
        pool.back(1)
        assert work.id == f"id-{number}"
    slowest = monitor.slowest
    assert [hold.seconds for hold in slowest] == [float(n) for n in range(29, 29 - SLOWEST, -1)]
    assert slowest[0].to_dict() == {"task": "tasks.find", "id": "id-17", "seconds": 29.0, "at": slowest[0].at}


def test_a_connection_that_is_lent_again_came_back_unheard(monitor, pool, clock):
    pool.open(1)
    pool.out(1)
    clock.now += 60
    pool.out(1)
    assert monitor.gauges()["a:27017"].in_use == 1
    clock.now += 1
    pool.back(1)
    pool.back(1)
    assert monitor.gauges()["a:27017"].in_use == 0
    assert monitor.totals(clock.now).use["max"] == 1000.0


def test_a_connection_that_is_closed_is_not_held(monitor, pool):
    pool.open(1)
    pool.out(1)
    pool.close(1)
    assert monitor.holders == {}
    assert monitor.gauges()["a:27017"].size == 0


def test_a_new_pool_of_a_server_holds_nothing_of_the_old(monitor, pool):
    pool.open(1)
    pool.out(1)
    again = pool.to
    again.publish_pool_created(A, {})
    assert monitor.holders == {}
    pool.back(1)
    assert monitor.gauges()["a:27017"] == PoolGauges(0, 0, 0, 0, 0, 100)


def test_a_replaced_client_counts_until_it_gave_back_what_it_held(monitor, clock):
    first, second = monitor.listeners(), monitor.listeners()
    old, new = Driver(first), Driver(second)
    for each in (old, new):
        each.open(1)
        each.out(1)
    assert monitor.gauges()["a:27017"].in_use == 2
    old.end()
    monitor.tick(fake(second[0], a=true_pool(active=1, operations=1)), 102.0)
    assert monitor.gauges()["a:27017"] == PoolGauges(2, 2, 0, 0, 1, 5)
    old.back(1)
    monitor.tick(fake(second[0], a=true_pool(active=1, operations=1)), 104.0)
    assert len(monitor._clients) == 1
    assert monitor.gauges()["a:27017"].in_use == 1
    assert monitor.totals(104.0).count["checked_out"] == 2


def test_a_tick_with_a_client_that_is_just_being_replaced_corrects_nothing(monitor, pool):
    pool.begin()
    for _ in range(3):
        found = monitor.tick(fake(object(), a=true_pool()), 102.0)
        assert found.drift == 0
    assert monitor.gauges()["a:27017"].waiting == 1


def test_drift_is_corrected_counted_and_recorded(monitor, records):
    listeners = monitor.listeners()
    pool, client = Driver(listeners), fake(listeners[0], a=true_pool(1))
    pool.open(1)
    pool.begin()
    pool.out(1)
    del records[:]
    assert monitor.tick(client, 102.0).drift == 0
    assert monitor.tick(client, 104.0).drift == 2
    assert monitor.gauges()["a:27017"] == PoolGauges(1, 0, 1, 0, 1, 5)
    assert monitor.holders == {}
    assert records == [(Kind.DRIFT, 2.0, "a:27017")]
    assert monitor.tick(client, 106.0).drift == 0
    assert monitor.totals(106.0).count["drift"] == 2


def test_a_second_drift_is_mended_one_tick_after_the_first(monitor):
    listeners = monitor.listeners()
    pool, true = Driver(listeners), true_pool(active=2, operations=2)
    client = fake(listeners[0], a=true)
    for number in (1, 2):
        pool.open(number)
        pool.out(number)
    pool.begin()
    assert monitor.tick(client, 102.0).drift == 0
    # A check-in that is not told leaves no trace in the events.
    true.active_sockets, true.operation_count, true.conns = 1, 1, [SimpleNamespace(id=1)]
    assert monitor.tick(client, 104.0).drift == 1
    assert monitor.tick(client, 106.0).drift == 1
    assert monitor.gauges()["a:27017"] == PoolGauges(2, 1, 1, 0, 1, 5)


def test_looks_that_follow_each_other_quickly_are_one(monitor):
    """In an outage the reporter ticks whenever something happens."""
    listeners = monitor.listeners()
    Driver(listeners).begin()
    client = fake(listeners[0], a=true_pool())
    assert [monitor.tick(client, now).drift for now in (102.0, 102.5, 102.9, 103.0)] == [0, 0, 0, 1]


def test_of_many_holders_those_that_are_idle_in_the_pool_are_forgotten(monitor):
    listeners = monitor.listeners()
    pool = Driver(listeners)
    for number in (1, 2, 3):
        pool.open(number)
        pool.out(number)
    client = fake(listeners[0], a=true_pool(2, active=2, operations=2))
    monitor.tick(client, 102.0)
    assert monitor.tick(client, 104.0).drift == 1
    base = min(monitor.holders)
    assert [number - base for number in monitor.holders] == [0, 2]


def test_a_checkout_that_was_not_heard_of_is_in_use_until_it_comes_back(monitor):
    listeners = monitor.listeners()
    pool = Driver(listeners)
    pool.open(1)
    client = fake(listeners[0], a=true_pool(active=1, operations=1))
    monitor.tick(client, 102.0)
    assert monitor.tick(client, 104.0).drift == 1
    assert monitor.gauges()["a:27017"] == PoolGauges(1, 1, 0, 0, 1, 5)
    pool.back(1)
    assert monitor.gauges()["a:27017"] == PoolGauges(1, 0, 1, 0, 1, 5)


def test_a_connection_in_the_making_is_no_drift(monitor):
    """The pool calls it in use, the events call its operation waiting."""
    listeners = monitor.listeners()
    pool = Driver(listeners)
    pool.begin()
    client = fake(listeners[0], a=true_pool(active=1, operations=1, connecting=1))
    assert [monitor.tick(client, now).drift for now in range(102, 130, 2)] == [0] * 14
    assert monitor.gauges()["a:27017"].waiting == 1


def test_a_pool_without_its_counters_is_told_once_and_events_count_on(monitor, pool):
    listener = monitor._clients[0]
    broken: Any = SimpleNamespace(
        options=SimpleNamespace(event_listeners=[listener]),
        topology_description=SimpleNamespace(server_descriptions=dict),
    )
    assert [monitor.tick(broken, 102.0).adapter_gone for _ in range(3)] == [True, False, False]
    pool.open(1)
    assert monitor.gauges()["a:27017"].size == 1


def test_a_round_trip_counts_once_however_often_it_is_looked_at(monitor, pool):
    servers = {A: SimpleNamespace(round_trip_time=0.25), B: SimpleNamespace(round_trip_time=9.0)}
    client = fake(monitor._clients[0])
    client.topology_description = SimpleNamespace(server_descriptions=lambda: servers)
    for now in (102.0, 104.0):
        monitor.tick(client, now)
    assert monitor.totals(104.0).rtt == {"n": 1, "avg": 250.0, "p50": 175.0, "p99": 248.5, "max": 250.0}


def test_a_client_that_has_not_connected_is_ticked(monitor, client):
    assert monitor.tick(client, 102.0).drift == 0


def test_rates_and_times_are_those_of_the_last_minute(monitor, pool, client, clock):
    pool.open(1)
    pool.out(1, 4.0)
    monitor.tick(client, 102.0)
    assert monitor.totals(110.0).rate["created"] == 0.1
    for now in range(104, 200, 2):
        monitor.tick(client, float(now))
    pool.out(1, 0.004)
    totals = monitor.totals(200.0)
    assert totals.count["created"] == 1
    assert totals.rate == {"created": 0.0, "closed": 0.0, "failed": 0.0, "checked_out": 0.016}
    assert (totals.wait["n"], totals.wait["max"]) == (1, 4.0)
    assert sum(totals.wait_buckets) == 1


def test_a_quick_pace_takes_no_more_samples(monitor, pool, client):
    for now in range(1000):
        monitor.tick(client, 100 + now / 10)
    (counts,) = monitor._counts.values()
    assert len(counts._samples) <= 62


def test_the_longest_wait_is_that_of_the_minute_whatever_ticks_there_were(monitor, pool, client):
    for now, wait in ((101, 3.0), (103, 1.0), (105, 2.0)):
        pool.out(1, wait)
        monitor.tick(client, float(now))
    assert monitor.totals(106.0).wait["max"] == 3000.0


def test_pop_begins_anew_with_counters_and_histograms_but_not_with_gauges(monitor, pool, task):
    task()
    pool.open(1)
    pool.out(1)
    first, second = monitor.pop_stats(101.0)["a:27017"], monitor.get_stats(101.0)["a:27017"]
    assert first["db.client.connection.created"] == 1
    assert second["db.client.connection.created"] == 0
    assert second["db.client.connection.wait_time"]["count"] == 0
    assert second["db.client.connection.count"] == {"idle": 0, "used": 1}
    assert second["db.client.connection.rate"] == first["db.client.connection.rate"]
    pool.back(1)
    assert monitor.pop_stats(102.0)["a:27017"]["db.client.connection.use_time"]["count"] == 1
    assert (monitor.tasks, monitor.slowest) == ({}, [])
    assert monitor.totals(102.0).count["checked_out"] == 0


def test_heartbeats_that_fail_are_counted_and_what_they_lose_is_found_again(monitor, pool, records):
    class _OperationCancelled(Exception):
        """As the driver names a check that it cancelled itself."""

    reply: Any = None
    del records[:]
    pool.to.publish_server_heartbeat_started(A, False)
    pool.to.publish_server_heartbeat_failed(A, 0.1, _OperationCancelled(), False)
    for _ in range(3):
        pool.to.publish_server_heartbeat_failed(A, 0.1, ConnectionRefusedError(), False)
    pool.to.publish_server_heartbeat_succeeded(A, 0.1, reply, False)
    pool.to.publish_server_heartbeat_succeeded(A, 0.1, reply, False)
    assert monitor.totals(100.0).count["heartbeats_failed"] == 3
    assert records == [
        (Kind.HEARTBEAT_FAILED, 0.0, "a:27017: ConnectionRefusedError"),
        (Kind.HEARTBEAT_FOUND, 0.0, "a:27017"),
    ]


def test_commands_are_timed_by_a_bounded_number_of_names(clock):
    monitor = PoolMonitor(clock=clock, commands=True)
    *_, commands = monitor.listeners()
    for number in range(60):
        commands.succeeded(SimpleNamespace(connection_id=A, command_name=f"c{number}", duration_micros=1000))
    commands.failed(SimpleNamespace(connection_id=A, command_name="c1", duration_micros=2000))
    (stats,) = monitor.get_stats(100.0).values()
    told = stats["db.client.operation.duration"]
    assert len(told) == 52
    assert (told["other.ok"]["count"], told["c1.error"]["sum"]) == (10, 0.002)
    monitor.pop_stats(100.0)
    (stats,) = monitor.get_stats(100.0).values()
    assert stats["db.client.operation.duration"]["other.ok"]["count"] == 0


def test_commands_are_not_listened_to_unless_asked_for(monitor):
    assert not any(isinstance(listener, driver.CommandListener) for listener in monitor.listeners())


def test_a_fault_of_ours_is_counted_and_recorded_and_gets_no_further(clock, capfd):
    records: list[Any] = []
    broken: Any = "no clock"
    monitor = PoolMonitor(clock=clock, record=lambda *record: records.append(record))
    pool = Driver(monitor.listeners())
    monitor._clients[0]._clock = broken
    pool.out(1)
    pool.to.publish_connection_closed("no address", 1, "idle")  # type: ignore[arg-type] # the point
    pool.address = []
    pool.begin()
    pool.back(1)
    assert monitor.errors == 4
    assert [name for _, _, name in records] == ["TypeError", "ValueError", "TypeError", "TypeError"]
    assert {kind for kind, _, _ in records} == {Kind.ERROR}
    assert capfd.readouterr().err == ""


def test_the_monitor_hears_every_event_that_pymongo_publishes(monitor):
    """A new event would be a NotImplementedError inside a checkout."""
    for listener in [*monitor.listeners(), *PoolMonitor(commands=True).listeners()]:
        base = next(each for each in type(listener).__mro__ if each.__module__ == "pymongo.monitoring")
        events = {name for name in vars(base) if not name.startswith("_")}
        assert events <= set(vars(type(listener)))
