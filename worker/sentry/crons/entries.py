"""How a beat entry shows in Sentry Crons, and whether a window of short intervals went well. Pure.

Sentry knows whole minutes. An entry whose interval is such, or a crontab, has a check-in for each run. Runs
of any other interval are folded: one check-in for each window of whole minutes that holds one at least.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from celery.schedules import crontab, schedule

LONGEST_SLUG = 50

GRACE_SECONDS = 60.0
"""How long after its end a window waits for its last run to end, and two intervals at least."""

LATE = 1.5
"""A run that comes later after the last than so many intervals: one between them is missing."""

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60))
_DEFAULT_RUNTIME_MINUTES = 30
_LONGEST_MARGIN_MINUTES = 30


@dataclass(frozen=True)
class Monitor:
    """What Sentry is told of an entry. `window` is seconds, None where each run has its check-in; `interval`
    is None for a crontab.
    """

    slug: str
    config: dict[str, Any]
    interval: float | None = None
    window: int | None = None

    def window_of(self, at: float) -> int:
        """Return when the window of this moment began, unix seconds."""
        return int(at // (self.window or 60)) * (self.window or 60)

    def is_late(self, last: float | None, at: float) -> bool:
        """Say whether a run before this one is missing. A second more is for a busy beat."""
        return last is not None and self.interval is not None and at - last > LATE * self.interval + 1

    @property
    def grace(self) -> float:
        """Seconds from a window's end to its verdict."""
        return max(GRACE_SECONDS, 2 * (self.interval or 0.0))


def monitor_of(
    name: str, when: Any, *, deployment: str, timezone: str, runtime_seconds: float | None
) -> Monitor | None:
    """Return the monitor of an entry; None for schedules that Sentry cannot express: by the sun, by rules.

    `runtime_seconds` is how long a run may take from its sending, None where nothing limits it.
    """
    runtime = _DEFAULT_RUNTIME_MINUTES if runtime_seconds is None else max(1, math.ceil(runtime_seconds / 60))
    slug = slug_of(f"{deployment}-{name}")
    if isinstance(when, crontab):
        told: dict[str, Any] = {"type": "crontab", "value": _crontab(when)}
        zone = str(when.tz) if getattr(when, "tz", None) else timezone
        return Monitor(slug, _config(told, margin=5, runtime=runtime, timezone=zone))
    if not isinstance(when, schedule):
        return None
    seconds = float(when.seconds)
    if seconds >= 60 and seconds % 60 == 0:
        unit, size = next((unit, size) for unit, size in _UNITS if seconds % size == 0)
        told = {"type": "interval", "value": int(seconds // size), "unit": unit}
        margin = min(_LONGEST_MARGIN_MINUTES, max(1, round(seconds / 600)))
        return Monitor(slug, _config(told, margin=margin, runtime=runtime, timezone=timezone), seconds)
    if seconds <= 0:
        return None
    minutes = math.ceil(seconds / 60)
    told = {"type": "interval", "value": minutes, "unit": "minute"}
    late = math.ceil(max(GRACE_SECONDS, 2 * seconds) / 60) + 1
    config = _config(told, margin=minutes + late, runtime=minutes, timezone=timezone)
    return Monitor(slug, config, seconds, 60 * minutes)


def went_well(counts: Mapping[str, int]) -> bool:
    """Say whether a window did: no run of it is missing, none failed, and all that were sent ended."""
    return (
        not counts.get("late") and not counts.get("failed") and counts.get("ok", 0) >= counts.get("sent", 0)
    )


def slug_of(name: str) -> str:
    """Return the name as Sentry takes it: at most 50 of a-z, 0-9, dashes and underscores."""
    slug = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")
    if len(slug) <= LONGEST_SLUG:
        return slug
    return f"{slug[: LONGEST_SLUG - 9]}-{sha256(name.encode()).hexdigest()[:8]}"


def _config(told: dict[str, Any], *, margin: int, runtime: int, timezone: str) -> dict[str, Any]:
    return {"schedule": told, "checkin_margin": margin, "max_runtime": runtime, "timezone": timezone}


def _crontab(when: Any) -> str:
    parts = (
        when._orig_minute,
        when._orig_hour,
        when._orig_day_of_month,
        when._orig_month_of_year,
        when._orig_day_of_week,
    )
    return " ".join(part if isinstance(part, str) else _listed(part) for part in parts)


def _listed(part: Any) -> str:
    return str(part) if isinstance(part, int) else ",".join(map(str, sorted(part)))
