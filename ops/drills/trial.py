"""One operation run many times, in one thread or in several at once, and what came of it."""

import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

# What fails at once would else fail thousands of times a second.
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Plan:
    """What a trial does: an operation `times` times in each of `threads` (inf: on and on), within `seconds`.

    An operation may take `patience` seconds, and none begins where less is left: that the trial ends is
    never an operation's failure. Without `patience` the client's own limits hold, and the last operation may
    end that much late.
    """

    threads: int
    times: float
    seconds: float
    patience: float | None = None


@dataclass
class Outcome:
    """What came of a trial: seconds of each operation that succeeded, and errors by class."""

    took: "array[float]" = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, other: "Outcome") -> None:
        """Take in another thread's, or what came after this."""
        self.took.extend(other.took)
        self.errors.update(other.errors)
        self.seconds += other.seconds

    @property
    def per_second(self) -> float:
        """How many operations succeeded per second."""
        return len(self.took) / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `in_flight` is how many successful operations ran at a time on average."""
        return {
            "done": len(self.took),
            "seconds": round(self.seconds, 3),
            "per_second": round(self.per_second, 1),
            "in_flight": round(sum(self.took) / max(self.seconds, 1e-9), 2),
            "latency_ms": summary(self.took),
            "errors": dict(self.errors),
        }


class Trial:
    """Runs `operation` as planned; `classify` names the class of an error of MongoDB's."""

    def __init__(
        self, operation: Callable[[], object], plan: Plan, *, classify: Callable[[Exception], Any]
    ) -> None:
        self._operation = operation
        self._plan = plan
        self._classify = classify
        self._may_begin = threading.Event()
        self._is_over = threading.Event()
        self._last_start = -inf
        self._outcomes: list[Outcome] = []

    def run(
        self,
        look: Callable[[float], object] | None = None,
        *,
        every: float = 1.0,
        abandon: Callable[[], object] = lambda: None,
    ) -> Outcome:
        """Run all threads to their end; errors of MongoDB's and the network's are counted, others raised.

        `look` is called with the seconds since the start, each `every` seconds, in the thread that waits.
        `abandon` is called where that is interrupted, before the threads' last operations are waited for.
        """
        plan, outcome = self._plan, Outcome()
        with ThreadPoolExecutor(plan.threads, "mongo-trial") as pool:
            try:
                # With the context of the task: its name on what is held, its deadline on what is done.
                runs = [pool.submit(copy_context().run, self._run_one) for _ in range(plan.threads)]
                started = time.monotonic()
                self._last_start = started + plan.seconds - (plan.patience or 0.0)
                self._may_begin.set()
                if look is not None:
                    _watch(runs, look, started=started, every=every)
                for run in runs:
                    outcome.add(run.result())
                outcome.seconds = time.monotonic() - started
            except BaseException:
                # As by a soft time limit: each thread ends with the operation that it is in.
                self._end()
                abandon()
                raise
            self._end()
        return outcome

    def _end(self) -> None:
        self._last_start = -inf
        self._is_over.set()
        self._may_begin.set()

    def so_far(self) -> Outcome:
        """Return what came of it until now, to whoever looks while it runs."""
        outcome = Outcome()
        for each in list(self._outcomes):
            outcome.add(each)
        return outcome

    def _run_one(self) -> Outcome:
        outcome = Outcome()
        self._outcomes.append(outcome)
        # All are there before the first begins: else the first might be done before the last is made.
        self._may_begin.wait()
        done = 0
        while done < self._plan.times and time.monotonic() <= self._last_start and self._attempt(outcome):
            done += 1
        return outcome

    def _attempt(self, outcome: Outcome) -> bool:
        """Run the operation once; False where doing it again cannot help."""
        patience = self._plan.patience
        started = time.monotonic()
        try:
            with nullcontext() if patience is None else pymongo.timeout(patience):
                self._operation()
        except (PyMongoError, OSError) as error:
            error_class = self._classify(error)
            outcome.errors[str(error_class)] += 1
            self._is_over.wait(max(0.0, _PAUSE_SECONDS - (time.monotonic() - started)))
            return bool(error_class.is_transient)
        outcome.took.append(time.monotonic() - started)
        return True


def _watch(
    runs: "list[Future[Outcome]]", look: Callable[[float], object], *, started: float, every: float
) -> None:
    due = started + every
    while wait(runs, timeout=max(0.0, due - time.monotonic())).not_done:
        look(time.monotonic() - started)
        due += every


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Return count, extremes, average and nearest-rank percentiles in ms; None where there is no value."""
    if not seconds:
        return {"n": 0} | dict.fromkeys(("min", "avg", "p50", "p95", "p99", "max"))
    ordered = sorted(seconds)
    ranks = {f"p{percent}": ceil(len(ordered) * percent / 100) for percent in (50, 95, 99)}
    found = {
        "min": ordered[0],
        "avg": sum(ordered) / len(ordered),
        **{name: ordered[rank - 1] for name, rank in ranks.items()},
        "max": ordered[-1],
    }
    return {"n": len(ordered)} | {name: round(1000 * value, 3) for name, value in found.items()}
