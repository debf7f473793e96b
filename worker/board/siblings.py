"""The other processes of a node, as one of them sees them on the board."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..connection.circuit import CircuitState
from .row import Row, RowState

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


def reaches(rows: Iterable[RowState], *, now: float) -> bool | None:
    """Say whether a process of these reaches MongoDB: False where none of those that tell does, None where
    nobody tells. `now` is monotonic seconds.

    A process that starts has tried nothing yet, one that is silent or dead tells of the past.
    """
    is_away = False
    for row in rows:
        if row.state != "open" or row.ticked_at is None or now - row.ticked_at > SILENT_SECONDS:
            continue
        if row.circuit is not CircuitState.CLOSED:
            is_away = is_away or row.is_alive
        elif row.last_success is not None and row.is_alive:
            return True
    return False if is_away else None


def leads(rows: Sequence[Row], own: int, *, now: float) -> bool:
    """Say whether no process of a lower slot reports: of all that do, one acts for its node."""
    return not any(_reports(row, now) for row in rows[:own])


def moved(rows: Sequence[Row], own: int, move: Callable[[], None]) -> bool:
    """Move the circuit of the own row; say whether the process speaks for its node of that: the first to be
    cut off, and the last to return.

    One process at a time, or none of those that move together would be the first.
    """
    move()
    others = (row.read() for slot, row in enumerate(rows) if slot != own and row.is_away)
    return not any(state.state == "open" and state.is_alive for state in others)


def cut_off(rows: Sequence[Row], *, now: float) -> list[int]:
    """Return the slots that report and do not reach MongoDB."""
    return [slot for slot, row in enumerate(rows) if _is_away(row) and _reports(row, now)]


def reporting(rows: Sequence[Row], *, now: float) -> int:
    """Return how many processes report."""
    return sum(_reports(row, now) for row in rows)


class Company:
    """What a process's reconnector asks about the siblings; it looks at the board each time."""

    def __init__(self, rows: Sequence[Row], own: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._own = own
        self._clock = clock
        self._away: set[int] = set()

    def is_prober(self) -> bool:
        """Whether no process of a lower slot is cut off, too: the lowest of them keeps nudging."""
        now = self._clock()
        lower = self._rows[: self._own]
        return not any(_is_away(row) and reaches([row.read()], now=now) is False for row in lower)

    def has_returned(self) -> bool:
        """Whether one that was cut off when last asked is not any more.

        A child that takes the place of one cut off looks like it for a moment: a probe more than needed.
        """
        others = [(slot, row) for slot, row in enumerate(self._rows) if slot != self._own]
        before, self._away = self._away, {slot for slot, row in others if _is_away(row)}
        return any(slot in before and row.circuit is CircuitState.CLOSED for slot, row in others)

    def reaches(self) -> bool:
        """Whether another process of the node reaches MongoDB now."""
        others = (row.read() for slot, row in enumerate(self._rows) if slot != self._own)
        return reaches(others, now=self._clock()) is True

    def is_cut_off(self) -> bool:
        """Whether another process of the node reports that it does not reach MongoDB."""
        return any(slot != self._own for slot in cut_off(self._rows, now=self._clock()))

    def leads(self) -> bool:
        """Whether no process of a lower slot reports."""
        return leads(self._rows, self._own, now=self._clock())


def _reports(row: Row, now: float) -> bool:
    return row.last_tick is not None and now - row.last_tick <= SILENT_SECONDS


def _is_away(row: Row) -> bool:
    return row.circuit not in (None, CircuitState.CLOSED)
