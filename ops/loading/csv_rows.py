"""CSV as RFC 4180 has it: a header, quotes, line ends inside fields; each row converted by its columns."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..problems import BadRow, InputProblem
from .codec import Document
from .columns import Convert
from .rows import ROW_LIMIT, TOO_LONG, Row
from .window import ByteWindow, Stream

COLUMN_LIMIT = 250_000
"""Columns of a header: far more than fit into a document with names of any length."""

_Records = Iterator[tuple[int, bytes | list[str], str | None]]

_HEAD = 64 * 1024
_CELLS_SHOWN = 1000
_BLANK_LINES = re.compile(rb"(?:\r?\n)*+")
_QUOTED = re.compile(rb'[^"]*+')
_UNQUOTED = re.compile(rb'(?:[^"\n]++|"[^"]*+")*+')


class CsvRows:
    """The rows after the header. An empty cell is null, but in a column of strings, where it is empty."""

    def __init__(self, stream: Stream, *, delimiter: str = ",") -> None:
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
        for number, (line, text, why) in enumerate(self._records(), 1):
            problem = why or self._problem(text)
            if problem and isinstance(text, list):
                # Sixteen million empty cells fit into a row: they are not kept until it is written down.
                text = text[: max(len(self.columns), _CELLS_SHOWN)]  # noqa: PLW2901 - so that nothing else holds them
            yield Row(number, line, self._lines.end, text, problem)

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
            if len(cells) > COLUMN_LIMIT:
                raise InputProblem(f"the header in line {line} has more than {COLUMN_LIMIT:,} columns")
            names = [str(cell).strip() or f"column_{place}" for place, cell in enumerate(cells, 1)]
            if len(set(names)) < len(names):
                twice = next(name for name, times in Counter(names).items() if times > 1)
                raise InputProblem(f"the header in line {line} names the column {twice} twice")
            return names
        return []

    def _records(self) -> _Records:
        while self._lines.next_row():
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
            if text:
                yield line, text, problem


class _Lines:
    """Feeds the csv module, which pulls as many lines as a row has, and says where it is.

    `problem` is what is wrong with the row's bytes.
    """

    def __init__(self, stream: Stream) -> None:
        self._window = ByteWindow(stream, limit=ROW_LIMIT)
        self._row_bytes = 0
        self._quotes = 0
        self._first = 1
        self._head = bytearray()
        self.problem: str | None = None

    @property
    def line(self) -> int:
        """How many lines have been read."""
        return self._window.line - 1

    @property
    def end(self) -> int:
        """How many bytes have been read."""
        return self._window.offset

    @property
    def head(self) -> bytes:
        """The beginning of the row's own text."""
        return bytes(self._head)

    def next_row(self) -> bool:
        """Go to the next line that is not blank; say whether there is one."""
        is_there = bool(self._window.pass_over(_BLANK_LINES))
        self._row_bytes = self._quotes = 0
        self._first = self.line + 1
        self._head.clear()
        self.problem = None
        return is_there

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._rest_of_row() if self._row_bytes else self._window.read_line(ROW_LIMIT + 1)
        if not line:
            raise StopIteration
        self._row_bytes += len(line)
        self._quotes += line.count(b'"')
        if len(self._head) < _HEAD:
            self._head += line[:_HEAD]
        if self._row_bytes > ROW_LIMIT:
            self._pass_over_row(line)
        return self._decoded(line)

    def _rest_of_row(self) -> bytes:
        """Return what is left of a row that goes on: it is inside of quotes, so lines may go in one piece."""
        limit = ROW_LIMIT + 1 - self._row_bytes
        quoted = self._window.read_run(_QUOTED, limit)
        return quoted + self._window.read_line(limit - len(quoted)) if len(quoted) < limit else quoted

    def _pass_over_row(self, piece: bytes) -> None:
        """Go to the end of a row that is too long: a line end outside of quotes."""
        window, is_quoted = self._window, self._quotes % 2 == 1
        if is_quoted or not piece.endswith(b"\n"):
            while byte := window.pass_over(_QUOTED if is_quoted else _UNQUOTED):
                window.skip()
                if byte == b"\n":
                    break
                is_quoted = not is_quoted
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
