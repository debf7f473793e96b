"""What a task tells of its operation: a fixed record appended to a file, which costs it a microsecond."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

_RECORD = Struct("=IIQQ")


@dataclass(frozen=True)
class Record:
    """One operation: who ran it, for which task, from when to when on the machine's monotonic clock."""

    pid: int
    number: int
    started_ns: int
    ended_ns: int

    @property
    def took_us(self) -> float:
        """How long the operation took, in microseconds."""
        return (self.ended_ns - self.started_ns) / 1000


class Recorder:
    """Appends to the file, from as many processes as like: an append of this size is not torn."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, number: int, started_ns: int, ended_ns: int) -> None:
        """Add this process's operation."""
        os.write(self._file, _RECORD.pack(os.getpid(), number, started_ns, ended_ns))


class Records:
    """Reads the file as it grows."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._seen = 0

    def waiting(self) -> int:
        """Return how many records are there that `take` has not returned."""
        return self._path.stat().st_size // _RECORD.size - self._seen

    def take(self) -> list[Record]:
        """Return the records that came since the last time."""
        found = list(self._read())
        self._seen += len(found)
        return found

    def _read(self) -> Iterator[Record]:
        with self._path.open("rb") as file:
            file.seek(self._seen * _RECORD.size)
            data = file.read()
        whole = len(data) - len(data) % _RECORD.size
        return (Record(*fields) for fields in _RECORD.iter_unpack(data[:whole]))
