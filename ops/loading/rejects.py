"""The file of the rows that were not written: JSON Lines, its owner's alone, never over another file."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from ..problems import Problem
from .batches import Refusal
from .own_file import OPEN, refuse_foreign

_MODE = 0o600
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN
_OLD = os.O_RDWR | OPEN
_BEGINNING = b'{"line": '

_ROW_SHOWN = 64 * 1024
"""Bytes of a row that are copied; of a longer one its beginning, and the line number leads to the rest."""


class RejectsFile:
    """Made when the first row is rejected: as it was asked for, else as `<label>.rejects.jsonl` in the
    current folder; where that is taken, `<label>.rejects.2.jsonl` and so on."""

    def __init__(self, path: Path | None, label: str) -> None:
        self._asked = path
        self._label = label
        self._file: BinaryIO | None = None
        self.path: Path | None = None

    def refuse_taken(self) -> None:
        """Refuse a name that was asked for and is taken."""
        if self._asked is not None and os.path.lexists(self._asked):
            raise Problem(f"{self._asked} exists and is not written over; choose another --rejects")

    def go_on(self, path: str, size: int) -> None:
        """Go on with the file of an interrupted load; what stands behind `size` is written again. A file that
        is not this user's, or has other things in it, is left as it is.
        """
        try:
            file = self._use(Path(path), _OLD)
        except OSError:
            self.path = None
            self.refuse_taken()
            return
        # Somebody may have taken lines away: then what is left stays as it is.
        size = min(size, file.seek(0, os.SEEK_END))
        file.truncate(size)
        file.seek(size)

    def write(self, refusals: Iterable[Refusal]) -> None:
        """Append these rows; on disk when it returns, as far as this process can say."""
        lines = [json.dumps(_told(refusal)) + "\n" for refusal in refusals]
        if not lines:
            return
        try:
            file = self._file or self._create()
            file.write("".join(lines).encode())
            file.flush()
        except OSError as error:
            raise Problem(f"cannot write rejected rows to {self.path}: {error.strerror}") from None

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell() if self._file else 0

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file:
            with suppress(OSError):  # what could not be written was told by `write`
                self._file.close()

    def _create(self) -> BinaryIO:
        if self._asked is not None:
            return self._use(self._asked, _NEW)
        for place in count(1):
            suffix = ".rejects.jsonl" if place == 1 else f".rejects.{place}.jsonl"
            try:
                return self._use(Path(self._label + suffix), _NEW)
            except FileExistsError:
                continue
        raise AssertionError

    def _use(self, path: Path, flags: int) -> BinaryIO:
        self.path = path.absolute()
        descriptor = os.open(path, flags, _MODE)
        try:
            if flags == _OLD:
                _refuse_other(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        self._file = os.fdopen(descriptor, "wb")
        return self._file


def _refuse_other(descriptor: int) -> None:
    refuse_foreign(descriptor, may_others_write=True)
    if os.pread(descriptor, len(_BEGINNING), 0) not in (_BEGINNING, b""):
        raise PermissionError(0, "the file has other things in it")


def _told(refusal: Refusal) -> dict[str, Any]:
    text = refusal.row.text
    told = {"line": refusal.row.line, "row": refusal.row.number, "reason": refusal.reason}
    return told | {"text": _text(text) if isinstance(text, bytes) else _cells(text)}


def _text(text: bytes) -> str:
    return text[:_ROW_SHOWN].decode(errors="backslashreplace")


def _cells(cells: list[str]) -> list[str]:
    return [cell[: _ROW_SHOWN // len(cells)] for cell in cells]
