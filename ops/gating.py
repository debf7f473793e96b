"""`mongo pause` and `resume`: what they have in common."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .frame import Answer, Call
from .problems import Unseen
from .rounds import wanted_nodes
from .text import agree, count_of

if TYPE_CHECKING:
    from rich.console import RenderableType

_LOOK_SECONDS = 0.2
_ASK_SECONDS = 2.0


def gate(call: Call, queue: str | None, node: str | None, *, pause: bool) -> Answer:
    """Tell the nodes to leave gated queues alone, or not to any longer; wait until they do."""
    view = call.app.mongo.view
    nodes = wanted_nodes(view.assess(view.look(), must_ask=False).nodes, node)
    if not nodes:
        raise Unseen("no node reports" if node is None else f"no node {node} reports")
    command, seconds = "mongo_pause" if pause else "mongo_resume", min(_ASK_SECONDS, call.deadline.left)
    replies = view.ask(command, nodes=nodes, seconds=seconds, queue=queue, everywhere=node is None)
    told = {name: reply.get("queues", []) for name, reply in replies.items() if "ok" in reply}
    gates: dict[str, Any] = {}
    while True:
        seconds = min(_ASK_SECONDS, call.deadline.left)
        healths = view.ask("mongo_health", nodes=sorted(told), seconds=seconds) if told and seconds else {}
        gates |= {name: health.get("gate", {}) for name, health in healths.items()}
        if not call.deadline.left or all(is_so(gates.get(n), qs, pause=pause) for n, qs in told.items()):
            break
        time.sleep(min(_LOOK_SECONDS, call.deadline.left))
    rows = [
        row(name, replies.get(name), gates.get(name), pause=pause, late=call.deadline.words) for name in nodes
    ]
    body = {"verdict": verdict(rows), "queue": queue, "nodes": rows}
    return Answer("pause/1" if pause else "resume/1", body, render)


Gate = Mapping[str, Mapping[str, Any]]
"""The queues that a node leaves alone, and why; see `mongo_health`."""


def row(
    name: str, reply: Mapping[str, Any] | None, gate: Gate | None, *, pause: bool, late: str
) -> dict[str, Any]:
    """Return what came of it on a node; `closed` are the queues that it leaves alone now, and why."""
    why: str | None = None
    if reply is None:
        why = "it did not answer"
    elif "ok" not in reply:
        why = str(reply.get("error", "it did not understand"))
    elif not is_so(gate, reply.get("queues", []), pause=pause):
        why = f"not seen {'paused' if pause else 'resumed'}: {late}"
    closed = {queue: told["why"] for queue, told in (gate or {}).items()}
    return {"node": name, "done": why is None, "why": why, "closed": closed}


def is_so(gate: Gate | None, queues: Sequence[str], *, pause: bool) -> bool:
    """Say whether a node's gate is as it was asked for; None is a gate that was not seen."""
    if gate is None:
        return False
    paused = {queue for queue, told in gate.items() if told["why"] == "operator"}
    return paused >= set(queues) if pause else not paused & set(queues)


def verdict(rows: list[dict[str, Any]]) -> str:
    """Return the verdict of these nodes."""
    if all(one["done"] for one in rows):
        return "ok"
    return "degraded" if any(one["done"] for one in rows) else "unknown"


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return yes or no for each node, and what it leaves alone now."""
    from . import tables

    rows = told["nodes"]
    verb = "paused" if told["schema"].startswith("pause") else "resumed"
    done = sum(one["done"] for one in rows)
    lines = [
        (
            one["node"],
            tables.yes(one["done"]),
            ", ".join(f"{queue} ({why})" for queue, why in one["closed"].items()) or "nothing",
            one["why"] or "",
        )
        for one in rows
    ]
    what = told["queue"] or "the gated queues"
    return tables.sections(
        tables.headline(
            told["verdict"], f"{count_of(done, len(rows), 'node')} {agree(done, 'has', 'have')} {verb} {what}"
        ),
        tables.table(("NODE", verb.upper(), "NOT CONSUMED", "REASON"), lines),
    )
