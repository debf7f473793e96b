"""JSON that brings every value of a message's headers back as it was, tuples, bytes and dates included.

What JSON has no type for is an object with one key that begins with `$`; a mapping that JSON would change, by
its keys or by looking like such an object, is a list of pairs.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

_MARK = "$"

_TO_TEXT: dict[type, tuple[str, Callable[[Any], str]]] = {
    bytes: ("$bytes", lambda value: b64encode(value).decode()),
    datetime: ("$datetime", datetime.isoformat),
    date: ("$date", date.isoformat),
    Decimal: ("$decimal", str),
    UUID: ("$uuid", str),
}
_FROM_TEXT: dict[str, Callable[[Any], Any]] = {
    "$bytes": b64decode,
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$tuple": lambda items: tuple(map(_revived, items)),
    "$dict": lambda pairs: {_revived(key): _revived(value) for key, value in pairs},
}


def dumps(value: Any) -> str:
    """Return the value as text. Raises TypeError for a type that would not come back."""
    return json.dumps(_marked(value), separators=(",", ":"))


def loads(text: str | bytes) -> Any:
    """Return the value of a text by `dumps`."""
    return _revived(json.loads(text))


def _marked(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind in (list, tuple):
        items = [_marked(item) for item in value]
        return items if kind is list else {"$tuple": items}
    if isinstance(value, dict):
        return _mapping(value)
    if kind in _TO_TEXT:
        name, convert = _TO_TEXT[kind]
        return {name: convert(value)}
    raise TypeError(f"a value of type {kind.__name__} cannot be kept as JSON")


def _mapping(value: dict[Any, Any]) -> dict[str, Any]:
    if all(type(key) is str and not key.startswith(_MARK) for key in value):
        return {key: _marked(item) for key, item in value.items()}
    return {"$dict": [[_marked(key), _marked(item)] for key, item in value.items()]}


def _revived(value: Any) -> Any:
    if isinstance(value, list):
        return [_revived(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, item),) = value.items()
        if key in _FROM_TEXT:
            return _FROM_TEXT[key](item)
    return {key: _revived(item) for key, item in value.items()}
