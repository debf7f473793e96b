"""The history as series: thinned to so many points, with its gaps and its outages. Pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from .metrics import AWAY_SECONDS, CLOSED, CUT_OFF, ENDED_SECONDS, Metric, Pick, Values

GAP_INTERVALS = 2.5
"""Snapshots that are further apart than so many of their intervals have a gap between them."""


class Row(Protocol):
    """What was between two moments, unix seconds; the same moment twice where it is one snapshot."""

    @property
    def first(self) -> float:
        """When it began."""

    @property
    def last(self) -> float:
        """When it ended."""

    @property
    def values(self) -> Values:
        """What was then, by path."""


class DrillSpan(Protocol):
    """A drill, unix seconds."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def since(self) -> float:
        """When it began."""

    @property
    def until(self) -> float:
        """When it ended, or is to."""


@dataclass(frozen=True)
class Span:
    """A time between two moments, unix seconds; `until` None: it lasts."""

    since: float
    until: float | None
    kind: str
    name: str | None = None

    def to_dict(self, now: float) -> dict[str, Any]:
        """Return plain JSON types, with how long it was or has been."""
        end = now if self.until is None else self.until
        return {
            "kind": self.kind,
            "since": round(self.since, 3),
            "until": None if self.until is None else round(self.until, 3),
            "seconds": round(max(0.0, end - self.since), 3),
        } | ({} if self.name is None else {"name": self.name})


def gaps(rows: Sequence[Row], *, interval: float, until: float) -> list[Span]:
    """Return the times without a snapshot, the last one to `until`; `interval` is how far apart they should
    be. What is before the first row is none: nothing says that there should have been a fleet.
    """
    moments = [(before.last, after.first) for before, after in pairwise(rows)]
    if rows:
        moments.append((rows[-1].last, until))
    return [
        Span(begun, None if ended == until else ended, "gap")
        for begun, ended in moments
        if ended - begun > GAP_INTERVALS * interval
    ]


def outages(rows: Sequence[Row]) -> list[Span]:
    """Return the times in which processes were cut off from MongoDB: "outage" where all were at some moment,
    else "partial". One begins and ends when a snapshot says that it did, else with the first row that has
    one and the first that has none; what stands on both sides of a gap lasted.
    """
    found: list[Span] = []
    begun: Row | None = None
    last = float("-inf")
    is_whole = False
    for row in rows:
        if _cut_off(row.values):
            is_whole = (is_whole and begun is not None) or not row.values.get(CLOSED)
            begun, last = begun or row, row.last
        elif begun:
            found.append(_outage(begun, max(last, row.first - _ago(row, ENDED_SECONDS)), is_whole=is_whole))
            begun = None
    if begun:
        found.append(_outage(begun, None, is_whole=is_whole))
    return found


def drills(noted: Iterable[DrillSpan], *, now: float) -> list[Span]:
    """Return the times in which drills ran."""
    return [Span(one.since, one.until if one.until <= now else None, "drill", one.name) for one in noted]


def _outage(begun: Row, until: float | None, *, is_whole: bool) -> Span:
    return Span(begun.first - _ago(begun, AWAY_SECONDS), until, "outage" if is_whole else "partial")


def _ago(row: Row, path: str) -> float:
    """Return how long before a row something was, by its one snapshot; of several nobody knows."""
    return (row.values.get(path) or 0.0) if row.first == row.last else 0.0


def _cut_off(values: Values) -> bool:
    return any(values.get(path) for path in CUT_OFF)


@dataclass(frozen=True)
class Grid:
    """The steps of a series: so many from `since` to `until`; snapshots are `interval` apart. Seconds."""

    since: float
    until: float
    points: int
    interval: float

    @property
    def step(self) -> float:
        """How long a step is."""
        return (self.until - self.since) / self.points

    def index(self, at: float) -> int:
        """Return the step that a moment belongs to."""
        return min(self.points - 1, max(0, int((at - self.since) / self.step)))

    def begin(self, index: int) -> float:
        """Return when a step begins."""
        return self.since + index * self.step


@dataclass(frozen=True)
class Series:
    """A metric's values, one for each step of the grid; None where nothing is known."""

    metric: Metric
    grid: Grid
    values: list[float | None]
    limits: list[float | None]

    @property
    def known(self) -> list[float]:
        """The values that there are."""
        return [value for value in self.values if value is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; a point is the unix second that its step begins, and its value."""
        known = self.known
        return {
            "metric": self.metric.name,
            "unit": self.metric.unit,
            "meaning": self.metric.meaning,
            "pick": "sum" if self.metric.counts else self.metric.pick,
            "last": _rounded(known[-1]) if known else None,
            "min": _rounded(min(known)) if known else None,
            "max": _rounded(max(known)) if known else None,
            "limit": _rounded(next((limit for limit in reversed(self.limits) if limit is not None), None)),
            "points": [
                [round(self.grid.begin(i), 3), _rounded(value)] for i, value in enumerate(self.values)
            ],
        }


def series(rows: Sequence[Row], metric: Metric, grid: Grid) -> Series:
    """Return a metric's values over a span.

    A step between two snapshots that have no gap between them, and that has none itself, is as the one
    before it; a count grew by nothing in it.
    """
    own: list[list[float]] = [[] for _ in range(grid.points)]
    limits: list[float | None] = [None] * grid.points
    seen = {grid.index(row.last): row.last for row in rows}
    for row, value in zip(rows, _values(rows, metric), strict=True):
        index = grid.index(row.last)
        if value is not None:
            own[index].append(value)
        limits[index] = metric.most(row.values) or limits[index]
    values = [_picked(found, metric) for found in own]
    last = float("-inf")
    for index in range(1, grid.points):
        last = seen.get(index - 1, last)
        if index not in seen and grid.begin(index + 1) - last <= GAP_INTERVALS * grid.interval:
            values[index] = _held(values[index - 1], metric)
    return Series(metric, grid, values, limits)


def _held(before: float | None, metric: Metric) -> float | None:
    return 0.0 if metric.counts and before is not None else before


def _values(rows: Iterable[Row], metric: Metric) -> Iterable[float | None]:
    if not metric.counts:
        yield from (metric.value(row.values) for row in rows)
        return
    before: float | None = None
    for row in rows:
        value = metric.value(row.values)
        # It falls where a process ends, which takes its count with it.
        yield None if value is None or before is None else max(0.0, value - before)
        before = before if value is None else value


def _picked(values: list[float], metric: Metric) -> float | None:
    if not values:
        return None
    if metric.counts:
        return sum(values)
    picks: dict[Pick, float] = {"max": max(values), "min": min(values), "avg": sum(values) / len(values)}
    return picks[metric.pick]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
