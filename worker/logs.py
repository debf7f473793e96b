"""Log lines as JSON, for machines that read them."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from celery import signals


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


def use_json() -> None:
    """Make Celery's loggers, and so every logger under them, write JSON lines."""
    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(_format_as_json, weak=False, dispatch_uid="celery_pymongo.logs")


def _format_as_json(logger: logging.Logger, **_kwargs: Any) -> None:
    for handler in logger.handlers:
        handler.setFormatter(JsonFormatter())


def _task() -> dict[str, str]:
    from celery import current_task

    request = getattr(current_task, "request", None)
    if request is None or not getattr(request, "id", None):
        return {}
    return {"task": current_task.name, "task_id": request.id}
