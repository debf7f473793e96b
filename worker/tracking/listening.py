"""What our listeners have in common: a fault of theirs is counted, and gets into no operation."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from .flight import Kind

Record = Callable[[Kind, float, str], None]
Address = tuple[str, int | None]
E = TypeVar("E")


class Errors:
    """Counts what our own handlers raised; each is recorded, none gets into a checkout."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.number = 0

    def take(self, error: Exception) -> None:
        """Count and record one."""
        self.number += 1
        self._record(Kind.ERROR, 0.0, type(error).__name__)


def harmless(handler: Callable[[Any, E], None]) -> Callable[[Any, E], None]:
    """Make a handler of `self.errors`' class raise nothing."""

    @wraps(handler)
    def handle(self: Any, event: E) -> None:
        try:
            handler(self, event)
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the checkout goes on
            self.errors.take(error)

    return handle
