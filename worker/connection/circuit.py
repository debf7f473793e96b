"""A process's own view of MongoDB: closed (works), open (does not), half-open (being tried)."""

import threading
from dataclasses import dataclass
from enum import StrEnum


class CircuitState(StrEnum):
    """CLOSED: operations flow. OPEN: the server is away. HALF_OPEN: a probe is on its way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class Change:
    """A change of state: what it was, what it is, and how long the outage has `lasted` by then, in seconds
    (0.0 where it begins).
    """

    before: CircuitState
    after: CircuitState
    lasted: float
    reason: str


class Circuit:
    """Three states and when the outage began. `now` is monotonic seconds, always an argument.

    Methods return the Change they made, or None; whoever calls them logs or acts. The lock covers a few
    assignments and no I/O: driver threads call in here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = CircuitState.CLOSED
        self._outage_since: float | None = None
        # When the last outage ended; None before the first did.
        self._closed_at: float | None = None
        # How many outages have ended, and their seconds together.
        self._ended = (0, 0.0)
        self._closed = threading.Event()
        self._closed.set()
        self._left_closed = threading.Event()

    @property
    def state(self) -> CircuitState:
        """The state now."""
        return self._state

    @property
    def is_closed(self) -> bool:
        """True where operations flow."""
        return self._state is CircuitState.CLOSED

    def outage_seconds(self, now: float) -> float:
        """Return how long the circuit has not been closed; 0.0 while it is."""
        # Read once: another thread may end the outage meanwhile, or have taken its `now` before ours.
        since = self._outage_since
        return 0.0 if since is None else max(0.0, now - since)

    def closed_seconds(self, now: float) -> float | None:
        """Return how long ago the last outage ended; None while one lasts, and before the first did."""
        closed_at = self._closed_at
        return None if closed_at is None or not self.is_closed else max(0.0, now - closed_at)

    def outages(self, now: float) -> tuple[int, float]:
        """Return how many outages there were, one that lasts included, and their seconds together."""
        number, seconds = self._ended
        return number + (not self.is_closed), seconds + self.outage_seconds(now)

    def was_open_since(self, moment: float) -> bool:
        """Say whether there was an outage at or after this moment: one that lasts, or that ended later."""
        closed_at = self._closed_at
        return not self.is_closed or (closed_at is not None and closed_at >= moment)

    def wait_open(self, seconds: float) -> bool:
        """Wait until the circuit is not closed, for so many seconds at most; say whether it is not."""
        return self._left_closed.wait(max(0.0, seconds))

    def wait_closed(self, seconds: float) -> bool:
        """Wait until the circuit is closed, for so many seconds at most; say whether it is."""
        return self._closed.wait(max(0.0, seconds))

    def fail(self, now: float, reason: str, *, since: float | None = None) -> Change | None:
        """Note that the server cannot be reached; `since`: for longer than until now."""
        return self._move(CircuitState.OPEN, now, reason, since)

    def probe(self, now: float) -> Change | None:
        """Note that a probe starts; only an open circuit becomes half-open."""
        return self._move(CircuitState.HALF_OPEN, now, "probe")

    def succeed(self, now: float, reason: str) -> Change | None:
        """Note that the server answered."""
        return self._move(CircuitState.CLOSED, now, reason)

    def _move(
        self, after: CircuitState, now: float, reason: str, since: float | None = None
    ) -> Change | None:
        with self._lock:
            before, lasted = self._state, self.outage_seconds(now)
            # Asked under the lock: a server found between the question and the move stays found.
            is_stray_probe = after is CircuitState.HALF_OPEN and before is not CircuitState.OPEN
            if self._outage_since is not None and since is not None:
                # What opened it may have noticed it later than this.
                self._outage_since = min(self._outage_since, since)
            if before is after or is_stray_probe:
                return None
            self._state = after
            if after is CircuitState.CLOSED:
                number, seconds = self._ended
                self._outage_since, self._closed_at = None, now
                self._ended = (number + 1, seconds + lasted)
                self._left_closed.clear()
                self._closed.set()
            else:
                began = now if since is None else min(now, since)
                self._outage_since = began if self._outage_since is None else self._outage_since
                self._closed.clear()
                self._left_closed.set()
        return Change(before, after, lasted, reason)
