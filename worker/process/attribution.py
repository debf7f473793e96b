"""Which task runs where: from Celery's signals around every task to the works of the process."""

from collections.abc import Callable
from typing import Any, Protocol

from celery import signals

from ..broker import receivers
from ..pool.suspicion import Suspicion
from ..tracking.work import Work, Works, current_work


class TaskRow(Protocol):
    """The place on the board where a process that runs one task at a time says which."""

    def set_work(self, name: str, task_id: str, /) -> None:
        """Say that this task runs now."""

    def clear_work(self) -> None:
        """Say that none runs."""


class Attribution:
    """The handlers around each task of whatever app and class. `suspicion` returns the process's own, which
    a fork and a new client make anew; `row` is None where many tasks run at a time.

    Celery logs what a handler raises and goes on; a postrun comes after a failure, retry or rejection too.
    """

    def __init__(self, suspicion: Callable[[], Suspicion]) -> None:
        self._suspicion = suspicion
        self.works = Works()
        self.row: TaskRow | None = None

    def connect(self) -> None:
        """Connect both handlers; the newest Attribution of a process is the one that hears."""
        for signal, handler in (
            (signals.task_prerun, self.task_prerun),
            (signals.task_postrun, self.task_postrun),
        ):
            receivers.connect(signal, handler, f"celery_pymongo.attribution.{handler.__name__}")

    def task_prerun(self, task_id: str, task: Any, **_kwargs: Any) -> None:
        """In the thread or greenlet of the task, before its body."""
        outer = current_work.get()
        # A task within a task is an eager one; any other current work is one whose end was missed.
        if outer is not None and not task.request.is_eager:
            outer = None
        work = self.works.begin(task.name, task_id, outer=outer)
        work.replaced = task.request.replaced_task_nesting
        work.is_suspect = self._suspicion().is_suspect(task.name)
        if self.row is not None and outer is None:
            self.row.set_work(task.name, task_id)

    def task_postrun(self, task_id: str, **_kwargs: Any) -> None:
        """In the same place, after its body."""
        work = self.works.end(task_id)
        if work is None:
            return
        if work.at_end is not None:
            work.at_end()
        if self.row is not None and work.outer is None:
            self.row.clear_work()
        self._suspicion().watch(work)

    def running(self) -> list[Work]:
        """Return the works that run now, oldest first."""
        return self.works.running()
