"""Is the server there and out of breath?"""

import re
from collections.abc import Iterator
from statistics import median

from ...text import count, count_of
from ..budget import budget
from ..facts import Facts, Process
from ..finding import Check, Finding, Severity
from ..words import names, seconds

RECENT_SECONDS = 120.0
"""How long an answer "overloaded" of the server counts."""

ROUND_TRIP_MS = 500.0
"""A round trip that takes longer is no network's doing."""

NEARLY_FULL = 0.9
"""MongoDB's alert level for connections in use of those it takes."""


def overload(facts: Facts) -> Iterator[Finding]:
    """The server answers, late or with a refusal: waiting helps, reconnecting does not."""
    # What a hang or an outage did to the times and answers of the last two minutes is past.
    reached = [p for p in facts.present if not (p.is_cut_off or p.has_just_recovered)]
    told = [p for p in reached if _since(p.report.get("overload")) <= RECENT_SECONDS]
    slow = [process for process in reached if process.number("rtt", "avg") >= ROUND_TRIP_MS]
    is_slow = bool(slow) and len(slow) > len(reached) / 2
    latency = (facts.ping or {}).get("latency_ms") or 0.0
    if not told and not (is_slow and latency >= ROUND_TRIP_MS):
        return
    evidence = []
    if told:
        newest = min(_since(process.report.get("overload")) for process in told)
        number = int(sum(process.number("count", "overloads") for process in told))
        evidence.append(
            f"{count(number, 'operation')} answered with 'overloaded' in {names({p.member for p in told})}, "
            f"the last {seconds(newest)} ago"
        )
    if slow:
        trip = median(process.number("rtt", "avg") for process in slow)
        evidence.append(f"round trips of {trip:,.0f} ms in {count_of(len(slow), len(reached), 'process')}")
    if latency:
        evidence.append(f"a ping from here took {latency:,.0f} ms")
    evidence.append(f"{len(reached)} of {count(len(facts.present), 'process')} reach it: this is no outage")
    yield Finding(
        "overload",
        Severity.DEGRADED,
        "MongoDB is overloaded, not down.",
        tuple(evidence),
        "The server sheds load or answers late. Operations are tried again with growing pauses; new "
        "connections would make it worse.",
        (
            "on the server: db.currentOp({active: true, secs_running: {$gt: 1}}), the profiler, CPU, disk "
            "and cache; a missing index is the usual cause",
            "celery -A APP mongo pause  # takes load off: gated queues wait; or lower the concurrency",
        ),
    )


def connections_refused(facts: Facts) -> Iterator[Finding]:
    """The server takes no further connection: it is at its limit, and closes what is new."""
    closed = [p for p in facts.present if p.is_cut_off and _CLOSED.search(str(p.report.get("error") or ""))]
    here = "; ".join((facts.ping or {}).get("reasons") or ())
    is_closed_here = not facts.answers_here and _CLOSED.search(here) is not None
    known = facts.last_counts or {}
    current, available = known.get("current") or 0, known.get("available") or 0
    limit = current + available if known.get("available") is not None else facts.limit
    if not (closed or is_closed_here) or not limit or current < NEARLY_FULL * limit:
        return
    age, others = max(0.0, facts.at - known["at"]), known.get("others")
    planned = budget(facts)
    held = "" if others is None else f": {others:,} of others, {current - others:,} of this deployment"
    yield Finding(
        "connections-refused",
        Severity.DOWN if facts.present and len(closed) == len(facts.present) else Severity.DEGRADED,
        f"MongoDB takes no further connection: {count_of(current, limit, 'connection')} were in use when "
        "last "
        "seen.",
        (
            f"the last count, {seconds(age)} "
            f"ago{f' on {member}' if (member := known.get('member')) else ''}: "
            f"{current:,} of {limit:,} in use{held}",
            *([f"the pools of this deployment may open {planned.total:,} to a member"] if planned else []),
            *([f"{count_of(len(closed), len(facts.present), 'process')} cut off"] if closed else []),
            *([f"this machine: {here}"] if is_closed_here else []),
        ),
        "What is connected goes on; who comes next is closed at once: new processes, more connections of a "
        "pool, health checks and people.",
        (
            "db.currentOp({$all: true}) from a connection that is open: appName says who holds how many",
            "celery -A APP mongo size  # how far MONGODB_MAX_POOL_SIZE can be lowered",
            "or raise net.maxIncomingConnections (and the server's ulimit -n), or the Atlas tier",
        ),
        where=_with_nodes(facts, closed),
    )


def _with_nodes(facts: Facts, processes: list[Process]) -> frozenset[str]:
    """Return the processes, and the nodes of which each process is one of them."""
    members = frozenset(process.member for process in processes)
    whole = (node.members for node in facts.living if {each.member for each in node.present} <= members)
    return members.union(*whole)


_CLOSED = re.compile("connection closed|reset by peer|connection reset", re.I)


def server_nearly_full(facts: Facts) -> Iterator[Finding]:
    """The server will soon take no further connection."""
    server = facts.server or {}
    current, limit = server.get("current"), facts.limit
    if not current or not limit or current < NEARLY_FULL * limit:
        return
    ours = server.get("counted")
    yield Finding(
        "server-nearly-full",
        Severity.DEGRADED,
        f"The server has {count_of(current, limit, 'connection')} in use.",
        (
            f"{current / limit:.0%} in use"
            + (f" on {member}" if (member := server.get("member")) else "")
            + (f", {ours:,} of them this deployment's" if ours is not None else ""),
        ),
        "At the limit it refuses everybody, the health checks too.",
        (
            "celery -A APP mongo size  # how far MONGODB_MAX_POOL_SIZE can be lowered",
            "or fewer processes, or raise net.maxIncomingConnections or the Atlas tier",
        ),
    )


def _since(seconds_ago: float | None) -> float:
    return float("inf") if seconds_ago is None else seconds_ago


CHECKS = (
    Check(
        "overload",
        "Does the server keep up?",
        overload,
        needs=("nodes",),
        explains=(
            "pool-exhausted",
            "pool-too-small",
            "long-holds",
            "connection-churn",
            "slots-busy",
            "backlog",
        ),
        practice="Database response time",
    ),
    Check(
        "connections-refused",
        "Does the server take new connections?",
        connections_refused,
        needs=("last_counts",),
        explains=(
            "mongodb-down",
            "node-cut-off",
            "process-cut-off",
            "server-nearly-full",
            "connection-budget",
        ),
        practice="Number of active/available connections",
    ),
    Check(
        "server-nearly-full",
        "Has the server connections left?",
        server_nearly_full,
        needs=("server", "limit"),
        practice="Number of active/available connections",
    ),
)
