"""Does every wait end, and end before what it is part of?"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..facts import Facts, Node
from ..finding import Check, Finding, Severity
from ..words import names

Options = Mapping[str, Any]

# What an operation may come to: a server, a connection, an answer.
_PARTS = ("serverSelectionTimeoutMS", "waitQueueTimeoutMS", "socketTimeoutMS")

_ENDLESS = {
    "waitQueueTimeoutMS": ("MONGODB_WAIT_QUEUE_TIMEOUT_MS", 5000, "for a connection of a full pool"),
    "socketTimeoutMS": ("MONGODB_SOCKET_TIMEOUT_MS", 20_000, "for the answer of a server that hangs"),
    "connectTimeoutMS": ("MONGODB_CONNECT_TIMEOUT_MS", 4000, "for a connection to be made"),
}


def endless(facts: Facts) -> Iterator[Finding]:
    """Waits without an end."""
    for option, (variable, value, what) in _ENDLESS.items():
        nodes = _where(facts, lambda options, option=option: option in options and not options[option])  # type: ignore[misc] # a lambda's default has no type
        if nodes:
            yield Finding(
                "timeout-missing",
                Severity.DEGRADED,
                f"{option} is not set: an operation may wait for ever {what}.",
                (f"{option} 0 on {names(nodes)}",),
                "A task that waits for ever keeps its slot until its hard time limit kills the process.",
                (f"{variable}={value}  # and no {option} in the URI",),
                where=frozenset(nodes),
            )


def against_limits(facts: Facts) -> Iterator[Finding]:
    """Waits that are longer than the task that waits may run."""
    for node in facts.living:
        limit = node.record.get("shortest_time_limit")
        options: Options = node.record.get("options") or {}
        worst = sum(float(options.get(part) or 0) for part in _PARTS) / 1000
        selection = float(options.get("serverSelectionTimeoutMS") or 0) / 1000
        if not limit or not options or options.get("timeoutMS") or selection < limit:
            continue
        yield Finding(
            "timeout-above-limit",
            Severity.DEGRADED,
            f"An operation may wait longer ({worst:g} s) than its task may run ({limit:g} s).",
            (
                f"serverSelectionTimeoutMS {selection * 1000:g}, with queue and socket {worst:g} s; the "
                f"shortest hard time limit {limit:g} s on {node.name}",
            ),
            "In an outage the task is killed in the middle of its wait, with its process and its pool, "
            "where it could have been given back to the broker.",
            (f"MONGODB_SERVER_SELECTION_TIMEOUT_MS below {limit * 500:.0f}, or a longer time limit",),
            where=node.members,
        )


def at_start(facts: Facts) -> Iterator[Finding]:
    """Handlers of a child's start that may connect, and a limit on how long a child may take to start."""
    for node in facts.living:
        handlers, alive = node.record.get("init_handlers"), node.record.get("alive_timeout")
        options: Options = node.record.get("options") or {}
        selection = float(options.get("serverSelectionTimeoutMS") or 0) / 1000
        if not handlers or not alive or selection < alive:
            continue
        yield Finding(
            "start-timeout",
            Severity.NOTE,
            f"A handler of worker_process_init that connects to MongoDB may take longer than {alive:g} s.",
            (
                f"{names(handlers)} on {node.name}; serverSelectionTimeoutMS {selection * 1000:g}, "
                f"worker_proc_alive_timeout {alive:g} s",
            ),
            "In an outage Celery kills each replacement child that is not up in time, for ever.",
            (
                "let these handlers make no connection: get_client() opens on first use; or "
                f"worker_proc_alive_timeout={2 * selection + 1:g}",
            ),
            where=node.members,
        )


def blocking_selection(facts: Facts) -> Iterator[Finding]:
    """A selection limit that blocks a slot, and the health checks behind it."""
    nodes = _where(facts, lambda options: float(options.get("serverSelectionTimeoutMS") or 0) >= 30_000)
    if nodes:
        yield Finding(
            "selection-timeout",
            Severity.NOTE,
            "Server selection may take 30 s and more: in an outage it blocks a slot that long.",
            (f"serverSelectionTimeoutMS of 30,000 or more on {names(nodes)}",),
            "All slots of a node wait at once, and the health checks behind them: the outage looks like a "
            "dead worker.",
            ("MONGODB_SERVER_SELECTION_TIMEOUT_MS=3000",),
            where=frozenset(nodes),
        )


def idle(facts: Facts) -> Iterator[Finding]:
    """Idle connections that are kept for ever."""
    nodes = _where(facts, lambda options: "maxIdleTimeMS" in options and not options["maxIdleTimeMS"])
    if nodes:
        yield Finding(
            "idle-time",
            Severity.NOTE,
            "Idle connections are never closed.",
            (f"maxIdleTimeMS 0 on {names(nodes)}",),
            "A firewall or load balancer drops them unseen, and the next operation waits for its socket "
            "timeout.",
            ("MONGODB_MAX_IDLE_TIME_MS=30000",),
            where=frozenset(nodes),
        )


def _where(facts: Facts, is_so: Callable[[Options], bool]) -> set[str]:
    by_node: dict[str, Options] = defaultdict(dict)
    for node in facts.living:
        by_node[node.name] = _options(node)
    return {name for name, options in by_node.items() if options and is_so(options)}


def _options(node: Node) -> Options:
    options: Options = node.record.get("options") or {}
    return options


CHECKS = (
    Check(
        "timeout-missing",
        "Does every wait end?",
        endless,
        needs=("nodes",),
        practice="Set reasonable timeout values",
    ),
    Check(
        "timeout-above-limit",
        "Does an operation end before its task must?",
        against_limits,
        needs=("nodes",),
        practice="Set reasonable timeout values",
    ),
    Check("start-timeout", "Can a child start in an outage?", at_start, needs=("nodes",)),
    Check(
        "selection-timeout",
        "Does an outage free the slots?",
        blocking_selection,
        needs=("nodes",),
        practice="Set reasonable timeout values",
    ),
    Check("idle-time", "Are idle connections closed?", idle, needs=("nodes",)),
)
