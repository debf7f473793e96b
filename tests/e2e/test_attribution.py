"""Real workers say which task holds a connection for long, or left something open when it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import QUEUE, Node, Site, kinds

ENVIRONMENT = {
    "CELERY_PYMONGO_INCLUDE": "tests.e2e.apps.attribution",
    "CELERY_PYMONGO_LONG_HOLD_SECONDS": "0.5",
}
ALARM = re.compile(r"pool\.(?:long_hold|leak): task (\S+)\[")


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=kinds("fork", "gevent", full=["threads"]))
def node(site: Site, request: pytest.FixtureRequest) -> Iterator[Node]:
    """One worker of each kind; the tests share it, each with a task of its own."""
    with site.node(request.param, env=ENVIRONMENT) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


@pytest.fixture(scope="module")
def runs(node: Node, site: Site) -> dict[str, AsyncResult]:
    """One run of each task, all sent at once."""
    data = {"failCommands": ["distinct"], "blockConnection": True, "blockTimeMS": 4000}
    with MongoClient[dict[str, Any]](site.mongo.uri) as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    tasks = {
        "hold": (),
        "leave_session": (),
        "leave_transaction": (),
        "leave_exhaust_cursor": (),
        "leave_client": (site.mongo.uri,),
        "leave_for_a_while": (5.0,),
        "leave_nothing": (),
    }
    return {name: send(node, name, *arguments) for name, arguments in tasks.items()}


def send(node: Node, task: str, *args: Any) -> AsyncResult:
    return node.sender.send_task(f"attribution.{task}", args, queue=QUEUE)


def told(node: Node, event: str, result: AsyncResult) -> str:
    """Wait for what the log says of this run, and return its first line and stack."""
    start = rf"{re.escape(event)}: task {re.escape('attribution.')}\w+\[{result.id}\]"
    node.worker.wait_for_log(start)
    found = re.search(start + r".*\n(?:  .*\n)*", node.worker.text)
    assert found is not None
    return found.group()


def test_a_long_operation_is_told_while_it_runs_and_when_it_ends(
    node: Node, runs: dict[str, AsyncResult]
) -> None:
    result = runs["hold"]
    text = told(node, "pool.long_hold", result)
    assert not result.ready()
    assert "attribution.py:" in text
    assert "in asks_for_long" in text
    told(node, "pool.returned", result)
    result.get(timeout=20)


@pytest.mark.parametrize(
    ("task", "what"),
    [
        ("leave_session", "a session"),
        ("leave_transaction", "a session in a transaction"),
        ("leave_exhaust_cursor", r"a connection to [\w.]+:\d+"),
        ("leave_client", "a second client"),
    ],
)
def test_what_a_task_leaves_open_is_told(
    node: Node, runs: dict[str, AsyncResult], task: str, what: str
) -> None:
    result = runs[task]
    result.get(timeout=20)
    assert re.search(rf"left open: {what}$", told(node, "pool.leak", result), re.MULTILINE)


def test_a_second_client_is_told_with_the_line_that_made_it(node: Node, runs: dict[str, AsyncResult]) -> None:
    assert "in leave_client" in told(node, "pool.leak", runs["leave_client"])


def test_what_ends_after_all_is_told(node: Node, runs: dict[str, AsyncResult]) -> None:
    told(node, "pool.leak", runs["leave_for_a_while"])
    assert "left open what is gone now" in told(node, "pool.returned", runs["leave_for_a_while"])


def test_nothing_else_is_told(node: Node, runs: dict[str, AsyncResult]) -> None:
    """What a later leak's warning comes after would have been told by then."""
    runs["leave_nothing"].get(timeout=20)
    told(node, "pool.leak", send(node, "leave_late"))
    told_of = {name.removeprefix("attribution.") for name in ALARM.findall(node.worker.text)}
    assert told_of == {*runs, "leave_late"} - {"leave_nothing"}
    assert "reporter.error" not in node.worker.text
