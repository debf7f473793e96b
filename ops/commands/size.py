"""`mongo size`: how large pools should be, by Little's law, and what the fleet comes to."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..frame import Answer, Call, command
from ..problems import UsageProblem
from ..text import count

if TYPE_CHECKING:
    from rich.console import RenderableType

_POSITIVE = click.FloatRange(min=0, min_open=True)


@command()
@click.option("--rate", type=_POSITIVE, metavar="N", help="Operations per second of one process, planned.")
@click.option(
    "--hold", type=_POSITIVE, metavar="MS", help="How long each holds its connection, milliseconds."
)
@click.option(
    "--concurrency", type=click.IntRange(1, 100_000), metavar="N", help="Tasks of a process at a time."
)
@click.option("--processes", type=click.IntRange(1, 1_000_000), metavar="N", help="How many there will be.")
def size(
    call: Call,
    rate: float | None,
    hold: float | None,
    concurrency: int | None,
    processes: int | None,
) -> Answer:
    """Say how large the pools should be.

    By what the fleet does, or by a plan (--rate and --hold).

    Connections in use are operations per second times seconds that each holds one (Little's law). A pool gets
    their 99th percentile, at most one per task at a time, and one for the health check. Measured is the last
    minute of each process, times the factor of the last day's peak. The sum is held against what a
    member of MongoDB takes, and the usual guide's formula is shown beside it.

    Exit codes: 0 the fleet fits; 1 it does not; 3 nothing is measured.

    Example: celery -A worker mongo size --rate 200 --hold 15 --concurrency 8 --processes 40
    """
    from ..doctor.report import sized
    from ..sizing import plan_of

    try:
        plan = plan_of(rate, hold, concurrency=concurrency, processes=processes)
    except ValueError as error:
        raise UsageProblem(str(error)) from None
    found = sized(call.app, call.deadline, plan)
    return Answer("size/1", found.body, render, unseen=found.unseen)


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return the recommendation by kind of process, the fleet's sum, and the guide's formula beside it."""
    from .. import tables

    return tables.sections(
        _headline(told),
        _pools(told["pools"]) if told["pools"] else None,
        tables.facts({"set": "\n".join(told["settings"]) or None, "fleet": _fleet(told["fleet"])}),
        None if told["guide"]["gives"] is None else _guide(told["guide"]),
    )


def _headline(told: Mapping[str, Any]) -> "RenderableType":
    from rich.text import Text

    from .. import tables

    peak = f", times {told['peak']:g} for the last day's peak" if told["peak"] > 1 else ""
    by = "the plan" if told["source"] == "plan" else f"what the fleet did in the last minute{peak}"
    return Text.assemble(tables.word(told["verdict"]), f"  deployment {told['deployment']}, by {by}")


def _pools(pools: list[dict[str, Any]]) -> "RenderableType":
    from .. import tables

    head = (
        "POOL",
        "PROCESSES",
        "TASKS",
        "OPS/S",
        "HOLD",
        "IN USE",
        "P99",
        "MAXPOOL NOW",
        "RECOMMENDED",
        "TOTAL",
    )
    rows = [
        (
            *(pool[name] for name in ("kind", "processes", "concurrency", "rate")),
            tables.milliseconds(pool["hold_ms"]),
            *(pool[name] for name in ("in_use", "in_use_p99", "max_pool_size", "recommended", "total")),
        )
        for pool in pools
    ]
    return tables.table(head, rows, right=("HOLD",))


def _fleet(fleet: Mapping[str, Any]) -> str:
    now = "" if fleet["now"] is None else f", {fleet['now']:,} with the pools as they are"
    members = "the member" if fleet["members"] == 1 else f"each of {fleet['members']} members"
    limit = (
        f"what it takes is unknown ({fleet['limit_source']})"
        if fleet["limit"] is None
        else f"it takes {fleet['limit']:,} by {fleet['limit_source']}: {fleet['share']:.1%} of it"
    )
    return f"{count(fleet['recommended'], 'connection')} to {members}{now}; {limit}"


def _guide(guide: Mapping[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines = Table.grid(padding=(0, 1, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column()
    for text in guide["errs"]:
        lines.add_row("  -", Text(text))
    title = f"the usual guide's formula ({guide['formula']}) gives {guide['gives']} here:"
    return Group(Text(title), lines)
