"""`mongo snapshot`: the pools of the whole fleet at this moment."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..frame import Answer, Call, command
from ..members import why_unseen

if TYPE_CHECKING:
    from rich.console import RenderableType


@command()
def snapshot(call: Call) -> Answer:
    """Print the pools of the whole fleet, now.

    Totals, nodes, who stands out, and the server's count, as the history keeps them. It is taken now, and
    not kept: beat sees to that.

    Example: celery -A worker mongo snapshot --json
    """
    view, deadline = call.app.mongo.view, call.deadline
    # A ping, and as long again for each member's count: slower than that is away.
    seconds = min(2 * call.app.mongo.settings.ping_timeout_seconds, deadline.left)
    asked = deadline.ask(lambda: view.mongodb(seconds))
    fleet = view.assess(view.look())
    seen = asked.seen()
    mongodb = seen.value
    body = view.snapshot(fleet, None if mongodb is None else mongodb.connections)
    why = (seen.why if mongodb is None else mongodb.ping.error) or why_unseen(body["servers"])
    return Answer("snapshot/1", body, render, unseen={"server connections": why})


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return the totals, a line per node, one per member of MongoDB, and the outliers."""
    from .. import members, tables

    return tables.sections(
        tables.facts(_facts(told)),
        _nodes(told),
        members.table(told["servers"]) if told["servers"] else None,
        *(_outliers(measure, worst) for measure, worst in told["outliers"].items() if worst),
    )


def _facts(told: Mapping[str, Any]) -> dict[str, Any]:
    from .. import tables

    totals, coverage = told["totals"], told["coverage"]
    counts = {name: f"{count:,}" for name, count in totals["count"].items() if count}
    memory = totals["memory"]
    return {
        "taken": tables.moment(told["at"]),
        "deployment": told["deployment"],
        "processes": f"{coverage['seen']:,} of {coverage['expected']:,} seen",
        "pools": _pairs({name: f"{value:,}" for name, value in totals["pool"].items() if value is not None}),
        "per second": _pairs({name: f"{value:,.1f}" for name, value in totals["rate"].items()}),
        "counted": _pairs(counts) or None,
        "waits": _times(totals["wait"]),
        "holds": _times(totals["use"]),
        "round trips": _times(totals["rtt"]),
        "memory": f"processes {tables.size(memory.get('uss'))}, servers {tables.size(memory.get('server'))}",
    }


def _nodes(told: Mapping[str, Any]) -> "RenderableType":
    from .. import tables

    ours = (told["server"] or {}).get("ours") or {}
    head = ("NODE", "POOL", "SLOTS", "SIZE", "IN USE", "WAITING", "AT SERVER", "BY REPORTS")
    rows = [
        (
            name,
            *(row[column] for column in ("kind", "slots", "size", "in_use", "waiting")),
            *(ours.get(name, {}).get(column) for column in ("counted", "reported")),
        )
        for name, row in told["nodes"]["rows"].items()
    ]
    made = tables.table(head, rows, spare=("POOL", "BY REPORTS", "AT SERVER"))
    return tables.listed(made, shown=len(rows), of=told["nodes"]["count"], what="node")


_TITLES = {"in_use": "POOL IN USE", "wait_p99_ms": "WAIT P99", "timeouts": "TIMEOUTS"}


def _outliers(measure: str, worst: list[dict[str, Any]]) -> "RenderableType":
    from .. import tables

    def shaped(value: float) -> str | None:
        if measure == "in_use":
            return f"{value:.0%}"
        return tables.milliseconds(value) if measure == "wait_p99_ms" else f"{value:,.0f}"

    rows = [(row["process"], shaped(row["value"]), row["task"]) for row in worst]
    title = _TITLES.get(measure, measure.upper())
    return tables.table(("PROCESS", title, "TASK NOW"), rows, right=(title,))


def _times(times: Mapping[str, Any]) -> str:
    from .. import tables

    known = {name: tables.milliseconds(times.get(name)) for name in ("avg", "p50", "p99", "max")}
    return f"{times['n']:,} in the last minute" + "".join(f", {n} {v}" for n, v in known.items() if v)


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
