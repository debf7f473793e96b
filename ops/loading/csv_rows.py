"""CSV as RFC 4180 has it: a header, quotes, line ends inside fields; each row converted by its columns."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from ..problems import BadRow, InputProblem
from .codec import Document
from .columns import Convert
from .rows import ROW_LIMIT, TOO_LONG, Row
from .source import CHUNK

_Records = Iterator[tuple[int, bytes | list[str], str | None]]

_HEAD = 64 * 1024


class CsvRows:
    """The rows after the header. An empty cell is null, but in a column of strings, where it is empty."""

    def __init__(self, stream: BinaryIO, *, delimiter: str = ",") -> None:
        # The module's own limit, for the whole process, is 128 KiB; ours is the row's.
        csv.field_size_limit(ROW_LIMIT)
        self._lines = _Lines(stream)
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self.columns = self._header()
        self._converters: Mapping[str, Convert] = {}

    def convert(self, converters: Mapping[str, Convert]) -> None:
        """Convert these columns from now on; the others are strings."""
        self._converters = converters

    def rows(self) -> Iterator[Row]:
        """Yield each record that is not blank."""
        for number, (line, text, problem) in enumerate(self._records(), 1):
            yield Row(number, line, self._lines.end, text, problem or self._problem(text))

    def document(self, row: Row) -> Document:
        """Return the row's document; BadRow where a cell is not what its column says."""
        return {name: self._value(name, str(text)) for name, text in zip(self.columns, row.text, strict=True)}

    def _value(self, name: str, text: str) -> object:
        convert = self._converters.get(name)
        if convert is None:
            return text
        return None if text == "" else convert(text)

    def _problem(self, cells: Sequence[object]) -> str | None:
        if len(cells) != len(self.columns):
            return f"{len(cells)} fields where the header has {len(self.columns)}"
        return None

    def _header(self) -> list[str]:
        for line, cells, problem in self._records():
            if problem:
                raise InputProblem(f"the header in line {line}: {problem}")
            names = [str(cell).strip() or f"column_{place}" for place, cell in enumerate(cells, 1)]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                raise InputProblem(f"the header in line {line} names the column {twice} twice")
            return names
        return []

    def _records(self) -> _Records:
        while True:
            line = self._lines.line + 1
            cells: list[str] = []
            try:
                cells = next(self._reader)
                problem = self._lines.problem
            except StopIteration:
                return
            except BadRow as error:
                problem = str(error)
            except csv.Error as error:
                problem = _told(error, line, self._lines.line)
            text: bytes | list[str] = self._lines.head if problem else cells
            self._lines.begin_row()
            if text:
                yield line, text, problem


class _Lines:
    """Feeds the csv module, which pulls as many lines as a row has, and says where it is.

    `head` is the beginning of the row's own text; `problem` is what is wrong with its bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._row_bytes = 0
        self._quotes = 0
        self._first = 1
        self.line = 0
        self.end = stream.tell()
        self.head = b""
        self.problem: str | None = None

    def begin_row(self) -> None:
        self._row_bytes = self._quotes = 0
        self._first = self.line + 1
        self.head = b""
        self.problem = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._piece(ROW_LIMIT + 1)
        if not line:
            raise StopIteration
        if len(self.head) < _HEAD:
            self.head += line[:_HEAD]
        if self._row_bytes > ROW_LIMIT:
            self._pass_over_row(line)
        return self._decoded(line)

    def _piece(self, limit: int) -> bytes:
        piece = self._stream.readline(limit)
        self.line += piece.endswith(b"\n")
        self.end += len(piece)
        self._row_bytes += len(piece)
        self._quotes += piece.count(b'"')
        return piece

    def _pass_over_row(self, piece: bytes) -> None:
        """Go to the end of a row that is too long: a line end outside of quotes."""
        while piece and not (piece.endswith(b"\n") and self._quotes % 2 == 0):
            piece = self._piece(CHUNK)
        raise BadRow(TOO_LONG if self.line <= self._first else f"{TOO_LONG}; it ends in line {self.line}")

    def _decoded(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.problem = f"not UTF-8 at byte {error.start} of line {self.line}"
            return line.decode(errors="backslashreplace")


def _told(error: csv.Error, first: int, last: int) -> str:
    where = "" if first == last else f" (lines {first} to {last} are one row)"
    if "unexpected end of data" in str(error):
        return f"a quote that opens in it is never closed{where}"
    if "new-line character" in str(error):
        return f"a carriage return stands alone in it{where}"
    if "field limit" in str(error):
        return TOO_LONG
    return f"its quotes are not those of CSV: {error}{where}"
