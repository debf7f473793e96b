"""How many writes a run of a task has sent: whether it may be run again hangs on it."""

from collections.abc import Mapping
from typing import Any

from pymongo import monitoring
from pymongo.errors import NotPrimaryError, OperationFailure

from .listening import Errors, harmless
from .outcome import may_have_written
from .work import Work, current_work

# Whatever is not known to be a read counts as a write.
_READS = frozenset(
    {
        *("aggregate", "buildInfo", "collStats", "count", "currentOp", "dbStats", "distinct", "explain"),
        *("find", "getMore", "getParameter", "hello", "killCursors", "endSessions", "ping", "serverStatus"),
        *("listCollections", "listDatabases", "listIndexes", "connectionStatus", "abortTransaction"),
    }
)
_WRITING_STAGES = ("$out", "$merge")


class WriteCounter(monitoring.CommandListener):
    """Counts the writes of the task whose thread sends them. Only for apps that have a task which must not
    run twice: listening to commands costs some microseconds each.
    """

    def __init__(self, *, errors: Errors) -> None:
        self.errors = errors

    @harmless
    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count a write from when it is sent: nobody may hear what became of it."""
        work = current_work.get()
        if work is not None and is_write(event.command_name, event.command):
            work.writes_sent += 1

    @harmless
    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing more is learnt: it was counted."""

    @harmless
    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count that it failed; it may have written all the same, see `outcome`."""
        work = current_work.get()
        if work is not None and event.command_name not in _READS:
            work.writes_failed += 1


def has_written_nothing(work: Work | None, error: BaseException) -> bool:
    """Say whether a task that ends with this error has certainly changed nothing, so may run again.

    Ask with the error as it was caught. Of several writes that failed, those whose errors the task caught
    are not known, so one is the most; where nobody counted, nothing is certain.
    """
    if work is None or may_have_written(error) or work.writes_sent > work.writes_failed:
        return False
    was_sent = isinstance(error, (OperationFailure, NotPrimaryError))
    return work.writes_failed <= int(was_sent)


def is_write(name: str, command: Mapping[str, Any]) -> bool:
    """Say whether a command may change data."""
    if name not in _READS:
        return True
    stages = command.get("pipeline") or ()
    return name == "aggregate" and any(stage in step for step in stages for stage in _WRITING_STAGES)
