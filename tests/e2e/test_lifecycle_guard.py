"""Clients in the wrong place are named; wrong settings start nothing; scripts get the one client too."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import PROCESSES, Site
from tests.e2e.workers import ROOT, Worker, wait_until

APP = ROOT / "tests" / "e2e" / "apps" / "lifecycle.py"
PASSWORD = "hunter2"  # noqa: S105  # the secret that must not be printed
TICK_SECONDS = "0.5"


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


def line_of(code: str) -> str:
    """`file:line` of the first line of the app with this code."""
    lines = APP.read_text().splitlines()
    return f"{APP}:{next(number for number, line in enumerate(lines, 1) if code in line)}"


@pytest.mark.parametrize("code", ["EARLY = MongoClient(early)", "EARLY: Any = app.mongo.get_client()"])
def test_a_client_opened_before_the_fork_is_named_once(site: Site, code: str) -> None:
    early = "own" if "get_client" in code else site.mongo.uri
    with site.node("fork", env={"LIFECYCLE_EARLY_CLIENT": early}) as node:
        node.worker.wait_ready()
        node.wait_warm()
        assert node.worker.text.count("client.foreign") == 1
        assert f"made by {line_of(code)}" in node.worker.text
        assert len(site.proxy.pids() & node.pids()) == PROCESSES["fork"]


@pytest.mark.parametrize(
    ("conf", "options", "line"),
    [
        ({"task_acks_late": False}, (), r"task_acks_late=False: a task that is no MongoTask is lost"),
        (
            {},
            ("--prefetch-multiplier", "16"),
            r"worker_prefetch_multiplier=16: a message may wait up to 4800 s",
        ),
        (
            {"task_time_limit": 7200},
            (),
            r"broker_transport_options\['visibility_timeout'\]=3600: a task may run",
        ),
        ({"result_expires": 60}, (), r"result_expires=60 s: a message that comes back"),
    ],
)
def test_the_service_does_not_start_with_settings_that_can_lose_or_double_work(
    site: Site, conf: dict[str, Any], options: tuple[str, ...], line: str
) -> None:
    """Whoever changed them: its environment, a module of tasks, its command line."""
    with site.node("fork", **conf) as node:
        node.worker.close()
        worker = dataclasses.replace(
            node.worker, log=node.worker.log.with_suffix(".refused"), options=(*node.worker.options, *options)
        )
        with worker:
            assert worker.wait() == os.EX_CONFIG
            assert re.search(rf"settings\.warning: {line}", worker.text)
            assert "not starting with settings that can lose or double work" in worker.text
            assert "Traceback" not in worker.text


def test_a_redis_that_may_lose_messages_is_named_once_by_each_node(site: Site) -> None:
    with redis_py.Redis.from_url(site.redis.uri) as client:
        client.config_set("appendonly", "no")
        try:
            with site.node("fork") as node:
                node.worker.wait_for_log(
                    r"redis\.doubtful: no append-only file: every message and result is lost"
                )
                node.wait_warm()
                # Replacements of both children ask no more.
                for pid in node.pids():
                    os.kill(pid, signal.SIGKILL)
                node.wait_warm(4)
                node.worker.wait_for_log(r"process\.lost", count=2)
                assert node.worker.text.count("redis.doubtful") == 1
        finally:
            client.config_set("appendonly", "yes")


@pytest.mark.full
def test_strict_mode_starts_nothing_beside_a_client_opened_before_the_fork(site: Site) -> None:
    env = {"LIFECYCLE_EARLY_CLIENT": site.mongo.uri, "CELERY_PYMONGO_STRICT": "true"}
    with site.node("fork", env=env) as node:
        assert node.worker.wait() == os.EX_CONFIG
        assert node.worker.text.count("client.foreign") == 1
        assert "client.opened" not in node.worker.text
        assert "Traceback" not in node.worker.text


def test_a_second_client_in_a_task_is_named_once_per_line_and_main_is_refused_one(site: Site) -> None:
    with site.node("fork", worker_max_tasks_per_child=100) as node:
        node.worker.wait_ready()
        pids = {node.run("second_client", site.mongo.uri) for _ in range(6)}
        assert node.worker.text.count("client.foreign") == len(pids)
        assert node.worker.text.count(line_of("with MongoClient[dict")) == len(pids)
        assert node.worker.text.count("refused: ") == 1
        assert "holds no MongoDB client" in node.worker.text


def test_wrong_settings_start_nothing_and_are_said_in_a_line_each(site: Site, tmp_path: Path) -> None:
    wrong = {
        "MONGODB_URI": f"mongodb://root:{PASSWORD}@127.0.0.1:70000/",
        "REDIS_URL": f"http://:{PASSWORD}@127.0.0.1/0",
        "MONGODB_MAX_POOL_SIZE": "many",
        "CELERY_PYMONGO_DEPLOYMENT": "d",
    }
    with Worker("worker", tmp_path / "wrong.log", env=site.environment() | wrong) as worker:
        assert worker.wait() == os.EX_CONFIG
        lines = worker.text.strip().splitlines()
        assert [line.split(":")[0] for line in lines] == ["MONGODB_URI", "MONGODB_MAX_POOL_SIZE", "REDIS_URL"]
        assert PASSWORD not in worker.text


@pytest.mark.full
def test_the_service_with_beat_is_silent_while_nothing_changes(site: Site, tmp_path: Path) -> None:
    names = ("HEALTH", "SNAPSHOT", "RECONNECT")
    ticks = {f"CELERY_PYMONGO_{name}_INTERVAL_SECONDS": TICK_SECONDS for name in names}
    env = site.environment(deployment="quiet") | ticks
    with Worker("worker", tmp_path / "quiet.log", env=env, options=("-B", "--without-mingle")) as worker:
        worker.wait_ready()
        worker.wait_for_log("client.warm", count=2)
        worker.wait_for_log("this beat leads")
        done = pings(site, worker.children())
        before = worker.text
        wait_until(lambda: pings(site, worker.children()) > done + 4, what="four health checks more")
        assert worker.text[len(before) :] == ""


def pings(site: Site, pids: list[int]) -> int:
    return sum(wire.commands.count("ping") for wire in site.proxy.wires(pids))


SCRIPT = """
import os, sys
from worker import get_client
get_client().admin.command("ping")
print(os.getpid())
sys.stdout.flush()
if "fork" in sys.argv:
    child = os.fork()
    if child == 0:
        get_client().admin.command("ping")
        print(os.getpid())
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    get_client().admin.command("ping")
"""


@pytest.mark.parametrize("arguments", [[], ["fork"]], ids=["plain", "with a fork"])
def test_a_script_closes_the_client_of_each_of_its_processes_at_exit(
    site: Site, arguments: list[str]
) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", SCRIPT, *arguments],
        cwd=ROOT,
        env=dict(os.environ) | site.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    pids = [int(line) for line in ran.stdout.split()]
    assert len(pids) == 1 + len(arguments)
    assert ran.stderr == ""
    assert {pid: site.proxy.sessions_ended(pid) for pid in pids} == dict.fromkeys(pids, 1)
