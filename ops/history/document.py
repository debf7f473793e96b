"""The document of `mongo history`: series, gaps, outages and sources, of rows that were read."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from . import timeline
from .metrics import Metric

POINTS = 240
"""How many points a series has at most, unless a person asks for more."""


def build(
    past: Any, metrics: Sequence[Metric], *, deployment: str, interval: float, points: int
) -> dict[str, Any]:
    """Return the body of the document. `past` is what `app.mongo.view.past` returns, `interval` seconds."""
    since, until = past.since, past.until
    usual = _usual(past.rows, interval)
    number = max(1, min(points, round((until - since) / usual)))
    gaps = timeline.gaps(past.rows, interval=usual, until=until)
    drills = timeline.drills(past.drills, now=past.now)
    spans = sorted([*gaps, *timeline.outages(past.rows), *drills], key=lambda span: span.since)
    grid = timeline.Grid(since, until, number, usual)
    series = [timeline.series(past.rows, metric, grid) for metric in metrics]
    return {
        "deployment": deployment,
        "at": round(past.now, 3),
        "since": round(since, 3),
        "until": round(until, 3),
        "begins": round(past.rows[0].first, 3) if past.rows else None,
        "interval_seconds": round(usual, 3),
        "step_seconds": round(grid.step, 3),
        "sources": [_source(source) for source in past.sources],
        "spans": [span.to_dict(past.now) for span in spans],
        "series": [each.to_dict() for each in series],
    }


def unseen(past: Any) -> dict[str, str | None]:
    """Return why a source could not be read, by its name."""
    names = {"redis": "Redis", "mongodb": "MongoDB"}
    return {names[source.name]: source.problem for source in past.sources}


def exit_code(past: Any) -> int:
    """Return 0 where all was read, 1 where a part was, 3 where nothing could be."""
    problems = [source.problem for source in past.sources if source.problem]
    if not problems:
        return 0
    return 1 if past.rows or len(problems) < len(past.sources) else 3


def _source(source: Any) -> dict[str, Any]:
    told: dict[str, Any] = source.to_dict()
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in told.items()}


def _usual(rows: Sequence[timeline.Row], interval: float) -> float:
    """Return how far apart the snapshots are: where the setting was another one then, as they stand."""
    steps = sorted(after.first - before.last for before, after in pairwise(rows))
    return max(interval, steps[len(steps) // 2]) if steps else interval
