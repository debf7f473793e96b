"""The layers of health but the pool: what the fleet, MongoDB, the queues and beat each say."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..fleet.fleet import Fleet, Process, State
from ..server import members
from ..server.members import MemberProblem
from ..server.pings import Verdict
from ..store import redis_errors
from ..text import agree, count, count_of, names

if TYPE_CHECKING:
    from ..broker.queues import Queue

MESSAGE_SECONDS = 60.0
"""A message that waits longer says that the fleet cannot keep up."""

BEAT_SECONDS = 30.0
"""Beat ticks every 5 s or more often and pulses every 2 s at the most; a new leader takes some 15 s."""

VOUCH_SECONDS = 12.0
"""How fresh another process's success must be to prove that MongoDB is there: heartbeats come every 10 s."""

MISSING_SECONDS = 15.0
"""How long a slot may be empty: Celery often replaces a child only at its next look, every 5 s."""

_BY_SEVERITY = (Verdict.DOWN, Verdict.DEGRADED, Verdict.OK, Verdict.UNKNOWN)

Since = Mapping[str, Mapping[str, float]]
"""What is remembered from check to check, by what and by process: since when it is so, unix seconds."""


@dataclass(frozen=True)
class Layer:
    """The verdict of one layer, or of a node, with its reasons, the most severe first."""

    verdict: Verdict
    reasons: list[str] = field(default_factory=list)


def severity(verdict: Verdict) -> int:
    """Return a number by which the worst verdict comes first."""
    return _BY_SEVERITY.index(verdict)


def worst(layers: Iterable[Layer]) -> Layer:
    """Return the worst verdict, and all reasons, the most severe first; what is unknown spoils nothing."""
    known = [layer for layer in layers if layer.verdict is not Verdict.UNKNOWN]
    # The order of layers where they are equally bad.
    known.sort(key=lambda layer: severity(layer.verdict))
    if not known:
        return Layer(Verdict.UNKNOWN)
    return Layer(known[0].verdict, [reason for layer in known for reason in layer.reasons])


def liveness(fleet: Fleet | None, since: Since) -> Layer:
    """Is every process there? `since` says since when slots are missing."""
    if fleet is None or not fleet.processes:
        return Layer(Verdict.UNKNOWN)
    empty = since.get("missing", {})
    lost = fleet.names(State.LOST)
    missing = [slot for slot in fleet.missing if fleet.at - empty.get(slot, fleet.at) >= MISSING_SECONDS]
    verdict = Verdict.DEGRADED if fleet.present else Verdict.DOWN
    found = [f"{_are(lost, fleet.expected)} lost: {names(lost)}"] if lost else []
    found += [f"{_are(missing, fleet.expected)} missing: {names(missing)}"] if missing else []
    return Layer(verdict if found else Verdict.OK, found)


def reachability(fleet: Fleet | None, ping: Mapping[str, Any] | None, own: str) -> Layer:
    """Does MongoDB answer? `ping` is `Link.check()` of the process `own`; the others have their circuits.

    Without a ping these alone tell.
    """
    if ping is None:
        return circuits(fleet.present) if fleet else Layer(Verdict.UNKNOWN)
    verdict = Verdict(ping["verdict"])
    present = fleet.present if fleet else []
    others = [process for process in present if process.member != own]
    told = _cut_off(others, of=len(present))
    if verdict is Verdict.OK:
        return replace(told, verdict=Verdict.DEGRADED) if told.reasons else Layer(Verdict.OK)
    if verdict is Verdict.UNKNOWN or any(map(vouches, others)):
        # Not MongoDB's fault, or not everybody's.
        verdict = Verdict.DEGRADED
    why = "; ".join(ping.get("reasons") or ["no answer"])
    return Layer(verdict, [*_hang(present), f"{own} cannot use MongoDB: {why}", *told.reasons])


def circuits(among: Sequence[Process]) -> Layer:
    """Who is cut off from MongoDB, and does it hang?"""
    told = _cut_off(among, of=len(among))
    return replace(told, reasons=[*_hang(among), *told.reasons])


def _hang(among: Sequence[Process]) -> list[str]:
    """Return a reason where MongoDB hangs for each of these: one that is refused, say, knows better."""
    hung = [hung_seconds(process.report, process.silence) for process in among]
    known = [seconds for seconds in hung if seconds is not None]
    return [f"MongoDB hangs: no answer for {max(known):.0f} s"] if known and len(known) == len(hung) else []


def hung_seconds(report: Mapping[str, Any], silence: float) -> float | None:
    """Return for how long MongoDB has not answered this process, which reported `silence` seconds ago; None
    where that is not what cuts it off.
    """
    seconds = report.get("hung") if report.get("circuit", "closed") != "closed" else None
    return None if seconds is None else seconds + silence


