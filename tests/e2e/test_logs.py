"""The log of real workers: JSON that a collector can read, text whose events stand first, nothing twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.local.servers import LocalServer
from tests.e2e.apps import loud
from tests.e2e.apps.service import ALONE, Beat, beat, call, environment, producer, service
from tests.e2e.shops import Shop
from tests.e2e.site import kinds
from tests.e2e.workers import Worker
from worker.events import Event

QUICK = {"CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "1"}
# What is printed rather than logged: by Celery when it is told to end, by billiard in each spawned child.
OF_A_TASK = re.compile(r"Task \S+ (received|succeeded)")
PRINTED = re.compile(r"worker: (Warm|Cold|Hitting)|\[.* child process \d+ calling self.run\(\)")


def after_banner(text: str) -> list[str]:
    """The lines behind Celery's list of tasks (beat has none), but for what it prints at its end."""
    lines = [line for line in text.rpartition("[tasks]")[2].splitlines() if line.strip()]
    first = next(number for number, line in enumerate(lines) if line.startswith("{"))
    return [line for line in lines[first:] if not PRINTED.match(line)]


def log_records(text: str) -> list[dict[str, Any]]:
    """Every record, also those from before the banner."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module", params=kinds("prefork", "threads", full=["spawn", "solo"]))
def ended(
    request: pytest.FixtureRequest,
    mongo: LocalServer,
    redis: LocalServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Worker:
    """A worker with JSON logs after a life with tasks of every fate; its log file alone is of interest."""
    method = "spawn" if request.param == "spawn" else "fork"
    pool = "prefork" if request.param == "spawn" else request.param
    env = environment(
        mongo.uri,
        redis.uri,
        CELERY_PYMONGO_LOG_FORMAT="json",
        CELERY_PYMONGO_POOL_START_METHOD=method,
        **QUICK,
    )
    folder = tmp_path_factory.mktemp(request.param)
    with service(env, folder, pool=pool, options=ALONE) as node, producer(env) as app:
        node.wait_ready()
        call(app, "probe.log", "a line\nof two")
        assert call(app, "probe.retry_once") == 1
        failed = app.send_task("probe.fail", [{}])
        with pytest.raises(Exception, match="failed with 1 document"):
            failed.get(timeout=10)
        call(app, "probe.print", "printed")
        call(app, "mongo.health.check")
        assert node.terminate() == 0
    return node


def test_every_line_after_the_banner_is_one_json_object(ended: Worker) -> None:
    records = [json.loads(line) for line in after_banner(ended.text)]
    assert all({"time", "level", "logger", "message", "pid"} <= record.keys() for record in records)
    assert any(record["message"] == "a line\nof two" for record in records)
    assert any("Traceback" in record.get("error", "") for record in records)


def test_what_a_task_logs_carries_its_name_and_id(ended: Worker) -> None:
    of_task = [record for record in log_records(ended.text) if "a line" in record["message"]]
    assert {record["logger"] for record in of_task} == {"tests.e2e.apps.service_tasks", "some.library"}
    assert {record.get("task") for record in of_task} == {"probe.log"}
    assert len({record["task_id"] for record in of_task}) == 1


def test_what_a_task_prints_is_in_the_log(ended: Worker) -> None:
    (printed,) = [record for record in log_records(ended.text) if record["message"] == "printed"]
    assert printed.get("task") == "probe.print"


def test_our_events_carry_their_name_and_happen_once(ended: Worker) -> None:
    told = [(record["event"], record["pid"]) for record in log_records(ended.text) if "event" in record]
    names = [name for name, _ in told]
    assert set(names) <= {str(event) for event in Event}
    once = (Event.CLIENT_OPENED, Event.CLIENT_WARM, Event.CLIENT_CLOSED)
    assert [names.count(str(event)) for event in once] == [1, 1, 1]


def test_the_health_that_beat_asks_for_is_quiet_while_it_does_not_change(ended: Worker) -> None:
    assert not [record for record in log_records(ended.text) if "mongo.health.check" in record["message"]]


# --- text ---


def test_in_text_the_name_of_an_event_stands_first(
    mongo: LocalServer, redis: LocalServer, tmp_path: Path
) -> None:
    with service(environment(mongo.uri, redis.uri), tmp_path) as node:
        node.wait_ready()
        node.wait_for_log("client.warm")
        node.terminate()
    messages = [line.partition("] ")[2] for line in node.text.splitlines() if line.startswith("[20")]
    for event in (Event.CLIENT_OPENED, Event.CLIENT_WARM, Event.CLIENT_CLOSED):
        assert len([message for message in messages if message.startswith(f"{event}: ")]) == 1


# --- an outage ---


def test_an_outage_is_three_lines_of_a_node_and_one_of_a_task_that_fails(
    shop: Callable[..., Shop], mongo: LocalServer, redis: LocalServer
) -> None:
    """Four processes and more tasks than they can run meanwhile; beat asks for the health."""
    here = shop(redis.uri)
    env = {"CELERY_PYMONGO_GATED_QUEUES": "shop", "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "1500", **QUICK}
    node = here.worker("prefork", concurrency=4, env={**env, loud.VARIABLE: "NOTSET"}).wait_ready()
    node.wait_for_log("client.warm", count=4)
    here.beat()
    first = here.send("save", "first")
    assert first.get(timeout=30) == "first"
    begin = len(node.text)
    mongo.kill()
    node.wait_for_log(r"gate\.closed")
    failed = here.send("count", queue="mongo.ops")
    kept = [here.send("save", key) for key in range(50)]
    with pytest.raises(Exception, match="Connection refused"):
        failed.get(timeout=30)
    mongo.start()
    assert [result.get(timeout=30) for result in kept] == list(range(50))
    node.wait_for_log(r"circuit\.closed")
    lines = [line for line in node.text[begin:].splitlines() if not OF_A_TASK.search(line)]
    events = [(line.split(": ")[1].split("/")[0], line.split("] ", 1)[1].split(": ")[0]) for line in lines]
    failure = f"Task tests.e2e.apps.brokers.count[{failed.id}] raised unexpected"
    assert sorted(events) == [
        ("ERROR", failure),
        ("ERROR", "circuit.opened"),
        ("INFO", "circuit.closed"),
        ("WARNING", "gate.closed"),
    ]


# --- beat ---


@pytest.fixture
def json_beat(mongo: LocalServer, redis: LocalServer, tmp_path: Path) -> Iterator[Beat]:
    env = environment(mongo.uri, redis.uri, CELERY_PYMONGO_LOG_FORMAT="json", **QUICK)
    with beat(env, tmp_path) as sender:
        yield sender


def test_every_line_of_beat_is_one_json_object(json_beat: Beat) -> None:
    json_beat.wait_for_sent("mongo.health.check", count=2)
    assert json_beat.terminate() == 0
    assert len([json.loads(line) for line in after_banner(json_beat.text)]) > 2
