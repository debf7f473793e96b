"""A message that one process writes and any other reads, whole or not at all, over shared memory.

| offset | bytes | field | |
|---|---|---|---|
| 0 | 8 | sequence | of the last complete message, 0 for none; it stands in the half `sequence % 2` |
| 8 | 8 + capacity | half 0 | 4 bytes length, 4 bytes CRC-32, the message |
| 16 + capacity | 8 + capacity | half 1 | likewise |

The writer fills the half that nobody is pointed to and then moves the sequence on, which is one store: a
writer that is killed at any moment leaves the message before.
"""

import struct
import zlib

_FRAME = struct.Struct("=II")
# A writer overtakes a reader only if it writes twice while the reader copies: once is rare.
_TRIES = 5


def size_of(capacity: int) -> int:
    """Return the bytes that a double buffer takes for messages of up to `capacity` bytes."""
    return 8 + 2 * (_FRAME.size + capacity)


class DoubleBuffer:
    """Two halves over a writable buffer that begins at a multiple of 8 bytes."""

    def __init__(self, buffer: memoryview, capacity: int) -> None:
        self._capacity = capacity
        self._buffer = buffer
        # Assigning to an item is one store of 8 bytes; struct would first write a zero.
        self._sequence = buffer[:8].cast("Q")

    def write(self, message: bytes) -> bool:
        """Put `message` in place of the one before; False, and nothing done, where it is too long."""
        if len(message) > self._capacity:
            return False
        sequence = self._sequence[0] + 1
        start = self._start(sequence)
        _FRAME.pack_into(self._buffer, start, len(message), zlib.crc32(message))
        start += _FRAME.size
        self._buffer[start : start + len(message)] = message
        self._sequence[0] = sequence
        return True

    def read(self) -> bytes | None:
        """Return the last complete message; None where there is none or it cannot be had whole."""
        for _ in range(_TRIES):
            sequence = self._sequence[0]
            message = self._half(sequence) if sequence else None
            if self._sequence[0] == sequence:
                return message
        return None

    def _half(self, sequence: int) -> bytes | None:
        start = self._start(sequence)
        length, checksum = _FRAME.unpack_from(self._buffer, start)
        start += _FRAME.size
        message = bytes(self._buffer[start : start + min(length, self._capacity)])
        return message if zlib.crc32(message) == checksum else None

    def _start(self, sequence: int) -> int:
        return 8 + sequence % 2 * (_FRAME.size + self._capacity)
