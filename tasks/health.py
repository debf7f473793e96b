"""The health of MongoDB as this process sees it."""

from typing import Any


def check(self: Any) -> dict[str, Any]:
    """Ping under a deadline; return verdict, reasons, latency in ms, topology and server version."""
    report: dict[str, Any] = self.mongo.check()
    return report


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    app.task(name="mongo.health.check", bind=True, shared=False, base=app.mongo.Task, max_retries=0)(check)
