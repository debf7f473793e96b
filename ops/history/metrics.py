"""What the history tells of: each metric, how it is read off a snapshot, and what counts of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Pick = Literal["max", "min", "avg"]
Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Metric:
    """A number over time: the sum of what stands at `paths` of a snapshot.

    `pick` is what counts of several snapshots: what is worst, or the average. A `counts` metric is a count
    since each process began, of which the increase is shown. `limit` is where its maximum stands. What is
    absent is zero where something stands at `beside`.
    """

    name: str
    unit: str
    meaning: str
    paths: tuple[str, ...]
    pick: Pick = "max"
    counts: bool = False
    limit: str | None = None
    beside: str | None = None

    def value(self, values: Values) -> float | None:
        """Return the metric's value of a row; None where nothing of it is known."""
        known = [value for path in self.paths if (value := values.get(path)) is not None]
        is_zero = not known and self.beside is not None and values.get(self.beside) is not None
        return sum(known) if known or is_zero else None

    def most(self, values: Values) -> float | None:
        """Return the metric's maximum of a row, where it has one that is known."""
        return None if self.limit is None else values.get(self.limit)


_LOST = ("coverage.counts.lost", "coverage.counts.missing")

CLOSED, CUT_OFF = "circuits.closed", ("circuits.open", "circuits.half-open")
"""Where a snapshot says how many processes reach MongoDB, and how many do not."""

AWAY_SECONDS, ENDED_SECONDS = "outage.seconds", "outage.ended"
"""Where it says for how long MongoDB had been away by then, or how long ago it came back."""

# fmt: off
METRICS: tuple[Metric, ...] = (
    Metric("operations", "1/s", "Connections taken from the pools.", ("totals.rate.checked_out",), "avg"),
    Metric("in_use", "connections", "Connections in use.", ("totals.pool.in_use",)),
    Metric("usage", "share", "How full the fullest pool was: 1 is all in use.", ("totals.pool.usage",)),
    Metric("connections", "connections", "Open connections, to all members.", ("totals.pool.size",)),
    Metric("waiting", "operations", "Operations that wait for a connection.", ("totals.pool.waiting",)),
    Metric("wait_avg", "ms", "Getting a connection, on average.", ("totals.wait.avg",)),
    Metric("wait_p99", "ms", "What one connection in a hundred took longer to get.", ("totals.wait.p99",)),
    Metric("hold_avg", "ms", "From a connection's checkout to its return, on average.", ("totals.use.avg",)),
    Metric("round_trip", "ms", "A round trip to the server, on average.", ("totals.rtt.avg",)),
    Metric("failed", "1/s", "Operations that got no connection.", ("totals.rate.failed",)),
    Metric("timeouts", "timeouts", "Waits that took too long.", ("totals.count.timeouts",), counts=True),
    Metric("created", "1/s", "Connections made: churn, where nothing grows.", ("totals.rate.created",)),
    Metric("requeued", "tasks", "Tasks given back in an outage.", ("totals.count.requeued",), counts=True),
    Metric("processes", "processes", "Reporting.", ("coverage.seen",), "min", limit="coverage.expected"),
    Metric("lost", "processes", "Processes that are lost or missing.", _LOST),
    Metric("cut_off", "processes", "Processes that cannot reach MongoDB.", CUT_OFF, beside=CLOSED),
    Metric("server_connections", "connections", "All connections of the server.", ("server.current",)),
    Metric("memory", "bytes", "The processes' own.", ("totals.memory.uss",)),
)
# fmt: on

BY_NAME = {metric.name: metric for metric in METRICS}

USUAL = ("operations", "in_use", "usage", "waiting", "wait_p99", "failed", "processes", "cut_off")
"""Those that are shown where none is named."""


def fields(metrics: Sequence[Metric]) -> dict[str, Pick]:
    """Return what has to be read for these metrics and for outages: where it stands, and what counts."""
    found: dict[str, Pick] = {CLOSED: "min", **dict.fromkeys((*CUT_OFF, AWAY_SECONDS), "max")}
    found[ENDED_SECONDS] = "min"
    for metric in metrics:
        found |= {path: metric.pick for path in metric.paths if path not in found}
        if metric.limit is not None:
            found.setdefault(metric.limit, "max")
    return found