def _cut_off(among: Sequence[Process], *, of: int) -> Layer:
    """Return who is cut off; `of` is how many processes there are, where these are not all."""
    away = [process for process in among if is_cut_off(process)]
    if not away:
        return Layer(Verdict.OK if among else Verdict.UNKNOWN)
    longest = max(p.report.get("outage") or 0.0 for p in away)
    members = [p.member for p in away]
    reason = f"{_are(members, of)} cut off from MongoDB, for {longest:.0f} s: {names(members)}"
    if met := Counter(str(p.report["error"]) for p in away if p.report.get("error")).most_common(1):
        reason += f" ({met[0][0]})"
    return Layer(Verdict.DOWN if len(away) == len(among) else Verdict.DEGRADED, [reason])


def is_cut_off(process: Process) -> bool:
    """Say whether this process reports that it cannot use MongoDB."""
    return bool(process.report.get("circuit", "closed") != "closed")


def member_problems(
    fleet: Fleet | None, topology: Mapping[str, Any] | None, own: str, *, write_concern: int | str
) -> list[MemberProblem]:
    """Return what is wrong with the members of the topology that `own` sees; what it has just used itself
    proves no more than what it sees now.
    """
    if topology is None:
        return []
    others = [process for process in fleet.present if process.member != own] if fleet else []
    return members.problems(
        topology,
        seen_from=own,
        write_concern=write_concern,
        is_used_elsewhere=any(map(vouches, others)),
    )


def of_members(problems: Sequence[MemberProblem], topology: Mapping[str, Any] | None) -> Layer:
    """Is there a primary, and is every member there? Unknown where no member answers."""
    kinds = (topology or {}).get("members", {}).values()
    is_known = any(kind != "Unknown" for kind in kinds)
    by_problem = [Layer(problem.verdict, [str(problem)]) for problem in problems]
    return worst([Layer(Verdict.OK if is_known else Verdict.UNKNOWN), *by_problem])


def permissions(fleet: Fleet | None) -> Layer:
    """Does MongoDB let tasks do what they do?"""
    if fleet is None or not fleet.present:
        return Layer(Verdict.UNKNOWN)
    found = {p.member: p.report["denied"] for p in fleet.present if p.report.get("denied")}
    if not found:
        return Layer(Verdict.OK)
    tasks = sorted({task for told in found.values() for task in told["tasks"]})
    codes = ", ".join(sorted({str(told["code"]) for told in found.values()}))
    reason = f"MongoDB denies operations of {names(tasks)} (code {codes}) in {processes(found)}"
    return Layer(Verdict.DEGRADED, [reason])


def vouches(process: Process) -> bool:
    """Say whether this process has just proved that MongoDB is there."""
    success = process.report.get("ok")
    is_fresh = success is not None and success + process.silence <= VOUCH_SECONDS
    return is_fresh and process.report.get("circuit") == "closed"


def consuming(fleet: Fleet | None, queues: "Mapping[str, Queue] | None") -> Layer:
    """Are the queues worked off?"""
    if queues is None:
        return Layer(Verdict.UNKNOWN)
    consumed, closed = _consumed(fleet), gates(fleet)
    found = [
        _waiting(name, queue, consumed=consumed, gate=closed.get(name))
        for name, queue in sorted(queues.items())
        if queue.depth
    ]
    reasons = [reason for reason in found if reason]
    return Layer(Verdict.DEGRADED if reasons else Verdict.OK, reasons)


def _waiting(name: str, queue: "Queue", *, consumed: set[str] | None, gate: str | None) -> str | None:
    messages = f"{count(queue.depth, 'message')} in {name}"
    if consumed is not None and name not in consumed:
        return f"nobody consumes the {messages}" + (f": the gate is closed ({gate})" if gate else "")
    if queue.age is not None and queue.age > MESSAGE_SECONDS:
        return f"{messages}, the oldest for {queue.age:.0f} s"
    return None


def _consumed(fleet: Fleet | None) -> set[str] | None:
    """Return the queues that somebody consumes; None where not every process tells."""
    told = [process.report.get("queues") for process in fleet.present] if fleet else []
    # A node that has just started does not know its queues yet.
    if not told or not all(told):
        return None
    return {name for names in told for name in names or ()}


def gates(fleet: Fleet | None) -> dict[str, str]:
    """Return the queues that a node leaves alone, and why."""
    told = [process.report.get("gate") or {} for process in fleet.present] if fleet else []
    return {queue: why for gate in told for queue, why in gate.items()}


def beat(silence: float | None) -> Layer:
    """Does beat tick? `silence` is seconds since it last did; None where none ever has."""
    if silence is None:
        return Layer(Verdict.UNKNOWN)
    if silence <= BEAT_SECONDS:
        return Layer(Verdict.OK)
    return Layer(Verdict.DEGRADED, [f"beat has not ticked for {silence:.0f} s: nothing is sent on schedule"])


def redis(refusal: str) -> Layer:
    """Does Redis take what is written? `refusal` is its word for why not."""
    return Layer(Verdict.DEGRADED, [f"Redis {redis_errors.meaning(refusal)}: nothing is sent or reported"])


# --- sentences ----------------------------------------------------------------------------------------


def processes(members: Collection[str]) -> str:
    """Return how many processes these are, and which."""
    return f"{count(len(members), 'process')}: {names(members)}"


def _are(members: Sequence[str], of: int) -> str:
    return f"{count_of(len(members), of, 'process')} {agree(len(members), 'is', 'are')}"
