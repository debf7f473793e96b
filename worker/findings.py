"""How the log says what the watch over a process's connections found."""

import logging
from collections.abc import Iterable
from typing import Any

from . import events
from .events import Event
from .mongo.findings import Finding, Leak, LongHold, Returned, Stack


def say(findings: Iterable[Finding], logger: logging.Logger) -> None:
    """Log each: a warning for what is held or left open, an info for what came back."""
    for finding in findings:
        level = logging.WARNING if isinstance(finding, LongHold | Leak) else logging.INFO
        event, message, args = _line(finding)
        fields = {"task": finding.task, "task_id": finding.id, "seconds": round(finding.seconds, 1)}
        events.say(logger, level, event, f"%s {message}", _who(finding), *args, **fields)


def _line(finding: Finding) -> tuple[Event, str, tuple[Any, ...]]:
    server_and_time = "the connection to %s for %.1f s"
    match finding:
        case LongHold(server=server, seconds=seconds):
            now, before = _lines("it is at", finding.stack), _lines("it borrowed it at", finding.borrowed)
            return Event.POOL_LONG_HOLD, f"has held {server_and_time}%s%s", (server, seconds, now, before)
        case Returned(server=server, seconds=seconds):
            return Event.POOL_RETURNED, f"has returned what it held, {server_and_time}", (server, seconds)
        case Leak(seconds=seconds, what=what):
            opened = _lines("opened at", finding.borrowed)
            return Event.POOL_LEAK, "ended %.1f s ago and left open: %s%s", (seconds, what, opened)
        case _:
            message = "left open what is gone now, %.1f s after its end: %s"
            return Event.POOL_RETURNED, message, (finding.seconds, finding.what)


def _who(finding: Finding) -> str:
    return "no task:" if finding.task is None else f"task {finding.task}[{finding.id}]"


def _lines(title: str, stack: Stack) -> str:
    return f"\n  {title} " + "\n  from ".join(stack) if stack else ""
