"""How far a load has come, kept in a file, so that the same command goes on where it was interrupted."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

_VERSION = 1


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
        """Return what `to_dict` told."""
        fields = {name: value for name, value in told.items() if name not in ("counts", "version")}
        return cls(**fields, counts=Counts(**told["counts"]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"version": _VERSION, **asdict(self)}


class Journal:
    """The progress of one load: of this content, into this collection, by this key and these types.

    A folder that cannot be written costs the resuming, not the load: `problem` then says why.
    """

    def __init__(self, folder: Path, load: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(load, sort_keys=True).encode()).hexdigest()[:32]
        self._path = folder / f"{name}.json"
        self.problem: str | None = None

    def read(self) -> Progress:
        """Return what an interrupted load has done; nothing where there was none, or none that is legible."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            told = json.loads(self._path.read_text())
            if told["version"] == _VERSION:
                return Progress.from_dict(told)
        return Progress()

    def save(self, progress: Progress) -> None:
        """Write the progress: wholly or not at all."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                json.dump(progress.to_dict(), file)
            os.replace(file.name, self._path)
        except OSError as error:
            self.problem = f"cannot save the progress in {self._path.parent}: {error.strerror}"

    def remove(self) -> None:
        """Forget the load: it is complete."""
        with suppress(OSError):
            self._path.unlink()


def default_folder() -> Path:
    """Return where the progress of loads is kept: below $XDG_STATE_HOME, else ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "celery-pymongo" / "loads"
