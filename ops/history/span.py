"""A time as a person writes it: `90s`, `30m`, `6h`, `2d`, `1w` ago, or a moment such as 2026-01-02T03:04Z."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])")
_FORMS = "write 90s, 30m, 6h, 2d or 1w for so long ago, or a moment such as 2026-01-02T03:04:05Z"


@dataclass(frozen=True)
class When:
    """So many seconds ago, or a moment in unix seconds; one of the two."""

    ago: float | None = None
    moment: float | None = None

    def at(self, now: float) -> float:
        """Return the moment in unix seconds."""
        return now - self.ago if self.ago is not None else float(self.moment or 0.0)


NOW = When(ago=0.0)


def when(text: str) -> When:
    """Return the time that this text means; a moment without a zone is UTC.

    Raises ValueError with a sentence that says what to write.
    """
    if text == "now":
        return NOW
    if ago := _AGO.fullmatch(text.strip()):
        return When(ago=float(ago[1]) * _UNITS[ago[2]])
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time: {_FORMS}") from None
    return When(moment=(moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def parsed(_ctx: click.Context, param: click.Parameter, value: str) -> When:
    """Return the time that was written on the command line; a callback of click's."""
    try:
        return when(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None
