"""The line of health: what the worker's own check says, asked every other second from a thread."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

TASK, QUEUE = "mongo.health.check", "mongo.health"
EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 6.0
"""An answer older than this tells nothing about now."""


@dataclass(frozen=True)
class Answer:
    """What a check returned, and when by the monotonic clock."""

    report: dict[str, Any]
    at: float


def describe(answer: Answer | None, *, away: str, now: float) -> tuple[str, str]:
    """Return what has changed when it differs from the last time, and the whole line."""
    if away:
        return f"away: {away}", f"down · away and being started again: {away}"
    if answer is None:
        return "waiting", "waiting for a health check"
    if now - answer.at > PATIENCE_SECONDS:
        return "silent", f"unknown · no answer to a health check for {now - answer.at:.0f} s"
    report = answer.report
    verdict = str(report.get("verdict"))
    return verdict, " · ".join([verdict, *_facts(report)])


def _facts(report: dict[str, Any]) -> list[str]:
    latency, server = report.get("latency_ms"), report.get("server")
    facts = [f"ping {latency:.1f} ms"] if latency is not None else []
    facts += [str(reason) for reason in report.get("reasons") or []]
    facts += [str(server)] if server else []
    topology = report.get("topology") or {}
    facts += [str(topology["type"])] if "type" in topology else []
    return [*facts, f"{report.get('node')} pid {report.get('pid')}"]


class Feed(threading.Thread):
    """Asks for health and keeps the last answer. It may hang on a broker that is away; no one waits."""

    def __init__(self, app: Any) -> None:
        super().__init__(name="health-feed", daemon=True)
        self._app = app
        self._ended = threading.Event()
        self.answer: Answer | None = None

    def run(self) -> None:
        while not self._ended.wait(EVERY_SECONDS if self.answer else 0.2):
            try:
                self._ask()
            except Exception as error:  # noqa: BLE001  # whatever broker and results raise: ask again
                logger.warning("no answer to a health check: %s", type(error).__name__)

    def forget(self) -> None:
        """What was said before something went away tells nothing of the time after."""
        self.answer = None

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _ask(self) -> None:
        result = self._app.send_task(TASK, queue=QUEUE, expires=EVERY_SECONDS * 2, retry=False)
        try:
            report = result.get(timeout=EVERY_SECONDS * 2, interval=0.1)
            self.answer = Answer(report, time.monotonic())
        finally:
            result.forget()
