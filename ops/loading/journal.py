"""How far a load has come, kept in a file, so that the same command goes on where it was interrupted."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from ..problems import UnderWay
from .own_file import OPEN, refuse_foreign, refuse_shared

_VERSION = 1
_LARGEST = 2**53
_BYTES = 64 * 1024


@dataclass
class Counts:
    """What became of the rows: read = inserted + modified + unchanged + duplicates + rejected.

    A batch that ran twice (a lost connection, a redelivery) is counted as its last run found it.
    """

    read: int = 0
    inserted: int = 0
    modified: int = 0
    unchanged: int = 0
    duplicates: int = 0
    rejected: int = 0

    @property
    def written(self) -> int:
        """Rows that changed something."""
        return self.inserted + self.modified

    @property
    def accounted(self) -> int:
        """Rows of which it is known what became of them."""
        return self.written + self.unchanged + self.duplicates + self.rejected


@dataclass
class Progress:
    """What is done: every row up to `number`, and what the file of rejected rows holds of them."""

    number: int = 0
    end: int = 0
    counts: Counts = field(default_factory=Counts)
    rejects: str | None = None
    rejects_size: int = 0

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Return what `to_dict` told; ValueError, TypeError or KeyError where it cannot have."""
        counts = Counts(**{each.name: _number(told["counts"][each.name]) for each in fields(Counts)})
        rejects = told["rejects"]
        if rejects is not None and (not isinstance(rejects, str) or "\0" in rejects):
            raise ValueError("rejects")
        number, end, size = (_number(told[name]) for name in ("number", "end", "rejects_size"))
        return cls(number, end, counts, rejects, size)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"version": _VERSION, **asdict(self)}


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError("no number of rows or bytes")
    return value


class Journal:
    """The progress of one load: of this content, into this collection, by this key and these types.

    Entered, it is this process's alone until it ends, however it ends: an flock on the file. A folder that
    cannot be written, or a file there that is not this user's own, costs the resuming and the lock, not the
    load: `problem` then says why.
    """

    def __init__(self, folder: Path, load: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(load, sort_keys=True).encode()).hexdigest()[:32]
        self._path = folder / f"{name}.json"
        self._file = -1
        self.problem: str | None = None

    def __enter__(self) -> Self:
        try:
            self._file = _locked(self._path)
        except BlockingIOError:
            raise UnderWay("the same load runs in another process; let it end, or stop it there") from None
        except OSError as error:
            self._tell(error)
        return self

    def __exit__(self, *_details: object) -> None:
        if self._file >= 0 and not os.fstat(self._file).st_size:
            self.remove()
        self._unlock()

    def read(self) -> Progress:
        """Return what an interrupted load has done; nothing where there was none, or none that is legible."""
        if self._file >= 0:
            with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                told = json.loads(os.pread(self._file, _BYTES, 0))
                if told["version"] == _VERSION:
                    return Progress.from_dict(told)
        return Progress()

    def save(self, progress: Progress) -> None:
        """Write the progress, in place: the lock is the file's. What is cut off is not legible."""
        if self._file < 0:
            return
        text = json.dumps(progress.to_dict()).encode()
        try:
            os.pwrite(self._file, text, 0)
            os.ftruncate(self._file, len(text))
        except OSError as error:
            self._tell(error)

    def remove(self) -> None:
        """Forget the load: it is complete. From here on another process may begin it."""
        if self._file >= 0:
            with suppress(OSError):
                self._path.unlink()
        self._unlock()

    def _unlock(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _tell(self, error: OSError) -> None:
        self.problem = f"cannot save the progress in {self._path.parent}: {error.strerror}"


def _locked(path: Path) -> int:
    """Return an open file that is locked; BlockingIOError where another process has the lock."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_shared(path.parent)
    while True:
        file = _opened(path)
        try:
            refuse_foreign(file)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise
        if _has_name(file, path):
            return file
        os.close(file)


def _opened(path: Path) -> int:
    while True:
        with suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN, 0o600)
        with suppress(FileNotFoundError):  # its last holder may have removed it since
            return os.open(path, os.O_RDWR | OPEN)


def _has_name(file: int, path: Path) -> bool:
    # Its last holder may have removed it before we had the lock, which then locks nobody out.
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def default_folder() -> Path:
    """Return where the progress of loads is kept: below $XDG_STATE_HOME, else ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "celery-pymongo" / "loads"
