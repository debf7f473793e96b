"""A row of a file, before anybody looks at what it says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from .codec import Document

ROW_LIMIT = 16 * 1024 * 1024
"""Bytes of one row's text: what MongoDB takes of one document. A longer one is passed over, never held."""

TOO_LONG = f"longer than {ROW_LIMIT // 1024 // 1024} MiB"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the file: its number and its first line, from 1; `end` in bytes of content.

    `problem` says why it can be no document; its text is then what is known of it.
    """

    number: int
    line: int
    end: int
    text: bytes | list[str]
    problem: str | None = None


class Reader(Protocol):
    """One format's rows, lazily, and a row's document apart: rows are skipped without being read."""

    def rows(self) -> Iterator[Row]:
        """Yield each row; InputProblem where the rest cannot be read."""

    def document(self, row: Row) -> Document:
        """Return a row's document; BadRow where it has none."""
