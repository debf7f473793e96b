"""A row of the board: what one process says of itself, for others to read at any moment, after its death too.

One process writes a row: its circuit, its task, its report, its flight recorder. MAIN writes the commands.
No value is seen half written: numbers are one store each, the task stands between two equal counters, the
report in a double buffer.

| offset | bytes | field | |
|---|---|---|---|
| 0 | 8 | state | 0 empty, 1 open, 2 closed |
| 8 | 8 | pid | |
| 16 | 8 | born | start of the process in clock ticks since the boot; 0: unknown |
| 24 | 8 | circuit | place in `CircuitState` |
| 32 | 8 | started_at | float, Unix seconds |
| 40 | 8 | ticked_at | float, monotonic seconds of the last report; 0: none yet |
| 48 | 216 | work | 8 number (0: no task), 8 float since (monotonic), 128 name, 64 id, 8 the number again |
| 264 | 32 | commands | 8 each: how often RESET, PROBE, REPLACE, PING were asked for |
| 320 | 3096 | report | a double buffer for 1536 bytes |
| 3456 | 19200 | flight | the ring of the flight recorder |
| 22656 | 1768 | counters | what all processes of the row counted (`counters`) |
"""

import json
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import count
from typing import Any

from ..connection.circuit import CircuitState
from ..text import shorten_bytes
from ..tracking import flight
from ..tracking.flight import FlightRecorder
from . import counters, process_identity
from .counters import RunningCounters
from .double_buffer import DoubleBuffer, size_of
from .report import MAX_BYTES

_STATES = ("empty", "open", "closed")
_EMPTY, _OPEN, _CLOSED = range(3)
_CIRCUITS = tuple(CircuitState)
# Places of the numbers, counted in eights.
_STATE, _PID, _BORN, _CIRCUIT, _STARTED_AT, _TICKED_AT, _WORK_NUMBER = range(7)
_WORK_AT, _NAME_BYTES, _ID_BYTES = 48, 128, 64
_WORK = struct.Struct(f"=Qd{_NAME_BYTES}s{_ID_BYTES}sQ")
_WORK_END = struct.Struct(f"={_WORK.size - 8}xQ")
_COMMANDS, _COMMANDS_END = 33, 37
_REPORT_AT, _FLIGHT_AT = 320, 3456
_TRIES = 5
# Bytes that a row takes.
_COUNTERS_AT = _FLIGHT_AT + flight.SIZE
SIZE = _COUNTERS_AT + counters.SIZE


class Command(IntEnum):
    """What MAIN may ask of a process, which hears it at its next tick and obeys RESET and PING then,
    PROBE and REPLACE within 2 s more.
    """

    RESET = 0
    PROBE = 1
    REPLACE = 2
    PING = 3


@dataclass(frozen=True)
class RowWork:
    """The task that a process runs; `since` is monotonic seconds."""

    name: str
    id: str
    since: float


@dataclass(frozen=True)
class RowState:
    """A row at one moment. `ticked_at` (the last report; None: none yet) is monotonic seconds, `started_at`
    Unix seconds; `state` is empty, open or closed.
    """

    state: str
    pid: int
    born: int | None
    circuit: CircuitState
    started_at: float
    ticked_at: float | None
    work: RowWork | None
    report: dict[str, Any] | None

    @property
    def is_alive(self) -> bool:
        """Whether the process of this row lives: the same process, not its pid alone."""
        return self.pid > 0 and process_identity.is_alive(self.pid, self.born)

    @property
    def last_success(self) -> float | None:
        """When MongoDB last answered, in monotonic seconds; None where it never did."""
        ok = (self.report or {}).get("ok")
        return None if ok is None or self.ticked_at is None else self.ticked_at - ok


@dataclass(frozen=True)
class Predecessor:
    """What is left of a process that died without closing its row; `flight` is its ring, oldest first."""

    row: RowState
    flight: list[dict[str, Any]]


