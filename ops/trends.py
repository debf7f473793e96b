"""How a few numbers of the status went in the last minute, as bars."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from . import tables

SECONDS = 60

Told = Mapping[str, Any]

_MEASURES: dict[str, Callable[[Told], float | None]] = {
    "in use": lambda told: told["totals"]["pool"].get("in_use"),
    "waiting": lambda told: told["totals"]["pool"].get("waiting"),
    "checkouts/s": lambda told: told["totals"]["rate"].get("checked_out"),
    "failed/s": lambda told: told["totals"]["rate"].get("failed"),
    "wait p99 ms": lambda told: told["totals"]["wait"]["p99"],
    "ping ms": lambda told: told["mongodb"]["latency_ms"],
    "queued": lambda told: (
        None if told["queues"] is None else sum(q["depth"] for q in told["queues"].values())
    ),
}


class Trends:
    """The newest values of each measure, one for each look, a look a second; None where it was not seen."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float | None]] = {name: deque(maxlen=SECONDS) for name in _MEASURES}

    def add(self, told: Told) -> None:
        """Take the values of one more look."""
        for name, measure in _MEASURES.items():
            is_unseen = told["totals"] is None and name not in ("ping ms", "queued")
            self._values[name].append(None if is_unseen else measure(told))

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, bars and the newest value of each."""
        return [
            (name, tables.sparkline(values, width=SECONDS), _number(values[-1]))
            for name, values in self._values.items()
            if values
        ]


def _number(value: float | None) -> str:
    if value is None:
        return tables.NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
