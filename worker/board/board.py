"""The board: memory that a node's processes share, a row for each slot; MAIN reads it without waiting.

It is a file, so that the children of a spawning pool find it by its path, and so that the last words of a
node whose MAIN was killed are found by the next worker on the host.

| offset | bytes | field | |
|---|---|---|---|
| 0 | 8 | magic | written last: a board is whole or none |
| 8 | 4 | version | of this layout and of the row's (`board_row`) and the flight recorder's (`mongo.flight`) |
| 12 | 4 | slots | number of rows |
| 16 | 8 | main_pid | |
| 24 | 8 | main_born | start of MAIN in clock ticks since the boot; 0: unknown |
| 32 | 8 | expected | how many slots there should be now |
| 40 | 8 | created_at | float, monotonic seconds |
| 48 | 8 | host | `process_identity.boot_id()` |
| 56 | 128 | deployment | text, UTF-8, padded with zero bytes |
| 184 | 256 | node | likewise |
| 440 | 8 | number of messages that expired before they could run | unsigned |
| 448 | 2072 | queues | a double buffer for 1024 bytes |
| 2520 | 4120 | orders | likewise for 2048 bytes: what MAIN was told to pause (`pauses.Orders`) |
| 6640 | 4120 | gate | likewise: the queues that MAIN leaves alone, by name: why, since when |
| 10760 | 4120 | paused | likewise: what stands in Redis (`pauses.Known`), by the first living process |
| 14880 | 8216 | record | likewise for 4096 bytes: what MAIN says of its node (`node_record`) |
| 24576 | slots x `board_row.SIZE` | rows | |
"""

import json
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from . import file, process_identity
from . import row as board_row
from .double_buffer import DoubleBuffer, size_of
from .row import Row

FORGOTTEN_SECONDS = 3600.0
"""A board that a dead MAIN left is collected within minutes, or there is nobody who would."""

# Counts up whenever a layout changes: a board of another version is refused.
VERSION = 4
_MAGIC = b"CPMBOARD"
_HEADER = struct.Struct("=II3Qd8s128s256s")
_HEADER_AT = len(_MAGIC)
_EXPECTED_AT, _EXPIRED_AT, _QUEUES_AT, _QUEUES_BYTES, _ROWS_AT = 32, 440, 448, 1024, 24576
_ORDERS_AT, _GATE_AT, _PAUSED_AT, _GATE_BYTES = 2520, 6640, 10760, 2048
_RECORD_AT = 14880

# A process that is stopped in the middle of its turn must not stop the others.
_TURN_SECONDS = 0.05

RECORD_BYTES = 4096
"""What a node may say of itself."""


class NoBoardError(ValueError):
    """What stands under this path is no board, not whole, or of another version."""


