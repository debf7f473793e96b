"""When the log says that the flight recorder is worth a look: in trouble, and not again for a minute."""

import logging
from typing import Any

from .. import events
from ..events import Event
from ..text import count, printable

logger = logging.getLogger("celery_pymongo.flight")

_PAUSE_SECONDS = 60.0


class Dumps:
    """Decides and says. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._timeouts = 0
        self._was_open = False
        self._quiet_until = float("-inf")

    def reason(self, now: float, *, timeouts: int, is_open: bool) -> str | None:
        """Return why the records are worth a look now, or None. `timeouts` counts since the process began."""
        reasons = {
            "a wait-queue timeout": timeouts > self._timeouts,
            "an outage": is_open and not self._was_open,
        }
        self._timeouts, self._was_open = timeouts, is_open
        why = next((why for why, holds in reasons.items() if holds), None)
        return why if why is not None and self._may_show(now) else None

    def reason_at_end(self, now: float, *, has_failed: bool, is_open: bool) -> str | None:
        """Return why the records are worth a last look; `has_failed`: a checkout did, in the last minute."""
        return "the end of a process in trouble" if (has_failed or is_open) and self._may_show(now) else None

    def _may_show(self, now: float) -> bool:
        may = now >= self._quiet_until
        if may:
            self._quiet_until = now + _PAUSE_SECONDS
        return may


def say(records: list[dict[str, Any]], why: str, *, is_open: bool = False) -> None:
    """Log that the recorder is worth a look, in one line; a JSON log has all records in it.

    At DEBUG while the circuit `is_open`: of an outage a node says no more than it has to.
    """
    message = "%s; `mongo flight` shows the %s"
    args = (why, count(len(records), "record"))
    level = logging.DEBUG if is_open else logging.INFO
    events.say(logger, level, Event.FLIGHT_DUMPED, message, *args, reason=why, records=records)


def line(record: dict[str, Any]) -> str:
    """Return one record as an indented line: when (unix seconds), what, a number, a text."""
    return f"\n  {record['at']:.3f} " + printable(f"{record['kind']} {record['number']:g} {record['text']}")
