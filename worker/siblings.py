"""The other processes of a node, as one of them sees them on the board."""

from collections.abc import Iterable
from dataclasses import dataclass

from .board_row import Row, RowState

SILENT_SECONDS = 6.0
"""Three ticks: a process that has not reported for so long is looked for."""


@dataclass(frozen=True)
class Siblings:
    """Slots that are alive but silent, and the rows of processes that ended without a goodbye.

    `is_first` is true where no process of a lower slot lives: of many that see a death, the first one tells.
    """

    busy: list[int]
    dead: list[tuple[int, Row, RowState]]
    is_first: bool


def look(rows: Iterable[Row], own: int, *, now: float) -> Siblings:
    """Look at every row but our own; `now` is monotonic seconds. Only of the silent it is asked if they live.

    A process that has not reported yet is starting: its successor tells what became of it.
    """
    busy: list[int] = []
    dead: list[tuple[int, Row, RowState]] = []
    is_first = True
    for slot, row in enumerate(rows):
        ticked_at = row.last_tick
        if slot == own or ticked_at is None:
            continue
        is_silent = now - ticked_at > SILENT_SECONDS
        # A whole row is read only then: it costs as much as all else here.
        state = row.read() if is_silent else None
        if state is not None and not state.is_alive:
            dead.append((slot, row, state))
            continue
        if is_silent:
            busy.append(slot)
        is_first = is_first and slot > own
    return Siblings(busy, dead, is_first)
