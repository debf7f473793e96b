"""The way back after an outage: when to try, and one try."""

import random
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..mongo.backoff import Backoff
from ..mongo.classify import ErrorClass
from ..mongo.reasons import reason
from ..server.pings import Ping
from .circuit import Circuit, CircuitState
from .node_peers import Alone, Company

NUDGE_SECONDS = 0.5
"""The longest pause of the one process of a node that keeps nudging; half of it is the shortest."""

SPREAD_SECONDS = 2.0
"""What many processes do for the same reason they do at some moment of this time, each at its own."""

STUCK = 5
"""A client that failed so often while another process of the node succeeds is replaced; after twice as many
failures again, and so on.
"""


class Schedule:
    """When attempt n is due: full-jitter backoff that counts failures until one attempt succeeds.

    Pure: `now` is monotonic seconds and an argument.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self.failures = 0
        self.due_at = 0.0

    def is_due(self, now: float) -> bool:
        """True where the next attempt may start."""
        return now >= self.due_at

    def failed(self, now: float, *, is_nudging: bool = False) -> float:
        """Count a failure; return the delay in seconds until the next attempt, a short one for a nudge."""
        delay = self._backoff.delay(self.failures)
        if is_nudging:
            delay = min(delay, random.uniform(NUDGE_SECONDS / 2, NUDGE_SECONDS))  # noqa: S311 - no secret
        self.failures += 1
        self.due_at = now + delay
        return delay

    def wake(self) -> None:
        """Make the next attempt due at once, e.g. since a heartbeat succeeded."""
        self.due_at = 0.0

    def hasten(self, now: float, *, within: float) -> None:
        """Make the next attempt due at some moment within so many seconds, where it was due later."""
        if self.due_at > now + within:
            self.due_at = now + random.uniform(0.0, within)  # noqa: S311 - no secret hangs on it

    def succeeded(self) -> None:
        """Start from nothing."""
        self.failures = 0
        self.due_at = 0.0


@dataclass(frozen=True)
class Attempt:
    """What one attempt did. `next_in_seconds` is None after a success."""

    connected: bool
    number: int
    replaced_client: bool
    error_class: ErrorClass | None = None
    error: str | None = None
    next_in_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


class Reconnector:
    """Tries to reach the server while the circuit is not closed; one attempt at a time per process.

    `probe` pings the current client under a deadline. `replace` puts a new client in place, with settings
    read again, where the error's class says that this client cannot come back; it answers whether it did.
    `renew` does so whatever the error: for a client that fails while the `company` succeeds.
    """

    def __init__(  # noqa: PLR0913 - the last three are the world around it
        self,
        circuit: Circuit,
        backoff: Backoff,
        *,
        probe: Callable[[], Ping],
        replace: Callable[[ErrorClass], bool],
        clock: Callable[[], float],
        renew: Callable[[], bool] = lambda: False,
        company: Company | None = None,
    ) -> None:
        self._circuit = circuit
        self._schedule = Schedule(backoff)
        self._probe = probe
        self._replace = replace
        self._clock = clock
        self._renew = renew
        self._company = company or Alone()
        self._stuck_at = STUCK
        self._busy = threading.Lock()

    def wake(self) -> None:
        """Make the next attempt due now."""
        self._schedule.wake()

    def reset(self) -> None:
        """Start from nothing, since the server answered somebody else's ping."""
        self._succeeded()

    def due_in(self) -> float:
        """Return the seconds until the next attempt is due; 0.0 where it is."""
        return max(0.0, self._schedule.due_at - self._clock())

    def run_if_due(self) -> Attempt | None:
        """Make one attempt if the circuit is not closed and it is due; None otherwise. Never sleeps."""
        # Asked at each turn: it compares with the turn before.
        has_returned, now = self._company.has_returned(), self._clock()
        if self._circuit.is_closed:
            return None
        if has_returned:
            self._schedule.hasten(now, within=SPREAD_SECONDS)
        if self._company.is_prober():
            # The one who kept nudging may have died or returned.
            self._schedule.hasten(now, within=NUDGE_SECONDS)
        return self.attempt() if self._schedule.is_due(now) else None

    def attempt(self) -> Attempt | None:
        """Make one attempt now; None where another thread is in the middle of one."""
        if not self._busy.acquire(blocking=False):
            return None
        try:
            return self._attempt()
        finally:
            self._busy.release()

    def _attempt(self) -> Attempt:
        self._circuit.probe(self._clock())
        number = self._schedule.failures + 1
        try:
            result, replaced = self._try()
        except Exception as error:
            # A time limit that struck, settings that build no client: counted, or the next attempt would be
            # due at once, and so on for ever.
            self._failed()
            if self._circuit.state is CircuitState.HALF_OPEN:
                self._circuit.fail(self._clock(), reason(error))
            raise
        if result.is_answered:
            self._succeeded()
            return Attempt(connected=True, number=number, replaced_client=replaced)
        delay = self._failed()
        return Attempt(
            connected=False,
            number=number,
            replaced_client=replaced,
            error_class=result.error_class,
            error=result.error,
            next_in_seconds=round(delay, 3),
        )

    def _try(self) -> tuple[Ping, bool]:
        """Probe, and once more with a new client where that can help; return whether it was made."""
        result = self._probe()
        replaced = result.error_class is not None and (
            self._replace(result.error_class) or self._replace_stuck()
        )
        return (self._probe() if replaced else result), replaced

    def _replace_stuck(self) -> bool:
        # Less and less often: where it does not help, it is not the client.
        if self._schedule.failures + 1 < self._stuck_at or not self._company.reaches():
            return False
        self._stuck_at *= 2
        return self._renew()

    def _failed(self) -> float:
        return self._schedule.failed(self._clock(), is_nudging=self._company.is_prober())

    def _succeeded(self) -> None:
        self._schedule.succeeded()
        self._stuck_at = STUCK