class Board:
    """The rows of one node. MAIN creates it before its pool starts, its children inherit or attach it.

    Its memory is let go with the last reference to it and its rows.
    """

    def __init__(self, memory: mmap.mmap, path: Path | None) -> None:
        """Raises NoBoardError; see `create` and `attach`."""
        self._memory = memory
        self._view = memoryview(memory)
        self.path = path
        _check(self._view)
        header = _HEADER.unpack_from(self._view, _HEADER_AT)
        _, slots, self.main_pid, self.main_born, _, created_at, *texts = header
        self.created_at: float = created_at
        self.host, self.deployment, self.node = map(_text, texts)
        self._expected = self._view[_EXPECTED_AT : _EXPECTED_AT + 8].cast("Q")
        self._expired = self._view[_EXPIRED_AT : _EXPIRED_AT + 8].cast("Q")
        self._queues = self._texts(_QUEUES_AT, _QUEUES_BYTES)
        self._orders, self._gate, self._paused = (
            self._texts(start, _GATE_BYTES) for start in (_ORDERS_AT, _GATE_AT, _PAUSED_AT)
        )
        self._record = self._texts(_RECORD_AT, RECORD_BYTES)
        starts = range(_ROWS_AT, _ROWS_AT + slots * board_row.SIZE, board_row.SIZE)
        self.rows = [Row(self._view[start : start + board_row.SIZE]) for start in starts]

    @classmethod
    def create(cls, *, node: str, deployment: str, slots: int) -> "Board":
        """Make MAIN's board. Where no file can be had it is memory without a `path`: forks inherit it.

        Boards that nodes of this deployment left here, and that nobody collected, are taken away.
        """
        _sweep(deployment)
        pid, born = os.getpid(), process_identity.born(os.getpid()) or 0
        name = f"{file.prefix(deployment)}{file.digest(node)}.{pid}-{born}"
        path, memory = file.make(name, _ROWS_AT + slots * board_row.SIZE)
        host = process_identity.boot_id().encode()
        texts = (host, deployment.encode(), node.encode())
        _HEADER.pack_into(memory, _HEADER_AT, VERSION, slots, pid, born, slots, time.monotonic(), *texts)
        memory[:_HEADER_AT] = _MAGIC
        return cls(memory, path)

    @classmethod
    def attach(cls, path: Path | str) -> "Board":
        """Map a board that another process made. Raises OSError, NoBoardError."""
        try:
            memory = file.attach(Path(path))
        except ValueError as error:
            raise NoBoardError(f"{path}: {error}") from error
        return cls(memory, Path(path))

    @property
    def expected(self) -> int:
        """How many slots there should be now."""
        return self._expected[0]

    @expected.setter
    def expected(self, slots: int) -> None:
        self._expected[0] = slots

    @property
    def expired(self) -> int:
        """How many messages of this node expired before they could run."""
        return self._expired[0]

    @expired.setter
    def expired(self, count: int) -> None:
        self._expired[0] = count

    @property
    def queues(self) -> str:
        """The queues that MAIN consumes, as MAIN wrote them; empty before."""
        return (self._queues.read() or b"").decode()

    @queues.setter
    def queues(self, text: str) -> None:
        """Write the queues; text of more than 1024 bytes is not taken."""
        self._queues.write(text.encode())

    @property
    def orders(self) -> str:
        """What MAIN was told to pause, as MAIN wrote it; empty before."""
        return (self._orders.read() or b"").decode()

    @orders.setter
    def orders(self, text: str) -> None:
        """Write them; the settings bound number and length of the queues."""
        self._orders.write(text.encode())

    @property
    def gate(self) -> dict[str, list[Any]]:
        """The queues that MAIN leaves alone, by name: why, and since when in unix seconds."""
        closed: dict[str, list[Any]] = json.loads(self._gate.read() or b"{}")
        return closed

    @gate.setter
    def gate(self, closed: dict[str, list[Any]]) -> None:
        """Write them."""
        self._gate.write(json.dumps(closed, separators=(",", ":")).encode())

    @property
    def paused(self) -> str:
        """What stands in Redis of pauses, as the first living process wrote it; empty before."""
        return (self._paused.read() or b"").decode()

    @paused.setter
    def paused(self, text: str) -> None:
        """Write it. Two processes that both take themselves for the first write the same."""
        self._paused.write(text.encode())

    @property
    def record(self) -> str:
        """What MAIN says of its node, JSON of at most RECORD_BYTES; empty before."""
        return (self._record.read() or b"").decode()

    @record.setter
    def record(self, text: str) -> None:
        """Write it; what is longer is not taken."""
        self._record.write(text.encode())

    @property
    def is_main_alive(self) -> bool:
        """Whether the MAIN that made the board lives."""
        return process_identity.is_alive(self.main_pid, self.main_born or None)

    @property
    def last_report_at(self) -> float:
        """When one of its processes last reported, in monotonic seconds; before, when it was made."""
        reported: list[float] = [row.read().ticked_at or 0.0 for row in self.rows]
        return max(self.created_at, *reported)

    def _texts(self, start: int, capacity: int) -> DoubleBuffer:
        return DoubleBuffer(self._view[start : start + size_of(capacity)], capacity)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have one process of the node at a time in the block. For what takes microseconds: nobody waits for
        longer than 50 ms, nor where the board has no file any more.
        """
        with ExitStack() as stack:
            with suppress(OSError):
                stack.enter_context(file.locked(self.path, seconds=_TURN_SECONDS))
            yield

    def unlink(self) -> None:
        """Take the file away; whoever has it mapped goes on. Idempotent."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()


def leftovers(deployment: str) -> list[Board]:
    """Return the boards of this user's nodes on this host whose MAIN died and left them."""
    found = []
    for path in file.find(deployment):
        with suppress(OSError, NoBoardError):
            board = Board.attach(path)
            if _is_left_over(board, deployment):
                found.append(board)
    return found


def _sweep(deployment: str) -> None:
    for board in leftovers(deployment):
        if time.monotonic() - board.last_report_at > FORGOTTEN_SECONDS:
            board.unlink()


def _is_left_over(board: Board, deployment: str) -> bool:
    # Whether a process of another container lives cannot be told by its pid.
    here = board.host == process_identity.boot_id()
    return here and board.deployment == deployment and not board.is_main_alive


def _check(view: memoryview) -> None:
    if len(view) < _ROWS_AT or view[:_HEADER_AT] != _MAGIC:
        raise NoBoardError("not a board, or not a whole one")
    version, slots, *_ = _HEADER.unpack_from(view, _HEADER_AT)
    if version != VERSION:
        raise NoBoardError(f"a board of version {version}, not {VERSION}")
    if len(view) != _ROWS_AT + slots * board_row.SIZE:
        raise NoBoardError(f"{len(view)} bytes are not a board of {slots} slots")


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode(errors="ignore")
