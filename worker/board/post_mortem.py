"""What is known of a process that ended without a goodbye: killed, out of memory, crashed, its host gone."""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import events
from ..events import Event
from ..log_text import Lines
from . import dumps

logger = logging.getLogger("celery_pymongo.fleet")

_SHOWN = 10


@dataclass(frozen=True)
class PostMortem:
    """The last that a process said. `started` and `seen` are unix seconds; `seen` is its last report.

    `flight` is its flight recorder, oldest first; empty where the board went with its host.
    """

    node: str
    slot: int
    pid: int
    started: float
    seen: float | None
    task: dict[str, Any] | None
    report: dict[str, Any] | None
    flight: list[dict[str, Any]] = field(default_factory=list)

    @property
    def member(self) -> str:
        """The name of its report in the registry."""
        return f"{self.node}/{self.slot}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"member": self.member}


def of_report(report: dict[str, Any], *, flight: list[dict[str, Any]] | None = None) -> PostMortem:
    """Return the post-mortem of a process of which only the registry knows."""
    return PostMortem(
        node=report["node"],
        slot=report["slot"],
        pid=report["pid"],
        started=report["started"],
        seen=report.get("at"),
        task=report.get("task"),
        report=report,
        flight=flight or [],
    )


def say(found: PostMortem, *, with_node: bool = False) -> None:
    """Log it as an error; `with_node`: that its whole node is lost is said already."""
    report = found.report or {}
    pool = report.get("pool", {})
    message = "%s slot %d (pid %d) ended without a goodbye, %s; circuit %s, %s of %s connections in use%s"
    events.say(
        logger,
        logging.ERROR,
        Event.PROCESS_LOST,
        message,
        found.node,
        found.slot,
        found.pid,
        doing(found.task),
        report.get("circuit", "unknown"),
        pool.get("in_use", "?"),
        pool.get("size", "?"),
        Lines("".join(dumps.line(record) for record in found.flight[-_SHOWN:])),
        post_mortem=found.to_dict(),
        with_node=with_node,
    )


def doing(task: dict[str, Any] | None) -> str:
    """Return in words what a process did last."""
    if not task:
        return "idle"
    return f"running {task.get('name')}[{task.get('id')}] for {task.get('seconds') or 0:.1f} s"
