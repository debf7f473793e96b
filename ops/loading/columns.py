"""What the text of a CSV cell is: as `--types` says, or as all cells of its column allow."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson import Decimal128, Int64, ObjectId
from bson.errors import BSONError

from ..problems import BadRow, UsageProblem

Convert = Callable[[str], Any]

_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")
_LONG = re.compile(r"-?[1-9][0-9]{15,18}")
_DOUBLE = re.compile(r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]+)?(?<=[0-9])(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(
    r"[0-9]{4}([-/])[0-9]{2}\1[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,3})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_DOUBLE_CHARACTERS = 24
"""The longest that a double needs, -1.7976931348623157e+308; what is longer would come back as another."""

_MAX_INT64 = 2**63 - 1
# Not within the brackets of a type.
BETWEEN = r",(?![^(]{0,200}\))"
_NAMED = re.compile(r"([^=]+)=([a-z]+)(?:\((.*)\))?")


def _whole(text: str) -> int:
    number = int(text)
    if not -_MAX_INT64 - 1 <= number <= _MAX_INT64:
        raise ValueError
    return number


def _date(text: str) -> datetime:
    # Without a zone it is UTC, as MongoDB itself takes it.
    moment = datetime.fromisoformat(text.replace("/", "-"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_CONVERTERS: dict[str, Convert] = {
    "string": str,
    "int": _whole,
    "long": lambda text: Int64(_whole(text)),
    "double": float,
    "decimal": Decimal128,
    "bool": _bool,
    "date": _date,
    "objectid": ObjectId,
    "json": json.loads,
}
TYPES = tuple(_CONVERTERS)

_ERRORS = (ValueError, KeyError, TypeError, ArithmeticError, BSONError, RecursionError)


def converter(name: str, kind: str, pattern: str | None = None) -> Convert:
    """Return what makes a column's value of its text; it raises BadRow."""
    convert = _CONVERTERS[kind] if pattern is None else _dates_by(pattern)

    def checked(text: str) -> Any:
        try:
            return convert(text)
        except _ERRORS:
            raise BadRow(f"column {name}: its value is no {kind}") from None

    return checked


def _dates_by(pattern: str) -> Convert:
    def convert(text: str) -> datetime:
        moment = datetime.strptime(text, pattern)  # noqa: DTZ007 - the pattern may have a zone; if not: UTC
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    return convert


def named_types(texts: Iterable[str]) -> dict[str, str]:
    """Return what `--types a=int,b=date(%d.%m.%Y)` names, by column. Raises UsageProblem."""
    types: dict[str, str] = {}
    for part in (part for text in texts for part in re.split(BETWEEN, text)):
        match = _NAMED.fullmatch(part.strip())
        if match is None or match[2] not in _CONVERTERS or (match[3] is not None and match[2] != "date"):
            known = ", ".join(TYPES)
            raise UsageProblem(f"--types {part}: write COLUMN=TYPE, with one of {known}, or date(%d.%m.%Y)")
        types[match[1]] = match[2] if match[3] is None else f"date({match[3]})"
    return types


def converters(types: Mapping[str, str]) -> dict[str, Convert]:
    """Return each column's converter, for types as `named_types` gives them; none for strings."""
    parted = {name: kind.partition("(") for name, kind in types.items() if kind != "string"}
    return {
        name: converter(name, kind, rest[:-1] if rest else None) for name, (kind, _, rest) in parted.items()
    }


@dataclass
class Guess:
    """The narrowest type that every cell of a column so far allows; `broken_at` is the line that widened it
    to a string."""

    kind: str | None = None
    broken_at: int | None = None
    was: str | None = field(default=None)

    def see(self, text: str, line: int) -> None:
        """Take one cell into account; an empty one says nothing."""
        if not text or self.kind == "string" or (self.kind is not None and _FITS[self.kind](text)):
            return
        kind = next(kind for kind, fits in _FITS.items() if fits(text))
        joined = kind if self.kind is None else _JOINED.get(frozenset((self.kind, kind)), "string")
        if joined == "string" and self.kind is not None:
            self.was, self.broken_at = self.kind, line
        self.kind = joined


def infer(names: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]) -> dict[str, Guess]:
    """Return a guess for each column, from all rows (line, cells); a row of another length is passed over."""
    guesses = [Guess() for _ in names]
    for line, cells in rows:
        if len(cells) == len(names):
            for guess, text in zip(guesses, cells, strict=True):
                guess.see(text, line)
    return dict(zip(names, guesses, strict=True))


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        _date(text)
    except ValueError:
        return False
    return True


def _is_json(text: str) -> bool:
    if text[0] not in "{[":
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError, MemoryError):
        return False
    return True


def _is_long(text: str) -> bool:
    return bool(_LONG.fullmatch(text)) and abs(int(text)) <= _MAX_INT64


def _is_double(text: str) -> bool:
    if _INT.fullmatch(text):
        return True
    has_mark = not text.lstrip("-").isdigit()
    return has_mark and len(text) <= _DOUBLE_CHARACTERS and _DOUBLE.fullmatch(text) is not None


def _is_wide(text: str) -> bool:
    return bool(_INT.fullmatch(text)) or _is_long(text)


# In this order. Numbers with leading zeros are codes, and stay strings.
_FITS: dict[str, Callable[[str], bool]] = {
    "int": lambda text: _INT.fullmatch(text) is not None,
    "long": _is_wide,
    "double": _is_double,
    "date": _is_date,
    "bool": lambda text: text.lower() in ("true", "false"),
    "json": _is_json,
    "string": lambda _text: True,
}
_JOINED = {frozenset(("int", "long")): "long", frozenset(("int", "double")): "double"}
