"""The connection pool of this process."""

from typing import Any


def snapshot(self: Any) -> dict[str, Any]:
    """Return the pool's gauges and counters, and what the server says of its connections (None: not told)."""
    report: dict[str, Any] = self.mongo.snapshot()
    return report


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    app.task(name="mongo.pool.snapshot", bind=True, shared=False, base=app.mongo.Task, max_retries=0)(
        snapshot
    )
