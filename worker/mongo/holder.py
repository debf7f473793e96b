"""The one client of a process: opened on first use, keyed by pid, closed once."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo import MongoClient

from ..errors import ClientClosedError

Client = MongoClient[dict[str, Any]]

# How long a replaced client waits for the server to confirm the end of its sessions: it may hang, and the
# driver alone would wait for its socket timeout.
_REPLACED_SECONDS = 0.5


class ClientHolder:
    """Holds at most one open client, for the process that opened it and for no other.

    Every method is idempotent and safe from any thread. `build` makes a client without I/O; `replaced` is
    called with a client that has taken the place of another, before that is closed.
    """

    def __init__(
        self, build: Callable[[], Client], replaced: Callable[[Client], None] = lambda _client: None
    ) -> None:
        self._build = build
        self._replaced = replaced
        self._lock = threading.RLock()
        self._client: Client | None = None
        self._closed = False
        self._overrides: list[Any] = []
        # A fork while another thread holds the lock would leave it locked in the child for ever.
        holder = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(holder()))

    def __repr__(self) -> str:
        return f"<ClientHolder {self.state} pid={os.getpid()}>"

    @property
    def state(self) -> str:
        """One of 'not open', 'open' or 'closed'."""
        if self._client is not None:
            return "open"
        return "closed" if self._closed else "not open"

    @property
    def client(self) -> Client | None:
        """The open client of this process, or None. Opens nothing."""
        return self._client

    @property
    def present(self) -> Any:
        """What `get()` returns where it opens nothing, else None."""
        return self._overrides[-1] if self._overrides else self._client

    def get(self) -> Any:
        """Return the client of this process, opened on first use.

        Raises ClientClosedError after `close()`: a late user of a closed client is a fault worth seeing.
        """
        if self._overrides:
            return self._overrides[-1]
        # Reading a reference is atomic: the lock is only for the first use.
        return self._client or self._first_use()

    def _first_use(self) -> Client:
        with self._lock:
            if self._closed:
                raise ClientClosedError(os.getpid())
            return self.open()

    def open(self) -> Client:
        """Make the client if there is none; open again after `close()`. No I/O."""
        with self._lock:
            self._closed = False
            if self._client is None:
                self._client = self._build()
            return self._client

    def allow(self) -> None:
        """Let the first use make the client, after `close()` too."""
        with self._lock:
            self._closed = False

    def close(self) -> bool:
        """Close the client and end its sessions; False where nothing was open."""
        with self._lock:
            client, self._client = self._client, None
            self._closed = True
        if client is None:
            return False
        client.close()
        return True

    def replace(self, old: Client | None = None) -> bool:
        """Put a new client in the place of `old` (default: the present one), then close `old`.

        False where `old` is not there any more: of many threads that met the same failure one replaces, and
        none after `close()`. Users see either the old or the new client, never none. An operation that has
        its connection ends on the old one as it would have; the next on it, a cursor's next batch too, fails
        with an error that is classified as a closed client and retried.
        """
        with self._lock:
            old = self._client if old is None else old
            if old is None or self._client is not old:
                return False
            self._client = new = self._build()
        self._replaced(new)
        with pymongo.timeout(_REPLACED_SECONDS):
            old.close()
        return True

    @contextmanager
    def use(self, client: Any) -> Iterator[Any]:
        """Hand out another client, or a fake, while the block runs; nests and restores itself."""
        self._overrides.append(client)
        try:
            yield client
        finally:
            self._overrides.pop()

    def forget(self) -> None:
        """Drop the state inherited by a fork. The parent's sockets are not ours to close."""
        self._lock = threading.RLock()
        self._client = None
        self._closed = False


def _forget(holder: ClientHolder | None) -> None:
    if holder is not None:
        holder.forget()
