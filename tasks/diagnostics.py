"""Questions about the pools, answered as tasks: by whatever can send one, from the process it lands on."""

from typing import Any


def snapshot(self: Any) -> dict[str, Any]:
    """Return the whole fleet at this moment: totals, nodes, outliers, coverage, the server's connections."""
    found: dict[str, Any] = self.mongo.watch.snapshot()
    return found


def flight(self: Any) -> dict[str, Any]:
    """Return the last events of the process that this task lands on, oldest first, beside its pool."""
    pool: dict[str, Any] = self.mongo.pool()
    return pool | {"flight": self.mongo.flight()}


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    options = {"bind": True, "shared": False, "max_retries": 0, "waits_out_outages": False}
    for function in (snapshot, flight):
        app.task(name=f"mongo.ops.{function.__name__}", base=app.mongo.Task, **options)(function)
