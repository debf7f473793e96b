"""What kills its process, or may have written and must not run twice, ends in the dead letters."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import MODULE, Node, Site, kinds
from tests.e2e.workers import ROOT, wait_until
from tests.schemas import validated
from worker.errors import DeadLetteredError

SETTINGS = {"MONGODB_HEARTBEAT_FREQUENCY_MS": "500"}


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=kinds("fork", full=["spawn"]))
def node(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    with site.node(request.param, env=SETTINGS | {"MONGODB_URI": site.mongo.uri}) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


@pytest.fixture
def server(site: Site) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](site.mongo.uri) as client:
        yield client
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def dead(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mongo dead …` as a person would on the worker's host."""
    command = [sys.executable, "-m", "celery", "-A", MODULE, "mongo", "dead", *arguments]
    environment = node.worker.environment() | {"MONGODB_URI": "mongodb://127.0.0.1:1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done


def letters(node: Node) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = validated(dead(node, "list", "--json").stdout)["letters"]
    return found


def added(server: MongoClient[dict[str, Any]], key: str) -> int:
    document = server.app.lifecycle.find_one({"_id": key})
    return document["n"] if document else 0


def runs(node: Node, words: str) -> int:
    return node.worker.text.count(words)


def test_a_message_that_kills_its_process_three_times_is_kept_and_not_run_again(node: Node) -> None:
    result = node.send("poison")
    with pytest.raises(DeadLetteredError, match="its process was killed 3 times in the middle of it; it is"):
        result.get(timeout=60)
    assert runs(node, "poisoned: ") == 3
    (letter,) = letters(node)
    assert (letter["id"], letter["reason"], letter["forced"]) == (result.id, "poison", 3)
    assert letter["queue"] == "lifecycle"
    *_, killed = re.findall(r"poisoned: (\d+)", node.worker.text)
    assert letter["killed"]["pid"] == int(killed)
    assert killed in dead(node, "list").stdout.split()
    assert node.run("write", 1) == 1
    assert runs(node, "poisoned: ") == 3


@pytest.mark.full
def test_a_letter_is_sent_again_or_dropped_by_a_person(node: Node) -> None:
    (letter,) = letters(node)
    shown = dead(node, "show", letter["id"], "--body")
    assert f"{MODULE}.poison" in shown.stdout
    sent = dead(node, "requeue", letter["id"])
    assert (sent.stdout, sent.returncode) == ("1 dead letter sent again\n", 0)
    wait_until(lambda: runs(node, "poisoned: ") == 6, what="three more runs", seconds=60)
    wait_until(lambda: letters(node), what="its letter", seconds=30)
    refused = dead(node, "drop", "--all")
    assert (refused.returncode, len(letters(node))) == (1, 1)
    assert dead(node, "drop", "--all", "--yes").stdout == "1 dead letter dropped\n"
    assert dead(node, "list").stdout == "no dead letters\n"
    unknown = dead(node, "show", letter["id"])
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith(f"mongo: no dead letter {letter['id']}; ")


@pytest.mark.parametrize("ending", ["killed", "failing over"])
def test_what_must_not_run_twice_is_not_run_again_once_it_may_have_written(
    node: Node, server: MongoClient[dict[str, Any]], ending: str
) -> None:
    key = f"{node.kind} {ending}"
    result = node.send("add", key, ending)
    with pytest.raises(DeadLetteredError, match="may have written, and must not run twice"):
        result.get(timeout=60)
    assert (runs(node, f"adding to {key}"), added(server, key)) == (1, 1)
    assert [one["reason"] for one in letters(node) if one["id"] == result.id] == ["outcome unknown"]
    assert dead(node, "drop", result.id, "--yes").returncode == 0


def test_a_lost_connection_leaves_the_outcome_unknown(
    node: Node, server: MongoClient[dict[str, Any]]
) -> None:
    key = f"{node.kind} lost"
    data = {"failCommands": ["update"], "closeConnection": True}
    server.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 2}, "data": data})
    with pytest.raises(DeadLetteredError, match="AutoReconnect"):
        node.send("add", key).get(timeout=60)
    assert runs(node, f"adding to {key}") == 1
    assert dead(node, "drop", "--all", "--yes").returncode == 0


def test_what_has_certainly_written_nothing_runs_again(
    node: Node, site: Site, server: MongoClient[dict[str, Any]]
) -> None:
    """In an outage, and where the server refuses the write before it begins."""
    key = f"{node.kind} refused"
    data = {"failCommands": ["update"], "errorCode": 10107}
    server.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    assert node.run("add", key) == 1
    site.mongo.kill()
    away = node.send("add", key)
    node.worker.wait_for_log(rf"task\.requeued: .*{away.id}")
    site.mongo.start()
    assert away.get(timeout=60) == 1
    assert added(server, key) == 2
    assert letters(node) == []
