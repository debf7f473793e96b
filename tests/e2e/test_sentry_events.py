"""What is worth a person reaches Sentry once, from real workers, with a title, a runbook and the evidence."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ops.local.servers import LocalServer
from tests.e2e.apps.service import ALONE, call, environment, producer, service
from tests.e2e.kent import FakeSentry, kent_server
from tests.e2e.workers import Worker, wait_until
from tests.unit.sentry_events import driver_classes

SECRET = "".join(["zq7", "-planted-", "secret"])


@pytest.fixture(scope="module")
def kent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSentry]:
    with kent_server(tmp_path_factory.mktemp("kent")) as server:
        yield server


@pytest.fixture(scope="module")
def node(
    mongo: LocalServer, redis: LocalServer, kent: FakeSentry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    env = environment(mongo.uri, redis.uri, SENTRY_DSN=kent.dsn, CELERY_PYMONGO_DEPLOYMENT=f"s{os.getpid()}")
    folder = tmp_path_factory.mktemp("node")
    with service(env, folder, pool="prefork", concurrency=2, options=ALONE) as worker:
        worker.wait_ready().wait_for_log(r"client\.warm:", count=2)
        yield worker


@pytest.fixture
def app(node: Worker) -> Iterator[Celery]:
    with producer(node.env) as made:
        yield made


@pytest.fixture
def sentry(kent: FakeSentry) -> FakeSentry:
    """The fake Sentry, emptied."""
    kent.flush()
    return kent


def fail(app: Celery, task: str, *args: Any, **options: Any) -> None:
    """Run a task that fails."""
    app.send_task(task, args, **options).wait(timeout=20, propagate=False)


def names(sentry: FakeSentry) -> list[str]:
    """What has arrived: our own by their names, errors by their types, what else there is by its text."""
    return sorted(map(_name, sentry.events()))


def _name(event: dict[str, Any]) -> str:
    own: str | None = (event.get("tags") or {}).get("celery_pymongo.event")
    raised = (event.get("exception") or {}).get("values")
    entry = event.get("logentry") or {}
    return own or (raised[-1]["type"] if raised else str(entry.get("formatted") or entry.get("message")))


def only(app: Celery, sentry: FakeSentry, *expected: str) -> dict[str, Any]:
    """Wait for these and hold that they are all; return the first."""
    wait_until(lambda: set(expected) <= set(names(sentry)), what=f"{expected}, not {names(sentry)}")
    # Events leave a process in order: what another of this time would be is there, too.
    fail(app, "probe.plant", "told-last")
    wait_until(lambda: "ToldError" in names(sentry), what="the event after it")
    assert names(sentry) == sorted([*expected, "ToldError"])
    return next(event for event in sentry.events() if _name(event) == expected[0])


def test_a_killed_process_is_one_event_with_what_it_did(
    node: Worker, app: Celery, sentry: FakeSentry
) -> None:
    napping = app.send_task("probe.nap", (60,), ignore_result=True)
    node.wait_for_log(rf"probe\.nap\[{napping.id}\] received")
    wait_until(lambda: _busy(app, node), what="the task on the board")
    pid = _busy(app, node)[0]
    os.kill(pid, signal.SIGKILL)
    event = only(app, sentry, "process.lost")
    assert f"(pid {pid}), running probe.nap[{napping.id}]" in event["message"]
    assert event["tags"]["runbook"] == "docs/runbook.md#process-lost"
    assert event["fingerprint"][2:] == ["process.lost", "probe.nap"]
    assert "client.opened" in json.dumps(event["breadcrumbs"])
    app.control.revoke(napping.id, terminate=True, signal="SIGKILL")


def _busy(app: Celery, node: Worker) -> list[int]:
    """The processes that run a task, by the board."""
    replies = app.control.broadcast(
        "mongo_pools", destination=[node.hostname], reply=True, limit=1, timeout=3.0
    )
    slots = replies[0][node.hostname]["slots"] if replies else []
    return [row["pid"] for row in slots if row["task"]]


def test_a_hard_time_limit_is_one_event_with_the_task_and_its_pool(app: Celery, sentry: FakeSentry) -> None:
    """Of the three that Celery makes; and one of the process that was killed for it."""
    app.send_task("probe.stubborn", (60,), time_limit=2, soft_time_limit=1, ignore_result=True)
    event = only(app, sentry, "task.time_limit", "process.lost")
    assert event["message"] == "Split task probe.stubborn, or raise its time limit: it was killed after 2 s"
    assert event["contexts"]["celery_pymongo"]["circuit"] == "closed"
    assert event["breadcrumbs"]["values"]


def test_a_leak_is_told_with_its_task(app: Celery, sentry: FakeSentry) -> None:
    call(app, "probe.leak")
    event = only(app, sentry, "pool.leak")
    assert event["message"] == "End what task probe.leak leaves open: a session"
    assert event["contexts"]["celery_pymongo"]["pool"]


def test_a_dead_letter_is_one_event_and_no_error_beside_it(app: Celery, sentry: FakeSentry) -> None:
    fail(app, "probe.charge", "a")
    event = only(app, sentry, "task.dead")
    assert event["message"].startswith("Decide about a message of probe.charge (outcome unknown): ")


def test_a_client_that_had_to_be_replaced_is_told(app: Celery, sentry: FakeSentry) -> None:
    assert call(app, "probe.close_client") == 1
    event = only(app, sentry, "client.replaced")
    assert event["message"] == "Find out why MongoDB clients had to be replaced: closed client"


def test_a_second_client_is_told_with_the_line_that_made_it(
    app: Celery, sentry: FakeSentry, mongo: LocalServer
) -> None:
    for _ in range(3):
        call(app, "probe.second_client", mongo.uri)
    event = only(app, sentry, "client.foreign")
    assert "service_tasks.py" in event["message"]


def test_an_error_of_a_task_has_its_context(node: Worker, app: Celery, sentry: FakeSentry) -> None:
    fail(app, "probe.fail", {"text": SECRET}, time_limit=30, soft_time_limit=20)
    wait_until(lambda: names(sentry) == ["ToldError"], what="the error")
    (event,) = sentry.events()
    where, task = event["contexts"]["celery_pymongo"], event["contexts"]["celery_pymongo_task"]
    assert (where["node"], where["circuit"]) == (node.hostname, "closed")
    assert where["pid"] in node.children()
    assert where["pool"]
    assert (task["name"], task["limit_seconds"]) == ("probe.fail", 20)
    assert 15 < task["left_seconds"] <= 20
    crumbs = [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
    assert any(crumb.startswith("client.opened") for crumb in crumbs)


def test_no_error_of_the_driver_takes_a_secret_with_it(app: Celery, sentry: FakeSentry) -> None:
    """Of every class, as a task raises it, with a query among the breadcrumbs."""
    kinds = sorted({kind.__name__ for kind in driver_classes()})
    for name in kinds:
        fail(app, "probe.raise", name, SECRET)
    # Of the class of an outage: they come a moment later, since there is none.
    wait_until(lambda: set(names(sentry)) >= set(kinds), what=f"all of {kinds}", seconds=20)
    events = json.dumps(sentry.events(), ensure_ascii=False)
    assert "find probe" in events
    assert SECRET not in events


@pytest.mark.timeout(60)
def test_a_pool_that_is_exhausted_is_told_with_the_tasks_that_waited(
    mongo: LocalServer, redis: LocalServer, sentry: FakeSentry, tmp_path: Path
) -> None:
    limits = {"MONGODB_MAX_POOL_SIZE": "1", "MONGODB_WAIT_QUEUE_TIMEOUT_MS": "100"}
    env = environment(mongo.uri, redis.uri, SENTRY_DSN=sentry.dsn, CELERY_PYMONGO_DEPLOYMENT="full", **limits)
    with (
        service(env, tmp_path, pool="threads", concurrency=4, options=ALONE) as worker,
        producer(env) as app,
    ):
        worker.wait_ready().wait_for_log(r"client\.warm:")
        mongo.suspend()
        try:
            reads = [app.send_task("probe.read") for _ in range(4)]
            wait_until(lambda: sum(read.ready() for read in reads) >= 3, what="three tasks that fail")
        finally:
            mongo.resume()
        wait_until(lambda: "pool.exhausted" in names(sentry), what="the event")
        assert worker.terminate() == 0
    (event,) = [event for event in sentry.events() if _name(event) == "pool.exhausted"]
    assert event["message"].startswith("Let probe.read hold connections for less long, or raise MONGODB_MAX")
    assert event["contexts"]["what"]["max"] == 1


def test_spans_and_breadcrumbs_of_a_traced_task_hold_no_query(
    mongo: LocalServer, redis: LocalServer, sentry: FakeSentry, tmp_path: Path
) -> None:
    env = environment(mongo.uri, redis.uri, SENTRY_DSN=sentry.dsn, SENTRY_TRACES_SAMPLE_RATE="1")
    with service(env, tmp_path, options=ALONE) as worker, producer(env) as app:
        worker.wait_ready()
        fail(app, "probe.raise", "DuplicateKeyError", SECRET)
        wait_until(lambda: sentry.bodies("transaction"), what="a transaction")
        assert worker.terminate() == 0
    described = [span["description"] for body in sentry.bodies("transaction") for span in body["spans"]]
    assert "find probe" in described
    assert SECRET not in json.dumps([sentry.bodies("transaction"), sentry.events()], ensure_ascii=False)


def test_an_app_that_sets_up_sentry_itself_keeps_its_own_and_leaks_nothing(
    mongo: LocalServer, redis: LocalServer, sentry: FakeSentry, tmp_path: Path
) -> None:
    env = environment(mongo.uri, redis.uri, OWN_DSN=sentry.dsn)
    worker = service(env, tmp_path, pool="prefork", concurrency=1, options=ALONE)
    worker.app = "tests.e2e.apps.own_sentry"
    with worker, producer(env) as app:
        worker.wait_ready()
        fail(app, "probe.raise", "DuplicateKeyError", SECRET)
        fail(app, "probe.fail", {"text": SECRET})
        wait_until(lambda: len(sentry.events()) >= 2, what="both errors")
        assert worker.terminate() == 0
    events = sentry.events()
    assert {(event["environment"], event["tags"]["own"]) for event in events} == {("own", "yes")}
    assert all(event["contexts"]["celery_pymongo_task"]["id"] for event in events)
    assert SECRET not in json.dumps(events, ensure_ascii=False)
