"""Do processes and connections live long enough to be worth their making?"""

from collections.abc import Iterator
from statistics import median

from ...text import count
from ..budget import MONITORING
from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import names, seconds

YOUNG_SECONDS = 120.0
"""Processes that live no longer pay for a fork, a handshake and a login every time."""

FEW_TASKS = 100
"""Recycling after fewer tasks is meant against a leak, and costs more than that."""

PER_MINUTE = 10.0
"""Connections that a process makes; MongoDB's alert level of 100 an hour is for a process at rest."""

_REUSED = 5.0


def recycling(facts: Facts) -> Iterator[Finding]:
    """Children that end after a few tasks."""
    for node in facts.living:
        most = node.record.get("max_tasks_per_child")
        began = node.record.get("began")
        ages = [process.age(facts.at) for process in node.present]
        # A node that has just started has young processes.
        if not most or most >= FEW_TASKS or not began or facts.at - began < 10 or not ages:
            continue
        age = median(ages)
        if age > min(YOUNG_SECONDS, 0.5 * (facts.at - began)):
            continue
        yield Finding(
            "process-churn",
            Severity.DEGRADED,
            f"{node.name} ends each process after {count(most, 'task')}: clients are made and thrown away.",
            (
                f"worker_max_tasks_per_child={most}; half of its {count(len(ages), 'process')} are younger "
                f"than {seconds(age)}, the node runs for {seconds(facts.at - began)}",
                f"each makes a client, {1 + MONITORING} connections and a login of its own",
            ),
            "A connection costs the server a thread, a handshake and a login; a fork costs this host. A pool "
            "that lives for one task pools nothing.",
            (
                f"worker_max_tasks_per_child=1000 on {node.name}, or none",
                "against a leak of memory worker_max_memory_per_child ends only those that leak",
            ),
            where=node.members,
        )


def connections(facts: Facts) -> Iterator[Finding]:
    """Connections that are made for a few operations each."""
    # The first minute of a process is that of its first connections.
    settled = [p for p in facts.present if not p.is_cut_off and p.age(facts.at) >= YOUNG_SECONDS]
    churning = [
        process
        for process in settled
        if process.number("rate", "created") * 60 >= PER_MINUTE
        and process.number("rate", "created") * _REUSED > process.number("rate", "checked_out")
    ]
    if not churning:
        return
    made = sum(process.number("rate", "created") for process in churning) * 60
    used = sum(process.number("rate", "checked_out") for process in churning) * 60
    yield Finding(
        "connection-churn",
        Severity.DEGRADED,
        f"Connections are made and thrown away: {made:,.0f} a minute.",
        (
            f"{made:,.0f} made and {used:,.0f} checkouts in the last minute: {used / made:.1f} uses each",
            f"in {names({process.member for process in churning})}",
        ),
        "Each costs a handshake, TLS and a login. Something closes them: a short maxIdleTimeMS, a load "
        "balancer or firewall that drops idle connections, a server that restarts.",
        (
            "MONGODB_MAX_IDLE_TIME_MS below the idle limit of what lies between, and above the pause between "
            "two bursts",
            "MONGODB_MIN_POOL_SIZE=auto  # keeps one open",
            "the log line client.closed and db.client.connection.closed by reason say who closes",
        ),
        where=frozenset(process.member for process in churning),
    )


CHECKS = (
    Check(
        "process-churn",
        "Do processes live long?",
        recycling,
        needs=("nodes",),
        explains=("connection-churn", "stray-connections", "slots-missing"),
    ),
    Check(
        "connection-churn",
        "Do connections live long?",
        connections,
        needs=("nodes",),
        practice="Monitor connection create/close rate",
    ),
)
