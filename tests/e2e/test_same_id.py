"""Several messages under one task's id: replaced tasks, retries, links, and an id that is sent twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from redis import Redis

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import MODULE, QUEUE, Node, Site, kinds
from tests.e2e.workers import wait_until
from worker.delivery.dead_letters import DeadLetters, Letter
from worker.errors import DeadLetteredError
from worker.settings.fields import load_settings


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=kinds("fork", full=["threads"]))
def node(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    with site.node(request.param, env={"MONGODB_URI": site.mongo.uri}) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


@pytest.fixture
def data(site: Site) -> Iterator[Any]:
    with MongoClient[dict[str, Any]](site.mongo.uri) as client:
        yield client.app


@pytest.fixture
def key() -> str:
    return uuid4().hex[:8]


def letters(site: Site, node: Node) -> list[Letter]:
    settings = load_settings(site.environment(deployment=node.deployment), env_file=None)
    with Redis.from_url(site.redis.uri) as client:
        return list(DeadLetters(client, settings.key).letters())


def has_letters(site: Site, node: Node, number: int) -> bool:
    return len(letters(site, node)) == number


def is_there(data: Any, key: str, number: int) -> bool:
    return int(data.notes.count_documents({"key": key})) == number


def wait_for_notes(data: Any, **expected: int) -> None:
    for key, number in expected.items():
        wait_until(partial(is_there, data, key, number), what=key, seconds=30)


def elsewhere(node: Node, code: str) -> None:
    """Run code in a process that has an `app` without this package, of the node's broker and results."""
    names = ("broker_url", "broker_transport_options", "result_backend", "result_backend_transport_options")
    conf = {name: node.sender.conf[name] for name in names}
    setup = f"import celery, os\napp = celery.Celery()\napp.conf.update({conf!r})\n"
    # It waits for no result.
    subprocess.run([sys.executable, "-c", f"{setup}{code}\nos._exit(0)"], check=True, timeout=60)


def of(node: Node, task: str, *args: Any, **options: Any) -> Any:
    """The signature of one of the lifecycle app's tasks."""
    return node.sender.signature(f"{MODULE}.{task}", args, queue=QUEUE, immutable=True, **options)


def test_a_task_that_replaces_itself_runs_each_time(node: Node, site: Site, data: Any, key: str) -> None:
    """Though it must not run twice."""
    assert node.run("page", key, 1, 4) == 4
    assert sorted(page["number"] for page in data.pages.find({"key": key})) == [1, 2, 3, 4]
    assert letters(site, node) == []


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        ("another", (11, 2)),
        ("itself", (30, 3)),
        ("a group", (12, 3)),
        ("a chord", (22, 4)),
        ("a chain", (21, 3)),
    ],
)
def test_once_is_once_for_each_task_of_an_id(
    node: Node, data: Any, key: str, replacement: str, expected: tuple[int, int]
) -> None:
    node.run("reward", key, replacement)
    points, count = data.accounts.find_one({"_id": key}), data.counts.find_one({"_id": key})
    assert (points["points"], count["n"]) == expected


def test_an_id_that_is_sent_twice_is_two_messages(node: Node, site: Site, data: Any, key: str) -> None:
    """Also while the first still runs."""
    for seconds in (0.0, 1.0, 0.0):
        result = node.send("note", key, "well", seconds, task_id=key)
    result.get(timeout=20)
    wait_for_notes(data, **{key: 3})
    assert letters(site, node) == []


def test_a_sender_without_this_package_is_understood_too(node: Node, site: Site, data: Any, key: str) -> None:
    """Its messages have no name: the broker's tag tells them apart."""
    send = f'app.send_task("{MODULE}.note", ("{key}", "retried"), queue="{QUEUE}", task_id="{key}")'
    elsewhere(node, f"{send}\n{send}")
    wait_for_notes(data, **{key: 2})
    assert letters(site, node) == []


def test_what_calls_back_is_other_work(node: Node, site: Site, data: Any, key: str) -> None:
    """Links, errbacks and chords, before and after a retry; each is a message of its own."""
    done, failed = of(node, "note", f"{key} done"), of(node, "note", f"{key} failed")
    node.send("note", key, "retried", link=done, link_error=failed)
    node.send("note", key, "failed", link=done, link_error=failed)
    elsewhere(
        node,
        f"""
def of(task, *args):
    return app.signature("{MODULE}." + task, args, queue="{QUEUE}", immutable=True)
celery.chord([of("note", "{key}"), of("page", "{key}", 1, 2)], of("note", "{key} all"), app=app).apply_async()
""",
    )
    wait_for_notes(data, **{key: 3, f"{key} done": 1, f"{key} failed": 1, f"{key} all": 1})
    assert data.pages.count_documents({"key": key}) == 2
    assert letters(site, node) == []


@pytest.mark.parametrize("node", ["fork"], indirect=True)
def test_two_messages_of_one_id_are_two_letters(node: Node, site: Site, data: Any, key: str) -> None:
    """The second does not take the place of the first, and each goes back by itself."""
    for number, word in enumerate(("one", "two"), 1):
        result = node.send("note", f"{key} {word}", "killed", task_id=key)
        wait_for_notes(data, **{f"{key} {word}": 1})
        wait_until(partial(has_letters, site, node, number), what="its letter", seconds=60)
    with pytest.raises(DeadLetteredError):
        result.get(timeout=20)
    first, second = letters(site, node)
    assert (first.id, second.id) == (key, f"{key}~{second.message[:8]}")
    assert data.notes.count_documents({"key": {"$regex": f"^{key}"}}) == 2
