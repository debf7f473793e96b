"""What it costs to watch the pool: a checkout, a ping, and the same with what others offer."""

import sys
from collections.abc import Callable, Iterator

from ..local.environment import Environment, SetupError, ensure
from .lifecycle import Finding, Target
from .pairs import Pairs, measured
from .site import Site
from .stats import estimate, paired_differences, paired_ratios

Say = Callable[[str], None]

LEGEND = """\
Each way of watching has processes of its own, in which a client that is watched and
one that is not take turns.
checkout  CPU time of one checkout and check-in of a pooled connection; no I/O
empty     a listener that does nothing: what PyMongo's own events cost
ours      this project's monitor within a task; + commands: with its command latencies
OpenTelemetry, Sentry   their instrumentations of commands, spans dropped at the exporter
"""

COMPARED = Environment(".venv-bench", ("bench",))

# Two processes that do the same differ by a few per cent, which no number of pairs averages out.
_STARTS = 5
_CHILD = f"{__package__}.monitor_child"


def measure(site: Site, *, pairs: int, say: Say) -> Iterator[Finding]:
    """Yield the findings, one after the other; `say` hears what is going on."""
    runs = _Runs(site, pairs, say)
    yield _added("checkout, ours - empty", runs.of("cycle", "ours-empty"), Target("≤", 2.0))
    yield _added("checkout, empty - none", runs.of("cycle", "empty"))
    yield _slowed("ping, ours : bare", runs.of("ping", "ours"), Target("≤", 1.03))
    yield _slowed("ping, ours + commands : bare", runs.of("ping", "commands"))
    yield from _opentelemetry(runs, say)
    yield _slowed("ping, Sentry : bare", runs.of("ping", "sentry"))
    yield _slowed("ping, Sentry traces : bare", runs.of("ping", "sentry-traces"))


def _opentelemetry(runs: "_Runs", say: Say) -> Iterator[Finding]:
    try:
        ensure(COMPARED)
    except SetupError as error:
        say(f"without OpenTelemetry: {error}")
        return
    found = runs.of("ping", "opentelemetry", python=str(COMPARED.python))
    yield _slowed("ping, OpenTelemetry : bare", found)


class _Runs:
    """Starts the processes that measure."""

    def __init__(self, site: Site, pairs: int, say: Say) -> None:
        self._environment = site.environment
        self._uri = site.environment["MONGODB_URI"]
        self._pairs = pairs
        self._say = say

    def of(self, what: str, kind: str, *, python: str = sys.executable) -> Pairs:
        """Return the seconds of one operation, watched and not, from several processes."""
        self._say(f"{what}, {kind}: {_STARTS} starts, {self._pairs} pairs each")
        runs = (
            measured(_CHILD, (what, kind, self._uri), self._environment, pairs=self._pairs, python=python)
            for _ in range(_STARTS)
        )
        return [pair for run in runs for pair in run]


def _added(title: str, pairs: Pairs, target: Target | None = None) -> Finding:
    """Return what is added in microseconds."""
    added = [seconds * 1e6 for seconds in paired_differences(pairs)]
    return Finding(title, "us", estimate(added), target, _raw(pairs))


def _slowed(title: str, pairs: Pairs, target: Target | None = None) -> Finding:
    """Return how many times as long it takes."""
    return Finding(title, "x", estimate(paired_ratios(pairs)), target, _raw(pairs))


def _raw(pairs: Pairs) -> dict[str, list[float]]:
    return {"watched_s": [a for a, _ in pairs], "other_s": [b for _, b in pairs]}
