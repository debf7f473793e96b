"""Which records in Redis cannot be read, of the kinds that are read only once something has happened."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ..store.records import Unreadable, UnreadableError

if TYPE_CHECKING:
    from ..delivery.stores import Stores
    from ..process.process import Mongo

_SNAPSHOTS, _LETTERS = 500, 2000


def unreadable(stores: "Stores", mongo: "Mongo", nodes: Sequence[str]) -> tuple[Unreadable, ...]:
    """Return those of what operators paused on these nodes, the newest snapshots, dead letters and the last
    outage.
    """

    def snapshots(bad: list[Unreadable]) -> Iterable[object]:
        return stores.history.read(count=_SNAPSHOTS, bad=bad)

    def letters(bad: list[Unreadable]) -> Iterable[object]:
        return islice(mongo.deliveries.letters.letters(bad), _LETTERS)

    return (
        *stores.registry.paused(nodes).unreadable,
        *_met(snapshots),
        *_met(letters),
        *_met(lambda _bad: (stores.ledger.load(),)),
    )


def _met(read: Callable[[list[Unreadable]], Iterable[object]]) -> list[Unreadable]:
    """Return what could not be read while all of it was."""
    bad: list[Unreadable] = []
    try:
        for _ in read(bad):
            pass
    except UnreadableError as error:
        bad.append(error.record)
    return bad
