"""A process's link to MongoDB: is it there, since when not, and what is done about it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from .. import events
from ..events import Event
from . import health
from .backoff import Backoff
from .circuit import Change, Circuit, CircuitState
from .classify import ErrorClass, classify, is_login_refused
from .flight import Kind
from .guard import is_closed
from .heartbeats import Heartbeats
from .holder import ClientHolder
from .reconnect import Attempt, Reconnector

logger = logging.getLogger("celery_pymongo.link")

# A ping takes no role: refused, it is the login that fails, and the reconnector reads the secrets again.
_UNUSABLE = (ErrorClass.OUTAGE, ErrorClass.AUTH)


class Link:
    """Feeds the circuit from heartbeats, pings and errors, and runs the reconnector.

    `renew` is asked whether a client with other credentials can be made now; `timeout_seconds` bounds each
    ping. `wake` is set when the circuit opens and when a server shows up again. `on_change` hears of each
    change of the circuit and `record` of what the flight recorder keeps: both from any thread.
    """

    def __init__(  # noqa: PLR0913 - the last two are who listens
        self,
        holder: ClientHolder,
        backoff: Backoff,
        *,
        timeout_seconds: float,
        renew: Callable[[], bool],
        on_change: Callable[[Change], None] = lambda _change: None,
        record: Callable[[Kind, float, str], None] = lambda _kind, _number, _text: None,
    ) -> None:
        self._holder = holder
        self._timeout_seconds = timeout_seconds
        self._renew = renew
        self._on_change = on_change
        self._record = record
        # Monotonic seconds of the last sign of a server that takes writes; None before the first.
        self.succeeded_at: float | None = None
        self.error: str | None = None
        self._server: str | None = None
        self.wake = threading.Event()
        self.circuit = Circuit()
        self._reconnector = Reconnector(
            self.circuit, backoff, probe=self.ping, replace=self._replace, clock=time.monotonic
        )

    def listener(self) -> Heartbeats:
        """Return a new listener for a client of this link."""
        return Heartbeats(self._lost, self._found)

    def observe(self, error: BaseException) -> ErrorClass:
        """Classify an error that an operation raised, and let the circuit know. Returns the class."""
        error_class = classify(error)
        if error_class is ErrorClass.OUTAGE or is_login_refused(error):
            self._say_change(self.circuit.fail(time.monotonic(), type(error).__name__))
        if error_class is ErrorClass.CLOSED:
            self._replace(error_class)
        return error_class

    def ping(self) -> health.Ping:
        """Ping the server under the deadline; the circuit hears of it. Never raises for MongoDB's errors."""
        result = health.ping(self._holder.get(), timeout_seconds=self._timeout_seconds)
        now = time.monotonic()
        if result.is_answered:
            self.succeeded_at = now
            self._say_change(self.circuit.succeed(now, "ping"))
        elif result.error_class in _UNUSABLE or self.circuit.state is CircuitState.HALF_OPEN:
            self._say_change(self.circuit.fail(now, str(result.error)))
        return result

    def check(self) -> dict[str, Any]:
        """Ping, and return verdict, reasons, latency in ms, server, topology, circuit and outage in s."""
        result = self.ping()
        client = self._holder.get()
        if result.is_answered and self._server is None:
            self._server = health.server_label(client, timeout_seconds=self._timeout_seconds)
        return {
            "verdict": result.verdict,
            "reasons": [f"{result.error_class}: {result.error}"] if result.error_class else [],
            "latency_ms": result.latency_ms,
            "error_class": result.error_class,
            "server": self._server,
            "topology": health.topology(client),
            "circuit": self.circuit.state,
            "outage_seconds": round(self.circuit.outage_seconds(time.monotonic()), 3),
        }

    def reconnect(self, *, force: bool = False) -> Attempt | None:
        """Make an attempt if the circuit is not closed and it is due; always, with `force`. Never sleeps."""
        attempt = self._reconnector.attempt() if force else self._reconnector.run_if_due()
        if attempt is not None and not attempt.connected:
            self._record(Kind.RECONNECT, attempt.number, str(attempt.error_class))
            message = "attempt %d failed (%s), the next is due in %.1f s"
            args = (attempt.number, attempt.error_class, attempt.next_in_seconds)
            events.say(logger, logging.INFO, Event.RECONNECT_FAILED, message, *args, error=attempt.error)
        return attempt

    @property
    def server(self) -> str | None:
        """Which server answered the last check, and its version; None before one did."""
        return self._server

    def due_in(self) -> float | None:
        """Return the seconds until the next attempt is due; None while the circuit is closed."""
        return None if self.circuit.is_closed else self._reconnector.due_in()

    def _replace(self, error_class: ErrorClass) -> bool:
        """Replace the client where this one cannot come back: closed, or with credentials that changed."""
        client = self._holder.client
        # The error may be of a client that was replaced meanwhile, or of one that its process has closed.
        is_spent = error_class is ErrorClass.CLOSED and client is not None and is_closed(client)
        can_help = is_spent or (error_class is ErrorClass.AUTH and self._renew())
        if client is None or not can_help or not self._holder.replace(client):
            return False
        self._server = None
        self._record(Kind.CLIENT_REPLACED, 0.0, str(error_class))
        events.say(logger, logging.WARNING, Event.CLIENT_REPLACED, "replaced the client: %s", error_class)
        return True

    def _lost(self, error_name: str) -> None:
        self._say_change(self.circuit.fail(time.monotonic(), f"heartbeat: {error_name}"))

    def _found(self) -> None:
        self.succeeded_at = time.monotonic()
        if not self.circuit.is_closed:
            self._reconnector.wake()
            self.wake.set()

    def _say_change(self, change: Change | None) -> None:
        if change is None:
            return
        self.error = None if change.after is CircuitState.CLOSED else change.reason
        self._on_change(change)
        self._record(Kind.CIRCUIT, change.lasted, f"{change.after}: {change.reason}")
        if change.after is CircuitState.OPEN and change.before is CircuitState.CLOSED:
            self._server = None
            self.wake.set()
            message = "MongoDB cannot be reached: %s"
            events.say(logger, logging.ERROR, Event.CIRCUIT_OPENED, message, change.reason)
        if change.after is CircuitState.CLOSED:
            self._reconnector.reset()
            message = "MongoDB answers again after %.1f s"
            fields = {"seconds": change.lasted}
            events.say(logger, logging.INFO, Event.CIRCUIT_CLOSED, message, change.lasted, **fields)
