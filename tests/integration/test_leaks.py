"""What tasks hold for long or leave open, with a real server: found with their names, and nothing else."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import CursorType, MongoClient

from ops.local.servers import LocalServer
from worker.connection.client import Identity, build_client
from worker.pool.monitor import PoolMonitor
from worker.pool.suspicion import Suspicion
from worker.settings.fields import load_settings
from worker.tracking.findings import Finding, Leak, LeakReturned, LongHold, Returned
from worker.tracking.guard import ClientGuard
from worker.tracking.work import Works

ROOT = Path(__file__).resolve().parents[2]

# So far ahead is every grace over; a tick takes the time as an argument.
AHEAD = 3.0


def until(condition: Callable[[], Any], *, seconds: float = 10.0) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "the condition did not come true"
        time.sleep(0.01)


class Process:
    """What a worker process has: a client, its guard, and the watch over both."""

    def __init__(self, uri: str) -> None:
        self.monitor = PoolMonitor()
        self.suspicion = Suspicion(self.monitor, limit=0.2, record=lambda *_: None)
        self.works = Works()
        self.guard = ClientGuard(lambda: True, lambda _sighting: None)
        self.guard.install()
        settings = load_settings({"MONGODB_URI": uri, "MONGODB_DATABASE": "leaks"}, env_file=None)
        identity = Identity("d", "n", 0, 1)
        with self.guard.expected():
            listeners = self.monitor.listeners()
            self.client = build_client(settings, identity, concurrency=4, listeners=listeners)
        self.documents = self.client["leaks"]["documents"]

    def run(self, body: Callable[[], Any], name: str = "t") -> Any:
        """Run a body as a task does, and keep what it returns alive."""
        self.works.begin(name, "1").is_suspect = self.suspicion.is_suspect(name)
        try:
            return body()
        finally:
            work = self.works.end("1")
            assert work is not None
            self.suspicion.watch(work)

    def tick(self, ahead: float = AHEAD) -> list[Finding]:
        return self.suspicion.tick(time.monotonic() + ahead)

    def leaks(self) -> list[str]:
        return [found.what for found in self.tick() if isinstance(found, Leak)]


@pytest.fixture
def process(mongo: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)  # restores what install() wraps
    process = Process(mongo.uri)
    process.documents.delete_many({})
    process.documents.insert_many([{"_id": number, "text": "x" * 1000} for number in range(500)])
    yield process
    process.client.close()


@contextmanager
def blocking(client: Any, command: str, milliseconds: int, *, times: int = 1) -> Iterator[None]:
    """Make the server take so long over the next commands of this name."""
    data = {"failCommands": [command], "blockConnection": True, "blockTimeMS": milliseconds}
    client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data})
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


class TestLeaks:
    def test_a_session_is_a_leak_until_it_is_ended(self, process: Process) -> None:
        def body() -> Any:
            session = process.client.start_session()
            process.documents.find_one({"_id": 1}, session=session)
            return session

        session = process.run(body)
        assert process.tick(ahead=0) == []
        (leak,) = process.tick()
        assert isinstance(leak, Leak)
        assert (leak.task, leak.id, leak.what, leak.borrowed) == ("t", "1", "a session", ())
        session.end_session()
        (returned,) = process.tick()
        assert isinstance(returned, LeakReturned)
        assert process.suspicion.false_alarms == 1

    def test_the_next_leak_of_the_same_task_tells_where_it_began(self, process: Process) -> None:
        sessions = [process.run(process.client.start_session)]
        process.tick()

        def starts_it() -> Any:
            return process.client.start_session()

        sessions.append(process.run(starts_it))
        (leak,) = process.tick(ahead=90)
        assert isinstance(leak, Leak)
        assert leak.borrowed[0].endswith(" in starts_it")

    def test_a_transaction_is_told_as_one(self, process: Process) -> None:
        def body() -> Any:
            session = process.client.start_session()
            session.start_transaction()
            process.documents.insert_one({"_id": "new"}, session=session)
            return session

        session = process.run(body)
        assert process.leaks() == ["a session in a transaction"]
        session.abort_transaction()
        session.end_session()

    def test_an_exhaust_cursor_keeps_its_connection_until_it_is_closed(self, process: Process) -> None:
        def body() -> Any:
            cursor = process.documents.find({}, cursor_type=CursorType.EXHAUST, batch_size=10)
            next(cursor)
            return cursor

        cursor = process.run(body)
        (leak,) = process.tick()
        assert isinstance(leak, Leak)
        host, port = process.client.address or ("", 0)
        assert leak.what == f"a connection to {host}:{port}"
        cursor.close()
        assert [type(found) for found in process.tick()] == [LeakReturned]

    def test_a_second_client_is_a_leak_with_the_line_that_made_it(
        self, process: Process, mongo: LocalServer
    ) -> None:
        def makes_it() -> Any:
            client: Any = MongoClient(mongo.uri)
            client.admin.command("ping")
            return client

        singleton, client = (process.run(makes_it) for _ in range(2))
        (leak,) = process.tick()
        singleton.close()
        assert isinstance(leak, Leak)
        assert leak.what == "a second client"
        assert leak.borrowed[0].endswith(" in makes_it")
        client.close()
        assert [type(found) for found in process.tick()] == [LeakReturned]


class TestNoFalseAlarms:
    def test_sessions_of_with_blocks_and_the_drivers_own_are_none(self, process: Process) -> None:
        def body() -> list[Any]:
            kept: list[Any] = []
            for is_snapshot in (False, True):
                with process.client.start_session(snapshot=is_snapshot) as session:
                    kept.append(session)
            with process.client.start_session(causal_consistency=False) as session:
                kept.append(session)
                session.with_transaction(lambda s: process.documents.insert_one({"_id": "tx"}, session=s))
            return kept

        assert len(process.run(body)) == 3
        assert process.tick() == []

    def test_an_ordinary_cursor_that_is_half_read_holds_no_connection(self, process: Process) -> None:
        def body() -> list[Any]:
            found, grouped = process.documents.find({}, batch_size=10), process.documents.aggregate([])
            return [found, next(found), grouped, next(grouped)]

        assert len(process.run(body)) == 4
        assert process.monitor.holders == {}
        assert process.tick() == []

    def test_a_session_that_is_dropped_with_its_frames_is_none(self, process: Process) -> None:
        process.run(lambda: process.client.start_session().session_id)
        assert process.tick() == []

    def test_an_exhaust_cursor_that_is_dropped_is_none_once_the_driver_has_closed_it(
        self, process: Process
    ) -> None:
        def body() -> None:
            next(process.documents.find({}, cursor_type=CursorType.EXHAUST, batch_size=10))

        process.run(body)
        gc.collect()
        # PyMongo closes what was dropped at its next operation or within a second.
        until(lambda: not process.monitor.holders)
        assert process.tick() == []

    def test_a_second_client_that_its_task_closed_is_none(self, process: Process, mongo: LocalServer) -> None:
        def body() -> Any:
            with MongoClient[Any](mongo.uri) as client:
                client.admin.command("ping")
            return client

        assert process.run(body) is not None
        assert process.tick() == []

    def test_operations_of_many_tasks_at_once_are_none(self, process: Process) -> None:
        stop = threading.Event()

        def body() -> None:
            while not stop.is_set():
                process.run(lambda: process.documents.find_one({"_id": 1}))

        threads = [threading.Thread(target=body) for _ in range(4)]
        for thread in threads:
            thread.start()
        ends_at = time.monotonic() + 0.5
        while time.monotonic() < ends_at:
            assert process.tick(ahead=0) == []
        stop.set()
        for thread in threads:
            thread.join()
        assert process.tick() == []
        assert (process.suspicion.leaks, process.suspicion.long_holds) == (0, 0)


class TestLongHolds:
    def test_a_long_operation_names_its_task_and_the_line_it_is_at(
        self, process: Process, mongo_client: MongoClient[Any]
    ) -> None:
        def waits_for_long() -> None:
            process.documents.find_one({"_id": 1})

        with blocking(mongo_client, "find", 1500):
            thread = threading.Thread(target=process.run, args=(waits_for_long, "slow"))
            thread.start()
            until(lambda: process.monitor.holders)
            found = process.tick(ahead=0.3)
            thread.join()
        (hold,) = found
        assert isinstance(hold, LongHold)
        assert (hold.task, hold.id) == ("slow", "1")
        assert hold.stack[0].endswith(" in waits_for_long")
        assert hold.stack[0].startswith(__file__)
        assert [type(found) for found in process.tick(ahead=0)] == [Returned]
        assert process.suspicion.false_alarms == 0


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent
sys.path.insert(0, {root!r})
from worker.connection.client import WatchedClient
from worker.pool.monitor import PoolMonitor
from worker.pool.suspicion import Suspicion
from worker.tracking.work import Works

monitor, works = PoolMonitor(), Works()
suspicion = Suspicion(monitor, limit=0.2, record=lambda *_: None)
client = WatchedClient({uri!r}, event_listeners=monitor.listeners())

def waits_for_long():
    client.leaks.documents.find_one({{"_id": 1}})

def task(name):
    works.begin(name, name)
    waits_for_long()
    suspicion.watch(works.end(name))

def spin():
    while not stop:
        gevent.sleep(0.001)

stop = []
greenlets = [gevent.spawn(task, "a"), gevent.spawn(task, "b"), gevent.spawn(spin)]
ends_at = time.monotonic() + 5
while len(monitor.holders) < 2 and time.monotonic() < ends_at:
    gevent.sleep(0.01)
print(len(works.running()))
for found in sorted(suspicion.tick(time.monotonic() + 0.3), key=lambda hold: hold.task):
    print(found.task, *[line.rpartition(" in ")[2] for line in found.stack])
stop.append(1)
gevent.joinall(greenlets)
print(*[type(found).__name__ for found in suspicion.tick(time.monotonic() + 3)])
client.close()
"""


def test_a_greenlet_that_holds_for_long_is_told_by_its_own_stack(
    process: Process, mongo: LocalServer, mongo_client: MongoClient[Any]
) -> None:
    pytest.importorskip("gevent")
    code = GEVENT.format(root=str(ROOT), uri=mongo.uri)
    with blocking(mongo_client, "find", 1500, times=2):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
        )
    assert done.stdout.splitlines() == [
        "2",
        "a waits_for_long task",
        "b waits_for_long task",
        "Returned Returned",
    ], done.stderr
