"""The connection pools of the fleet."""

from typing import Any


def snapshot(self: Any) -> dict[str, Any]:
    """Return the pools of all processes: totals, nodes, outliers, who is missing, the server's connections.

    At most 64 KiB, whatever the fleet. `process` is the pool of the process that was asked, which is all
    there is while Redis is away.
    """
    report: dict[str, Any] = self.mongo.watch.snapshot()
    return report


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    options = {"bind": True, "shared": False, "max_retries": 0, "waits_out_outages": False}
    expires = app.mongo.expiries["mongo.pool.snapshot"]
    app.task(name="mongo.pool.snapshot", base=app.mongo.Task, expires=expires, **options)(snapshot)
