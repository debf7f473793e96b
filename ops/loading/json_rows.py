"""JSON Lines, and JSON as an array or as one value after the other: row by row, never the file at once."""

import json
import re
from collections.abc import Iterator, Mapping

from bson import json_util

from ..problems import BadRow, InputProblem
from .codec import CODEC_ERRORS, READ_OPTIONS, Document, read_back
from .columns import Convert
from .rows import ROW_LIMIT, TOO_LONG, Row
from .window import CHUNK, ByteWindow, Stream

DEPTH_LIMIT = 10_000
"""Levels of one value: a hundred times what MongoDB takes. Where there are more, this is no data at all."""

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

    def __init__(self, stream: Stream, converters: Mapping[str, Convert]) -> None:
        super().__init__(converters)
        self._window = ByteWindow(stream, limit=ROW_LIMIT)

    def rows(self) -> Iterator[Row]:
        """Yield each line that is not blank."""
        window, number = self._window, 0
        while window.pass_over(_SPACE):
            number, line = number + 1, window.line
            text = window.read_line(ROW_LIMIT + 1)
            problem = None if len(text) <= ROW_LIMIT or text.endswith(b"\n") else TOO_LONG
            while problem and (rest := window.read_line(CHUNK)) and not rest.endswith(b"\n"):
                pass
            yield Row(number, line, window.offset, b"" if problem else text.strip(), problem)


class JsonValues(JsonDocuments):
    """The elements of an array, or values that stand one after the other, over however many lines."""

    def __init__(self, stream: Stream, converters: Mapping[str, Convert]) -> None:
        super().__init__(converters)
        self._window = ByteWindow(stream, limit=ROW_LIMIT)

    def rows(self) -> Iterator[Row]:
        """Yield each element; InputProblem where the file ends inside the array or inside one of them, or
        where one has no end of levels."""
        window, number, in_array = self._window, 0, False
        while byte := window.pass_over(_BETWEEN if in_array else _EMPTY_ARRAYS):
            if byte == (b"]" if in_array else b"["):
                in_array = not in_array
                window.skip()
                continue
            number, line = number + 1, window.line
            end, is_whole = self._end_of_value(byte)
            text = window.take(end)
            if not is_whole:
                raise InputProblem(f"it ends inside the row that starts in line {line}: was it cut?")
            yield Row(number, line, window.offset, text, None if text else TOO_LONG)
        if in_array:
            raise InputProblem(f"it ends in line {window.line}, before its array does: was it cut?")

    def _end_of_value(self, first: bytes) -> tuple[int, bool]:
        """Return the place behind the value that starts here, and whether it is all there."""
        at = self._window.begin()
        if first == b'"':
            return self._end_of_string(at + 1)
        if first in (b"{", b"["):
            return self._end_of_nested(at + 1)
        if first in (b"}", b"]"):  # closes nothing: a row of its own, which is no document
            return at + 1, True
        end, _ = self._window.behind(_SCALAR, at)
        return end, True

    def _end_of_nested(self, at: int) -> tuple[int, bool]:
        depth = 1
        while True:
            at, byte = self._window.behind(_CONTENT, at)
            if not byte:
                return at, False
            at += 1
            if byte == b'"':
                at, is_whole = self._end_of_string(at)
                if not is_whole:
                    return at, False
                continue
            depth += 1 if byte in b"{[" else -1
            if not depth:
                return at, True
            if depth > DEPTH_LIMIT:
                line = self._window.line
                raise InputProblem(f"the value from line {line} on has more than {DEPTH_LIMIT:,} levels")

    def _end_of_string(self, at: int) -> tuple[int, bool]:
        at, byte = self._window.behind(_STRING, at)
        return at + len(byte), byte == b'"'


# Possessive: what they passed over they never look at again.
_SPACE = re.compile(rb"\s*+")
_BETWEEN = re.compile(rb"[\s,]*+")
_EMPTY_ARRAYS = re.compile(rb"(?:[\s,]++|\[[\s,]*+\])*+")
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]\[{}]*+")


def _content(levels: int) -> bytes:
    """Return a pattern for what opens nothing that it does not close: text, strings, so many levels."""
    if not levels:
        return rb'[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+"'
    inner = _content(levels - 1)
    return rb"%b|\[(?:%b)*+\]|\{(?:%b)*+\}" % (inner, inner, inner)


_CONTENT = re.compile(rb"(?:%b)*+" % _content(2), re.DOTALL)


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
