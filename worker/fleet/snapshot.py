"""The snapshot: one bounded JSON document of the whole fleet."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..server.connections import Connections
from . import servers, totals
from .bounded import cut, fit
from .fleet import Fleet, Node, Process, State

MAX_BYTES = 64 * 1024
"""The most that a snapshot has as JSON, whatever the fleet's size and names."""

# The parts that grow with the fleet. Beside them: 30 outliers and the totals.
_NODES_BYTES, _SERVER_BYTES, _NAMES_BYTES, _SERVERS_BYTES = 28_000, 6_000, 2_000, 6_000


def snapshot(fleet: Fleet, *, deployment: str, connections: Connections | None = None) -> dict[str, Any]:
    """Return the document. Lists of names and nodes end where the document would grow too large: the counts
    beside them are of all. Lost processes are in no total.
    """
    present = fleet.present
    reports = [process.report for process in present]
    return {
        "at": round(fleet.at, 3),
        "deployment": deployment,
        "coverage": coverage(fleet),
        "circuits": dict(Counter(report.get("circuit", "unknown") for report in reports)),
        "outage": _outage(present),
        "totals": totals.add_up(reports),
        "nodes": _nodes(fleet),
        "outliers": totals.outliers([(cut(process.member), process.report) for process in present]),
        "server": None if connections is None else _server(fleet, connections),
        "servers": by_server(fleet, connections),
    }


def by_server(fleet: Fleet | None, connections: Connections | None) -> dict[str, Any]:
    """Return a row for each member of MongoDB (`servers.rows`), as many as there is room for."""
    rows = servers.rows(fleet, connections).items()
    return dict(fit(((cut(name), row) for name, row in rows), _SERVERS_BYTES))


def aggregate(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the history keeps of a snapshot: nothing that grows with the fleet."""
    server = document["server"] or {}
    return {
        **{name: document[name] for name in ("at", "circuits", "outage", "totals")},
        "coverage": {name: document["coverage"][name] for name in ("seen", "expected", "counts")},
        "server": {name: server.get(name) for name in _KEPT_OF_SERVER},
    }


_KEPT_OF_SERVER = ("member", "current", "available", "total_created", "others")


def coverage(fleet: Fleet) -> dict[str, Any]:
    """Return how many processes are seen and expected, and those that are not live, by name."""
    names = {state.value: fleet.names(state) for state in State} | {"missing": fleet.missing}
    counts = {state: len(members) for state, members in names.items()}
    return {
        "seen": len(fleet.present),
        "expected": fleet.expected,
        "counts": counts,
        **{state: fit(map(cut, names[state]), _NAMES_BYTES) for state in names if state != State.LIVE},
    }


def _outage(present: Iterable[Process]) -> dict[str, float | None]:
    """Return for how long MongoDB has been away from one that it is away from, and since when it is back for
    all, if that is news; seconds, None where there is no such thing.
    """
    away = [p.report["outage"] + p.silence for p in present if p.report.get("outage")]
    back = [p.report["recovered"] + p.silence for p in present if p.report.get("recovered") is not None]
    return {
        "seconds": round(max(away), 1) if away else None,
        "ended": round(min(back), 1) if back and not away else None,
    }


def _nodes(fleet: Fleet) -> dict[str, Any]:
    """Return a row per node, those in trouble first, then the busiest; and how many are left out."""
    rows = [(cut(node.name), _row(node)) for node in sorted(fleet.nodes.values(), key=_rank)]
    kept = fit(rows, _NODES_BYTES)
    return {"count": len(rows), "left_out": len(rows) - len(kept), "rows": dict(kept)}


def _rank(node: Node) -> tuple[bool, int, str]:
    is_well = not node.missing and all(_is_well(process) for process in node.processes)
    in_use = sum(process.report.get("pool", {}).get("in_use", 0) for process in node.present)
    return (is_well, -in_use, node.name)


def _is_well(process: Process) -> bool:
    return process.state is State.LIVE and process.report.get("circuit") == "closed"


def _row(node: Node) -> dict[str, Any]:
    pools = [process.report.get("pool", {}) for process in node.present]
    states = Counter(process.state.value for process in node.processes)
    return {
        "slots": node.slots,
        **states,
        "missing": len(node.missing),
        "not_closed": sum(process.report.get("circuit") != "closed" for process in node.present),
        "kind": next((process.report.get("kind") for process in node.processes), None),
        **{name: sum(pool.get(name) or 0 for pool in pools) for name in ("size", "in_use", "waiting")},
    }


def _server(fleet: Fleet, connections: Connections) -> dict[str, Any]:
    """Return what the member with the least room left says of its connections; and of all members that were
    asked together ours by node, beside what the processes report of the same members.
    """
    member, fullest = connections.fullest
    told = {
        "member": member,
        "current": fullest.current,
        "available": fullest.available,
        "total_created": fullest.total_created,
        "source": fullest.source,
    }
    counts = connections.by_appname
    if counts is None:
        return told | {"ours": None, "strays": None, "others": None}
    asked = [name for name, each in connections.members.items() if each.by_appname is not None]
    ours = {node.name: _ours(node, counts, asked) for node in fleet.nodes.values() if node.present}
    kept = fit(sorted(ours.items(), key=lambda row: -row[1]["counted"]), _SERVER_BYTES)
    reports = [process.report for process in fleet.present]
    return told | {
        "ours": dict(kept),
        # Ours by name, of no process that reports: a script's, or those of a process that just died.
        "strays": servers.strays(reports, counts, connections.own),
        "others": connections.others,
    }


def _ours(node: Node, counts: Mapping[str, int], asked: Sequence[str]) -> dict[str, Any]:
    reports = [process.report for process in node.present]
    sizes = [servers.reported(reports, name) for name in asked]
    known = [size for size in sizes if size is not None]
    return {
        "counted": servers.counted(reports, counts),
        "reported": sum(known) if len(known) == len(sizes) else None,
    }
