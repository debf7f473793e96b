"""How the log says what the watch over a process's connections found."""

import logging
from collections.abc import Iterable
from typing import Any

from .. import events
from ..events import Event
from ..log_text import Lines
from ..text import printable
from ..tracking.findings import Finding, Leak, LeakReturned, LongHold, Returned, Stack


def say(findings: Iterable[Finding], logger: logging.Logger) -> None:
    """Log each: a warning for what is held or left open, an info for what came back."""
    for finding in findings:
        _say(finding, logger)


def _say(finding: Finding, logger: logging.Logger) -> None:
    who, seconds = _who(finding), finding.seconds
    fields: dict[str, Any] = {"task": finding.task, "task_id": finding.id, "seconds": round(seconds, 1)}
    match finding:
        case LongHold(server=server, stack=stack, borrowed=borrowed):
            message = "%s has held the connection to %s for %.1f s%s%s"
            args = (who, server, seconds, _lines("it is at", stack), _lines("it borrowed it at", borrowed))
            events.say(logger, logging.WARNING, Event.POOL_LONG_HOLD, message, *args, **fields)
        case Leak(what=what, borrowed=borrowed):
            message = "%s ended %.1f s ago and left open: %s%s"
            opened = _lines("opened at", borrowed)
            told = fields | {"what": what}
            events.say(logger, logging.WARNING, Event.POOL_LEAK, message, who, seconds, what, opened, **told)
        case Returned(server=server):
            message = "%s has returned what it held, the connection to %s for %.1f s"
            events.say(logger, logging.INFO, Event.POOL_RETURNED, message, who, server, seconds, **fields)
        case LeakReturned(what=what):
            message = "%s left open what is gone now, %.1f s after its end: %s"
            events.say(logger, logging.INFO, Event.POOL_RETURNED, message, who, seconds, what, **fields)


def _who(finding: Finding) -> str:
    return "no task:" if finding.task is None else f"task {finding.task}[{finding.id}]"


def _lines(title: str, stack: Stack) -> Lines:
    return Lines(f"\n  {title} " + "\n  from ".join(map(printable, stack)) if stack else "")
