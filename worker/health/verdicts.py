"""What the facts mean: a verdict per layer, the worst of them, and reasons for the person who is on call."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..fleet.bounded import cut, fit
from ..fleet.fleet import Fleet, Node
from ..server.members import MemberProblem
from ..server.pings import Verdict
from ..store.records import Unreadable
from . import doubts, layers, shortage
from .layers import Layer, Since

if TYPE_CHECKING:
    from ..broker.queues import Queue

# A document is kept of them; in a larger trouble the first are reason enough.
_REMEMBERED = 200
_NODES_BYTES = 16_000


@dataclass(frozen=True)
class Facts:
    """What is known now; None is unknown. `ping` is `Link.check()` of the process `own`, `topology` what that
    sees of MongoDB's members, `beat` seconds since beat's last tick, `since` what `since()` returns.

    `unreadable` are records that were there and told nothing, `refusal` is Redis' word for not writing.
    """

    own: str
    ping: Mapping[str, Any] | None
    topology: Mapping[str, Any] | None = None
    write_concern: int | str = "majority"
    fleet: Fleet | None = None
    queues: "Mapping[str, Queue] | None" = None
    beat: float | None = None
    since: Since = field(default_factory=dict)
    unreadable: Sequence[Unreadable] = ()
    refusal: str | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdict of the whole: the worst of its layers; what is unknown spoils nothing, unless it would have
    been told by a record that cannot be read.
    """

    verdict: Verdict
    reasons: list[str]
    layers: dict[str, Verdict]
    nodes: dict[str, Layer]

    @property
    def unknown(self) -> list[str]:
        """The layers of which nothing is known."""
        return [name for name, verdict in self.layers.items() if verdict is Verdict.UNKNOWN]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; of many nodes those in trouble, and of all how many there are."""
        ranked = sorted(self.nodes.items(), key=lambda pair: (layers.severity(pair[1].verdict), pair[0]))
        rows = fit(((cut(name), asdict(layer)) for name, layer in ranked), _NODES_BYTES)
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "layers": self.layers,
            "unknown": self.unknown,
            "nodes": {
                "counts": dict(Counter(layer.verdict for layer in self.nodes.values())),
                "left_out": len(ranked) - len(rows),
                "rows": dict(rows),
            },
        }


def judge(facts: Facts) -> Judgement:
    """Return the verdict that these facts support."""
    fleet = facts.fleet
    judged = {
        "liveness": layers.liveness(fleet, facts.since),
        "reachability": layers.reachability(fleet, facts.ping, facts.own),
        "members": layers.of_members(_member_problems(facts), facts.topology),
        "permissions": layers.permissions(fleet),
        "pool": shortage.judge(fleet, facts.since),
        "consuming": layers.consuming(fleet, facts.queues),
        "beat": layers.beat(facts.beat),
    }
    judged |= {name: doubts.doubted(judged[name]) for name in doubts.layers_of(facts.unreadable, facts.since)}
    if facts.refusal is not None:
        judged["redis"] = layers.redis(facts.refusal)
    whole = doubts.of_whole(layers.worst(judged.values()), facts.unreadable, facts.since)
    return Judgement(
        verdict=whole.verdict,
        reasons=whole.reasons,
        layers={name: layer.verdict for name, layer in judged.items()},
        nodes={}
        if fleet is None
        else {node.name: _of_node(fleet, node, facts) for node in fleet.nodes.values()},
    )


def _member_problems(facts: Facts) -> list[MemberProblem]:
    topology, concern = facts.topology, facts.write_concern
    return layers.member_problems(facts.fleet, topology, facts.own, write_concern=concern)


def since(fleet: Fleet, before: Since, unreadable: Sequence[Unreadable] = ()) -> dict[str, dict[str, float]]:
    """Return since when slots are missing, operations wait and pools are nearly full, and when operations
    last got no connection in time, by process; and when it was that this could not be read.

    `before` is what the last check found: what is so then and now counts as so between.
    """
    before = _past(before, fleet.at)
    reports = {process.member: process.report for process in fleet.present}
    found = {
        "missing": fleet.missing,
        "waiting": [member for member, report in reports.items() if shortage.is_waiting(report)],
        "full": [member for member, report in reports.items() if shortage.is_full(report)],
    }
    return (
        {
            what: {member: before.get(what, {}).get(member, fleet.at) for member in members[:_REMEMBERED]}
            for what, members in found.items()
        }
        | shortage.timeouts(fleet, before, limit=_REMEMBERED)
        | doubts.remembered(fleet.at, before, unreadable)
    )


def _past(before: Since, now: float) -> Since:
    """Return what was remembered, without moments to come: what is so since then would never last."""
    return {
        what: named if what == "counted" else {name: min(at, now) for name, at in named.items()}
        for what, named in before.items()
    }


def settle(previous: Mapping[str, Any] | None, verdict: Verdict, now: float) -> float:
    """Return since when this verdict holds: as long as the previous one, where that is the same."""
    is_same = previous is not None and previous.get("verdict") == verdict
    return min(now, float(previous.get("since", now))) if is_same and previous else now


def _of_node(fleet: Fleet, node: Node, facts: Facts) -> Layer:
    alone = Fleet(fleet.at, {node.name: node})
    of_pools = shortage.judge(alone, facts.since)
    whole = layers.worst([layers.liveness(alone, facts.since), layers.circuits(node.present), of_pools])
    return doubts.doubted(whole) if node.unread else whole
