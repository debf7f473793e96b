"""What a log line shows of values from elsewhere: names may hold what a terminal obeys, or a forged line."""

import json
from collections.abc import Mapping
from typing import Any

from .text import printable


class Lines(str):
    """A text of several lines that was made here, as of a stack: their ends are kept."""

    __slots__ = ()


class _Shown:
    """A value that is formatted as it is, with escapes for what cannot be seen; %s and %r alike."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return printable(str(self._value), keep="\n" if isinstance(self._value, Lines) else "")

    def __repr__(self) -> str:
        return printable(repr(self._value))


def shown(arguments: Any) -> Any:
    """Return the arguments of a log line, one mapping or a tuple, that say nothing but text."""
    if isinstance(arguments, Mapping):
        return {name: _shown(value) for name, value in arguments.items()}
    return tuple(map(_shown, arguments)) if isinstance(arguments, tuple) else arguments


def _shown(value: Any) -> Any:
    # Numbers have formats of their own.
    return value if value is None or isinstance(value, int | float | _Shown) else _Shown(value)


def in_json(line: Mapping[str, Any]) -> str:
    """Return one line of JSON in which what cannot be seen is escaped."""
    return printable(json.dumps(line, default=str, ensure_ascii=False), as_json=True)
