"""A deployment with a trouble, and the doctor who is asked about it: within the test, and as the command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from ops.deadline import Deadline
from ops.doctor.report import examine
from tests.e2e.apps.secured import TRACES
from tests.e2e.apps.service import ALONE, Beat
from tests.e2e.workers import ROOT, Worker, wait_until
from tests.schemas import validated
from worker.integration.config import celery_config
from worker.integration.install import install
from worker.settings.fields import load_settings

APP = "tests.e2e.apps.clinic"
OURS = ("mongo.health", "mongo.ops")


@dataclass
class Clinic:
    """One deployment: `env` is that of its processes, and of the doctor where he is given no other."""

    name: str
    env: Mapping[str, str]
    folder: Path
    app: Celery = field(init=False)

    def __post_init__(self) -> None:
        self.app = Celery("clinic-doctor", set_as_current=False)
        settings = load_settings(self.env, env_file=None)
        self.app.conf.update(celery_config(settings))
        install(self.app, settings)

    def close(self) -> None:
        """Close the client of this process."""
        self.app.mongo.close()
        self.app.close()

    # -- its processes -----------------------------------------------------------------------------

    def worker(self, name: str = "w1", *, env: Mapping[str, str] | None = None, **options: Any) -> Worker:
        """A worker that is not started; it consumes a queue of its own name, and ours."""
        chosen: dict[str, Any] = {"pool": "solo", "concurrency": 1, "options": ALONE} | options
        log = self.folder / f"{self.name}-{name}.log"
        queues = (name, *OURS)
        return Worker(APP, log=log, env={**self.env, **(env or {})}, name=name, queues=queues, **chosen)

    def beat(self, name: str = "beat", **env: str) -> Beat:
        """A beat that is not started."""
        log = self.folder / f"{self.name}-{name}.log"
        return Beat(APP, log=log, env={**self.env, **env}, name=name, loglevel="DEBUG")

    def send(self, task: str, *args: Any, to: str = "w1", times: int = 1) -> list[Any]:
        """Send a task of the clinic to a node's queue, so many times."""
        return [self.app.send_task(f"clinic.{task}", args, queue=to) for _ in range(times)]

    # -- the doctor --------------------------------------------------------------------------------

    def ask(self) -> dict[str, Any]:
        """Return what the doctor finds, once it is as its schema says."""
        return validated(json.dumps(examine(self.app, Deadline(5.0)).to_dict()))

    def expect(
        self,
        finding: str,
        *words: str,
        severity: str = "degraded",
        seconds: float = 30.0,
        env: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Wait until the first finding is this one, then ask by the command; its evidence has these words.

        With `env` the command alone is asked, at once.
        """
        if env is None:
            self._wait_for(finding, seconds)
        code, told = self.command(**(env or {}))
        first: dict[str, Any] = told["findings"][0]
        assert (first["id"], first["severity"]) == (finding, severity), told["findings"]
        text = "\n".join([first["title"], *first["evidence"]])
        assert all(word in text for word in words), (words, text)
        assert re.search(r"\d", "".join(first["evidence"])), first
        assert code == {"down": 2, "degraded": 1, "unknown": 3, "note": 0}[severity]
        return first

    def _wait_for(self, finding: str, seconds: float) -> None:
        seen: list[list[dict[str, Any]]] = []

        def is_first() -> bool:
            seen.append(self.ask()["findings"])
            return [found["id"] for found in seen[-1][:1]] == [finding]

        try:
            wait_until(is_first, what=f"{finding} as the first finding", seconds=seconds)
        except TimeoutError as error:
            raise AssertionError(f"{error}; at last: {json.dumps(seen[-1], indent=1)}") from None

    def command(self, **env: str) -> tuple[int, dict[str, Any]]:
        """Run `mongo doctor --json`; return its exit code and document."""
        argv = [sys.executable, "-m", "celery", "-A", APP, "mongo", "doctor", "--json"]
        environment = {**os.environ, **self.env, **env}
        done = subprocess.run(
            argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
        )
        assert done.stderr == "", done.stderr
        assert not [trace for trace in TRACES if trace in done.stdout]
        return done.returncode, validated(done.stdout)


def is_well(clinic: Clinic, *, processes: int) -> bool:
    """Say whether so many processes report, and nothing is worse than a note."""
    told = clinic.ask()
    return bool(told["processes"]["seen"] == processes and told["verdict"] == "ok")


@contextmanager
def clinic(name: str, mongo: str, redis: str, folder: Path, **env: str) -> Iterator[Clinic]:
    """A deployment on these servers, with a name that no other test of this host uses."""
    chosen = {
        "MONGODB_URI": mongo,
        "REDIS_URL": redis,
        "CELERY_PYMONGO_DEPLOYMENT": f"{name}-{os.getpid()}",
        # A beat ticks, and so tells that it lives, as often as something is due.
        "CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "2",
        **env,
    }
    found = Clinic(name, chosen, folder)
    try:
        yield found
    finally:
        found.close()
