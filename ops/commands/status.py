"""`mongo status`: what is wrong, since when and where; now, or each second with `--watch`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..frame import Answer, Call, command
from ..members import why_unseen
from ..text import agree, count

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..doctor.finding import Finding

_NODES, _QUEUES, _REASONS = 20, 12, 10
"""Rows that a person is shown; `--json` has more of them."""


@command()
@click.option("--watch", is_flag=True, help="Again each second, with the last minute's lines, until Ctrl-C.")
def status(call: Call, watch: bool) -> Answer | None:
    """Say what is wrong, since when and where; now, or each second.

    The verdict with its reasons, and the numbers behind it. Redis, the broker, the nodes and MongoDB are
    asked side by side. What does not answer within --timeout is named as not seen, and the rest is told
    without it.

    Exit codes: 0 ok, 1 degraded, 2 down, 3 unknown.

    Example: celery -A worker mongo status --watch
    """
    if watch:
        return _watch(call)
    return look(call)


def _watch(call: Call) -> Answer | None:
    """Look again and again; return the last answer, which stays on the screen."""
    from ..trends import Trends
    from ..watching import watch

    trends = Trends()

    def look_again(again: Call) -> Answer:
        answer = look(again)
        trends.add(answer.body)
        return replace(answer, render=lambda told: render(told, trends.rows()))

    return watch(call, look_again)


def look(call: Call) -> Answer:
    """Ask everybody once: what the doctor asks, so that both say the same."""
    from ..doctor.gather import gathered
    from ..doctor.judging import diagnose

    told = gathered(call.app, call.deadline)
    diagnosis = diagnose(told.facts)
    found = agreed(told.survey, diagnosis.verdict, diagnosis.findings)
    unknown = told.sight if told.fleet.value is None else told.fleet
    unseen = {
        "Redis": unknown.why,
        "queues": told.waiting.why
        or (None if told.waiting.value else f"{call.app.mongo.view.broker} does not say"),
        "MongoDB": told.server.why or found["mongodb"]["error"],
        "server connections": None
        if found["mongodb"]["connections"] is None
        else why_unseen(found["servers"]),
    }
    return Answer("status/1", found, render, unseen=unseen)


def agreed(survey: Mapping[str, Any], verdict: str, findings: "Sequence[Finding]") -> dict[str, Any]:
    """Return the survey with what the doctor finds: the worse verdict, his reasons first, in his words."""
    worse = [finding.title for finding in findings if finding.severity != "note"]
    said = [reason for reason in survey["reasons"] if f"{reason[0].upper()}{reason[1:]}." not in worse]
    # Where the fleet cannot be seen nobody knows that all else is well.
    order = ("ok", "unknown", "degraded", "down")
    first = findings[0] if findings else None
    whole = max(survey["verdict"], verdict, key=order.index)
    return {
        **survey,
        "verdict": whole,
        "since": survey["since"] if whole == survey["verdict"] else None,
        "reasons": [*worse, *said],
        "finding": first and {"id": first.id, "severity": str(first.severity), "title": first.title},
    }


# --- what a person reads ------------------------------------------------------------------------------


def render(told: Mapping[str, Any], trends: Sequence[Sequence[str]] = ()) -> "RenderableType":
    """Return the verdict with its reasons, then MongoDB, the fleet, the nodes and the queues.

    `trends` are rows of a name, its last values as bars, and the newest.
    """
    from .. import tables

    return tables.sections(
        _headline(told),
        tables.facts(_facts(told)),
        tables.table(("LAST MINUTE", "", "NOW"), trends, right=("NOW",)) if trends else None,
        None if told["nodes"] is None else _nodes(told["nodes"]),
        None if told["queues"] is None else _queues(told["queues"]),
    )


def _headline(told: Mapping[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from .. import tables

    line = Text.assemble(
        tables.word(told["verdict"]),
        f"  deployment {told['deployment']}",
        f"  {tables.since(told['since'], told['at'])}" if told["since"] is not None else "",
    )
    reasons, more = told["reasons"][:_REASONS], len(told["reasons"]) - _REASONS
    if not reasons and told.get("finding"):
        # A note spoils nothing; the reasons begin with what is worse.
        reasons = [f"note: {told['finding']['title']}"]
    shown = [*reasons, f"and {count(more, 'reason')} more"] if more > 0 else reasons
    return Group(line, tables.bullets(shown)) if shown else line


def _facts(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "MongoDB": _mongodb(told["mongodb"]),
        "members": _members(told["mongodb"]["topology"]),
        "connections": _connections(told["servers"]) if told["mongodb"]["connections"] else None,
        **({} if told["totals"] is None else _pools(told)),
        "beat": _beat(told["beat"]) if told["coverage"] else None,
    }


def _mongodb(mongodb: Mapping[str, Any]) -> str:
    from .. import tables

    latency = tables.milliseconds(mongodb["latency_ms"])
    answered = f"answered in {latency}" if latency else "did not answer here"
    return f"{mongodb['server'] or 'of unknown version'}, database {mongodb['database']}, {answered}"


def _members(topology: Mapping[str, Any] | None) -> str | None:
    if topology is None:
        return None
    kinds, errors = topology["members"], topology.get("errors") or {}
    members = ", ".join(
        f"{host} {kind}" + (f" ({errors[host]})" if host in errors else "")
        for host, kind in sorted(kinds.items())
    )
    # A member that refuses the login, or does not fit the TLS, is not known to be without a primary.
    is_known = any(kind != "Unknown" for kind in kinds.values())
    primary = f"primary {topology['primary'] or 'none'}" if is_known else "none can be used from here"
    return f"{topology['type']}, {primary}: {members}"


def _connections(servers: Mapping[str, Any]) -> str | None:
    """Return a line for each member: a limit is one member's, and each counts its own connections alone."""
    if len(servers) == 1:
        return next(map(_counted, servers.values()))
    return "\n".join(f"{name} {_counted(row)}" for name, row in servers.items()) or None


