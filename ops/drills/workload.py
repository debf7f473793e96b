"""A workload that goes on, with what its pool does second by second."""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .ground import Load, Terms, ground
from .interrupts import Caller
from .trial import Outcome, summary


@dataclass
class Samples:
    """What was each second; `tell` hears of every one."""

    load: Load
    tell: Callable[[Mapping[str, Any]], object]
    found: list[dict[str, Any]] = field(default_factory=list)
    _before: Outcome = field(default_factory=Outcome)
    _elapsed: float = 0.0
    _timeouts: int = 0
    _created: int = 0
    _waits: "array[float]" = field(default_factory=lambda: array("d"))

    def look(self, elapsed: float, outcome: Outcome) -> None:
        """Take a sample of what came since the one before."""
        waits, took = self.load.waits.take(), outcome.took[len(self._before.took) :]
        gauges = self.load.ground.drills.gauges(self.load.client)
        latency, waited = summary(took), summary(waits)
        errors = outcome.errors.total()
        sample = {
            "seconds": round(elapsed, 2),
            "per_second": round(len(took) / max(elapsed - self._elapsed, 1e-9), 1),
            "p50_ms": latency["p50"],
            "p99_ms": latency["p99"],
            "wait_p99_ms": waited["p99"],
            "size": gauges.size,
            "in_use": gauges.in_use,
            "waiting": gauges.waiting,
            "max": gauges.max,
            "usage": gauges.usage,
            "created": self.load.waits.created - self._created,
            "timeouts": self.load.waits.timeouts - self._timeouts,
            "errors": errors - self._before.errors.total(),
        }
        self._before, self._elapsed = outcome, elapsed
        self._created, self._timeouts = self.load.waits.created, self.load.waits.timeouts
        self._waits.extend(waits)
        self.found.append(sample)
        self.tell(sample)

    def waits(self) -> dict[str, Any]:
        """Return how long all checkouts waited."""
        self._waits.extend(self.load.waits.take())
        return summary(self._waits)


def run(mongo: Any, terms: Terms, caller: Caller, *, writes: int) -> dict[str, Any]:
    """Run the drill with the options of the app's own client and return its document; each second is told."""
    with ground(mongo, terms, name="workload") as found, found.loaded({}, writes=writes) as load:
        samples = Samples(load, caller.tell)
        with caller.interrupts.allowed():
            outcome = load.run(seconds=terms.seconds, look=samples.look)
        body = {
            "writes_percent": writes,
            "pool": mongo.drills.own_pool(terms.threads),
            **outcome.to_dict(),
            **load.to_dict(),
            "wait_ms": samples.waits(),
            "samples": samples.found,
        }
    return found.to_dict() | body
