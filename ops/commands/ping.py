"""`mongo ping`: every process pings MongoDB now."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..frame import Answer, Call, command
from ..rounds import Row, ask_all, node_option
from ..text import count_of

if TYPE_CHECKING:
    from rich.console import RenderableType


@command()
@node_option
def ping(call: Call, node: str | None) -> Answer:
    """Make every process ping MongoDB, now.

    A process hears of it at its next tick, within some two seconds. One that is busy in a long call of
    another library cannot answer before that ends.

    Exit codes: 0 all answered, 1 some did, 2 none did, 3 unknown.

    Example: celery -A worker mongo ping --node 'web*'
    """
    rows = ask_all(call, "mongo_ping", what="ping", node=node)
    return Answer("ping/1", concluded([_process(row) for row in rows]), render)


def concluded(processes: list[Row]) -> dict[str, Any]:
    """Return the document of these processes: a verdict, and the round trips by node."""
    heard = [row for row in processes if row["why"] is None]
    answered = [row for row in heard if row["error"] is None]
    verdict = "degraded"
    if len(answered) == len(processes):
        verdict = "ok"
    elif not answered:
        verdict = "down" if heard else "unknown"
    return {
        "verdict": verdict,
        "asked": len(processes),
        "heard": len(heard),
        "answered": len(answered),
        "nodes": {name: _node(list(rows)) for name, rows in groupby(processes, lambda row: row["node"])},
        "processes": processes,
    }


def _process(row: Row) -> Row:
    done = row["done"] or {}
    told = {name: row[name] for name in ("node", "slot", "pid", "why")}
    return told | {"ms": done.get("ms"), "error": done.get("error")}


def _node(rows: list[Row]) -> dict[str, Any]:
    times = [row["ms"] for row in rows if row["ms"] is not None]
    return {
        "asked": len(rows),
        "answered": len(times),
        "min_ms": min(times, default=None),
        "avg_ms": round(sum(times) / len(times), 2) if times else None,
        "max_ms": max(times, default=None),
    }


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return how many answered, a line per node, and who did not."""
    from .. import tables

    ms = tables.milliseconds
    head = ("NODE", "ASKED", "ANSWERED", "SHORTEST", "AVERAGE", "LONGEST")
    rows = [
        (name, n["asked"], n["answered"], ms(n["min_ms"]), ms(n["avg_ms"]), ms(n["max_ms"]))
        for name, n in told["nodes"].items()
    ]
    return tables.sections(
        tables.headline(
            told["verdict"], f"MongoDB answered {count_of(told['answered'], told['asked'], 'process')}"
        ),
        tables.table(head, rows, right=head[3:]),
        failures(told["processes"]),
    )


def failures(processes: Iterable[Row]) -> "RenderableType | None":
    """Return a line for each process that MongoDB or the process itself did not answer."""
    from .. import tables

    failed = [
        (f"{r['node']}/{r['slot']}", r["error"] or r["why"]) for r in processes if r["error"] or r["why"]
    ]
    return tables.table(("PROCESS", "REASON"), failed) if failed else None
