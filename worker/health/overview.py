"""The whole at one moment, for a person: the verdict, why and since when, and the numbers behind it. Pure."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..fleet import snapshot
from ..fleet.fleet import Fleet
from ..server.pings import Verdict
from ..store.records import Unreadable
from ..store.redis_client import NoRedisError
from . import layers, verdicts
from .verdicts import Facts, Judgement

if TYPE_CHECKING:
    from ..broker.queues import Waiting
    from ..fleet.beat_pulse import Pulse
    from ..server.info import Asked

BETWEEN_SECONDS = 30.0
"""How long after the last check a deployment without a report is between two fleets, as in a deploy."""

HERE = "this machine"
"""Who pings: no process of the fleet."""


@dataclass(frozen=True)
class Found:
    """What was seen; None was not. `before` is what the last check found, `why` why Redis was not seen.

    `unreadable` and `refusal` are as in `view.Sight`.
    """

    deployment: str
    database: str
    write_concern: int | str = "majority"
    fleet: Fleet | None = None
    before: Mapping[str, Any] | None = None
    pulse: "Pulse | None" = None
    waiting: "Waiting | None" = None
    mongodb: "Asked | None" = None
    why: str | None = None
    unreadable: Sequence[Unreadable] = ()
    refusal: str | None = None


def survey(found: Found, *, now: float | None = None) -> dict[str, Any]:
    """Return the document; at most some 100 KiB, whatever the fleet's size."""
    at = found.fleet.at if found.fleet else time.time() if now is None else now
    judgement = _judge(found)
    return {
        "at": round(at, 3),
        "deployment": found.deployment,
        "verdict": str(judgement.verdict),
        "reasons": judgement.reasons,
        "since": _since(found, judgement, at),
        "layers": {name: str(verdict) for name, verdict in judgement.layers.items()},
        "mongodb": _mongodb(found),
        **_fleet(found, judgement),
        "queues": _queues(found),
        "unacked": None if found.waiting is None else found.waiting.unacked,
        "beat": None if found.pulse is None else asdict(found.pulse),
    }


def _judge(found: Found) -> Judgement:
    """Return the verdict. A machine that reaches Redis alone hears of MongoDB from the fleet, whose word
    counts as long as somebody has just used it; one that does not reach Redis knows nothing.
    """
    fleet, ping = found.fleet, _ping(found)
    is_told = fleet is not None and any(map(layers.vouches, fleet.present))
    is_answered = ping is not None and ping["verdict"] == Verdict.OK
    before = (found.before or {}).get("lasting", {})
    lasting = {} if fleet is None else verdicts.since(fleet, before, found.unreadable)
    judged = verdicts.judge(
        Facts(
            own=HERE,
            ping=ping if is_answered or not is_told else None,
            fleet=fleet,
            queues=None if found.waiting is None else found.waiting.queues,
            beat=None if found.pulse is None else found.pulse.silence,
            since=lasting,
            topology=found.mongodb.topology if found.mongodb else None,
            write_concern=found.write_concern,
            unreadable=(*found.unreadable, *(found.waiting.unreadable if found.waiting else ())),
            refusal=found.refusal,
        )
    )
    if fleet is None:
        why = found.why if found.why == NoRedisError.why else f"Redis {found.why or 'does not answer'}"
        unseen = f"{why}: nothing is known of the fleet"
        return Judgement(Verdict.UNKNOWN, [unseen, *judged.reasons], judged.layers, {})
    is_between = fleet.at - float((found.before or {}).get("judged_at") or 0.0) <= BETWEEN_SECONDS
    if not (fleet.processes or found.unreadable or is_between) and judged.verdict is not Verdict.DOWN:
        nobody = f"no process reports in the deployment {found.deployment}"
        return Judgement(Verdict.UNKNOWN, [nobody, *judged.reasons], judged.layers, {})
    return judged


def _ping(found: Found) -> dict[str, Any] | None:
    if found.mongodb is None:
        return None
    ping = found.mongodb.ping
    return {
        "verdict": ping.verdict,
        "reasons": [f"{ping.error_class}: {ping.error}"] if ping.error_class else [],
    }


def _since(found: Found, judgement: Judgement, at: float) -> float | None:
    """Return since when it is so: the watch remembers, and what it did not find yet began now."""
    if judgement.verdict is Verdict.UNKNOWN:
        return None
    return round(verdicts.settle(found.before, judgement.verdict, at), 3)


def _mongodb(found: Found) -> dict[str, Any]:
    """Return what MongoDB said; its name by the fleet, where it did not say itself."""
    told = found.mongodb.to_dict() if found.mongodb else {"verdict": "unknown", "topology": None}
    reports = (process.report.get("server") for process in found.fleet.present) if found.fleet else iter(())
    server = told.get("server") or next((name for name in reports if name), None)
    empty = dict.fromkeys(("latency_ms", "error_class", "error", "connections"))
    return {"database": found.database, **empty, **told, "server": server}


def _fleet(found: Found, judgement: Judgement) -> dict[str, Any]:
    names = ("coverage", "circuits", "totals", "nodes", "outliers")
    connections = found.mongodb.connections if found.mongodb else None
    by_server = {"servers": snapshot.by_server(found.fleet, connections)}
    if found.fleet is None:
        return dict.fromkeys(names) | by_server
    document = snapshot.snapshot(found.fleet, deployment=found.deployment)
    for name, row in document["nodes"]["rows"].items():
        row["verdict"] = str(judgement.nodes[name].verdict) if name in judgement.nodes else "unknown"
    return {name: document[name] for name in names} | by_server


def _queues(found: Found) -> dict[str, Any] | None:
    """Return the queues by name, with why a node leaves one alone; None where they are unknown."""
    if found.waiting is None:
        return None
    gates = layers.gates(found.fleet)
    told = {name: asdict(queue) | {"gate": gates.get(name)} for name, queue in found.waiting.queues.items()}
    return {name: told[name] for name in sorted(told, key=lambda name: (-told[name]["depth"], name))}
