"""Real `celery worker` processes for tests: started, watched, signalled, and always cleaned up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
READY = re.compile(r"\S+@\S+ ready\.")
START_SECONDS = 30.0
STOP_SECONDS = 20.0


def wait_until(condition: Callable[[], object], *, what: str, seconds: float = 10.0) -> None:
    """Wait until `condition()` is true; TimeoutError names `what` was awaited."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


@dataclass
class Worker:
    """One `celery -A app worker` in a session of its own; a context manager that leaves no process behind.

    >>> with Worker("tests.e2e.apps.fixes_app", log=tmp_path / "w1.log", pool="threads") as worker:
    ...     worker.wait_ready()
    ...     exit_code = worker.terminate()

    `app` is what `-A` takes, importable from `cwd` (the repository). `env` is added to this process's
    environment (None removes a name). `options` are further command-line arguments.
    """

    app: str
    log: Path
    pool: str = "prefork"
    concurrency: int = 2
    queues: Sequence[str] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    options: Sequence[str] = ()
    name: str = "w1"
    loglevel: str = "INFO"
    cwd: Path = ROOT
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def hostname(self) -> str:
        """The node name, as remote control addresses it."""
        return f"{self.name}@localhost"

    @property
    def pid(self) -> int:
        """MAIN's process id; also that of its session and process group."""
        return self._started().pid

    @property
    def command(self) -> list[str]:
        """The command line."""
        arguments = [sys.executable, "-m", "celery", "-A", self.app, "worker", "-P", self.pool]
        arguments += ["-c", str(self.concurrency), "-n", self.hostname, "-l", self.loglevel]
        arguments += ["-Q", ",".join(self.queues)] if self.queues else []
        return [*arguments, *self.options]

    def start(self) -> Self:
        """Start MAIN; returns at once (see wait_ready)."""
        if self.process is not None:
            raise RuntimeError("this worker was started before; make another")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def wait_ready(self, *, seconds: float = START_SECONDS) -> Self:
        """Wait for Celery's "ready" line; RuntimeError with the log if MAIN exits before it."""
        self.wait_for_log(READY, seconds=seconds)
        return self

    def wait_for_log(
        self, pattern: str | re.Pattern[str], *, count: int = 1, seconds: float = START_SECONDS
    ) -> None:
        """Wait until `pattern` was logged `count` times; RuntimeError if MAIN exits without it."""

        def seen() -> bool:
            alive = self.is_alive  # asked before the log is read, or its last line could be missed
            if len(re.findall(pattern, self.text)) >= count:
                return True
            if not alive:
                raise RuntimeError(f"{self.name} exited {self.exit_code} before {pattern!r}:\n{self.text}")
            return False

        wait_until(seen, what=f"{pattern!r} in the log of {self.name}", seconds=seconds)

    @property
    def text(self) -> str:
        """All that the worker has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def is_alive(self) -> bool:
        """Whether MAIN runs."""
        return self._started().poll() is None

    @property
    def exit_code(self) -> int | None:
        """MAIN's exit code (negative: the signal that ended it), None while it runs."""
        return self._started().poll()

    def children(self) -> list[int]:
        """Process ids of the live prefork children, oldest first; empty where the pool has none."""
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []
        pool = [child for child in children if _is_pool_child(child)]
        return [child.pid for child in sorted(pool, key=lambda child: (child.create_time(), child.pid))]

    def send_signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to MAIN, or to every process of its group."""
        (os.killpg if group else os.kill)(self.pid, number)

    def terminate(self, number: int = signal.SIGTERM, *, seconds: float = STOP_SECONDS) -> int:
        """Send `number` to MAIN and wait; returns its exit code. TimeoutError if it does not exit."""
        if self.is_alive:
            self.send_signal(number)
        return self.wait(seconds=seconds)

    def wait(self, *, seconds: float = STOP_SECONDS) -> int:
        """Wait for MAIN to exit; returns its exit code. TimeoutError, with the log's end, if it does not."""
        try:
            return self._started().wait(seconds)
        except subprocess.TimeoutExpired:
            tail = self.text[-4000:]
            raise TimeoutError(
                f"{self.name} did not exit within {seconds:g} s; its log ends:\n{tail}"
            ) from None

    def close(self) -> None:
        """Kill whatever is left of the session, children included; harmless when nothing is."""
        if self.process is None:
            return
        for process in _session(self.process.pid):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(STOP_SECONDS)
        # A MAIN that was killed leaves its board for its successor to find; here there is none.
        for board in Path("/dev/shm").glob(f"celery-pymongo.*.{self.process.pid}-*"):  # noqa: S108 - ours
            board.unlink(missing_ok=True)

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise RuntimeError("this worker was not started")
        return self.process

    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        merged = {**os.environ, "PYTHONUNBUFFERED": "1", **self.env}
        return {name: value for name, value in merged.items() if value is not None}


def _is_pool_child(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
        alive = process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
    # billiard's spawn starts a resource tracker (a semaphore tracker) beside the children
    return alive and "tracker import" not in command


def _session(leader: int) -> list[psutil.Process]:
    """Every live process of the session: by session id, so that orphans are found too."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                found.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return found
