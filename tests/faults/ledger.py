"""A ledger of tasks: what each worker process started and how it ended, kept though the process is killed.

    Ledger(os.environ[PATH]).open()                 # in the worker's app module
    account = accounts(entries(path))[task_id]      # in the test
    account.started, account.ended, account.retries

Each event is a line that one write() appends: lines of many processes never mix, and what was written
survives the SIGKILL of its writer. Times are monotonic seconds, comparable between processes of one host.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from celery import signals
from celery.states import IGNORED, REJECTED

PATH = "TASK_LEDGER"
"""The environment variable that names a worker's ledger."""


class Happened(StrEnum):
    """What happened to a task."""

    STARTED = "started"
    WROTE = "wrote"
    """Its write was acknowledged, as the task itself says."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    REQUEUED = "requeued"
    """It gave its message back to the broker."""
    DROPPED = "dropped"
    """It gave its message up."""
    IGNORED = "ignored"
    """It ended with no result; where acknowledgements are early, a copy of it was sent."""
    REVOKED = "revoked"
    EXPIRED = "expired"


_NO_END = (Happened.STARTED, Happened.WROTE)


@dataclass(frozen=True)
class Entry:
    """One line. `note` is the class of the error, where there was one."""

    at: float
    happened: Happened
    task_id: str
    name: str
    pid: int
    retries: int
    is_redelivered: bool
    note: str = "-"

    def line(self) -> bytes:
        """Return it as a line of the file."""
        fields = (f"{self.at:.6f}", self.happened, self.task_id, self.name, self.pid, self.retries)
        return (" ".join(map(str, (*fields, int(self.is_redelivered), self.note))) + "\n").encode()

    @classmethod
    def parse(cls, line: str) -> Entry:
        """Read a line of the file."""
        at, happened, task_id, name, pid, retries, redelivered, note = line.split()
        is_redelivered = redelivered == "1"
        return cls(float(at), Happened(happened), task_id, name, int(pid), int(retries), is_redelivered, note)


class Ledger:
    """Writes down what Celery's signals tell of in this process and in those that it forks."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._hearers = (
            (signals.task_prerun, self._started),
            (signals.task_success, self._succeeded),
            (signals.task_failure, self._failed),
            (signals.task_retry, self._retried),
            (signals.task_postrun, self._gave_up),
            (signals.task_revoked, self._revoked),
        )

    def open(self) -> None:
        """Listen to Celery's signals, which keep this object."""
        for signal, hear in self._hearers:
            signal.connect(hear, weak=False)

    def close(self) -> None:
        """Listen no more."""
        for signal, hear in self._hearers:
            signal.disconnect(hear)

    def wrote(self, task: Any) -> None:
        """Note that a task's write was acknowledged."""
        self._write(Happened.WROTE, task, task.request)

    def _started(self, task: Any, **_kwargs: Any) -> None:
        self._write(Happened.STARTED, task, task.request)

    def _succeeded(self, sender: Any, **_kwargs: Any) -> None:
        self._write(Happened.SUCCEEDED, sender, sender.request)

    def _failed(self, sender: Any, task_id: str, exception: object, **_kwargs: Any) -> None:
        # MAIN tells of lost processes and hard time limits; it runs no task, and knows no request.
        self._write(Happened.FAILED, sender, sender.request, task_id=task_id, error=exception)

    def _retried(self, sender: Any, request: Any, reason: Any = None, **_kwargs: Any) -> None:
        self._write(Happened.RETRIED, sender, request, error=getattr(reason, "exc", None))

    def _gave_up(self, task: Any, state: str | None = None, retval: Any = None, **_kwargs: Any) -> None:
        if state == IGNORED:
            self._write(Happened.IGNORED, task, task.request)
        elif state == REJECTED:
            happened = Happened.REQUEUED if retval.requeue else Happened.DROPPED
            self._write(happened, task, task.request)

    def _revoked(self, sender: Any, request: Any, expired: bool = False, **_kwargs: Any) -> None:
        self._write(Happened.EXPIRED if expired else Happened.REVOKED, sender, request)

    def _write(
        self,
        happened: Happened,
        task: Any,
        request: Any,
        *,
        task_id: str | None = None,
        error: object = None,
    ) -> None:
        entry = Entry(
            at=time.monotonic(),
            happened=happened,
            task_id=task_id or request.id,
            name=task.name,
            pid=os.getpid(),
            retries=getattr(request, "retries", None) or 0,
            is_redelivered=bool((getattr(request, "delivery_info", None) or {}).get("redelivered")),
            note="-" if error is None else type(error).__name__,
        )
        # Opened each time: no descriptor to lose in a fork, a spawn or a change of users.
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, entry.line())
        finally:
            os.close(file)


@dataclass
class Account:
    """All that the ledger says of one task, in the order of writing."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def started(self) -> int:
        """How often a process began to run it."""
        return self.count(Happened.STARTED)

    @property
    def ended(self) -> dict[Happened, int]:
        """How often it ended in which way; a run whose process was killed ended in none."""
        ends = (entry.happened for entry in self.entries)
        return dict(Counter(happened for happened in ends if happened not in _NO_END))

    @property
    def retries(self) -> int:
        """How many of its `max_retries` it spent."""
        return max((entry.retries for entry in self.entries), default=0)

    def count(self, happened: Happened) -> int:
        """How often this happened."""
        return sum(entry.happened is happened for entry in self.entries)


def entries(path: Path) -> Iterator[Entry]:
    """Read a ledger; one that nobody has written in yet is empty, and a line that is half written is none."""
    text = path.read_text() if path.exists() else ""
    return map(Entry.parse, text[: text.rfind("\n") + 1].splitlines())


def done_after(found: Iterable[Entry], moment: float) -> float | None:
    """Return when the first task was done that wrote after a moment; None while none is."""
    wrote: set[str] = set()
    for entry in found:
        if entry.happened is Happened.WROTE and entry.at > moment:
            wrote.add(entry.task_id)
        elif entry.happened is Happened.SUCCEEDED and entry.task_id in wrote:
            return entry.at
    return None


def accounts(found: Iterable[Entry]) -> dict[str, Account]:
    """Return an account per task id."""
    by_id: dict[str, Account] = {}
    for entry in found:
        by_id.setdefault(entry.task_id, Account()).entries.append(entry)
    return by_id
