"""A dead letter is its message, byte for byte, whatever serializer it came with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from redis import Redis

from ops.local.servers import LocalServer
from tests.e2e.apps import turned
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import MODULE, QUEUE, Node, Site
from tests.e2e.workers import ROOT, wait_until
from tests.schemas import validated
from worker.settings.fields import load_settings

DEPLOYMENT = "bytes"
PICKLED = ({1: (1, 2)}, ObjectId("5f43a1b2c3d4e5f601234567"))
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "json": ({"a": [1, None]}, {}),
    "pickle": (PICKLED, {"serializer": "pickle"}),
    "compressed": (PICKLED, {"serializer": "pickle", "compression": "zlib"}),
    "the app's own": ((1, b"x"), {"serializer": turned.NAME}),
    "with options": ([1], {"priority": 6, "headers": {"tenant": {"id": 7}}}),
    "expiring": ([2], {"expires": 300}),
}
# Of the delivery: a message that is sent again is sent now, and must not have expired when it comes.
CHANGED = {"celery_pymongo_sent_at", "expires"}
KEPT = {"priority", "correlation_id", "reply_to", "delivery_mode"}


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    turned.register()
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


def node(site: Site) -> AbstractContextManager[Node]:
    environment = {
        "MONGODB_URI": site.mongo.uri,
        "CELERY_PYMONGO_DEPLOYMENT": DEPLOYMENT,
        # The tests may be run by root, whom Celery would not let unpickle.
        "C_FORCE_ROOT": "1",
    }
    accepted = ["json", "pickle", turned.CONTENT_TYPE]
    return site.node("fork", env=environment, concurrency=1, accept_content=accepted)


def waiting(site: Site) -> dict[str, dict[str, Any]]:
    """The messages in the queue as they are in Redis, by task id."""
    prefix = load_settings(site.environment(deployment=DEPLOYMENT), env_file=None).key("")
    with Redis.from_url(site.redis.uri) as client:
        texts = [text for key in client.keys(f"{prefix}{QUEUE}*") for text in client.lrange(key, 0, -1)]
    return {message["headers"]["id"]: message for message in map(json.loads, texts)}


def same(message: dict[str, Any]) -> dict[str, Any]:
    """All of a message that has to stay as it was."""
    headers = {name: value for name, value in message["headers"].items() if name not in CHANGED}
    properties = {name: value for name, value in message["properties"].items() if name in KEPT}
    return message | {"headers": headers, "properties": properties}


def dead(node: Node, *arguments: str) -> str:
    command = [sys.executable, "-m", "celery", "-A", MODULE, "mongo", "dead", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=node.worker.environment(), capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode()


def shown(node: Node, task_id: str) -> dict[str, Any]:
    body: dict[str, Any] = validated(dead(node, "show", task_id, "--body", "--json"))["letter"]["body"]
    return body


def send_all(site: Site) -> dict[str, str]:
    """Send the message of each case; return its task's id by the case's name."""
    sender = site.sender(site.environment(deployment=DEPLOYMENT))
    send = partial(sender.send_task, f"{MODULE}.keep", queue=QUEUE, ignore_result=True)
    return {name: send((value,), **options).id for name, (value, options) in CASES.items()}


def values(client: MongoClient[dict[str, Any]], task_id: str) -> list[str]:
    """What the runs of a task were given."""
    document = client.app.kept.find_one({"_id": task_id})
    return document["values"] if document else []


def has_run_again(client: MongoClient[dict[str, Any]], task_id: str) -> bool:
    return len(values(client, task_id)) == 2


def test_a_letter_is_sent_again_byte_for_byte(site: Site) -> None:
    ids = send_all(site)
    sent = waiting(site)
    with node(site) as first:
        first.worker.wait_for_log(r"task\.dead", count=len(CASES), seconds=90)
        first.worker.terminate()
        assert shown(first, ids["json"])["json"][0] == [{"a": [1, None]}]
        assert shown(first, ids["pickle"])["base64"] == sent[ids["pickle"]]["body"]
        dead(first, "requeue", "--all")
    again = waiting(site)
    assert {task_id: same(message) for task_id, message in again.items()} == {
        task_id: same(message) for task_id, message in sent.items()
    }
    assert [message["headers"]["expires"] for message in again.values()] == [None] * len(CASES)
    with node(site), MongoClient[dict[str, Any]](site.mongo.uri) as client:
        for name, task_id in ids.items():
            wait_until(partial(has_run_again, client, task_id), what=name, seconds=60)
            assert values(client, task_id) == [repr(CASES[name][0])] * 2
