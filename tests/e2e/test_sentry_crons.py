"""Beat's entries in Sentry Crons: a real beat, a real worker, every way that a run can end."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.local.servers import LocalServer
from tests.e2e.apps.service import ALONE, beat, environment, service
from tests.e2e.kent import FakeSentry, kent_server
from tests.e2e.workers import wait_until

APP = "tests.e2e.apps.crons"


@dataclass
class Site:
    """A worker and a beat that have begun, and the Sentry that they tell."""

    sentry: FakeSentry
    deployment: str

    def told(self) -> dict[str, list[dict[str, Any]]]:
        """The check-ins by their monitor, the oldest first."""
        found = defaultdict(list)
        for body in self.sentry.bodies("check_in"):
            found[body["monitor_slug"].removeprefix(f"{self.deployment}-")].append(body)
        return found

    def statuses(self, slug: str) -> list[str]:
        """How a monitor's check-ins stand, the oldest first."""
        return [body["status"] for body in self.told()[slug]]


@contextmanager
def running(mongo: LocalServer, redis: LocalServer, folder: Path, scheduler: str) -> Iterator[Site]:
    # Of its own: another beat on the same keys would take its windows.
    deployment = f"c{os.getpid()}-{scheduler}"
    with kent_server(folder) as sentry:
        env = environment(
            mongo.uri,
            redis.uri,
            SENTRY_DSN=sentry.dsn,
            CELERY_PYMONGO_DEPLOYMENT=deployment,
            CELERY_PYMONGO_SCHEDULER=scheduler,
        )
        worker = service(env, folder, pool="prefork", concurrency=2, options=ALONE)
        sender = beat(env, folder)
        worker.app = sender.app = APP
        with worker, sender:
            worker.wait_ready()
            yield Site(sentry, deployment)


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(mongo, redis, Path(tmp_path_factory.mktemp("plain")), "plain") as site:
        yield site


@pytest.mark.parametrize(
    ("slug", "end"), [("fine", "ok"), ("failing", "error"), ("retried", "ok"), ("expired", "error")]
)
def test_a_run_is_in_progress_and_ends_once(site: Site, slug: str, end: str) -> None:
    """A retry is no end, and what expired has one."""
    wait_until(lambda: len(site.statuses(slug)) >= 2, what=f"the end of {slug}", seconds=20)
    assert site.statuses(slug) == ["in_progress", end]
    begun, ended = site.told()[slug]
    assert begun["check_in_id"] == ended["check_in_id"]
    config = begun["monitor_config"]
    assert config["schedule"] == {"type": "interval", "value": 1, "unit": "hour"}
    assert config["checkin_margin"] >= 1
    assert config["max_runtime"] >= 1


@pytest.mark.full  # two windows of a minute, and their grace
@pytest.mark.timeout(300)
def test_a_window_of_short_runs_is_one_check_in_and_fails_of_one(
    mongo: LocalServer, redis: LocalServer, tmp_path: Path
) -> None:
    with running(mongo, redis, tmp_path, "redbeat") as site:
        hold_windows(site)


def hold_windows(site: Site) -> None:
    wait_until(lambda: len(site.statuses("short")) >= 2, what="two windows", seconds=240)
    assert set(site.statuses("short")) == {"ok"}
    assert set(site.statuses("short-failing")) == {"error"}
    config = site.told()["short"][0]["monitor_config"]
    assert config["schedule"] == {"type": "interval", "value": 1, "unit": "minute"}
    # Our own entries are every 5, 10 and 15 s.
    assert set(site.statuses("mongo-health-check")) == {"ok"}
