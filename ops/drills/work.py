"""What the threads of a drill do, each on its own, and what their pool had them wait for."""

import random
import threading
from array import array
from typing import Any

import pymongo
from pymongo import CursorType
from pymongo.errors import PyMongoError
from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)

from .site import DOCUMENTS, HELD, READ

_CLOSE_SECONDS = 2.0


class Work:
    """One operation per call, in any number of threads: a read, or for each hundredth of `writes` an update.

    With `hold_ms` the server answers so much later, and does nothing meanwhile: then the connections are what
    is short, and not this process or the server. Give it back with `close`.
    """

    def __init__(self, database: Any, *, hold_ms: int, writes: int = 0) -> None:
        self._read = database[READ]
        self._held = database[HELD]
        self._hold_ms = hold_ms
        self._writes = writes
        self._own = threading.local()
        self._cursors: list[Any] = []

    def __call__(self) -> None:
        """Do one operation."""
        if self._writes and random.randrange(100) < self._writes:  # noqa: S311 - no secret hangs on it
            self._read.update_one({"_id": _any()}, {"$inc": {"n": 1}})
        elif self._hold_ms:
            self._hold()
        else:
            self._read.find_one({"_id": _any()})

    def close(self) -> None:
        """End what the threads left open at the server. Never raises for MongoDB."""
        try:
            with pymongo.timeout(_CLOSE_SECONDS):
                for cursor in self._cursors:
                    cursor.close()
        except PyMongoError:
            # Their client is closed next, and its sessions with it.
            self._cursors.clear()

    def _hold(self) -> None:
        cursor = getattr(self._own, "cursor", None)
        if cursor is None or not cursor.alive:
            cursor = self._held.find(cursor_type=CursorType.TAILABLE_AWAIT)
            cursor.max_await_time_ms(self._hold_ms)
            self._cursors.append(cursor)
            self._own.cursor = cursor
            # What is there is answered at once; the next one waits for what does not come.
            next(cursor, None)
        next(cursor, None)


def _any() -> int:
    return random.randrange(DOCUMENTS)  # noqa: S311 - no secret hangs on it


class Waits(ConnectionPoolListener):
    """Notes how long each checkout of a client waited, and counts connections and timeouts.

    Appending and adding are one step each, so that threads need no lock.
    """

    def __init__(self) -> None:
        self.seconds: array[float] = array("d")
        self.created = 0
        self.closed = 0
        self.timeouts = 0

    def take(self) -> "array[float]":
        """Return the waits since this was last asked."""
        taken, self.seconds = self.seconds, array("d")
        return taken

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """A checkout got its connection."""
        self.seconds.append(event.duration or 0.0)

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        """A checkout got none."""
        self.timeouts += event.reason == "timeout"

    def connection_created(self, _event: ConnectionCreatedEvent) -> None:
        """A connection is made."""
        self.created += 1

    def connection_closed(self, _event: ConnectionClosedEvent) -> None:
        """A connection is gone."""
        self.closed += 1

    def pool_created(self, event: PoolCreatedEvent) -> None: ...

    def pool_ready(self, event: PoolReadyEvent) -> None: ...

    def pool_cleared(self, event: PoolClearedEvent) -> None: ...

    def pool_closed(self, event: PoolClosedEvent) -> None: ...

    def connection_ready(self, event: ConnectionReadyEvent) -> None: ...

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None: ...

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None: ...
