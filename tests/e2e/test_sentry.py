"""Sentry with real workers and a Sentry of the tests' own: what arrives, what does not, and at what price."""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from ops.local.servers import LocalServer, free_port
from tests.e2e.apps.service import ALONE, beat, call, environment, producer, service
from tests.e2e.kent import FakeSentry, kent_server
from tests.e2e.site import kinds
from tests.e2e.workers import Worker, wait_until

CONTENT = "the content of a document"
NAMES = {"SENTRY_ENVIRONMENT": "staging", "SENTRY_RELEASE": "shop@1.2.3", "CELERY_PYMONGO_DEPLOYMENT": "shop"}


@pytest.fixture(scope="module")
def kent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSentry]:
    with kent_server(tmp_path_factory.mktemp("kent")) as server:
        yield server


def environ(mongo: LocalServer, redis: LocalServer, dsn: str | None, **more: str) -> dict[str, str | None]:
    return environment(mongo.uri, redis.uri, SENTRY_DSN=dsn, **NAMES, **more)


@pytest.fixture(scope="module", params=kinds("fork", full=["spawn"]))
def node(
    request: pytest.FixtureRequest,
    mongo: LocalServer,
    redis: LocalServer,
    kent: FakeSentry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    """A worker with a DSN, whose children are forked or spawned."""
    env = environ(mongo, redis, kent.dsn, CELERY_PYMONGO_POOL_START_METHOD=request.param)
    folder = tmp_path_factory.mktemp(request.param)
    with service(env, folder, pool="prefork", options=ALONE) as worker:
        yield worker.wait_ready()


@pytest.fixture
def sentry(kent: FakeSentry) -> FakeSentry:
    """The fake Sentry, emptied."""
    kent.flush()
    return kent


def test_a_failing_task_is_one_event_with_its_tags_and_without_its_documents(
    node: Worker, sentry: FakeSentry
) -> None:
    with producer(node.env) as app:
        failed = app.send_task("probe.fail", [{"text": CONTENT}])
        with pytest.raises(Exception, match="failed with 1 document"):
            failed.get(timeout=15)
        wait_until(sentry.events, what="an event")
        # Events leave a process in order: what came later is there, so a second one would be, too.
        sentinel = app.send_task("probe.fail", [{}])
        with pytest.raises(Exception, match="failed with 1 document"):
            sentinel.get(timeout=15)
        wait_until(lambda: len(sentry.events()) >= 2, what="the event after it")
    event, *others = sentry.events()
    assert len(others) == 1
    assert (event["release"], event["environment"]) == ("shop@1.2.3", "staging")
    assert event["tags"]["celery_pymongo.deployment"] == "shop"
    assert event["tags"]["celery.node"] == node.hostname
    assert event["exception"]["values"][-1]["type"] == "ToldError"
    frames = [frame for value in event["exception"]["values"] for frame in value["stacktrace"]["frames"]]
    assert frames
    assert not [frame for frame in frames if frame.get("vars")]
    assert CONTENT not in json.dumps(event, ensure_ascii=False)


def test_a_task_that_succeeds_when_retried_is_no_event(node: Worker, sentry: FakeSentry) -> None:
    with producer(node.env) as app:
        assert call(app, "probe.retry_once") == 1
        failed = app.send_task("probe.fail", [{}])
        with pytest.raises(Exception, match="failed with 1 document"):
            failed.get(timeout=15)
    wait_until(sentry.events, what="the event after it")
    (event,) = sentry.events()
    assert event["transaction"] == "probe.fail"


def test_what_mongodb_says_of_a_document_stays_here(node: Worker, sentry: FakeSentry) -> None:
    with producer(node.env) as app:
        for _ in range(2):
            failed = app.send_task("probe.write", [{"_id": f"{CONTENT} {node.pid}"}])
            failed.wait(timeout=15, propagate=False)
        assert failed.state == "FAILURE"
    wait_until(sentry.events, what="an event")
    (event,) = sentry.events()
    assert event["exception"]["values"][-1]["type"] == "DuplicateKeyError"
    assert CONTENT not in json.dumps(event, ensure_ascii=False)


def test_a_process_that_was_killed_is_told_with_its_task_and_its_last_events(
    node: Worker, sentry: FakeSentry
) -> None:
    node.wait_for_log(r"client\.warm:")
    pid = node.children()[0]
    os.kill(pid, signal.SIGKILL)
    node.wait_for_log(rf"process\.lost: .*\(pid {pid}\)")

    def told() -> list[dict[str, Any]]:
        return [
            event for event in sentry.events() if event["tags"].get("celery_pymongo.event") == "process.lost"
        ]

    wait_until(told, what="the post-mortem")
    (event,) = told()
    assert event["tags"]["celery.node"] == node.hostname
    assert "client.opened" in json.dumps(event)
    wait_until(lambda: pid not in node.children() and node.children(), what="a successor")


def test_without_a_dsn_nobody_imports_the_sdk(mongo: LocalServer, redis: LocalServer, tmp_path: Path) -> None:
    # A Redis database of its own: the worker that the other tests share takes no task of this one.
    env = environ(mongo, redis, None) | {"REDIS_URL": redis.uri.removesuffix("0") + "1"}
    probe = tmp_path / "sitecustomize.py"
    told = tmp_path / "told"
    # Beat runs no tasks: it tells what it has imported when it ends.
    probe.write_text(
        "import atexit, sys\n"
        f"atexit.register(lambda: open({str(told)!r}, 'a').write(f'{{\"sentry_sdk\" in sys.modules}}\\n'))\n"
    )
    spied = {**env, "PYTHONPATH": str(tmp_path)}
    with service(env, tmp_path) as worker, producer(env) as app, beat(spied, tmp_path) as sender:
        worker.wait_ready()
        assert call(app, "probe.modules", "pymongo") is True
        assert call(app, "probe.modules", "sentry_sdk") is False
        sender.wait_for_log("this beat leads")
        assert sender.terminate() == 0
    assert told.read_text().split() == ["False"]


def test_beat_reports_with_the_same_names(
    mongo: LocalServer, redis: LocalServer, sentry: FakeSentry, tmp_path: Path
) -> None:
    env = environ(mongo, redis, sentry.dsn, CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS="1")
    with beat(env, tmp_path) as sender:
        sender.wait_for_sent("mongo.health.check")
        spoil_schedule(redis)
        assert sender.wait() == 1
    wait_until(sentry.events, what="an event of beat")
    (event,) = sentry.events()
    assert event["tags"]["celery.node"] == "beat"
    assert event["tags"]["celery_pymongo.deployment"] == "shop"


def spoil_schedule(redis: LocalServer) -> None:
    """What beat neither waits out nor mends: a value of another kind in the place of its schedule."""
    with redis_py.Redis.from_url(redis.uri) as client:
        client.set("celery-pymongo:shop:redbeat::schedule", "spoilt")


class BadSentry(socketserver.ThreadingTCPServer):
    """Takes connections and answers in a way of its own."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                answer(self.request)

        super().__init__(("127.0.0.1", 0), Handler)
        self.dsn = f"http://public@127.0.0.1:{self.server_address[1]}/1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked may be gone."""


def be_silent(connection: socket.socket) -> None:
    """The worst kind of unreachable: until the other side gives up."""
    while connection.recv(65536):
        pass


def limit(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n")


def babble(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"\x00\xff garbage \r\n" * 50)


ANSWERS = {"silent": be_silent, "limiting": limit, "babbling": babble}


def endure(env: Mapping[str, str | None], folder: Path, name: str) -> tuple[float, float]:
    """Return what five failing tasks take, and the shutdown after them."""
    with service(env, folder, name=name, pool="prefork", options=ALONE) as worker, producer(env) as app:
        worker.wait_ready()
        call(app, "probe.echo")
        started = time.monotonic()
        for _ in range(5):
            failed = app.send_task("probe.fail", [{}])
            with pytest.raises(Exception, match="failed with 1 document"):
                failed.get(timeout=15, interval=0.02)
        tasks = time.monotonic() - started
        started = time.monotonic()
        assert worker.terminate() == 0
        return tasks, time.monotonic() - started


@pytest.mark.full
def test_no_sentry_however_bad_delays_tasks_or_the_shutdown(
    mongo: LocalServer, redis: LocalServer, tmp_path: Path
) -> None:
    took = {"none": endure(environ(mongo, redis, None), tmp_path, "none")}
    refusing = f"http://public@127.0.0.1:{free_port()}/1"
    took["refusing"] = endure(environ(mongo, redis, refusing), tmp_path, "refusing")
    for name, answer in ANSWERS.items():
        with BadSentry(answer) as bad:
            threading.Thread(target=bad.serve_forever, args=(0.05,)).start()
            try:
                took[name] = endure(environ(mongo, redis, bad.dsn), tmp_path, name)
            finally:
                bad.shutdown()
    for name, (tasks, shutdown) in took.items():
        assert tasks - took["none"][0] < 1, (name, took)
        # Two seconds in all, and what one shutdown differs from another.
        assert shutdown - took["none"][1] < 2 + 0.5, (name, took)
