"""`mongo flight NODE/SLOT`: what a process's pool did last."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from .. import flights
from ..frame import Answer, Call, command
from ..problems import Unseen

if TYPE_CHECKING:
    from rich.console import RenderableType


@command()
@click.argument("process", metavar="NODE/SLOT")
@click.option("--limit", type=click.IntRange(1), help="That many of the newest events at most; 200 are kept.")
@click.option(
    "--dead", is_flag=True, help="Of the process that died in this slot last, not of the present one."
)
def flight(call: Call, process: str, limit: int | None, dead: bool) -> Answer:
    """Show the last events of a process's pool.

    Connections, waits, heartbeats, the circuit, leaks: 200 are kept, the newest last. The host of a node's
    name may be left out. Of a process that was killed it is in its post-mortem, which Redis keeps for a
    day.

    Example: celery -A worker mongo flight web1@host/0
    """
    view = call.app.mongo.view
    sight = view.look()
    fleet = view.assess(sight, must_ask=False)
    buried = {mortem["member"] for mortem in sight.buried}
    member = flights.member_of(process, {*(p.member for p in fleet.processes), *buried})
    mortem = flights.post_mortem(sight.buried, member)
    living = {p.member: p.report for p in fleet.present}
    if not dead and member in living:
        records = flights.ask(view, call.deadline, [member]).get(member)
        if records is None:
            raise Unseen(f"the node of {member} does not answer; --dead shows who died there before")
        return _answer(member, living[member].get("pid"), records[-limit:] if limit else records, seen=None)
    if mortem is None:
        raise Unseen(f"nobody died in {member} in the last day, as far as Redis knows")
    records = mortem["flight"]
    return _answer(member, mortem["pid"], records[-limit:] if limit else records, seen=mortem["seen"])


def _answer(member: str, pid: int | None, records: list[flights.Record], *, seen: float | None) -> Answer:
    body = {"process": member, "pid": pid, "died": seen is not None, "last_seen": seen, "records": records}
    return Answer("flight/1", body, render)


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return a line per event."""
    from .. import tables

    died = f", which died and was last seen {tables.moment(told['last_seen'])}" if told["died"] else ""
    head = f"{told['process']}, pid {told['pid']}{died}"
    rows = [(tables.instant(r["at"]), r["kind"], r["number"] or None, r["text"]) for r in told["records"]]
    if not rows:
        return f"{head}: nothing recorded"
    return tables.sections(
        head, tables.table(("AT (UTC)", "EVENT", "NUMBER", "TEXT"), rows, right=("NUMBER",))
    )
