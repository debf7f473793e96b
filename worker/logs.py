"""The service's log: as JSON for machines that read it, and without the beat of its own heart."""

import json
import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from celery import signals

from . import receivers


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, pid; event, task and error where known."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        line |= _task()
        if hasattr(record, "event"):
            line["event"] = record.event
            line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class QuietSchedule(logging.Filter):
    """Has Celery's "sending", "received", "succeeded" and "discarding" of the tasks that beat sends every few
    seconds at DEBUG: what they find out is logged as events of their own.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self._names = names

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what is above INFO, and what is about any other task; of the rest what DEBUG is to show."""
        if record.levelno != logging.INFO or _task_name(record) not in self._names:
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def quiet(names: Collection[str]) -> None:
    """Silence what Celery's loggers say at INFO of the tasks with these names."""
    # One object: Celery sets up twice, and a logger takes the same filter once.
    hush = QuietSchedule(names)

    def on_setup(**_kwargs: Any) -> None:
        for name in ("celery.app.trace", "celery.worker.strategy", "celery.worker.request", "celery.beat"):
            logging.getLogger(name).addFilter(hush)

    _on_setup(on_setup, "celery_pymongo.quiet")


def set_up(*, as_json: bool) -> None:
    """Make Celery's loggers, and so every logger under them, write JSON lines where asked to."""

    def on_setup(logger: logging.Logger, **_kwargs: Any) -> None:
        # At DEBUG the driver logs whole commands, and documents with them.
        logging.getLogger("pymongo").setLevel(logging.INFO)
        if as_json:
            for handler in logger.handlers:
                handler.setFormatter(JsonFormatter())

    _on_setup(on_setup, "celery_pymongo.logs")


def _on_setup(act: Callable[..., None], uid: str) -> None:
    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        receivers.connect(signal, act, uid)


def _task_name(record: logging.LogRecord) -> str | None:
    data = getattr(record, "data", None)
    if isinstance(data, dict):
        return data.get("name")
    # Others only say it: "Sending due task <entry> (<task>)", "Discarding revoked task: <task>[<id>]".
    if not isinstance(record.args, tuple) or not record.args:
        return None
    name = record.args[0 if record.name == "celery.worker.request" else -1]
    return name if isinstance(name, str) else None


def _task() -> dict[str, str]:
    from celery import current_task

    request = getattr(current_task, "request", None)
    if request is None or not getattr(request, "id", None):
        return {}
    return {"task": current_task.name, "task_id": request.id}
