"""A MongoDB that hangs, and what only looks like it: what becomes of operations in flight.

The driver's own limits are far away in these tests: an operation that ends was interrupted by the watchdog.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Self

import pytest
from pymongo.read_preferences import ReadPreference

from ops.local import programs
from ops.local.replica_set import ReplicaSet
from ops.local.servers import LocalServer
from tests.e2e.workers import wait_until
from tests.faults.proxy import FaultProxy
from worker.connection.circuit import CircuitState
from worker.integration.reporter import Reporter
from worker.mongo.classify import ErrorClass, classify
from worker.process.process import Mongo, Place
from worker.settings.fields import load_settings

SECONDS = 60.0
FAR_AWAY = dict.fromkeys(
    ("MONGODB_SOCKET_TIMEOUT_MS", "MONGODB_CONNECT_TIMEOUT_MS", "MONGODB_WAIT_QUEUE_TIMEOUT_MS"), "600000"
)
SELDOM = {"MONGODB_HEARTBEAT_FREQUENCY_MS": "600000"}
"""Heartbeats tell nothing: a server is asked since an operation waits for it."""

needs_mongod = pytest.mark.skipif(programs.mongod() is None, reason="it takes a mongod")


@contextmanager
def process(
    uri: str, settings: Mapping[str, str] = MappingProxyType({}), *, answers: bool = True
) -> Iterator[Mongo]:
    """What a process that runs tasks has of MongoDB, with its reporter, and without Celery and Redis."""
    made = Mongo(load_settings({**FAR_AWAY, "MONGODB_URI": uri, **settings}, env_file=None))
    made.watch = SimpleNamespace(run_if_stale=lambda: False)
    made.enter_process(Place("w1@h", concurrency=8, kind="threads"))
    presence: Any = SimpleNamespace(tick=lambda _now: None, is_redis_away=False)
    agent: Any = SimpleNamespace(tick=lambda _now, *, is_redis_away: None)
    reporter = Reporter(made, presence, agent)
    reporter.start()
    try:
        if answers:
            made.get_client().admin.command("ping")
        yield made
    finally:
        reporter.stop()
        made.close(0.5)
        reporter.join(SECONDS)


@contextmanager
def running(*operations: Callable[[], Any]) -> Iterator[list[Future[Any]]]:
    """Run these at once, each in a thread."""
    pool = ThreadPoolExecutor(len(operations))
    try:
        yield [pool.submit(operation) for operation in operations]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def suspended(server: LocalServer) -> Iterator[None]:
    server.suspend()
    try:
        yield
    finally:
        server.resume()


def size(mongo: Mongo) -> int:
    return sum(gauges.size for gauges in mongo.monitor.gauges().values())


def wait_closed(mongo: Mongo) -> None:
    wait_until(lambda: mongo.link.circuit.is_closed, what="a server that answers", seconds=SECONDS)


def assert_hangs(mongo: Mongo) -> None:
    wait_until(lambda: mongo.link.hung_seconds(time.monotonic()), what="a hang", seconds=SECONDS)
    assert mongo.link.circuit.state is not CircuitState.CLOSED
    assert str(mongo.link.error).startswith("hung: no answer for ")


def assert_interrupted(found: Future[Any]) -> None:
    """Hold that it ended with what an outage raises."""
    error = found.exception(SECONDS)
    assert error is not None
    assert classify(error) is ErrorClass.OUTAGE


def said(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {record.event for record in caplog.records if hasattr(record, "event")}


# --- a server that hangs ---


def test_all_that_waits_for_a_server_that_hangs_ends_and_goes_on_with_it(mongo: LocalServer) -> None:
    """Readers, writers, a cursor in its midst, and one that cannot even send what it has."""
    with process(mongo.uri, {"MONGODB_MIN_POOL_SIZE": "8"}) as here:
        things = here.get_database("hang").things
        things.drop()
        things.insert_many([{"_id": number} for number in range(300)])
        cursor = things.find(batch_size=10)
        next(cursor)
        large = [{"text": "x" * 1_000_000} for _ in range(40)]
        wait_until(lambda: size(here) >= 6, what="a connection for each operation", seconds=SECONDS)
        operations = (
            lambda: things.find_one({"_id": 7}),
            lambda: things.insert_one({"_id": 1000}),
            lambda: things.insert_many(large),
            lambda: things.update_many({}, {"$set": {"a": 1}}),
            lambda: list(cursor),
        )
        with suspended(mongo), running(*operations) as waiting:
            for found in waiting:
                assert_interrupted(found)
            assert_hangs(here)
        wait_closed(here)
        assert things.find_one({"_id": 7}) is not None
        assert here.link.error is None


def test_a_full_pool_hides_no_hang(mongo: LocalServer) -> None:
    """A ping gets no connection, and the watchdog needs none of the pool."""
    with process(mongo.uri, {"MONGODB_MAX_POOL_SIZE": "1"}) as here:
        things = here.get_database("hang").things
        with suspended(mongo), running(*[lambda: things.find_one({"_id": 7})] * 3) as waiting:
            for found in waiting:
                assert_interrupted(found)
            assert_hangs(here)
        wait_closed(here)


@needs_mongod
def test_a_commit_that_hangs_is_interrupted(mongo: LocalServer) -> None:
    with process(mongo.uri) as here:
        things = here.get_database("hang").commits
        things.insert_one({})
        with here.get_client().start_session() as session:
            session.start_transaction()
            things.insert_one({}, session=session)
            with suspended(mongo), running(session.commit_transaction) as (found,):
                assert_interrupted(found)
        wait_closed(here)


@needs_mongod
def test_a_transaction_that_would_be_tried_again_for_two_minutes_ends(mongo: LocalServer) -> None:
    with process(mongo.uri) as here:
        things = here.get_database("hang").commits
        things.insert_one({})
        begun, go_on = threading.Event(), threading.Event()

        def body(session: Any) -> None:
            things.insert_one({}, session=session)
            begun.set()
            go_on.wait(SECONDS)

        with (
            here.get_client().start_session() as session,
            running(lambda: session.with_transaction(body)) as (found,),
        ):
            assert begun.wait(SECONDS)
            with suspended(mongo):
                go_on.set()
                assert_interrupted(found)
                assert "not tried again" in str(found.exception())
            wait_closed(here)
            assert session.with_transaction(lambda one: things.count_documents({}, session=one)) >= 1


def test_an_operation_that_waits_is_reason_enough_to_ask(mongo: LocalServer) -> None:
    """Whatever the heartbeats: they may be seldom, by the URI or by a setting."""
    with process(mongo.uri, SELDOM) as here:
        things = here.get_database("hang").things
        things.find_one({})
        with suspended(mongo), running(lambda: things.find_one({"_id": 7})) as (found,):
            assert_interrupted(found)
            assert_hangs(here)
        wait_closed(here)


@pytest.mark.full
def test_a_server_behind_a_network_that_delivers_no_reply_hangs(mongo: LocalServer) -> None:
    with FaultProxy() as proxy:
        route = proxy.route(mongo.uri)
        with process(route.uri) as here:
            things = here.get_database("hang").things
            things.find_one({})
            route.half_open()
            with running(lambda: things.find_one({"_id": 7})) as (found,):
                assert_interrupted(found)
                assert_hangs(here)
            route.clear()
            wait_closed(here)


def test_what_takes_connections_and_never_says_hello_hangs_from_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        uri = f"mongodb://127.0.0.1:{listener.getsockname()[1]}/?directConnection=true"
        with process(uri, answers=False) as here:
            things = here.get_database("hang").things
            with running(lambda: things.find_one({})) as (found,):
                assert_interrupted(found)
            assert_hangs(here)


@needs_mongod
@pytest.mark.full
def test_a_server_that_hangs_behind_tls_is_interrupted(tmp_path: Path) -> None:
    """An SSL socket is read by other means."""
    with (
        ReplicaSet(tmp_path, members=1, auth=True, tls=True) as replica_set,
        process(replica_set.uri, {"MONGODB_MIN_POOL_SIZE": "4"}) as here,
    ):
        things = here.get_database("hang").things
        things.insert_one({"_id": 7})
        large = [{"text": "x" * 1_000_000} for _ in range(40)]
        wait_until(lambda: size(here) >= 3, what="connections", seconds=SECONDS)
        operations = (lambda: things.find_one({"_id": 7}), lambda: things.insert_many(large))
        with suspended(replica_set.members[0]), running(*operations) as waiting:
            for found in waiting:
                assert_interrupted(found)
            assert_hangs(here)
        wait_closed(here)
        assert things.find_one({"_id": 7}) is not None


@needs_mongod
def test_of_a_set_what_waits_for_the_member_that_hangs_goes_on_at_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """First a secondary that is read from, which opens no circuit, then the primary."""
    # Of a server whose loss opens the circuit, that line is the one for people.
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    settings = {"MONGODB_WRITE_CONCERN": "1", "MONGODB_JOURNAL": "false"}
    with (
        ReplicaSet(tmp_path, election_timeout=2.0) as replica_set,
        process(replica_set.uri, settings) as here,
    ):
        things = here.get_database("hang").things
        things.insert_one({"_id": 7})
        replica_set.wait_for_members()
        apart = things.with_options(read_preference=ReadPreference.SECONDARY)
        hung = replica_set.secondaries()[0]
        with suspended(hung), running(*[lambda: apart.find_one({"_id": 7})] * 8) as waiting:
            assert [found.result(SECONDS) for found in waiting] == [{"_id": 7}] * 8
            wait_until(lambda: f"{hung.port} hangs" in caplog.text, what="a hang", seconds=SECONDS)
        assert here.link.circuit.is_closed
        assert "circuit.opened" not in said(caplog)
        replica_set.wait_for_members()
        old = replica_set.primary()
        with suspended(old), running(*[lambda: things.insert_one({})] * 4) as waiting:
            wait_until(lambda: f"{old.port} hangs" in caplog.text, what="a hang", seconds=SECONDS)
            replica_set.primary(other_than=old)
            for found in waiting:
                # One that looked for a primary before there was one has failed by then.
                error = found.exception(SECONDS)
                assert error is None or classify(error) is ErrorClass.OUTAGE
            wait_closed(here)
            things.insert_one({})


# --- what only looks like it ---


@needs_mongod
@pytest.mark.parametrize("heartbeat", ["500", "600000"])
def test_a_slow_operation_on_a_server_that_answers_is_left_alone(
    mongo: LocalServer, heartbeat: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="celery_pymongo")
    settings = {"MONGODB_HEARTBEAT_FREQUENCY_MS": heartbeat, "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "0.5"}
    with process(mongo.uri, settings) as here:
        things, admin = here.get_database("hang").slow, here.get_client().admin
        things.insert_one({})
        fail = {"failCommands": ["distinct"], "blockConnection": True, "blockTimeMS": 8000}
        admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": fail})
        started = time.monotonic()
        assert things.distinct("nothing") == []
        assert time.monotonic() - started >= 8
        assert here.link.circuit.is_closed
        assert not said(caplog) & {"server.hung", "circuit.opened"}


class Relay:
    """A way to one server on which single connections fall silent, by their port at the client; a context
    manager.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.uri = f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"
        self.silent: set[int] = set()

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_error: object) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SECONDS)
        for one in (self._listener, *self._open):
            one.close()

    def _run(self, target: Callable[..., None], *args: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, (_, port) = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                self._run(self._carry, client, server, port)
                self._run(self._carry, server, client, port)

    def _carry(self, source: socket.socket, sink: socket.socket, port: int) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                if port not in self.silent:
                    sink.sendall(chunk)
            sink.shutdown(socket.SHUT_RDWR)


def heartbeat_port(mongo: Mongo) -> int:
    """Return the local port of the connection that heartbeats come by."""
    client: Any = mongo.get_client()
    (server,) = client._topology._servers.values()
    (connection,) = [made() for made in server._monitor._pool._made.valuerefs()]
    port: int = connection.conn.sock.getsockname()[1]
    return port


@needs_mongod
@pytest.mark.full
def test_the_heartbeats_connection_alone_falls_silent_and_nothing_is_cut(
    mongo: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The server answers on any other: it gets a new one, and the slow operation its result."""
    caplog.set_level(logging.INFO, logger="celery_pymongo")
    with Relay(mongo.port) as relay, process(relay.uri) as here:
        things, admin = here.get_database("hang").slow, here.get_client().admin
        things.insert_one({})
        silent = heartbeat_port(here)
        fail = {"failCommands": ["distinct"], "blockConnection": True, "blockTimeMS": 8000}
        admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": fail})
        relay.silent.add(silent)
        assert things.distinct("nothing") == []
        assert heartbeat_port(here) != silent
        assert here.link.circuit.is_closed
        assert not said(caplog) & {"server.hung", "circuit.opened"}
