"""Incidents of a running fleet, each injected for real: the doctor's first finding is right.

One fleet has them all, one after the other: `w1` (prefork) reaches MongoDB by a proxy, `w2` (threads) has
fewer connections than tasks at a time. What an incident leaves behind is cleared, or is less than the next.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pymongo
import pytest
import redis as redis_py

from ops.local.servers import LocalServer
from tests.e2e.clinic import Clinic, clinic, is_well
from tests.e2e.workers import Worker, wait_until
from tests.faults.proxy import FaultProxy
from tests.faults.route import Route

pytestmark = pytest.mark.timeout(120)


@dataclass
class Fleet:
    clinic: Clinic
    w1: Worker
    w2: Worker
    mongo: LocalServer
    route: Route

    @contextmanager
    def failing(self, mode: Any, **data: Any) -> Iterator[None]:
        """Have the server fail commands meanwhile."""
        with pymongo.MongoClient[Any](self.mongo.uri) as client:
            client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
            try:
                yield
            finally:
                client.admin.command("configureFailPoint", "failCommand", mode="off")

    def renew(self) -> None:
        """End the children of `w1` well: their successors know nothing of what was."""
        before = set(self.w1.children())
        for pid in before:
            os.kill(pid, signal.SIGTERM)
        wait_until(
            lambda: len(set(self.w1.children()) - before) == len(before), what="new children", seconds=20
        )
        self.wait_well("w1")

    def wait_well(self, *nodes: str) -> None:
        """Wait until the doctor has nothing worse than notes to say of these nodes."""

        def is_well() -> bool:
            worse = [found for found in self.clinic.ask()["findings"] if found["severity"] != "note"]
            named = {place.partition("@")[0] for found in worse for place in found["where"]}
            return not named & set(nodes)

        wait_until(is_well, what=f"{nodes} to be well", seconds=30)


@pytest.fixture(scope="module")
def fleet(
    mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("incidents")
    with ExitStack() as stack:
        route = stack.enter_context(FaultProxy()).route(mongo.uri)
        ward = stack.enter_context(
            clinic("ward", mongo.uri, redis.uri, folder, CELERY_PYMONGO_LONG_HOLD_SECONDS="1")
        )
        far = {"MONGODB_URI": route.uri}
        near = {"MONGODB_MAX_POOL_SIZE": "4", "MONGODB_WAIT_QUEUE_TIMEOUT_MS": "1500"}
        w1 = stack.enter_context(ward.worker("w1", pool="prefork", concurrency=2, env=far))
        w2 = stack.enter_context(ward.worker("w2", pool="threads", concurrency=8, env=near))
        stack.enter_context(ward.beat())
        for node in (w1, w2):
            node.wait_ready()
        wait_until(lambda: is_well(ward, processes=3), what="three processes and a beat", seconds=20)
        yield Fleet(ward, w1, w2, mongo, route)


@pytest.mark.full
def test_a_queue_that_nobody_consumes(fleet: Fleet, redis: LocalServer) -> None:
    fleet.clinic.send("nothing", to="nowhere", times=3)
    fleet.clinic.expect("queue-unconsumed", "nowhere", "3 messages")
    with redis_py.Redis.from_url(redis.uri) as client:
        assert client.delete(f"celery-pymongo:{fleet.clinic.env['CELERY_PYMONGO_DEPLOYMENT']}:nowhere")


@pytest.mark.full
def test_a_leaked_session(fleet: Fleet) -> None:
    fleet.clinic.send("forget_session", to="w1")
    fleet.clinic.expect("leak", "clinic.forget_session left a session", "w1@localhost")
    fleet.renew()


@pytest.mark.full
def test_a_pool_that_is_too_small(fleet: Fleet) -> None:
    with fleet.failing("alwaysOn", failCommands=["find"], blockConnection=True, blockTimeMS=200):
        fleet.clinic.send("read", 25, to="w2", times=8)
        fleet.clinic.expect("pool-too-small", "maxPoolSize 4", "concurrency 8", "w2@localhost/0")


@pytest.mark.full
def test_long_holds(fleet: Fleet) -> None:
    with fleet.failing("alwaysOn", failCommands=["distinct"], blockConnection=True, blockTimeMS=15_000):
        fleet.clinic.send("report", to="w2", times=8)
        fleet.clinic.expect("long-holds", "clinic.report holds a connection", "4 of 4 connections in use")


@pytest.mark.full
def test_overload_is_no_outage(fleet: Fleet) -> None:
    labels = ["SystemOverloadedError", "RetryableError"]
    with fleet.failing("alwaysOn", failCommands=["find"], errorCode=462, errorLabels=labels):
        fleet.clinic.send("ask", to="w1", times=2)
        found = fleet.clinic.expect("overload", "answered with 'overloaded'", "3 of 3 processes reach it")
    # What it does to the pools, here still that of the test before, is told under it.
    assert "long-holds" in {one["id"] for one in found["explains"]}
    fleet.renew()


def test_one_node_is_cut_off(fleet: Fleet) -> None:
    fleet.route.refuse()
    fleet.route.reset()
    try:
        fleet.clinic.expect("node-cut-off", "all 2 processes of w1@localhost", "1 process of other nodes")
    finally:
        fleet.route.clear()
    fleet.w1.wait_for_log(r"circuit\.closed", count=2)


def test_mongodb_is_down(fleet: Fleet) -> None:
    fleet.mongo.kill()
    try:
        found = fleet.clinic.expect("mongodb-down", "3 of 3 processes cut off", severity="down")
    finally:
        fleet.mongo.start()
    assert "node-cut-off" not in {one["id"] for one in found["explains"]}
    wait_until(lambda: fleet.clinic.ask()["verdict"] != "down", what="the end of the outage", seconds=20)


@pytest.mark.full
def test_a_nodes_main_is_killed(fleet: Fleet) -> None:
    """The last one of this fleet."""
    fleet.w1.send_signal(signal.SIGKILL)
    found = fleet.clinic.expect("node-lost", "w1@localhost", "all 2 processes silent", seconds=45)
    assert {"w1", "w1@localhost"} <= set(found["where"])
