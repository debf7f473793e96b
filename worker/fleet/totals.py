"""Reports added up: sums, percentiles of what was merged, and who stands out."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..pool.histogram import BUCKETS, Times

Report = dict[str, Any]

BY_SERVER = ("size", "in_use", "waiting")
"""What a report says of each server, in this order."""

_OUTLIERS = 10


def add_up(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the totals of these reports, with the reports' own names and units.

    `pool`, `rate` and `memory` are sums of now; `count` sums what the processes counted since each began,
    so it falls where one ends. Of `pool`, min and max are what all processes together keep and may open to
    one server, max None where a pool has none; max_each is each process's, None where they differ; and usage
    is the fullest pool's.
    """
    pool = _sums(reports, "pool")
    maxima = {report.get("pool", {}).get("max") for report in reports}
    if None in maxima:
        pool["max"] = None
    pool["max_each"] = maxima.pop() if len(maxima) == 1 else None
    pool["usage"] = max(map(usage, reports), default=0.0)
    return {
        "processes": len(reports),
        "pool": pool,
        "count": _sums(reports, "count"),
        "rate": {name: round(value, 3) for name, value in _sums(reports, "rate").items()},
        "wait": _waits(reports),
        "use": _merged(reports, "use"),
        "rtt": _merged(reports, "rtt"),
        "memory": _sums(reports, "memory"),
    }


def by_server(reports: Sequence[Report]) -> dict[str, dict[str, int]]:
    """Return what the processes that say so have open to each server: the names of BY_SERVER."""
    found: dict[str, dict[str, int]] = {}
    for report in reports:
        for server, counts in (report.get("servers") or {}).items():
            row = found.setdefault(server, dict.fromkeys(BY_SERVER, 0))
            for name, number in zip(BY_SERVER, counts, strict=True):
                row[name] += number
    return found


def outliers(reports: Sequence[tuple[str, Report]]) -> dict[str, list[dict[str, Any]]]:
    """Return the ten worst of these named reports by each measure; zero stands nowhere."""
    measures: dict[str, Callable[[Report], float]] = {
        "in_use": usage,
        "wait_p99_ms": wait_p99,
        "timeouts": lambda report: report.get("count", {}).get("timeouts") or 0,
    }
    return {name: _worst(reports, measure) for name, measure in measures.items()}


def usage(report: Report) -> float:
    """Return the share of its maximum that the fullest pool has in use, 0.0 to 1.0; 0.0 without a maximum.

    A process has a pool for each server, and an operation can only take a connection of its server's.
    """
    return float(report.get("pool", {}).get("usage") or 0.0)


def wait_p99(report: Report) -> float:
    """Return how long the slowest hundredth of the last minute's checkouts waited, milliseconds."""
    return float(report.get("wait", {}).get("p99") or 0.0)


def _worst(reports: Sequence[tuple[str, Report]], measure: Callable[[Report], float]) -> list[dict[str, Any]]:
    measured = [(value, name, report) for name, report in reports if (value := measure(report)) > 0]
    # By name where equal: two snapshots of the same state are the same.
    measured.sort(key=lambda row: (-row[0], row[1]))
    return [
        {"process": name, "value": round(value, 3), "task": (report.get("task") or {}).get("name")}
        for value, name, report in measured[:_OUTLIERS]
    ]


def _sums(reports: Iterable[Report], section: str) -> dict[str, Any]:
    sums: dict[str, Any] = {}
    for report in reports:
        for name, value in report.get(section, {}).items():
            # What a process does not know of itself is None.
            if value is not None:
                sums[name] = sums.get(name, 0) + value
    return sums


def _merged(reports: Iterable[Report], name: str) -> dict[str, Any]:
    """Return number, average and maximum of a duration in all reports together, milliseconds."""
    parts = [part for report in reports if (part := report.get(name)) and part.get("n")]
    count = sum(part["n"] for part in parts)
    total = sum(part["n"] * part["avg"] for part in parts)
    return {
        "n": count,
        "avg": round(total / count, 3) if count else None,
        "max": max((part["max"] for part in parts), default=None),
    }


def _waits(reports: Iterable[Report]) -> dict[str, Any]:
    """Return the waits of all reports that have their buckets: an average of percentiles means nothing."""
    known = [report for report in reports if len(report.get("wait_buckets") or ()) == BUCKETS]
    counts = [sum(column) for column in zip(*(report["wait_buckets"] for report in known), strict=True)]
    merged = _merged(known, "wait")
    total_ms = (merged["avg"] or 0.0) * merged["n"]
    times = Times(counts or Times().counts, total_ms / 1000, (merged["max"] or 0.0) / 1000)
    return times.to_dict()
