"""What Celery says in MAIN of processes that died: told once, by who knows what they did.

Of a process that was killed Celery logs two errors, which name no task; its post-mortem has all of it. Of a
task that met its hard time limit it logs three; the one that names the task is kept, with what the board has
of the process.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import messages

if TYPE_CHECKING:
    from logging import LogRecord

    from ..board.board import Board

_EXITED = "Process %r pid:%r exited with %r"
_LIMIT = "Hard time limit (%ss) exceeded for %s[%s]"
_LOST = ("WorkerLostError", "TimeLimitExceeded")


def is_duplicate(record: "LogRecord") -> bool:
    """Say whether a line of MAIN's log is about a death that is told otherwise."""
    if record.msg == _EXITED:
        return True
    kind = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
    return record.name == "celery.worker.request" and kind is not None and kind.__name__ in _LOST


def is_time_limit(record: "LogRecord") -> bool:
    """Say whether a line of MAIN's log tells that a task met its hard time limit."""
    return record.msg == _LIMIT and isinstance(record.args, tuple) and len(record.args) == 3


def of_time_limit(
    event: dict[str, Any], record: "LogRecord", board: "Board", deployment: str
) -> dict[str, Any]:
    """Return the event of a hard time limit, with what the board has of the process that ran it."""
    limit, task, task_id = tuple(record.args or ())
    told = messages.message(
        f"Split task {task}, or raise its time limit: it was killed after {limit} s",
        name="task.time_limit",
        level="error",
        fingerprint=(deployment, "task.time_limit", str(task)),
        section="time-limit",
        context={"task": task, "task_id": task_id, "limit_seconds": limit},
    )
    for slot, row in enumerate(board.rows):
        state = row.read()
        if state.work is not None and state.work.id == task_id:
            told["contexts"]["celery_pymongo"] |= {"slot": slot, "pid": state.pid, **_report(state.report)}
            told["breadcrumbs"]["values"] = messages.crumbs(row.recorder.read())
    kept = {name: value for name, value in event.items() if name not in ("logentry", "message")}
    return kept | told | {"tags": {**(event.get("tags") or {}), **told["tags"]}}


def _report(report: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: (report or {}).get(name) for name in ("circuit", "pool", "wait", "outage")}