def _counted(row: Mapping[str, Any]) -> str:
    if row["current"] is None:
        return f"unknown: {row['why'] or 'the server does not say'}"
    available, others = row["available"], row["others"]
    left = "available unknown" if available is None else f"{available:,} available"
    ours = "" if others is None else f", {others:,} by others"
    return f"{row['current']:,} used, {left}{ours}"


def _pools(told: Mapping[str, Any]) -> dict[str, Any]:
    from .. import tables

    totals, coverage = told["totals"], told["coverage"]
    pool, wait, rate, counters = (totals[name] for name in ("pool", "wait", "rate", "count"))
    ms = tables.milliseconds
    states = [f"{number:,} {state}" for state, number in coverage["counts"].items() if number]
    waiting = pool.get("waiting", 0)
    failed, taken = rate.get("failed", 0.0), rate.get("checked_out", 0.0)
    share = f"{100 * failed / (failed + taken):.2f} %" if failed + taken else "0 %"
    circuits = ", ".join(f"{number:,} {state}" for state, number in sorted(told["circuits"].items()))
    return {
        "processes": f"{coverage['seen']:,} of {coverage['expected']:,} seen: {', '.join(states) or 'none'}",
        "pools": f"{pool.get('in_use', 0):,} in use, {pool.get('idle', 0):,} idle; the fullest is "
        f"{pool.get('usage') or 0:.0%} in use; {count(waiting, 'operation')} "
        f"{agree(waiting, 'waits', 'wait')}",
        "at most": _most(pool, totals["processes"]),
        "waits": ", ".join(
            f"{name} {ms(wait[key]) or tables.NONE}"
            for name, key in (("average", "avg"), ("p50", "p50"), ("p99", "p99"))
        ),
        "checkouts": f"{taken:,.1f}/s, {share} failed; {count(counters.get('timeouts', 0), 'timeout')} since "
        "the start",
        "circuits": circuits or None,
    }


def _most(pool: Mapping[str, Any], processes: int) -> str | None:
    """Return how many connections the pools of all processes may open to one member."""
    most, each = pool.get("max"), pool.get("max_each")
    if not most:
        return None
    they = count(processes, "process")
    of = f"{they} x maxPoolSize {each:,}" if each else f"the sum of maxPoolSize of {they}"
    return f"{most:,} to each member: {of}"


def _beat(beat: Mapping[str, Any] | None) -> str:
    from .. import tables

    if beat is None:
        return "no sign of it"
    return f"ticked {tables.duration(beat['silence'])} ago, {beat['scheduler']} on {beat['host']}"


def _nodes(nodes: Mapping[str, Any]) -> "RenderableType":
    from .. import tables

    states = ("live", "stale", "busy", "lost", "missing")
    used = [s for s in states if s == "live" or any(row.get(s) for row in nodes["rows"].values())]
    head = ("NODE", "VERDICT", "POOL", *map(str.upper, used), "OPEN", "SIZE", "IN USE", "WAITING")
    rows = [
        (
            name,
            row["verdict"],
            row["kind"],
            *(row.get(state, 0) for state in used),
            *(row[column] for column in ("not_closed", "size", "in_use", "waiting")),
        )
        for name, row in list(nodes["rows"].items())[:_NODES]
    ]
    made = tables.table(head, rows, spare=("POOL", "SIZE", "WAITING"))
    return tables.listed(made, shown=len(rows), of=nodes["count"], what="node")


def _queues(queues: Mapping[str, Any]) -> "RenderableType":
    from .. import tables

    rows = [
        (name, queue["depth"], tables.short(queue["age"]), queue["gate"] and f"closed: {queue['gate']}")
        for name, queue in list(queues.items())[:_QUEUES]
    ]
    made = tables.table(("QUEUE", "WAITING", "OLDEST", "GATE"), rows, right=("OLDEST",))
    return tables.listed(made, shown=len(rows), of=len(queues), what="queue")
