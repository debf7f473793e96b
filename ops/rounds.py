"""Ask every process of the fleet to do something, and wait until each has reported what came of it."""

import time
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import click

from .frame import Call
from .problems import Unseen

_LOOK_SECONDS = 0.2

Row = dict[str, Any]

node_option = click.option("--node", metavar="PATTERN", help="Of these nodes alone, as in 'web*'.")


def ask_all(call: Call, command: str, *, what: str, node: str | None, **arguments: Any) -> list[Row]:
    """Send a remote control command to the MAINs; return a row for each process, with what it did.

    `done` is what its report says of `what` since it was asked, None where that did not come; `why` then
    says why. Raises Unseen where no process reports.
    """
    view = call.app.mongo.view
    before = _members(view, node)
    if not before:
        raise Unseen("no process reports" if node is None else f"no process of a node {node} reports")
    nodes = sorted({member.rpartition("/")[0] for member in before})
    replies = view.ask(command, nodes=nodes, seconds=call.deadline.share, **arguments)
    refused = {name: _refusal(replies.get(name)) for name in nodes}
    awaited = {member for member in before if refused[member.rpartition("/")[0]] is None}
    # Once at least, however long a silent node was waited for.
    after = _members(view, node)
    while call.deadline.left and any(done(before, after, member, what) is None for member in awaited):
        time.sleep(min(_LOOK_SECONDS, call.deadline.left))
        after = _members(view, node)
    late = call.deadline.words
    return [
        row_of(member, before, after, what=what, why=refused[member.rpartition("/")[0]] or late)
        for member in sorted(before, key=_place)
    ]


def row_of(member: str, before: Mapping[str, Row], after: Mapping[str, Row], *, what: str, why: str) -> Row:
    """Return the row of a process that was asked."""
    node, _, slot = member.rpartition("/")
    found = done(before, after, member, what)
    if found is None and member not in after:
        why = "it ended meanwhile"
    return {
        "node": node,
        "slot": int(slot),
        "pid": (after.get(member) or before[member]).get("pid"),
        "done": found,
        "why": None if found is not None else why,
    }


def done(before: Mapping[str, Row], after: Mapping[str, Row], member: str, what: str) -> Row | None:
    """Return what a process did since it was asked; None where its report does not say so yet.

    It counts what it did; one that began meanwhile counts from one.
    """
    first, last = before.get(member, {}), after.get(member, {})
    told: Row | None = (last.get("done") or {}).get(what)
    if told is None:
        return None
    is_same = first.get("pid") == last.get("pid")
    known = ((first.get("done") or {}).get(what) or {}).get("n", 0) if is_same else 0
    return told if told["n"] > known else None


def wanted_nodes(names: Iterable[str], pattern: str | None) -> list[str]:
    """Return the nodes of a pattern, all without one."""
    return sorted(name for name in names if pattern is None or fnmatchcase(name, pattern))


def _members(view: Any, pattern: str | None) -> dict[str, Row]:
    """Return the last reports of the processes that are there."""
    fleet = view.assess(view.look(), must_ask=False)
    nodes = set(wanted_nodes(fleet.nodes, pattern))
    return {p.member: p.report for p in fleet.present if p.member.rpartition("/")[0] in nodes}


def _refusal(reply: Mapping[str, Any] | None) -> str | None:
    if reply is None:
        return "its node did not answer"
    return None if "ok" in reply else str(reply.get("error", "its node did not understand"))


def _place(member: str) -> tuple[str, int]:
    node, _, slot = member.rpartition("/")
    return node, int(slot)
