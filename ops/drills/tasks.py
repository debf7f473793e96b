"""The drills, and trials of a process's own client, as tasks: by whatever can send one, where it lands.

A worker registers them at its start and loads what they do when one is asked for.
"""

from collections.abc import Sequence
from typing import Any


def ping(self: Any, times: int = 10, seconds: float = 10) -> dict[str, Any]:
    """Ping `times` times, one after the other, in at most `seconds`; return what `concurrency` does."""
    from . import as_tasks

    return as_tasks.ping(self, times, seconds)


def concurrency(
    self: Any, threads: int = 5, queries: int = 20, *, collection: str | None = None, seconds: float = 10
) -> dict[str, Any]:
    """Run `queries` reads in each of `threads` at once through the one client of this process."""
    from . import as_tasks

    return as_tasks.concurrency(self, threads, queries, collection=collection, seconds=seconds)


def compare(
    self: Any, configurations: Sequence[str] = (), *, rounds: int = 3, **terms: Any
) -> dict[str, Any]:
    """Load several configurations of a pool in turns; return what `mongo drill compare --json` does."""
    from . import as_tasks

    return as_tasks.compare(self, configurations, rounds=rounds, **terms)


def workload(self: Any, *, writes: int = 10, **terms: Any) -> dict[str, Any]:
    """Run a load for a while; return what `mongo drill workload --json` does, a sample per second."""
    from . import as_tasks

    return as_tasks.workload(self, writes=writes, **terms)


def exhaust(self: Any, *, pool: int = 5, queue_timeout_ms: int | None = None, **terms: Any) -> dict[str, Any]:
    """Let a process of its own fill its pool; return what `mongo drill exhaust --json` does."""
    from . import as_tasks

    return as_tasks.exhaust(self, pool=pool, queue_timeout_ms=queue_timeout_ms, **terms)


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    options = {"bind": True, "shared": False, "max_retries": 0, "waits_out_outages": False}
    for function in (ping, concurrency, compare, workload, exhaust):
        name = f"mongo.ops.{function.__name__}"
        app.task(name=name, base=app.mongo.Task, **options)(function)