class Row:
    """One row over a writable buffer of SIZE bytes that begins at a multiple of 8."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer[:SIZE]
        self._integers = self._buffer[: _COMMANDS_END * 8].cast("Q")
        self._floats = self._buffer[: _COMMANDS_END * 8].cast("d")
        self._report = DoubleBuffer(self._buffer[_REPORT_AT : _REPORT_AT + size_of(MAX_BYTES)], MAX_BYTES)
        self._works = count(1)
        self._taken = self._asked()
        self._owner = -1

    @cached_property
    def recorder(self) -> FlightRecorder:
        """The flight recorder over this row's ring."""
        return FlightRecorder(self._buffer[_FLIGHT_AT:])

    @cached_property
    def counters(self) -> RunningCounters:
        """What all processes of this row counted; only its process writes."""
        return RunningCounters(self._buffer[_COUNTERS_AT:])

    # -- the process of the row ---------------------------------------------------------------------

    def begin(self, pid: int) -> Predecessor | None:
        """Take the row for this process; return what is left of one that died in it without closing it.

        A process that lives still, on its way out, loses the row: what it writes of state and report from
        then on is not taken.
        """
        born = process_identity.born(pid) or 0
        self._owner = pid
        if self._is_of(pid, born):
            self._integers[_STATE] = _OPEN
            return None
        found = self._predecessor()
        self._integers[_STATE] = _EMPTY
        self._wipe()
        self.counters.take()
        self._integers[_PID], self._integers[_BORN] = pid, born
        self._floats[_STARTED_AT] = time.time()
        # Commands that were meant for the process before are not this one's.
        self._taken = self._asked()
        self._integers[_STATE] = _OPEN
        return found

    def set_work(self, name: str, task_id: str) -> None:
        """Say which task runs from now on."""
        number = next(self._works)
        shown = shorten_bytes(name, _NAME_BYTES).encode("utf-8", "replace")
        cut_id = task_id.encode("utf-8", "replace")
        _WORK.pack_into(self._buffer, _WORK_AT, number, time.monotonic(), shown, cut_id, number)

    def clear_work(self) -> None:
        """Say that no task runs."""
        self._integers[_WORK_NUMBER] = 0

    def set_circuit(self, state: CircuitState) -> None:
        """Say how this process sees MongoDB."""
        if self._is_mine():
            self._integers[_CIRCUIT] = _CIRCUITS.index(state)

    def write_report(self, report: bytes) -> bool:
        """Put the report, JSON, in place of the one before; False where it is too long or the row is lost."""
        if not self._is_mine():
            return False
        self._floats[_TICKED_AT] = time.monotonic()
        return self._report.write(report)

    def write_counters(self, values: Sequence[float]) -> None:
        """Say what this process has counted so far, in the order of `counters.FIELDS`."""
        if self._is_mine():
            self.counters.write(values)

    def taken(self) -> list[Command]:
        """Return the commands that MAIN gave since the last call."""
        asked, before = self._asked(), self._taken
        self._taken = asked
        return [command for command in Command if asked[command] != before[command]]

    def close(self) -> None:
        """Say goodbye: there will be no post-mortem of this process."""
        if self._is_mine():
            self._integers[_STATE] = _CLOSED

    # -- MAIN and whoever else reads ------------------------------------------------------------------

    def request(self, command: Command) -> None:
        """Ask the process of this row for something."""
        self._integers[_COMMANDS + command] += 1

    @property
    def last_tick(self) -> float | None:
        """Monotonic seconds of the last report; None where nobody is there, or has not reported yet."""
        is_open = self._integers[_STATE] == _OPEN
        return (self._floats[_TICKED_AT] or None) if is_open else None

    @property
    def circuit(self) -> CircuitState | None:
        """How its process sees MongoDB; None where nobody is there, or has not reported yet."""
        return None if self.last_tick is None else self._circuit()

    @property
    def is_away(self) -> bool:
        """Whether its process, which may not have reported yet, or may be dead, does not reach MongoDB."""
        return self._circuit() is not CircuitState.CLOSED

    def read(self) -> RowState:
        """Return what the row says now."""
        integers, floats = self._integers, self._floats
        state = integers[_STATE]
        return RowState(
            state=_STATES[state] if state < len(_STATES) else "empty",
            pid=integers[_PID],
            born=integers[_BORN] or None,
            circuit=self._circuit(),
            started_at=floats[_STARTED_AT],
            ticked_at=floats[_TICKED_AT] or None,
            work=self._work(),
            report=_parsed(self._report.read()),
        )

    # ---------------------------------------------------------------------------------------------------

    def _circuit(self) -> CircuitState:
        return _CIRCUITS[min(self._integers[_CIRCUIT], len(_CIRCUITS) - 1)]

    def _is_of(self, pid: int, born: int) -> bool:
        integers = self._integers
        return integers[_STATE] != _EMPTY and (integers[_PID], integers[_BORN]) == (pid, born)

    def _is_mine(self) -> bool:
        return self._integers[_PID] == self._owner

    def _predecessor(self) -> Predecessor | None:
        row = self.read()
        if row.state != "open" or row.is_alive:
            return None
        return Predecessor(row, self.recorder.read())

    def _wipe(self) -> None:
        commands, report = _COMMANDS * 8, _REPORT_AT
        self._buffer[:commands] = bytes(commands)
        # The counters stay: what this process begins with is theirs to say.
        self._buffer[report:_COUNTERS_AT] = bytes(_COUNTERS_AT - report)

    def _asked(self) -> list[int]:
        return self._integers[_COMMANDS:_COMMANDS_END].tolist()

    def _work(self) -> RowWork | None:
        # Against the order of writing: what lies between two equal numbers was complete, and still is.
        for _ in range(_TRIES):
            (end,) = _WORK_END.unpack_from(self._buffer, _WORK_AT)
            _, since, name, task_id, _ = _WORK.unpack_from(self._buffer, _WORK_AT)
            begin = self._integers[_WORK_NUMBER]
            if begin == 0:
                return None
            if begin == end:
                return RowWork(_text(name), _text(task_id), since)
        return None


class PrivateRow(Row):
    """A row that nobody else sees: outside a worker, and for a slot beyond the board."""

    def __init__(self) -> None:
        super().__init__(memoryview(bytearray(SIZE)))


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode(errors="ignore")


def _parsed(report: bytes | None) -> dict[str, Any] | None:
    if report is None:
        return None
    try:
        parsed = json.loads(report)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
