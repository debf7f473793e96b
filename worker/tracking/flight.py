"""The flight recorder: the last events of a process's pool, in a ring of fixed-size records over a buffer.

On the board the buffer is shared memory, so the ring of a process that was killed can still be read. Numbers
are in the host's byte order.

| offset | bytes | field | |
|---|---|---|---|
| 0 | 8 | sequence | from 1 on, at place (sequence - 1) % records; 0: never written |
| 8 | 8 | at | Unix seconds |
| 16 | 8 | number | see `Kind` |
| 24 | 1 | kind | a `Kind` |
| 25 | 64 | text | UTF-8, shortened, padded with zero bytes |
| 92 | 4 | check | the low half of the sequence, written last: a record that was cut short is told by it |
"""

import struct
import time
from enum import IntEnum
from itertools import count
from typing import Any

from ..text import shorten_bytes

RECORDS = 200
TEXT_BYTES = 64
_RECORD = struct.Struct(f"=QddB{TEXT_BYTES}s3xI")
_NUMBER, _CHECK = struct.Struct("=Q"), struct.Struct("=I")
_LOW = 0xFFFFFFFF
# Bytes that a ring takes.
SIZE = RECORDS * _RECORD.size


class Kind(IntEnum):
    """What a record tells. A number keeps its meaning for ever: another version may read it.

    `number` is what the right column says, else 0; `text` is the server ("host:port"), or what stands there.
    """

    label: str

    CLIENT_OPENED = 1, "client.opened"  # text: the application name
    CLIENT_REPLACED = 2, "client.replaced"  # text: why
    CLIENT_CLOSED = 3, "client.closed"  # number: seconds that closing took
    CONNECTION_CREATED = 4, "connection.created"
    CONNECTION_READY = 5, "connection.ready"  # number: ms from its creation
    CONNECTION_CLOSED = 6, "connection.closed"  # text: server and reason
    CHECKOUT_FAILED = 7, "checkout.failed"  # number: ms waited; text: server and reason
    SLOW_CHECKOUT = 8, "checkout.slow"  # number: ms waited
    POOL_CLEARED = 9, "pool.cleared"
    POOL_READY = 10, "pool.ready"
    HEARTBEAT_FAILED = 11, "heartbeat.failed"  # text: server and reason
    HEARTBEAT_FOUND = 12, "heartbeat.found"
    CIRCUIT = 13, "circuit"  # text: the new state
    RECONNECT = 14, "reconnect"  # number: of the attempt; text: what came of it
    LONG_HOLD = 15, "hold.long"  # number: seconds; text: the task's name
    LEAK = 16, "leak"  # number: seconds; text: what, and the task's name
    RETURNED = 17, "returned"  # number: seconds held; text: the task's name
    DRIFT = 18, "drift"  # number: by how much a gauge was wrong
    ERROR = 19, "error"  # text: its class

    def __new__(cls, number: int, label: str) -> "Kind":
        """A member is its number; `label` is its name in reports."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.label = label
        return member


_LABELS = {int(kind): kind.label for kind in Kind}


class FlightRecorder:
    """A ring of `records` records at the start of a writable buffer; it goes on where the ring ends.

    One process writes, from any thread; anyone reads, at any time.
    """

    def __init__(self, buffer: Any, records: int = RECORDS) -> None:
        self._buffer = memoryview(buffer)[: records * _RECORD.size]
        self._records = records
        # next() of it is atomic: no two threads write the same record.
        self._sequences = count(_newest(self._buffer) + 1)

    def record(self, kind: Kind, number: float = 0.0, text: str = "") -> None:
        """Write one record over the oldest. Never raises: it is called from the driver's callbacks."""
        try:
            sequence = next(self._sequences)
            place = (sequence - 1) % self._records * _RECORD.size
            encoded = shorten_bytes(text, TEXT_BYTES).encode("utf-8", "replace")
            check = sequence & _LOW
            _RECORD.pack_into(self._buffer, place, sequence, time.time(), number, kind, encoded, check)
        except Exception:  # noqa: BLE001, S110 - what cannot be recorded must not disturb what happens
            pass

    def read(self, newest: int | None = None) -> list[dict[str, Any]]:
        """Return the records, oldest first; only so many of the newest where a number is given.

        A record that is being written meanwhile, or whose writer died in it, is left out.
        """
        # A record that is written meanwhile differs between two copies.
        ring, again = bytes(self._buffer), bytes(self._buffer)
        last = _newest(ring)
        wanted = self._records if newest is None else min(newest, self._records)
        sequences = range(max(last - wanted, 0) + 1, last + 1)
        places = ((sequence - 1) % self._records * _RECORD.size for sequence in sequences)
        return [
            _told(record)
            for sequence, place in zip(sequences, places, strict=True)
            if (record := ring[place : place + _RECORD.size]) == again[place : place + _RECORD.size]
            and _is_whole(record, sequence)
        ]


def _newest(ring: memoryview | bytes) -> int:
    numbers = memoryview(ring).cast("Q")
    return max(numbers[:: _RECORD.size // 8].tolist())


def _is_whole(record: bytes, sequence: int) -> bool:
    number, check = record[:8], record[-4:]
    return number == _NUMBER.pack(sequence) and check == _CHECK.pack(sequence & _LOW)


def _told(record: bytes) -> dict[str, Any]:
    _, at, number, kind, text, _ = _RECORD.unpack(record)
    return {
        "at": round(at, 3),
        "kind": _LABELS.get(kind, f"kind {kind}"),
        "number": number,
        "text": text.rstrip(b"\0").decode(errors="ignore"),
    }
