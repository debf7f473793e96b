"""What the drills' tasks do: a drill, or a trial of the process's own client, within the task's own time."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from bson import ObjectId

from . import compare as comparing
from . import exhaust as exhausting
from . import pools
from . import workload as loading
from .ground import Terms
from .interrupts import Caller
from .refused import Refused
from .trial import Plan, Trial

# What an operation may take, selection and queue included: their own default. Half of what a trial has at
# least, so never less than a health check's ping has: what it does not do in time says something.
_PATIENCE_SECONDS = 5.0
LEAST_SECONDS = 4
MOST_SECONDS = 300
# What a drill needs beside its load: to connect, to make its database and to drop it.
_AROUND_SECONDS = 20


def ping(self: Any, times: int = 10, seconds: float = 10) -> dict[str, Any]:
    """Ping `times` times, one after the other, in at most `seconds`; return what `concurrency` does."""
    _refuse_beyond(times=(times, 1, 1000), seconds=(seconds, LEAST_SECONDS, MOST_SECONDS))
    return _try(self, _read(self, None), threads=1, times=times, seconds=seconds)


def concurrency(
    self: Any, threads: int = 5, queries: int = 20, *, collection: str | None = None, seconds: float = 10
) -> dict[str, Any]:
    """Run `queries` reads in each of `threads` at once through the one client of this process.

    A read is a ping, or with `collection` a find_one by an _id that is not there: nothing is ever written.
    Returns after at most `seconds`, also where MongoDB is away: latencies and throughput, errors by class,
    connections made meanwhile, how long this process's checkouts of the last minute waited, and its pool.
    """
    _refuse_beyond(
        threads=(threads, 1, 64),
        queries=(queries, 1, 10_000),
        seconds=(seconds, LEAST_SECONDS, MOST_SECONDS),
    )
    return _try(self, _read(self, collection), threads=threads, times=queries, seconds=seconds)


def compare(
    self: Any, configurations: Sequence[str] = (), *, rounds: int = 3, **terms: Any
) -> dict[str, Any]:
    """Load several configurations of a pool in turns; return what `mongo drill compare --json` does.

    `configurations` are as --config has them; without any, the guide's and the driver's. `terms` are
    threads, hold_ms, seconds, database and yes, as of every drill.
    """
    _refuse_beyond(rounds=(rounds, 1, 20))
    asked = _terms(self, terms, threads=20, hold_ms=20, seconds=20)
    found = pools.chosen(self.mongo.drills.own_pool(asked.threads), configurations)
    return comparing.run(self.mongo, asked, Caller(), configurations=found, rounds=rounds)


def workload(self: Any, *, writes: int = 10, **terms: Any) -> dict[str, Any]:
    """Run a load for a while; return what `mongo drill workload --json` does, a sample per second."""
    _refuse_beyond(writes=(writes, 0, 100))
    return loading.run(
        self.mongo, _terms(self, terms, threads=10, hold_ms=0, seconds=20), Caller(), writes=writes
    )


def exhaust(self: Any, *, pool: int = 5, queue_timeout_ms: int | None = None, **terms: Any) -> dict[str, Any]:
    """Let a process of its own fill its pool; return what `mongo drill exhaust --json` does."""
    _refuse_beyond(pool=(pool, 1, 100), queue_timeout_ms=(queue_timeout_ms or 1000, 10, 60_000))
    asked = _terms(self, terms, threads=2 * pool, hold_ms=500, seconds=20)
    return exhausting.run(self.mongo, asked, Caller(), pool=pool, queue_timeout_ms=queue_timeout_ms)


def _terms(task: Any, given: dict[str, Any], **usual: Any) -> Terms:
    """Return what a drill is asked for, within bounds and the task's own time."""
    known = {"threads", "hold_ms", "seconds", "database", "yes"}
    if unknown := sorted(set(given) - known):
        raise Refused(f"a drill knows no {', '.join(unknown)}; it takes {', '.join(sorted(known))}")
    asked = usual | given
    _refuse_beyond(
        threads=(asked["threads"], 1, 200),
        hold_ms=(asked["hold_ms"], 0, 5000),
        seconds=(asked["seconds"], 1, MOST_SECONDS),
    )
    left = task.seconds_left()
    if left is not None and left < asked["seconds"] + _AROUND_SECONDS:
        raise Refused(
            f"the task's time limit leaves {left:.0f} s, and this takes up to "
            f"{asked['seconds'] + _AROUND_SECONDS:.0f} s"
        )
    return Terms(**asked)


def _read(task: Any, collection: Any) -> Callable[[], object]:
    if collection is None:
        client = task.client
        return lambda: client.admin.command("ping")
    if not isinstance(collection, str) or not collection:
        raise Refused("collection must be the name of one")
    there = task.db[collection]
    return lambda: there.find_one({"_id": ObjectId()})


def _try(
    task: Any, operation: Callable[[], object], *, threads: int, times: int, seconds: float
) -> dict[str, Any]:
    """Run a trial that ends before the task's own time does; return what came of it."""
    most = _seconds_for(task, seconds)
    plan = Plan(threads, times, seconds=most, patience=min(_PATIENCE_SECONDS, most / 2))
    mongo = task.mongo
    before = mongo.monitor.totals(time.monotonic()).count
    outcome = Trial(operation, plan, classify=mongo.link.observe).run()
    after = mongo.monitor.totals(time.monotonic())
    pool: dict[str, Any] = mongo.pool()
    return (
        pool
        | outcome.to_dict()
        | {
            "server": mongo.link.server,
            "asked": threads * times,
            "threads": threads,
            "meanwhile": {
                name: after.count[name] - before[name] for name in ("created", "failed", "timeouts")
            },
            "wait_ms": after.wait,
        }
    )


def _seconds_for(task: Any, seconds: float) -> float:
    left = task.seconds_left()
    if left is not None and left < LEAST_SECONDS:
        raise Refused(f"the task's time limit leaves {left:.1f} s, and this takes up to {LEAST_SECONDS} s")
    return seconds if left is None else min(seconds, left)


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
