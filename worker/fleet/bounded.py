"""Parts of documents that would grow with the fleet, cut to a size."""

import json
from collections.abc import Iterable
from typing import TypeVar

from ..text import shorten

T = TypeVar("T")

_NAME = 120


def fit(items: Iterable[T], limit: int) -> list[T]:
    """Return as many of the first items as have `limit` bytes of JSON together."""
    kept: list[T] = []
    for item in items:
        limit -= len(json.dumps(item)) + 2
        if limit < 0:
            break
        kept.append(item)
    return kept


def cut(name: str) -> str:
    """Return a name in at most 120 characters."""
    return shorten(name, _NAME)
