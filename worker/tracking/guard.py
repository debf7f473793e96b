"""Knows every MongoClient of the process and where it was created: fork hazards get a name."""

import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from pymongo import MongoClient

from ..text import shorten
from .stacks import describe
from .work import current_work

_SITES, _SEVERAL, _LONGEST_SITE = 100, 3, 160

_ORIGIN = "_celery_pymongo_origin"
_OWNER = "_celery_pymongo_owner"


@dataclass(frozen=True)
class Sighting:
    """A client that is not ours: whether it has connected, and the frames that made it, innermost first."""

    is_open: bool
    stack: tuple[str, ...]

    @property
    def site(self) -> str:
        """The line that created the client, as `file:line in function`."""
        return self.stack[0] if self.stack else "a line that ran before install(app)"

    def __str__(self) -> str:
        return "\n  from ".join(self.stack) or self.site


class ClientGuard:
    """Watches the creation of clients in this process.

    `on_second` is called, in the creating thread, with each client that somebody else creates while
    `is_watching` says that ours is in use. Watching costs a few microseconds per client created and
    nothing per operation.
    """

    def __init__(self, is_watching: Callable[[], bool], on_second: Callable[[Sighting], None]) -> None:
        self._is_watching = is_watching
        self._on_second = on_second
        self._making = threading.local()
        self._made: Counter[str] = Counter()
        self._makers: dict[str, str | None] = {}
        self._stacks: set[tuple[str, ...]] = set()

    def install(self) -> None:
        """Wrap `MongoClient.__init__`; the last guard installed is told. There is no public hook for this."""
        original = getattr(MongoClient.__init__, "__wrapped__", MongoClient.__init__)

        @wraps(original)
        def remember_origin(client: Any, *args: Any, **kwargs: Any) -> None:
            # Into the instance's own dict: MongoClient turns unknown attributes into databases.
            vars(client)[_ORIGIN] = describe(sys._getframe(1), ("pymongo",))
            original(client, *args, **kwargs)
            self._created(client)

        # A class attribute that mypy knows as a method; replacing it is the point.
        MongoClient.__init__ = remember_origin  # type: ignore[method-assign,assignment]

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Mark clients created in the block, by this thread, as this process's own."""
        self._making.ours = True
        try:
            yield
        finally:
            self._making.ours = False

    def _created(self, client: Any) -> None:
        if getattr(self._making, "ours", False):
            vars(client)[_OWNER] = os.getpid()
        elif self._is_watching():
            sighting = sighting_of(client)
            if not self._is_first(sighting.stack):
                _remember(client)
            self._count(sighting.site)
            self._on_second(sighting)

    def _is_first(self, stack: tuple[str, ...]) -> bool:
        """Say whether these lines have made no client before in this process.

        One that its first task makes and keeps on purpose (a singleton, an ODM's, Celery's result backend's)
        is named once, as a second client, and is no task's leak. A leak makes another.
        """
        is_first = stack not in self._stacks and len(self._stacks) < _SITES
        if is_first:
            self._stacks.add(stack)
        return is_first

    def _count(self, site: str) -> None:
        if site in self._made or len(self._made) < _SITES:
            work = current_work.get()
            self._made[site] += 1
            self._makers[site] = None if work is None else work.name

    def most_made(self) -> dict[str, Any] | None:
        """Return how many clients the line that made the most has made in this process, which line it is
        (`site`), and the task that ran last there; None where no line made several.
        """
        site, number = next(iter(self._made.most_common(1)), ("", 0))
        if number < _SEVERAL:
            return None
        return {"n": number, "site": shorten(site, _LONGEST_SITE, keep_end=True), "task": self._makers[site]}


def _remember(client: Any) -> None:
    """Note that the current work made this client: it should be closed when the work ends."""
    work = current_work.get()
    if work is not None:
        alive = [other for other in work.clients or () if other() is not None]
        work.clients = [*alive, weakref.ref(client)]


def sightings(*, own_too: bool) -> list[Sighting]:
    """Return the open clients that are not this process's own; `own_too`: every open client, and our own
    even before it has connected.

    `MongoClient._clients`, a weak map, is the only list there is of a process's clients; where a later
    PyMongo has none, nothing is seen.
    """
    clients: Any = getattr(MongoClient, "_clients", {})
    others = [c for c in list(clients.values()) if own_too or vars(c).get(_OWNER) != os.getpid()]
    seen = [(client, sighting_of(client)) for client in others]
    return [sighting for client, sighting in seen if sighting.is_open or _is_idle_own(client)]


def _is_idle_own(client: Any) -> bool:
    return _OWNER in vars(client) and vars(client)[_OWNER] == os.getpid() and not is_closed(client)


def is_closed(client: Any) -> bool:
    """Say whether somebody closed this client; False where a later PyMongo does not say."""
    return bool(vars(client).get("_closed"))


def sighting_of(client: Any) -> Sighting:
    """Return whether a client is open now, and where it was created."""
    state = vars(client)
    return Sighting(
        is_open=bool(state.get("_opened")) and not is_closed(client),
        stack=state.get(_ORIGIN, ()),
    )
