"""JSON Lines, and JSON as an array or as one value after the other: row by row, never the file at once."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from bson import json_util

from ..problems import BadRow, InputProblem
from .codec import CODEC_ERRORS, READ_OPTIONS, Document, read_back
from .columns import Convert
from .rows import ROW_LIMIT, TOO_LONG, Row, bounded_line

_CHUNK = 256 * 1024
# The least document, of five bytes, is eight characters. Of JSON only long numbers look like it.
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{6,}={0,2}")
_EXTENDED = json_util.JSONOptions(tz_aware=True, datetime_conversion=READ_OPTIONS.datetime_conversion)


class JsonDocuments:
    """A JSON text's document: Extended JSON's types are kept, named fields are converted from strings."""

    def __init__(self, converters: Mapping[str, Convert]) -> None:
        self._converters = converters

    def document(self, row: Row) -> Document:
        """Return the row's document; BadRow where it has none."""
        assert isinstance(row.text, bytes)  # noqa: S101 - these readers make no others
        document = _parsed(row.text)
        if not isinstance(document, dict):
            raise BadRow("not a JSON object")
        for name, convert in self._converters.items():
            if isinstance(document.get(name), str):
                document[name] = convert(document[name])
        return document


class JsonLines(JsonDocuments):
    """One document per line; a line of base64 BSON, as `dump` writes for odd names, is one too."""

    def __init__(self, stream: BinaryIO, converters: Mapping[str, Convert]) -> None:
        super().__init__(converters)
        self._stream = stream

    def rows(self) -> Iterator[Row]:
        """Yield each line that is not blank."""
        number, line, end = 0, 0, self._stream.tell()
        while True:
            text, size = bounded_line(self._stream)
            if not size:
                return
            line, end = line + 1, end + size
            problem = None if text else TOO_LONG
            if problem or not text.isspace():
                number += 1
                yield Row(number, line, end, text.strip(), problem)


class JsonValues(JsonDocuments):
    """The elements of an array, or values that stand one after the other, over however many lines."""

    def __init__(self, stream: BinaryIO, converters: Mapping[str, Convert]) -> None:
        super().__init__(converters)
        self._buffer = _Buffer(stream)

    def rows(self) -> Iterator[Row]:
        """Yield each element; InputProblem where the file ends inside the array or inside one of them."""
        buffer, number, in_array = self._buffer, 0, False
        while (byte := buffer.next_byte()) is not None:
            if byte == (b"]" if in_array else b"["):
                in_array = not in_array
                buffer.skip()
                continue
            number, line = number + 1, buffer.line
            text, is_whole = buffer.take_value()
            if not is_whole:
                raise InputProblem(f"it ends inside the row that starts in line {line}: was it cut?")
            yield Row(number, line, buffer.offset, text, None if text else TOO_LONG)
        if in_array:
            raise InputProblem(f"it ends in line {buffer.line}, before its array does: was it cut?")


_SPACE_OR_COMMA = re.compile(rb"[^\s,]")
_STRUCTURE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'\\.|"', re.DOTALL)
_AFTER_SCALAR = re.compile(rb"[\s,\]\[{}]")


class _Buffer:
    """A window on the stream that finds where values end, and forgets one that grows beyond ROW_LIMIT."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._bytes = b""
        self._at = 0
        self._searched = 0
        self._is_too_long = False
        self.offset = stream.tell()
        self.line = 1

    def next_byte(self) -> bytes | None:
        """Go to the next byte that is neither white space nor a comma, and return it; None at the end."""
        at = self._find(_SPACE_OR_COMMA, self._at)
        self._move(len(self._bytes) if at is None else at)
        return None if at is None else self._bytes[at : at + 1]

    def skip(self) -> None:
        """Pass over one byte."""
        self._move(self._at + 1)

    def take_value(self) -> tuple[bytes, bool]:
        """Return the value that starts here (empty if it is too long) and whether it has its end."""
        self._is_too_long = False
        end = self._end_of_value()
        is_whole = end is not None
        stop = len(self._bytes) if end is None else end
        too_long = self._is_too_long or stop - self._at > ROW_LIMIT
        text = b"" if too_long else self._bytes[self._at : stop]
        self._move(stop)
        return text, is_whole

    def _end_of_value(self) -> int | None:
        first = self._bytes[self._at : self._at + 1]
        if first == b'"':
            return self._end_of_string(self._at + 1)
        if first in b"{[":
            return self._end_of_nested()
        if first in b"}]":  # closes nothing: a row of its own, which is no document
            return self._at + 1
        at = self._find(_AFTER_SCALAR, self._at)
        return len(self._bytes) if at is None else at

    def _end_of_nested(self) -> int | None:
        depth, at = 0, self._find(_STRUCTURE, self._at)
        while at is not None:
            byte, at = self._bytes[at : at + 1], at + 1
            if byte == b'"':
                end = self._end_of_string(at)
                if end is None:
                    return None
                at = end
            else:
                depth += 1 if byte in b"{[" else -1
            if depth <= 0:
                return at
            at = self._find(_STRUCTURE, at)
        return None

    def _end_of_string(self, at: int) -> int | None:
        found = self._find(_IN_STRING, at)
        while found is not None and self._bytes[found : found + 1] == b"\\":
            found = self._find(_IN_STRING, found + 2)
        return None if found is None else found + 1

    def _find(self, pattern: re.Pattern[bytes], at: int) -> int | None:
        while (match := pattern.search(self._bytes, at)) is None:
            if not self._more():
                return None
            at = self._searched
        return match.start()

    def _more(self) -> bool:
        """Read on; `_searched` is then where what is new begins."""
        chunk = self._stream.read(_CHUNK)
        # An escape is never cut in two: a chunk does not end in a backslash.
        while chunk.endswith(b"\\") and (byte := self._stream.read(1)):
            chunk += byte
        if len(self._bytes) - self._at > ROW_LIMIT:
            self._is_too_long = True
            self._move(len(self._bytes))
        self._bytes = self._bytes[self._at :]
        self._at = 0
        self._searched = len(self._bytes)
        self._bytes += chunk
        return bool(chunk)

    def _move(self, to: int) -> None:
        self.line += self._bytes.count(b"\n", self._at, to)
        self.offset += to - self._at
        self._at = to


def _parsed(text: bytes) -> object:
    if len(text) % 4 == 0 and _BASE64.fullmatch(text):
        return _from_base64(text)
    try:
        decoded = text.decode()
        # What has no `$` has no Extended JSON: the plain parser is ten times as quick.
        if "$" not in decoded and "\\u0024" not in decoded:
            return json.loads(decoded)
        return json_util.loads(decoded, json_options=_EXTENDED)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        reason = f"not JSON at character {error.pos} ({error.msg})"
    except RecursionError:
        reason = "nested too deeply"
    except CODEC_ERRORS as error:
        reason = f"not Extended JSON ({type(error).__name__})"
    raise BadRow(reason)


def _from_base64(text: bytes) -> object:
    document = read_back(text.decode("ascii"))
    if not isinstance(document, dict):
        raise BadRow("neither JSON nor base64 BSON")
    return document
