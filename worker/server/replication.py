"""How far the members of a replica set are: what each has written, and what a majority has. Takes no role."""

import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from ..mongo.holder import Client
from . import pings
from .connections import Member

_ASKED = ("RSPrimary", "RSSecondary")


@dataclass(frozen=True)
class Replication:
    """How many seconds of writes each secondary is behind the primary, by member, and how many the newest
    write that a majority has is behind it; None where the primary does not say.
    """

    primary: str
    behind: dict[str, float]
    majority: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def read(client: Client, *, timeout_seconds: float) -> Replication | None:
    """Ask each member for its last write, the primary last, so that none seems behind for what was written
    meanwhile. Never raises for what MongoDB does; None where there is no primary, or it does not say.
    """
    ends_at = time.monotonic() + timeout_seconds
    topology = pings.topology(client)
    primary, kinds = topology["primary"], topology["members"]
    asked = sorted((name for name, kind in kinds.items() if kind in _ASKED), key=lambda name: name == primary)
    if primary is None or kinds.get(primary) != "RSPrimary":
        return None
    told = {name: _last_write(client, name, max(0.01, ends_at - time.monotonic())) for name in asked}
    last = told.pop(primary, {})
    newest = last.get("lastWriteDate")
    if newest is None:
        return None
    behind = {name: _seconds(newest, one.get("lastWriteDate")) for name, one in told.items()}
    return Replication(
        primary,
        {name: seconds for name, seconds in behind.items() if seconds is not None},
        _seconds(newest, last.get("majorityWriteDate")),
    )


def _last_write(client: Client, name: str, seconds: float) -> dict[str, Any]:
    try:
        with pymongo.timeout(seconds):
            reply = client.admin.command("hello", read_preference=Member(name))
    except (PyMongoError, OSError):
        return {}
    return dict(reply.get("lastWrite") or {})


def _seconds(newest: datetime, written: datetime | None) -> float | None:
    return None if written is None else max(0.0, (newest - written).total_seconds())
