"""The events that are our own: what stands in their titles, and what is found when they are opened."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..text import count, count_of
from .outages.ledger import Counts
from .outages.state import Kind, Outage

RUNBOOK = "docs/runbook.md"
CRUMBS = 30
"""Of the flight recorder, so many of the last records."""

_LEVELS = {Kind.OPENED: "error", Kind.STILL: "error", Kind.GIVEN_UP: "fatal", Kind.RECOVERED: "info"}
_TASKS = 20


@dataclass(frozen=True)
class Scale:
    """How much of the fleet reports, as far as the sender sees; `is_fleet` is false for a node by itself."""

    processes: int
    nodes: int
    is_fleet: bool = True


def message(  # noqa: PLR0913 - the parts of an event
    title: str,
    *,
    name: str,
    level: str,
    fingerprint: Sequence[str],
    section: str,
    context: Mapping[str, Any],
    flight: Sequence[Mapping[str, Any]] = (),
    tags: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return an event. `fingerprint` is what groups it, the deployment first; `section` is the runbook's."""
    return {
        "message": title,
        "level": level,
        "logger": "celery_pymongo.sentry",
        "fingerprint": ["celery-pymongo", *fingerprint],
        "tags": {"celery_pymongo.event": name, "runbook": f"{RUNBOOK}#{section}", **(tags or {})},
        "contexts": {"celery_pymongo": dict(context)},
        "breadcrumbs": {"values": crumbs(flight)},
    }


def of_outage(  # noqa: PLR0913 - likewise
    kind: Kind,
    outage: Outage,
    counts: Counts,
    scale: Scale,
    *,
    deployment: str,
    flight: Sequence[Mapping[str, Any]],
    error: str | None,
) -> dict[str, Any]:
    """Return what is told of an outage; the same moment of it has the same id, whoever sends it."""
    told = message(
        _title(kind, outage, counts, scale),
        name=f"outage.{kind.replace(' ', '_')}",
        level=_LEVELS[kind],
        fingerprint=(deployment, "outage.given_up" if kind is Kind.GIVEN_UP else "outage"),
        section="outage-given-up" if kind is Kind.GIVEN_UP else "outage",
        context={
            "outage": kind,
            "since": moment(outage.since),
            "seconds": round(outage.seconds, 1),
            "relapses": outage.relapses,
            "processes_affected": len(counts.members),
            "nodes_affected": len(_nodes(counts)),
            "processes_reporting": scale.processes,
            "nodes_reporting": scale.nodes,
            "seen_by": "the fleet" if scale.is_fleet else "one node, Redis is away",
            "tasks_returned_to_the_broker": counts.requeued,
            "errors_counted": sum(counts.errors.values()),
            "errors_by_task": dict(list(counts.errors.items())[:_TASKS]),
            "nodes": sorted(_nodes(counts))[:_TASKS],
            "error": error,
        },
        flight=flight,
    )
    identity = "/".join((deployment, outage.id, kind, f"{outage.told_at:.0f}"))
    return told | {"event_id": hashlib.sha256(identity.encode()).hexdigest()[:32]}


def crumbs(flight: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the last records of a flight recorder as breadcrumbs, oldest first."""
    return [
        {
            "type": "default",
            "category": "celery_pymongo.pool",
            "level": "info",
            "timestamp": moment(record["at"]),
            "message": f"{record['kind']} {record['number']:g} {record['text']}".rstrip(),
        }
        for record in flight[-CRUMBS:]
    ]


def moment(at: float) -> str:
    """Return unix seconds as the SDK writes moments."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _title(kind: Kind, outage: Outage, counts: Counts, scale: Scale) -> str:
    cut_off, nodes = len(counts.members), len(_nodes(counts))
    of_processes, of_nodes = (
        count_of(cut_off, scale.processes, "process"),
        count_of(nodes, scale.nodes, "node"),
    )
    who = f"{of_processes} on {of_nodes}"
    lasted = _spelt(outage.seconds)
    match kind:
        case Kind.OPENED:
            return f"Check MongoDB and the way to it: {who} cannot reach it"
        case Kind.STILL:
            return f"Check MongoDB and the way to it: still down after {lasted}, for {who}"
        case Kind.GIVEN_UP:
            return f"Call whoever runs MongoDB: it has been away for {lasted}, longer than allowed, for {who}"
        case Kind.RECOVERED:
            errors = count(sum(counts.errors.values()), "error")
            cost = f"{count(counts.requeued, 'task')} went back, {errors} counted"
            return f"MongoDB answers again after {lasted}: {cost}"


def _nodes(counts: Counts) -> set[str]:
    return {member.rpartition("/")[0] for member in counts.members}


def _spelt(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
