"""What operators paused: the queues that nodes leave alone until they say otherwise, across restarts.

An order is for every node of the deployment, whatever they are called, or for those that it names. MAIN
hears an operator and may not wait for Redis; its processes may. So MAIN writes orders on the board, the first
living process of the node carries them to Redis at its tick and writes back what stands there, and MAIN goes
by both. Per queue the last word counts, by Redis' clock, whichever of the two it is for. Pure.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

Said = Mapping[str, tuple[bool, float]]
"""By queue, as `key` names it: whether it is paused, and when that was said, unix seconds by Redis' clock."""

_EVERYWHERE = "*"


def key(queue: str, *, everywhere: bool) -> str:
    """Return the name of a queue in an order for this node, or for every node of the deployment."""
    return f"{_EVERYWHERE}{queue}" if everywhere else queue


def is_everywhere(name: str) -> bool:
    """Say whether a name is of an order for every node."""
    return name.startswith(_EVERYWHERE)


def queue_of(name: str) -> str:
    """Return the queue that a name of an order is about."""
    return name.removeprefix(_EVERYWHERE)


@dataclass(frozen=True)
class Orders:
    """What MAIN was told: pause (True) or resume a queue. `number` counts the commands."""

    number: int = 0
    wanted: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "Orders":
        """Return what `text` said; nothing, where it says nothing."""
        told = json.loads(text or "{}")
        return cls(told.get("number", 0), told.get("wanted", {}))

    def text(self) -> str:
        """Return what `read` takes."""
        return json.dumps(vars(self), separators=(",", ":"))


@dataclass(frozen=True)
class Known:
    """What stands in Redis, the orders up to `number` included."""

    number: int
    said: Said

    @classmethod
    def read(cls, text: str) -> "Known | None":
        """Return what `text` said; None before anybody has asked Redis."""
        if not text:
            return None
        told = json.loads(text)
        return cls(told["number"], said(told["said"]))

    def text(self) -> str:
        """Return what `read` takes."""
        return json.dumps(vars(self), separators=(",", ":"))


def said(document: Mapping[str, Any]) -> Said:
    """Return what a stored document says; what is no such thing in it says nothing."""
    return {queue: (value[0], value[1]) for queue, value in document.items() if _is_word(value)}


def _is_word(value: Any) -> bool:
    match value:
        case [bool(), int() | float()]:
            return True
    return False


def add(
    orders: Orders,
    known: Known | None,
    queues: Collection[str],
    *,
    pause: bool,
    everywhere: bool = False,
) -> Orders:
    """Return the orders with one more; those that were carried, or that it takes back, are left out."""
    pending = {} if known is not None and known.number >= orders.number else orders.wanted
    kept = {name: word for name, word in pending.items() if queue_of(name) not in queues}
    return Orders(orders.number + 1, kept | {key(queue, everywhere=everywhere): pause for queue in queues})


def carry(orders: Orders, known: Known | None, stored: Said, *, now: float) -> Known:
    """Return what counts from now on: of what stands on either side the later, and then the new orders.

    What Redis has lost since comes back from the board. Of two words about a queue, one for this node and one
    for all, the earlier is left out.
    """
    merged = dict(stored)
    for name, word in (known.said if known else {}).items():
        merged[name] = max(word, merged.get(name, word), key=lambda one: one[1])
    if known is None or orders.number > known.number:
        merged |= {name: (pause, now) for name, pause in orders.wanted.items()}
    counting: dict[str, str] = {}
    for name in sorted(merged, key=lambda name: merged[name][1]):
        counting[queue_of(name)] = name
    return Known(orders.number, {name: word for name, word in merged.items() if name in counting.values()})


def paused(orders: Orders, known: Known | None) -> set[str] | None:
    """Return the paused queues; None where that is not known yet."""
    if known is None and not orders.number:
        return None
    stands = {queue_of(name): pause for name, (pause, _) in (known.said if known else {}).items()}
    if known is None or orders.number > known.number:
        stands |= {queue_of(name): pause for name, pause in orders.wanted.items()}
    return {queue for queue, pause in stands.items() if pause}
