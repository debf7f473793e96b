"""`mongo leaks`: what tasks left open, and what they hold for long."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import flights
from ..frame import Answer, Call, command
from ..rounds import node_option, wanted_nodes
from ..text import count

if TYPE_CHECKING:
    from rich.console import RenderableType

COUNTS = ("leaks", "false_alarms", "long_holds")
_KINDS = {"leak": "left open", "hold.long": "held for long"}
_PROCESSES = 200
"""Flight recorders that are read, of those with the most to tell; the counts are of all."""


@command()
@node_option
def leaks(call: Call, node: str | None) -> Answer:
    """Say which tasks leave something open, or hold it for long.

    Sessions, transactions, cursors and clients that a task opened and did not close. The counts are of each
    process's whole life, or since its statistics were reset; the tasks are those that its flight recorder
    still has. What came back later is no leak after all.

    Exit codes: 0 nothing is open, 1 something is, 3 unknown.

    Example: celery -A worker mongo leaks
    """
    view = call.app.mongo.view
    fleet = view.assess(view.look(), must_ask=False)
    nodes = set(wanted_nodes(fleet.nodes, node))
    counted = {
        process.member: counts
        for process in fleet.present
        if process.member.rpartition("/")[0] in nodes and any((counts := counts_of(process.report)).values())
    }
    worst = sorted(counted, key=lambda member: (-sum(counted[member].values()), member))
    recorders = flights.ask(view, call.deadline, worst[:_PROCESSES])
    silent = [member for member in worst[:_PROCESSES] if member not in recorders]
    body = concluded(counted, recorders) | {"processes_seen": len(fleet.present)}
    unseen = {"flight recorders": f"no answer for {', '.join(silent[:10])}" if silent else None}
    return Answer("leaks/1", body, render, unseen=unseen)


def counts_of(report: Mapping[str, Any]) -> dict[str, int]:
    """Return what a process counted of leaks, of those that came back, and of long holds."""
    return {name: (report.get("count") or {}).get(name) or 0 for name in COUNTS}


def concluded(
    counted: Mapping[str, Mapping[str, int]], recorders: Mapping[str, Sequence[flights.Record]]
) -> dict[str, Any]:
    """Return the document: a verdict, the counts by process, and what the recorders say by task."""
    totals = {name: sum(counts[name] for counts in counted.values()) for name in COUNTS}
    is_open = totals["leaks"] > totals["false_alarms"]
    processes = [{"process": member, **counts} for member, counts in counted.items()]
    return {
        "verdict": "degraded" if is_open else "ok",
        "totals": totals,
        "processes": sorted(processes, key=lambda row: (-row["leaks"], -row["long_holds"], row["process"])),
        "tasks": by_task(recorders),
    }


def by_task(recorders: Mapping[str, Iterable[flights.Record]]) -> list[dict[str, Any]]:
    """Return what was left open or held for long, by what and task: how often, since when, where."""
    events = [
        (member, record, _what(record), _task(record))
        for member, records in recorders.items()
        for record in records
        if record["kind"] in _KINDS
    ]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for member, record, what, task in events:
        row = found.setdefault(
            (what, task),
            {"what": what, "task": task, "times": 0, "longest": 0.0, "first": record["at"], "last": 0.0},
        )
        row["times"] += 1
        row["first"], row["last"] = min(row["first"], record["at"]), max(row["last"], record["at"])
        row["longest"] = max(row["longest"], round(record["number"], 3))
        row.setdefault("where", Counter())[member] += 1
    for row in found.values():
        row["where"] = dict(row["where"].most_common(10))
    return sorted(found.values(), key=lambda row: (row["what"].startswith("held"), -row["times"]))


def _what(record: flights.Record) -> str:
    return f"left open: {record['text'].partition(': ')[0]}" if record["kind"] == "leak" else "held for long"


def _task(record: flights.Record) -> str:
    text: str = record["text"]
    return text.partition(": ")[2] if record["kind"] == "leak" else text


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return the tasks, then the processes."""
    from .. import tables

    totals = told["totals"]
    left = totals["leaks"] - totals["false_alarms"]
    line = (
        f"{left:,} left open ({totals['leaks']:,} in all, {totals['false_alarms']:,} came back), "
        f"{count(totals['long_holds'], 'long hold')}, in {count(told['processes_seen'], 'process')}"
    )
    tasks = [
        (
            row["task"] or "no task",
            row["what"],
            row["times"],
            tables.moment(row["last"]),
            tables.short(row["longest"]) if row["what"].startswith("held") else None,
            ", ".join(row["where"]),
        )
        for row in told["tasks"]
    ]
    processes = [(row["process"], *(row[name] for name in COUNTS)) for row in told["processes"][:20]]
    return tables.sections(
        tables.headline(told["verdict"], line),
        tables.table(
            ("TASK", "WHAT", "TIMES", "LAST", "LONGEST", "WHERE"),
            tasks,
            right=("LONGEST",),
            spare=("WHERE", "LAST"),
        )
        if tasks
        else None,
        tables.listed(
            tables.table(("PROCESS", "LEAKS", "CAME BACK", "LONG HOLDS"), processes),
            shown=len(processes),
            of=len(told["processes"]),
            what="processes",
        )
        if processes
        else None,
    )
