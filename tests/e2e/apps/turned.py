"""A serializer that only its app knows, with the content type of Celery's signed messages."""

import ast
from typing import Any

from kombu import serialization

NAME, CONTENT_TYPE = "turned", "application/data"


def register() -> None:
    """Make it known to this process."""
    serialization.register(NAME, dumps, loads, CONTENT_TYPE, "binary")


def dumps(value: Any) -> bytes:
    """Return bytes that are no text."""
    return b"\xff" + repr(value).encode()[::-1]


def loads(body: Any) -> Any:
    """Return the value."""
    return ast.literal_eval(bytes(body)[:0:-1].decode())
