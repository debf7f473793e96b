"""`mongo reconnect`: every process tries MongoDB again, with a new client if that is asked for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..frame import Answer, Call, command
from ..rounds import Row, ask_all, node_option
from ..text import agree, count_of

if TYPE_CHECKING:
    from rich.console import RenderableType


@command(seconds=10.0)
@click.option("--replace", is_flag=True, help="Read the settings again and open a new client first.")
@node_option
def reconnect(call: Call, replace: bool, node: str | None) -> Answer:
    """Make every process try MongoDB again, and say yes or no.

    Each does it at a moment of its own, up to four seconds from now, so that a fleet does not storm the
    server. With --replace it reads its settings again first, so that a rotated password takes effect, and
    opens a new client; operations that run on the old one end as they would have.

    Exit codes: 0 all did, 1 some did, 2 none did, 3 unknown.

    Example: celery -A worker mongo reconnect --replace
    """
    rows = ask_all(call, "mongo_reconnect", what="reconnect", node=node, replace=replace)
    processes = [row_of(row, replace=replace) for row in rows]
    body = {"verdict": verdict(processes), "replace": replace, "processes": processes}
    return Answer("reconnect/1", body, render)


def verdict(processes: list[Row]) -> str:
    """Return the verdict of these processes."""
    answers = [row["reconnected"] for row in processes]
    if all(answers):
        return "ok"
    if any(answers):
        return "degraded"
    return "down" if any(row["why"] is None for row in processes) else "unknown"


def row_of(row: Row, *, replace: bool) -> Row:
    """Return yes or no for a process: whether the client that was asked for reaches MongoDB."""
    done = row["done"]
    told = {name: row[name] for name in ("node", "slot", "pid", "why")}
    if done is None:
        return told | {"reconnected": False, "replaced": False, "error": None}
    is_as_asked = done["replaced"] or not replace
    error = done["error"] or (None if is_as_asked else "it kept its client")
    return told | {"reconnected": error is None, "replaced": done["replaced"], "error": error}


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return yes or no for each process."""
    from .. import tables

    processes = told["processes"]
    number = sum(row["reconnected"] for row in processes)
    verb = agree(number, "has", "have"), agree(number, "reaches", "reach")
    what = f"{verb[0]} a new client that reaches MongoDB" if told["replace"] else f"{verb[1]} MongoDB"
    rows = [
        (row["node"], str(row["slot"]), tables.yes(row["reconnected"]), row["error"] or row["why"] or "")
        for row in processes
    ]
    return tables.sections(
        tables.headline(told["verdict"], f"{count_of(number, len(processes), 'process')} {what}"),
        tables.table(("NODE", "SLOT", "RECONNECTED", "REASON"), rows),
    )
