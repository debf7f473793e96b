"""The exporter over a real worker whose children are recycled and killed, and over a Redis that goes away."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.local.servers import LocalServer
from tests.e2e.operator import Operator
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import Node, Site
from tests.e2e.workers import wait_until

Key = tuple[str, tuple[tuple[str, str], ...]]
Scrape = dict[Key, float]


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module")
def node(site: Site) -> Iterator[Node]:
    with site.node("fork", worker_max_tasks_per_child=4) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


@pytest.fixture(scope="module")
def address(site: Site, node: Node) -> Iterator[str]:
    operator = Operator(site.environment("fork", node.deployment))
    process = operator.start("exporter", "--port", "0", "--interval", "1")
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said.startswith("serving http://127.0.0.1:"), said
        yield said.split()[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()


def fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())


def scrape(address: str) -> Scrape:
    families = text_string_to_metric_families(fetch(address))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Scrape, name: str, **labels: str) -> float | None:
    """Return the sum of the series of this name with these labels; None where there is none."""
    wanted = labels.items()
    numbers = [
        number for (other, own), number in found.items() if other == name and wanted <= dict(own).items()
    ]
    return sum(numbers) if numbers else None


def counters(found: Scrape) -> Scrape:
    return {
        key: number
        for key, number in found.items()
        if re.search("_(total|bucket|count|sum)$", key[0]) and not key[0].endswith("connection_count")
    }


def checkouts(address: str) -> float:
    return value(scrape(address), "celery_pymongo_checkouts_total") or 0.0


def is_redis_up(address: str) -> bool:
    return value(scrape(address), "celery_pymongo_redis_up") == 1


class Watcher:
    """Scrapes until it is told to end; keeps each counter that fell."""

    def __init__(self, address: str) -> None:
        self.fallen: list[tuple[Key, float, float]] = []
        self.scrapes = 0
        self._address = address
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        before: Scrape = {}
        while not self._ended.wait(0.2):
            now = counters(scrape(self._address))
            self.fallen += [(key, before[key], n) for key, n in now.items() if n < before.get(key, 0.0)]
            self.fallen += [(key, before[key], 0.0) for key in before.keys() - now.keys()]
            before = now
            self.scrapes += 1


def test_no_counter_falls_and_none_is_lost_while_children_are_recycled_and_killed(
    node: Node, address: str
) -> None:
    """Ours are the writes of the tasks, each of which takes a connection once."""
    wait_until(lambda: checkouts(address), what="a first look", seconds=30)
    before = checkouts(address)
    first = node.pids()
    with Watcher(address) as watcher:
        for number in range(20):
            node.run("write", number)
        wait_until(lambda: not first & node.pids(), what="recycled children", seconds=30)
        enough = before + 20
        wait_until(
            lambda: checkouts(address) >= enough,
            what="every write of children that ended",
            seconds=40,
        )
        for pid in node.pids():
            os.kill(pid, signal.SIGKILL)
        for number in range(20, 26):
            node.run("write", number)
        wait_until(
            lambda: checkouts(address) >= enough + 6,
            what="what the killed had counted, and the new",
            seconds=40,
        )
    assert watcher.scrapes > 10
    assert watcher.fallen == []


def test_what_lives_now_is_told_by_node(node: Node, address: str) -> None:
    name = node.worker.hostname
    found: Scrape = {}

    def both_live() -> bool:
        found.clear()
        found.update(scrape(address))
        return value(found, "celery_pymongo_processes", node=name, state="live") == 2

    wait_until(both_live, what="two live processes", seconds=30)
    assert value(found, "celery_pymongo_processes_expected", node=name) == 2
    assert value(found, "celery_pymongo_circuits", node=name, state="closed") == 2
    assert value(found, "celery_pymongo_redis_up") == 1
    assert value(found, "celery_pymongo_mongodb_up") == 1
    assert value(found, "db_client_connection_count", node=name) is not None
    waits = value(found, "db_client_connection_wait_time_seconds_bucket", node=name, le="+Inf")
    assert waits == value(found, "celery_pymongo_checkouts_total", node=name)


def test_it_packs_the_page_for_those_who_ask(address: str) -> None:
    asked = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})  # noqa: S310 - loopback
    with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310 - loopback
        assert answer.headers["Content-Encoding"] == "gzip"
        assert b"celery_pymongo_build_info" in gzip.decompress(answer.read())


@pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool")
def test_promtool_finds_nothing_to_object_to(address: str) -> None:
    # Where a unit stands before a total, and gauges of a count, are OpenTelemetry's names.
    done = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 - on the PATH
        input=fetch(address),
        capture_output=True,
        text=True,
        check=False,
    )
    objections = [line for line in done.stderr.splitlines() if "db_client_connection_count" not in line]
    assert objections == [], done.stderr


def test_only_get_is_answered_and_every_other_path_is_none(address: str) -> None:
    post = urllib.request.Request(address, data=b"x", method="POST")  # noqa: S310 - loopback
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(post, timeout=5)  # noqa: S310 - loopback
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(address.replace("/metrics", "/else"))
    assert fetch(address.replace("/metrics", "/live")) == '{"live": true}'


def test_while_redis_hangs_it_answers_with_what_it_saw_last(node: Node, site: Site, address: str) -> None:
    before = counters(scrape(address))
    site.redis.suspend()
    try:
        wait_until(
            lambda: value(scrape(address), "celery_pymongo_redis_up") == 0, what="redis_up 0", seconds=30
        )
        began = time.monotonic()
        found = scrape(address)
        assert time.monotonic() - began < 5
        assert counters(found).keys() >= before.keys()
        assert all(found[key] >= number for key, number in before.items())
    finally:
        site.redis.resume()
    wait_until(lambda: is_redis_up(address), what="redis_up 1", seconds=30)


def test_a_port_that_is_taken_is_one_line(site: Site, node: Node, address: str) -> None:
    port = address.rpartition(":")[2].partition("/")[0]
    done = Operator(site.environment("fork", node.deployment)).run("exporter", "--port", port)
    assert done.returncode == 1
    assert done.stderr == f"mongo: cannot listen on 127.0.0.1:{port}: Address already in use\n"
