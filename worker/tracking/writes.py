"""Whether a run of a task may have written: whether it may be run again hangs on it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pymongo import monitoring

from .listening import Errors, harmless
from .work import Work, current_work

# Whatever is not known to be a read counts as a write.
_READS = frozenset(
    {
        *("aggregate", "buildInfo", "collStats", "count", "currentOp", "dbStats", "distinct", "explain"),
        *("find", "getMore", "getParameter", "hello", "killCursors", "endSessions", "ping", "serverStatus"),
        *("listCollections", "listDatabases", "listIndexes", "connectionStatus", "abortTransaction"),
        # A connection that is made within the task logs in, and says so.
        *("authenticate", "saslStart", "saslContinue"),
    }
)
_WRITING_STAGES = ("$out", "$merge")

# Said before the command begins: not primary, no role, log in again. 189, 11602 and 91 come in the midst.
_REJECTING_CODES = frozenset({10058, 10107, 13435, 13436, 13, 391})
# The server's own word for it.
_NOTHING_WRITTEN = "NoWritesPerformed"
# Together: the server had no room for the command.
_REFUSED = {"SystemOverloadedError", "RetryableError"}


class WriteCounter(monitoring.CommandListener):
    """Counts, for each task, the commands that may have written. Only for apps that have a task which must
    not run twice: listening to commands costs some microseconds each.

    A thread that a task has started sends as nobody: what it writes counts for every task that is `running`.
    """

    def __init__(self, running: Callable[[], Iterable[Work]], *, errors: Errors) -> None:
        self._running = running
        self.errors = errors

    @harmless
    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count a write from when it is sent: nobody may hear what became of it."""
        if is_write(event.command_name, event.command):
            for work in _current() or self._running():
                work.writes += 1

    @harmless
    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing more is learnt: it was counted."""

    @harmless
    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Take back what the server refused before it began; the driver may send it again."""
        if event.command_name not in _READS and is_refusal(event.failure):
            for work in _current():
                work.writes -= 1


def count_fork(running: Callable[[], Iterable[Work]]) -> None:
    """Count a process that a task forks as a write: what it does by its own client nobody here sees."""
    for work in _current() or running():
        work.writes += 1


def enter_fork() -> None:
    """Note, in a process that a task has forked, that it is no run of the task's message."""
    for work in _current():
        work.is_forked = True


def is_write(name: str, command: Mapping[str, Any]) -> bool:
    """Say whether a command may change data."""
    if name not in _READS:
        return True
    stages = command.get("pipeline") or ()
    return name == "aggregate" and any(stage in step for step in stages for stage in _WRITING_STAGES)


def is_refusal(failure: Mapping[str, Any]) -> bool:
    """Say whether a command that failed has certainly changed nothing. A lost connection has no code."""
    labels = set(failure.get("errorLabels") or ())
    return failure.get("code") in _REJECTING_CODES or _NOTHING_WRITTEN in labels or labels >= _REFUSED


def _current() -> list[Work]:
    """Return the work of this thread, and those that run it within themselves."""
    found, work = [], current_work.get()
    while work is not None:
        found.append(work)
        work = work.outer
    return found
