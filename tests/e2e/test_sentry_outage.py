"""An outage of a fleet under load is two events, and whatever else goes wrong meanwhile arrives."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ops.local.servers import LocalServer
from tests.e2e.apps.service import ALONE, environment, producer, service
from tests.e2e.kent import FakeSentry, kent_server
from tests.e2e.workers import Worker, wait_until

NODES, PROCESSES = 2, 4
PLAIN = "tests.e2e.apps.plain_sentry"
GATED, FREE = "gated", "free"
STEP_SECONDS = 0.4
PLANTED = ("key", "value", "told")


@dataclass
class Fleet:
    """Workers of one app that report to a Sentry of their own, and what was sent to them."""

    name: str
    sentry: FakeSentry
    env: Mapping[str, str | None]
    workers: list[Worker]
    sender: Celery
    sent: Counter[str] = field(default_factory=Counter)
    planted: list[str] = field(default_factory=list)

    def load(self) -> None:
        """Send one of each: a task that waits the outage out, and one that fails of it."""
        self.sender.send_task("probe.upsert", (self.sent["upsert"],), queue=GATED, ignore_result=True)
        self.sender.send_task("probe.read", queue=FREE, ignore_result=True)
        self.sent.update(["upsert", "read"])

    def plant(self) -> None:
        """Let a task fail of something else."""
        for kind in PLANTED:
            name = f"{kind}-{len(self.planted)}"
            self.sender.send_task("probe.plant", (name,), queue=FREE, ignore_result=True)
            self.planted.append(name)

    def wait_ready(self) -> None:
        """Wait until every process has reached MongoDB."""
        for worker in self.workers:
            worker.wait_ready()
        for worker in self.workers:
            worker.wait_for_log(r"client\.warm:", count=PROCESSES)

    @property
    def is_idle(self) -> bool:
        """Whether no message waits in the broker."""
        client = self.sender.backend.client
        prefix = self.sender.conf.broker_transport_options["global_keyprefix"]
        return not any(client.llen(f"{prefix}{queue}") for queue in (GATED, FREE))


@contextmanager
def fleet(  # noqa: PLR0913 - where it runs, and as what
    name: str, app: str, mongo: LocalServer, redis: LocalServer, folder: Path, *, dsn_variable: str
) -> Iterator[Fleet]:
    (folder / name).mkdir()
    with ExitStack() as stack:
        sentry = stack.enter_context(kent_server(folder / name))
        env = environment(mongo.uri, redis.uri) | {
            dsn_variable: sentry.dsn,
            "CELERY_PYMONGO_DEPLOYMENT": f"{name}-{os.getpid()}",
            "CELERY_PYMONGO_GATED_QUEUES": GATED,
            "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "1500",
            "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
        }
        sender = stack.enter_context(producer(env))
        options: dict[str, Any] = {"pool": "prefork", "concurrency": PROCESSES, "queues": (GATED, FREE)}
        workers = []
        for number in range(NODES):
            worker = service(env, folder / name, name=f"{name}{number}", options=ALONE, **options)
            worker.app = app
            workers.append(stack.enter_context(worker))
        made = Fleet(name, sentry, env, workers, sender)
        made.wait_ready()
        yield made


def suffer(mongo: LocalServer, fleets: list[Fleet], seconds: float) -> None:
    """Put a steady load on all of them while MongoDB goes and comes back."""
    began = time.monotonic()
    killed_at = started_at = None
    step = 0
    while started_at is None or time.monotonic() < started_at + 4:
        for one in fleets:
            one.load()
            # Before, at the beginning, in the middle, at the end and after.
            if step % 12 == 6:
                one.plant()
        now = time.monotonic()
        if killed_at is None and now > began + 3:
            # Tasks of both kinds are in the middle of an operation.
            mongo.suspend()
            for one in fleets * PROCESSES:
                one.load()
            mongo.kill()
            killed_at = now
        if killed_at is not None and started_at is None and now > killed_at + seconds:
            mongo.start()
            started_at = time.monotonic()
        step += 1
        time.sleep(max(0.0, began + step * STEP_SECONDS - time.monotonic()))


def of_outage(sentry: FakeSentry) -> list[dict[str, Any]]:
    return [event for event in sentry.events() if "celery_pymongo.event" in (event.get("tags") or {})]


def planted(sentry: FakeSentry) -> list[str]:
    raised = [event["exception"]["values"][-1]["value"] for event in sentry.events() if "exception" in event]
    return sorted(text.strip("'") for text in raised)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seconds", [20, pytest.param(60, marks=pytest.mark.full)])
def test_an_outage_of_two_nodes_is_two_events_and_every_error_of_something_else(
    mongo: LocalServer, redis: LocalServer, tmp_path: Path, seconds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        fleet("ours", "worker", mongo, redis, tmp_path, dsn_variable="SENTRY_DSN") as ours,
        fleet("plain", PLAIN, mongo, redis, tmp_path, dsn_variable="PLAIN_DSN") as plain,
    ):
        suffer(mongo, [ours, plain], seconds)
        wait_until(lambda: len(of_outage(ours.sentry)) >= 2, what="the end of the outage", seconds=40)
        wait_until(lambda: ours.is_idle and plain.is_idle, what="the end of the load", seconds=60)
        wait_until(lambda: len(planted(ours.sentry)) >= len(ours.planted), what="every planted error")
        for worker in (*ours.workers, *plain.workers):
            assert worker.terminate() == 0
        opened, recovered = of_outage(ours.sentry)
        told = recovered["contexts"]["celery_pymongo"]
        with capsys.disabled():
            print(  # noqa: T201 - what this test is for
                f"\n{seconds} s without MongoDB, {NODES} nodes of {PROCESSES} processes, "
                f"{ours.sent['upsert']} tasks that wait, {ours.sent['read']} that fail, "
                f"{len(ours.planted)} planted errors.\n"
                f"ours:  {len(ours.sentry.events())} events, {len(planted(ours.sentry))} of them planted\n"
                f"       {opened['message']}\n       {recovered['message']}\n"
                f"plain: {plain.sentry.count} events, {len(plain.planted)} of them planted"
            )
        assert planted(ours.sentry) == sorted(ours.planted)
        assert len(ours.sentry.events()) == 2 + len(ours.planted)
        assert [event["tags"]["celery_pymongo.event"] for event in (opened, recovered)] == [
            "outage.opened",
            "outage.recovered",
        ]
        assert opened["fingerprint"] == recovered["fingerprint"]
        assert (told["processes_affected"], told["nodes_affected"]) == (NODES * PROCESSES, NODES)
        assert seconds - 1 <= told["seconds"] <= seconds + 10
        assert told["tasks_returned_to_the_broker"] > 0
        assert told["errors_by_task"].keys() == {"probe.read"}
        assert plain.sentry.count > len(plain.planted) + NODES * PROCESSES
