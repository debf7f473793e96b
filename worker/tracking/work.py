"""What this thread or greenlet is doing: the task whose code runs, so that what it holds has a name."""

import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any


class Work:
    """One run of a task. Times are monotonic seconds. `sessions` and `clients` are what the task opened and
    has to end itself, weakly referenced, None until there is one: sessions with the stacks that started them.
    """

    __slots__ = (
        "__weakref__",
        "at_end",
        "clients",
        "ended_at",
        "ends_at",
        "id",
        "is_forked",
        "is_suspect",
        "name",
        "outer",
        "replaced",
        "sessions",
        "started_at",
        "waited",
        "writes",
    )

    def __init__(self, name: str, task_id: str, started_at: float, *, outer: "Work | None" = None) -> None:
        self.name = name
        self.id = task_id
        self.started_at = started_at
        self.ended_at: float | None = None
        # When its operations shall have ended; None where nothing ends them.
        self.ends_at: float | None = None
        # What is to be done once Celery is done with the task, its hooks included.
        self.at_end: Callable[[], object] | None = None
        # Seconds in queues for connections, all of its checkouts together.
        self.waited = 0.0
        # Commands that were sent and may have written; see `writes`.
        self.writes = 0
        # How many tasks of its id it has taken the place of, see Celery's `Task.replace`.
        self.replaced = 0
        # Whether this process is a fork that the task has made.
        self.is_forked = False
        # The work that runs this one within itself, as task.apply() does.
        self.outer = outer
        # Whether to record where it borrows: an earlier run held something for long, or left it open.
        self.is_suspect = False
        self.sessions: weakref.WeakKeyDictionary[Any, tuple[str, ...]] | None = None
        self.clients: list[weakref.ref[Any]] | None = None

    def __repr__(self) -> str:
        return f"<Work {self.name}[{self.id}]>"


# Reading it costs some 20 ns. A thread or greenlet that a task starts itself has a context of its own: None.
current_work: ContextVar[Work | None] = ContextVar("current_work", default=None)


class Works:
    """Begins and ends the works of this process and lists those that run. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By address and weak: a work whose end is missed goes with the thread's next one, or the greenlet.
        self._running: dict[int, weakref.ref[Work]] = {}

    def begin(self, name: str, task_id: str, *, outer: Work | None = None) -> Work:
        """Make a new work the current one; `outer`, if any, is current again after it."""
        missed = current_work.get() if outer is None else None
        if missed is not None:
            self._running.pop(id(missed), None)
        work = Work(name, task_id, self._clock(), outer=outer)
        if outer is None:
            self._running[id(work)] = weakref.ref(work)
        current_work.set(work)
        return work

    def end(self, task_id: str) -> Work | None:
        """End the innermost current work of this id and return it; None where there is none."""
        work = current_work.get()
        while work is not None and work.id != task_id:
            work = work.outer
        if work is not None:
            work.ended_at = self._clock()
            self._running.pop(id(work), None)
            current_work.set(work.outer)
        return work

    def running(self) -> list[Work]:
        """Return the works that run now, oldest first; a work within another is not listed."""
        # list() of a dict's values is atomic, iterating over them is not.
        works = [reference() for reference in list(self._running.values())]
        return sorted((work for work in works if work is not None), key=lambda work: work.started_at)
