"""A row for each member of MongoDB: what the processes have open to it, and what it counts itself. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..server.connections import MONITORING_SOCKETS, Connections, Counted
from . import totals
from .fleet import Fleet

Report = Mapping[str, Any]

_SAID = ("current", "available", "total_created", "source", "others")


def rows(fleet: Fleet | None, connections: Connections | None) -> dict[str, dict[str, Any]]:
    """Return the members by name; None is unknown, and `why` says why a member's own count is.

    `size`, `in_use` and `waiting` are of the pools of all processes that say so, `reported` what they must
    have open to it, with their monitoring sockets. `counted` is how many the member counts of them; `strays`
    of the same deployment and of no process that reports, whoever asked left out.
    """
    reports = [process.report for process in fleet.present] if fleet else []
    pools = totals.by_server(reports)
    told = connections or Connections()
    return {
        name: {key: pools.get(name, {}).get(key, 0) for key in totals.BY_SERVER}
        | _counts(reports, told, name)
        for name in sorted({*pools, *told.members, *told.unknown})
    }


def reported(reports: Sequence[Report], server: str) -> int | None:
    """Return how many sockets these processes say they have to a member; None where one does not say."""
    sizes = [(report.get("servers") or {}).get(server, (None,))[0] for report in reports]
    known = [size + MONITORING_SOCKETS for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def counted(reports: Sequence[Report], counts: Mapping[str, int]) -> int:
    """Return how many of these connections are of these processes."""
    return sum(counts.get(str(report.get("appname")), 0) for report in reports)


def strays(reports: Sequence[Report], counts: Mapping[str, int], own: str | None) -> int:
    """Return how many of these connections are of no process that reports, and not of whoever asked."""
    names = {str(report.get("appname")) for report in reports} | {own}
    return sum(number for name, number in counts.items() if name not in names)


def _counts(reports: Sequence[Report], told: Connections, name: str) -> dict[str, Any]:
    found = told.members.get(name)
    why = told.unknown.get(name) if found is None else found.why_unknown
    said = {key: getattr(found or Counted(), key) for key in _SAID}
    counts = None if found is None else found.by_appname
    return said | {
        "reported": reported(reports, name),
        "counted": None if counts is None else counted(reports, counts),
        "strays": None if counts is None else strays(reports, counts, told.own),
        "why": why,
    }
