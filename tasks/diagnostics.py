"""Questions about the pools, answered as tasks: by whatever can send one, from the process it lands on."""

from collections.abc import Callable
from typing import Any

from bson import ObjectId

from .documents import Refused
from .trial import Outcome, Plan, Trial

# What an operation may take, selection and queue included: their own default. Half of what a trial has at
# least, so never less than a health check's ping has: what it does not do in time says something.
_PATIENCE_SECONDS = 5.0
LEAST_SECONDS = 4
MOST_SECONDS = 300


def snapshot(self: Any) -> dict[str, Any]:
    """Return the whole fleet at this moment: totals, nodes, outliers, coverage, the server's connections."""
    found: dict[str, Any] = self.mongo.watch.snapshot()
    return found


def flight(self: Any) -> list[dict[str, Any]]:
    """Return the flight recorder of the process that this task lands on, oldest first."""
    found: list[dict[str, Any]] = self.mongo.flight()
    return found


def ping(self: Any, times: int = 10, seconds: float = 10) -> dict[str, Any]:
    """Ping `times` times, one after the other, in at most `seconds`; return the round trips and errors by
    class, with the state of this process's pool and circuit.
    """
    _refuse_beyond(times=(times, 1, 1000), seconds=(seconds, LEAST_SECONDS, MOST_SECONDS))
    client = self.client
    outcome = _try(self, lambda: client.admin.command("ping"), threads=1, times=times, seconds=seconds)
    pool: dict[str, Any] = self.mongo.pool()
    return pool | {"asked": times} | outcome.to_dict()


def concurrency(
    self: Any, threads: int = 5, queries: int = 20, *, collection: str | None = None, seconds: float = 10
) -> dict[str, Any]:
    """Run `queries` reads in each of `threads` at once through the one client of this process.

    A read is a ping, or with `collection` a find_one by an _id that is not there: nothing is ever written.
    Returns after at most `seconds`, also where MongoDB is away: latencies and throughput, how long checkouts
    waited, errors by class, and the pool.
    """
    _refuse_beyond(
        threads=(threads, 1, 64),
        queries=(queries, 1, 10_000),
        seconds=(seconds, LEAST_SECONDS, MOST_SECONDS),
    )
    read = _read(self, collection)
    outcome = _try(self, read, threads=threads, times=queries, seconds=seconds)
    pool: dict[str, Any] = self.mongo.pool()
    return pool | {"asked": threads * queries, "threads": threads} | outcome.to_dict()


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    for function in (snapshot, flight, ping, concurrency):
        name = f"mongo.ops.{function.__name__}"
        app.task(name=name, bind=True, shared=False, base=app.mongo.Task, max_retries=0)(function)


def _read(task: Any, collection: Any) -> Callable[[], object]:
    if collection is None:
        client = task.client
        return lambda: client.admin.command("ping")
    if not isinstance(collection, str) or not collection:
        raise Refused("collection must be the name of one")
    there = task.db[collection]
    return lambda: there.find_one({"_id": ObjectId()})


def _try(task: Any, operation: Callable[[], object], *, threads: int, times: int, seconds: float) -> Outcome:
    """Run a trial that ends before the task's own time does."""
    left = task.seconds_left()
    if left is not None and left < LEAST_SECONDS:
        raise Refused(f"the task's time limit leaves {left:.1f} s, and this takes up to {LEAST_SECONDS} s")
    seconds = seconds if left is None else min(seconds, left)
    plan = Plan(threads, times, seconds=seconds, patience=min(_PATIENCE_SECONDS, seconds / 2))
    return Trial(operation, plan, classify=task.mongo.link.observe).run()


def _refuse_beyond(**arguments: tuple[Any, int, int]) -> None:
    """Raise `Refused` with a sentence that names each argument that is no number within its bounds."""
    wrong = [
        f"{name} must be {low} to {high}, not {value!r}"
        for name, (value, low, high) in arguments.items()
        if not _is_within(value, low, high, is_whole=name != "seconds")
    ]
    if wrong:
        raise Refused("; ".join(wrong))


def _is_within(value: Any, low: int, high: int, *, is_whole: bool) -> bool:
    kinds = (int,) if is_whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
