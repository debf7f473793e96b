"""The database of a drill: made by it, marked as its own, and gone in the end.

It is dropped collection by collection, those that the drill made: readWrite is enough for that, and what
somebody else put there meanwhile stays. A drill that was killed leaves its mark; the next one finds it, waits
out the time that the mark names, and clears away what was left.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo.errors import DuplicateKeyError, PyMongoError

from .refused import Refused, UnderWay, Unreachable

DOCUMENTS = 1000
"""How many documents there are to be read."""

MARK, READ, HELD = "drill", "drill_read", "drill_held"
_OURS = (MARK, READ, HELD)
_ID = "celery-pymongo drill"
# Beyond the time that a drill is given: to begin and to clear away.
_GRACE_SECONDS = 30.0
_CLEAR_SECONDS = 5.0
_FILLER = "x" * 200


@dataclass
class Site:
    """A drill's database, and what became of it: `left` names what could not be dropped, and why."""

    name: str
    found: bool = False
    """Whether an earlier drill had left something here."""
    left: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "name": self.name,
            "cleared_before": self.found,
            "dropped": self.left is None,
            "why": self.left,
        }


@contextmanager
def prepared(client: Any, name: str, *, seconds: float) -> Iterator[Site]:
    """Make the database, hand it out, and drop it, whatever happens; `seconds` is what the drill may take.

    Raises UnderWay where another drill has it, Refused where something else does, and the driver's errors.
    """
    site = Site(name)
    _take(client[name], site, seconds)
    try:
        _fill(client[name])
        yield site
    except BaseException as error:
        _clear(client[name], site)
        if site.left is not None:
            error.add_note(site.left)
        raise
    _clear(client[name], site)


def _take(database: Any, site: Site, seconds: float) -> None:
    names = set(database.list_collection_names())
    mark = database[MARK].find_one({"_id": _ID}) if MARK in names else None
    if mark is not None:
        if mark["until"] > time.time():
            ends = datetime.fromtimestamp(mark["until"], UTC).strftime("%H:%M:%SZ")
            raise UnderWay(
                f"another drill has {site.name} until {ends} (pid {mark['pid']} on {mark['host']}); "
                "wait, or name another with --database"
            )
        site.found = True
        for collection in _OURS:
            database.drop_collection(collection)
        names -= set(_OURS)
    if names:
        raise Refused(
            f"{site.name} exists and no drill made it; name another with --database, ending in _drill"
        )
    until = time.time() + seconds + _GRACE_SECONDS
    try:
        database[MARK].insert_one(
            {"_id": _ID, "until": until, "pid": os.getpid(), "host": socket.gethostname()}
        )
    except DuplicateKeyError:
        raise UnderWay(f"another drill has just taken {site.name}") from None


def _fill(database: Any) -> None:
    database[READ].insert_many([{"_id": n, "n": 0, "filler": _FILLER} for n in range(DOCUMENTS)])
    # A read that tails a capped collection is answered late, so it holds its connection without any load.
    database.create_collection(HELD, capped=True, size=4096, max=10)
    database[HELD].insert_one({"_id": 0})


def _clear(database: Any, site: Site) -> None:
    # The mark goes last: what is cut short can be told from what is somebody's.
    try:
        with pymongo.timeout(_CLEAR_SECONDS):
            for collection in (READ, HELD, MARK):
                database.drop_collection(collection)
    except PyMongoError as error:
        site.left = (
            f"{site.name} could not be dropped ({type(error).__name__}); the next drill does it, or drop it"
        )


def hosts_of(client: Any) -> list[str]:
    """Return the hosts of all members that the driver knows; before it has connected, those it was given."""
    return [host for host, _ in client.topology_description.server_descriptions()]


def connect(client: Any, reason: Any) -> None:
    """Ping the server; raise Unreachable with what is wrong."""
    try:
        client.admin.command("ping")
    except (PyMongoError, OSError) as error:
        raise Unreachable(f"MongoDB does not answer: {reason(error)}") from None
