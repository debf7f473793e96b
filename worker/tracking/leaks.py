"""What a task opened and left open when it ended: sessions, clients, and connections they or cursors pin.

A session counts where the task started it itself and neither ended it nor let go of it: PyMongo's own, and
those of a `with` block, are ended. A client counts once it has connected, and only if the same lines have
made one before: the first may be meant to stay.
"""

import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .guard import sighting_of
from .stacks import describe
from .work import Work, current_work

if TYPE_CHECKING:
    from .checkouts import Holder


class LeftOpen(Protocol):
    """Something that its task should have ended."""

    @property
    def what(self) -> str:
        """What it is, for a log line."""

    @property
    def stack(self) -> tuple[str, ...]:
        """Where it was opened; recorded only for tasks that left something open before."""

    @property
    def is_open(self) -> bool:
        """Whether it is there and still open."""


@dataclass(frozen=True)
class Session:
    """A session that a task started."""

    reference: weakref.ref[Any]
    stack: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """See `LeftOpen`."""
        session = self.reference()
        return session is not None and not session.has_ended

    @property
    def what(self) -> str:
        """See `LeftOpen`."""
        session = self.reference()
        in_transaction = session is not None and session.in_transaction
        return "a session in a transaction" if in_transaction else "a session"


@dataclass(frozen=True)
class SecondClient:
    """A client that a task made beside the process's own."""

    reference: weakref.ref[Any]
    what = "a second client"

    @property
    def is_open(self) -> bool:
        """See `LeftOpen`."""
        client = self.reference()
        return client is not None and sighting_of(client).is_open

    @property
    def stack(self) -> tuple[str, ...]:
        """Known for every client: the guard records it."""
        client = self.reference()
        return () if client is None else sighting_of(client).stack


@dataclass(frozen=True)
class Connection:
    """A connection that is still checked out: pinned by an exhaust cursor, or behind a load balancer by a
    transaction or any cursor.
    """

    key: Any
    holder: "Holder"
    holders: Mapping[Any, "Holder"]

    @property
    def is_open(self) -> bool:
        """See `LeftOpen`."""
        return self.holders.get(self.key) is self.holder

    @property
    def stack(self) -> tuple[str, ...]:
        """See `LeftOpen`."""
        return self.holder.stack or ()

    @property
    def what(self) -> str:
        """See `LeftOpen`."""
        return f"a connection to {self.holder.server}"


def remember_session(session: Any) -> None:
    """Note that the current work started this session; nothing outside a task."""
    work = current_work.get()
    if work is not None:
        if work.sessions is None:
            # Weak: of a task that starts a million in an hour, those that it drops are not kept.
            work.sessions = weakref.WeakKeyDictionary()
        work.sessions[session] = describe(sys._getframe(1)) if work.is_suspect else ()


def left_open(work: Work, holders: Mapping[Any, "Holder"]) -> list[LeftOpen]:
    """Return what this work has opened and not ended. The cost without any is that of looking."""
    sessions = list((work.sessions or {}).items())
    opened: list[LeftOpen] = [Session(weakref.ref(session), stack) for session, stack in sessions]
    opened += map(SecondClient, work.clients or ())
    if holders:
        # list() of a dict's items is atomic, iterating over them is not.
        opened += [Connection(k, h, holders) for k, h in list(holders.items()) if h.work is work]
    return [thing for thing in opened if thing.is_open]
