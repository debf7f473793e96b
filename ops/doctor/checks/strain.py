"""Is the server there and out of breath?"""

from collections.abc import Iterator
from statistics import median

from ...text import count, count_of
from ..facts import Facts
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
    reached = [process for process in facts.present if not process.is_cut_off]
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
        "server-nearly-full",
        "Has the server connections left?",
        server_nearly_full,
        needs=("server", "limit"),
        practice="Number of active/available connections",
    ),
)
