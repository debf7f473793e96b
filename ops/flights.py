"""Flight recorders: the last events of a process's pool, from its node's MAIN or from its post-mortem."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from .deadline import Deadline
from .problems import UsageProblem

Record = dict[str, Any]


def member_of(name: str, members: Iterable[str]) -> str:
    """Return the process `<node>/<slot>` that is meant; the host may be left out where one node has the name.

    Raises UsageProblem where there is none, or several.
    """
    known = sorted(members)
    node, _, slot = name.rpartition("/")
    if not node or not slot.isdecimal():
        raise UsageProblem(f"{name}: write NODE/SLOT, as in {known[0] if known else 'worker@host/0'}")
    if name in known:
        return name
    found = [member for member in known if member.partition("@")[0] == node and member.endswith(f"/{slot}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageProblem(f"{name} may be {', '.join(found[:10])}")
    shown = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
    raise UsageProblem(f"there is no process {name}; there are {shown or 'none'}")


def ask(view: Any, deadline: Deadline, members: Sequence[str]) -> dict[str, list[Record]]:
    """Return the whole flight recorders of these processes, by process, of those that answer.

    All nodes are asked at once, and what they answered is there in time where one of them is silent.
    """
    nodes_of: dict[int, list[str]] = {}
    for member in members:
        node, _, slot = member.rpartition("/")
        nodes_of.setdefault(int(slot), []).append(node)

    def ask_for(slot: int) -> dict[str, Any]:
        seconds = deadline.share
        found: dict[str, Any] = view.ask("mongo_flight", nodes=nodes_of[slot], seconds=seconds, slot=slot)
        return found

    pending = {slot: deadline.ask(partial(ask_for, slot)) for slot in nodes_of}
    return {
        f"{node}/{told['slot']}": told["records"]
        for asked in pending.values()
        for node, reply in (asked.seen().value or {}).items()
        for told in reply.get("slots", ())
    }


def post_mortem(buried: Iterable[Mapping[str, Any]], member: str) -> Mapping[str, Any] | None:
    """Return the newest post-mortem of a slot; None where nobody died in it."""
    return next((mortem for mortem in buried if mortem.get("member") == member), None)
