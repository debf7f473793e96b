"""`mongo processes`: every process that holds a client, a row each. Needs Redis alone."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from ..frame import Answer, Call, command
from ..text import count

if TYPE_CHECKING:
    from rich.console import RenderableType

STATES = ("live", "stale", "busy", "lost")
CIRCUITS = ("closed", "half-open", "open")

Row = dict[str, Any]

_COLUMNS = {
    "node": "NODE",
    "slot": "SLOT",
    "pid": "PID",
    "state": "STATE",
    "circuit": "CIRCUIT",
    "age": "AGE",
    "task": "TASK NOW",
    "task_seconds": "FOR",
    "size": "SIZE",
    "in_use": "IN USE",
    "waiting": "WAITING",
    "wait_p99_ms": "WAIT P99",
    "success_age": "LAST SUCCESS",
    "memory": "MEMORY",
}
"""What a row has, and its head for a person; what is sorted by text comes in its order, numbers falling."""

_SPARE = ("PID", "SIZE", "AGE", "MEMORY", "WAITING", "IN USE", "FOR")
"""What goes first where the screen is narrow."""

_TEXTS = ("node", "slot", "state", "circuit", "task")


@command()
@click.option("--node", metavar="PATTERN", help="Of these nodes, as in 'web*'.")
@click.option("--task", metavar="PATTERN", help="That run such a task, as in 'shop.*'.")
@click.option("--state", type=click.Choice(STATES), multiple=True, help="In this state; may be repeated.")
@click.option(
    "--circuit", type=click.Choice(CIRCUITS), multiple=True, help="With this circuit; may be repeated."
)
@click.option("--sort", type=click.Choice(tuple(_COLUMNS)), default="node", help="By this column; node.")
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(1), help="That many rows at most.")
def processes(call: Call, sort: str, reverse: bool, limit: int | None, **wanted: Any) -> Answer:
    """List the processes that hold a client, a row each.

    It goes by their last reports: where, how old, what each runs, its pool, circuit and memory.

    A process is live while it reports, stale for a while after, busy where its node says that it lives all
    the same, and lost where it does not. Numbers are sorted with the largest first.

    Example: celery -A worker mongo processes --sort wait_p99_ms --limit 20
    """
    view = call.app.mongo.view
    fleet = view.assess(view.look())
    rows = [row_of(process, fleet.at) for process in fleet.processes]
    kept = ordered([row for row in rows if is_wanted(row, **wanted)], sort, reverse=reverse)
    shown = kept[:limit]
    body = {"at": fleet.at, "total": len(rows), "matching": len(kept), "processes": shown}
    return Answer("processes/1", body, render)


def row_of(process: Any, now: float) -> Row:
    """Return what is told of a process; None is unknown. Ages are seconds, memory bytes."""
    report = process.report
    pool, wait, task = (report.get(name) or {} for name in ("pool", "wait", "task"))
    started, success, node = report.get("started"), report.get("ok"), process.member.rpartition("/")[0]
    return {
        "node": node,
        "slot": int(process.member.rpartition("/")[2]),
        "pid": report.get("pid"),
        "kind": report.get("kind"),
        "version": report.get("version"),
        "state": str(process.state),
        "silence": process.silence,
        "circuit": report.get("circuit"),
        "age": None if started is None else round(max(0.0, now - started), 1),
        "task": task.get("name"),
        "task_id": task.get("id"),
        "task_seconds": task.get("seconds"),
        "running": task.get("running", 0),
        **{name: pool.get(name) for name in ("size", "in_use", "waiting", "max")},
        "wait_p99_ms": wait.get("p99"),
        "success_age": None if success is None else round(success + process.silence, 1),
        "error": report.get("error"),
        "memory": (report.get("memory") or {}).get("uss"),
    }


def is_wanted(
    row: Row, *, node: str | None, task: str | None, state: tuple[str, ...], circuit: tuple[str, ...]
) -> bool:
    """Say whether the row is of those that were asked for."""
    return (
        (node is None or fnmatchcase(row["node"], node))
        and (task is None or fnmatchcase(row["task"] or "", task))
        and (not state or row["state"] in state)
        and (not circuit or row["circuit"] in circuit)
    )


def ordered(rows: list[Row], column: str, *, reverse: bool) -> list[Row]:
    """Return the rows by a column: texts and slots rising, numbers falling, the unknown last."""
    by_place = sorted(rows, key=lambda row: (row["node"], row["slot"]))
    known = [row for row in by_place if row[column] is not None]
    is_falling = (column not in _TEXTS) is not reverse
    known.sort(key=lambda row: row[column], reverse=is_falling)
    return known + [row for row in by_place if row[column] is None]


# --- what a person reads ------------------------------------------------------------------------------


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return a line per process."""
    from .. import tables

    rows = told["processes"]
    if not rows:
        return (
            "no process reports"
            if not told["total"]
            else f"none of {count(told['total'], 'process')} is like that"
        )
    numbers = ("AGE", "FOR", "WAIT P99", "LAST SUCCESS", "MEMORY")
    made = tables.table(tuple(_COLUMNS.values()), map(_cells, rows), right=numbers, spare=_SPARE)
    return tables.listed(made, shown=len(rows), of=told["matching"], what="process")


def _cells(row: Row) -> tuple[Any, ...]:
    from .. import tables

    others = row["running"] - 1
    shown = row | {
        "slot": str(row["slot"]),
        "pid": None if row["pid"] is None else str(row["pid"]),
        "task": f"{row['task']} and {others} more" if others > 0 else row["task"],
        "wait_p99_ms": tables.milliseconds(row["wait_p99_ms"]),
        "memory": tables.size(row["memory"]),
        **{name: tables.short(row[name]) for name in ("age", "task_seconds", "success_age")},
    }
    return tuple(shown[name] for name in _COLUMNS)
