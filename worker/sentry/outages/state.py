"""When an outage is told: one state for the whole fleet, and what follows from it. Pure.

An outage begins with the first process that is cut off and is opened once that has lasted. It is over once
nobody has been cut off for as long; one that comes back soon is believed to be over later each time, so that
a server that comes and goes is one outage that lasts, and not a hundred.
"""

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from ...store import records

STILL_SECONDS = 900.0
"""An outage that lasts is told again so often."""

RELAPSE_SECONDS = 900.0
"""One that comes back within this time after the last was a relapse."""

LONGEST_QUIET_SECONDS = 300.0


class Kind(StrEnum):
    """What is told."""

    OPENED = "opened"
    STILL = "still down"
    GIVEN_UP = "given up"
    RECOVERED = "recovered"


@dataclass(frozen=True)
class Pending:
    """What was decided and is not known to be sent: by the process that did, or by its successor."""

    kind: Kind
    by: str


@dataclass(frozen=True)
class Outage:
    """The fleet's last outage. Moments are unix seconds by one clock; `relapses` counts those just before."""

    since: float
    last_down: float
    told_at: float
    relapses: int = 0
    given_up: bool = False
    is_over: bool = False
    pending: Pending | None = None

    @property
    def id(self) -> str:
        """Its name."""
        return f"{self.since:.0f}"

    @property
    def seconds(self) -> float:
        """How long it has lasted, to the last moment that somebody was cut off."""
        return max(0.0, self.last_down - self.since)

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: Any) -> "Outage":
        """Return what `encode` made, or another version's. Raises ValueError for anything else."""
        told = records.OUTAGE.read(text.encode() if isinstance(text, str) else text, "outage")
        pending = told.pop("pending", None)
        is_known = pending is not None and pending["kind"] in list(Kind)
        return cls(**told, pending=Pending(Kind(pending["kind"]), pending["by"]) if is_known else None)


@dataclass(frozen=True)
class Facts:
    """The fleet now. `down_seconds` is how long the first of those that are cut off has been, None where
    nobody is; `is_known` is false where processes may be cut off that could not say so.
    """

    now: float
    down_seconds: float | None
    is_known: bool = True


@dataclass(frozen=True)
class Terms:
    """The settings: after how many seconds an outage is confirmed, and after how many it is given up."""

    confirm: float
    give_up: float


def step(before: Outage | None, facts: Facts, terms: Terms, *, own: str) -> tuple[Outage | None, Kind | None]:
    """Return the state from now on and what is to be told, by the sender whose name is `own`.

    What another sender was about to tell is told, since it may have died before; nothing else meanwhile.
    """
    if before is not None and before.pending is not None:
        if before.pending.by != own:
            return replace(before, pending=Pending(before.pending.kind, own)), before.pending.kind
        before = replace(before, pending=None)
    if before is None or before.is_over:
        return _at_peace(before, facts, terms, own)
    return _in_outage(before, facts, terms, own)


def quiet_seconds(outage: Outage, terms: Terms) -> float:
    """Return for how long nobody may have been cut off until it is over."""
    return min(terms.confirm * 2.0 ** min(outage.relapses, 16), max(LONGEST_QUIET_SECONDS, terms.confirm))


def _at_peace(
    before: Outage | None, facts: Facts, terms: Terms, own: str
) -> tuple[Outage | None, Kind | None]:
    if facts.down_seconds is None or facts.down_seconds < terms.confirm:
        return before, None
    is_relapse = before is not None and facts.now - before.last_down < RELAPSE_SECONDS
    relapses = before.relapses + 1 if before is not None and is_relapse else 0
    since = facts.now - facts.down_seconds
    pending = Pending(Kind.OPENED, own)
    return Outage(since, facts.now, facts.now, relapses=relapses, pending=pending), Kind.OPENED


def _in_outage(outage: Outage, facts: Facts, terms: Terms, own: str) -> tuple[Outage, Kind | None]:
    is_down = facts.down_seconds is not None
    now = facts.now
    if is_down:
        outage = replace(outage, last_down=now)
    elif facts.is_known and now - outage.last_down >= quiet_seconds(outage, terms):
        return replace(
            outage, is_over=True, told_at=now, pending=Pending(Kind.RECOVERED, own)
        ), Kind.RECOVERED
    if is_down and not outage.given_up and outage.seconds >= terms.give_up:
        told = replace(outage, given_up=True, told_at=now, pending=Pending(Kind.GIVEN_UP, own))
        return told, Kind.GIVEN_UP
    if now - outage.told_at >= STILL_SECONDS:
        return replace(outage, told_at=now, pending=Pending(Kind.STILL, own)), Kind.STILL
    return outage, None


def merge(known: Outage | None, alone: Outage | None) -> Outage | None:
    """Return the fleet's state once Redis is back: what stands there, or what a node went on to by itself.

    The node told what it did; of several that did, the first to come back decides.
    """
    if alone is None:
        return known
    if known is None or known.since < alone.since - _SAME_SECONDS:
        return replace(alone, pending=None)
    is_same = abs(known.since - alone.since) <= _SAME_SECONDS
    if is_same and alone.is_over and not known.is_over:
        return replace(known, is_over=True, last_down=max(known.last_down, alone.last_down), pending=None)
    return replace(known, told_at=max(known.told_at, alone.told_at)) if is_same else known


# Two clocks, Redis' and a host's, and two processes that were cut off one after the other.
_SAME_SECONDS = 30.0
