"""The service's log: as JSON for machines that read it, and without the beat of its own heart."""

import logging
from collections.abc import Callable, Collection
from copy import copy
from datetime import UTC, datetime
from typing import Any

from celery import signals

from .. import events
from ..broker import receivers
from ..events import Event
from ..log_text import in_json, shown
from ..text import printable

_OURS = "celery_pymongo"
logger = logging.getLogger(f"{_OURS}.lifecycle")


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
        return in_json(line)


class PlainFormatter(logging.Formatter):
    """Formats as `inner` does, without what a terminal obeys: of Celery's lines, the names in messages."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        # A copy: other handlers, as Sentry's, have the record as it is.
        plain = copy(record)
        plain.msg, plain.args = printable(str(record.msg), keep="\n\t"), shown(record.args)
        if record.exc_info:
            plain.exc_text = printable(self._inner.formatException(record.exc_info), keep="\n\t")
        return self._inner.format(plain)


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
    """Make Celery's loggers, and so every logger under them, write JSON lines where asked to, and in any case
    nothing that a terminal obeys."""

    def on_setup(logger: logging.Logger, **_kwargs: Any) -> None:
        keep_documents_out()
        for handler in logger.handlers:
            if as_json:
                handler.setFormatter(JsonFormatter())
            elif handler.formatter is not None and not isinstance(handler.formatter, PlainFormatter):
                handler.setFormatter(PlainFormatter(handler.formatter))

    _on_setup(on_setup, "celery_pymongo.logs")


def keep_documents_out() -> None:
    """Quiet what quotes documents at DEBUG: the driver whole commands, Celery's pool the tasks' arguments."""
    for name in ("pymongo", "celery.pool"):
        logging.getLogger(name).setLevel(logging.INFO)


def enable() -> None:
    """Enable this package's loggers that a configuration of the app's has disabled, and say so.

    `dictConfig` and `fileConfig` disable each logger that is there and that they do not name, unless
    `disable_existing_loggers` is False: warnings would be lost without a word. A level silences on purpose.
    """
    ours = [each for name, each in logging.root.manager.loggerDict.items() if name.startswith(f"{_OURS}.")]
    disabled = [each for each in ours if isinstance(each, logging.Logger) and each.disabled]
    for each in disabled:
        each.disabled = False
    if disabled:
        message = "the logging configuration has disabled loggers of %s (disable_existing_loggers is True "
        message += "unless it is set): enabled again; set it to False, or a level for %s to hear less"
        events.say(logger, logging.WARNING, Event.SETTINGS_WARNING, message, _OURS, _OURS)


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
