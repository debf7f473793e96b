"""A process's link to MongoDB: is it there, since when not, and what is done about it."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.errors import PyMongoError

from .. import events
from ..events import Event
from ..mongo.backoff import Backoff
from ..mongo.classify import ErrorClass, classify, may_be_outage
from ..mongo.holder import Client, ClientHolder
from ..server import pings
from ..tracking.flight import Kind
from ..tracking.guard import is_closed
from . import hang
from .circuit import Change, Circuit, CircuitState
from .heartbeats import Heartbeats
from .node_peers import Alone, Company
from .reconnect import SPREAD_SECONDS, Attempt, Reconnector
from .watchdog import Watchdog

logger = logging.getLogger("celery_pymongo.link")

# A ping takes no role: refused, it is the login that fails. What it says of the configuration is that this
# client cannot connect at all. Of these a person has to see to the latter two, and meanwhile the reconnector
# reads the settings again.
_UNUSABLE = (ErrorClass.OUTAGE, ErrorClass.AUTH, ErrorClass.CONFIG)
_REFUSED = (ErrorClass.AUTH, ErrorClass.CONFIG)

_OPENED = {
    ErrorClass.AUTH: "MongoDB refuses the login: %s",
    ErrorClass.CONFIG: "the connection's settings do not fit MongoDB: %s",
}

# How long what was found out about a failure is believed: it takes a connection.
_EXPLAINED_SECONDS = 30.0

# Where the server's process is gone a heartbeat fails within milliseconds, and a ping would wait for another
# server until its deadline: so the heartbeat is waited for first.
_HEARTBEAT_SECONDS = 0.05
# Between two pings of a server that is no primary, or shuts down: another may be elected meanwhile.
_ELECTION_SECONDS = 0.05


@dataclass(frozen=True)
class Order:
    """What an operator asked for: a probe, with a new client before it or not; `due_at` is monotonic."""

    due_at: float
    replaces: bool


@dataclass(frozen=True)
class Done:
    """What came of what an operator asked for. `number` counts, `at` is monotonic seconds; `error` is None
    where MongoDB answered, and `latency_ms` then is a ping's round trip, None for an attempt to reconnect.
    """

    number: int
    at: float
    replaced: bool = False
    latency_ms: float | None = None
    error: str | None = None


class Link:
    """Feeds the circuit from heartbeats and pings, and runs the reconnector.

    An operation's error does not move the circuit: it may be of another client, another cluster, or of this
    operation alone. It is a reason to ping.

    `renew` is asked whether a client with other credentials can be made now; `timeout_seconds` bounds each
    ping. `wake` is set when the circuit opens and when a server shows up again. `on_change` hears of each
    change of the circuit, and says whether this process speaks for its node of it; `record` hears of what the
    flight recorder keeps: both from any thread. `company` are
    the other processes of the node, `waits` is what `Watchdog` takes; `give_up_seconds` of an outage are an
    alert, and trying goes on.
    """

    def __init__(  # noqa: PLR0913 - the last five are the world around it
        self,
        holder: ClientHolder,
        backoff: Backoff,
        *,
        timeout_seconds: float,
        renew: Callable[[], bool],
        on_change: Callable[[Change], bool] = lambda _change: True,
        record: Callable[[Kind, float, str], None] = lambda _kind, _number, _text: None,
        company: Company | None = None,
        waits: Callable[[], Mapping[str, float]] = dict,
        give_up_seconds: float = float("inf"),
    ) -> None:
        self._holder = holder
        self._timeout_seconds = timeout_seconds
        self._renew = renew
        self._on_change = on_change
        self._record = record
        self._company = company or Alone()
        self._give_up_seconds = give_up_seconds
        self._has_given_up = False
        self._order: Order | None = None
        # Whether a heartbeat that succeeds is news.
        self._is_missed = True
        # What came of what was asked for last, a ping and an attempt to reconnect; None before the first.
        self.pinged: Done | None = None
        self.reconnected: Done | None = None
        # Monotonic seconds of the last sign of a server that takes writes; None before the first.
        self.succeeded_at: float | None = None
        self._error: str | None = None
        # Why the circuit is not closed, as far as an error said more than that nobody answers.
        self.error_class: ErrorClass | None = None
        # Operations that the server refused since it is overloaded; when the last was (monotonic).
        self.overloads = 0
        self.overloaded_at: float | None = None
        # When an error was seen that a ping has to explain, and when the last ping that was answered began.
        self._doubted_at: float | None = None
        self._answered_at = float("-inf")
        # Whether this client was made in this outage; which class the log has named in it.
        self._is_new = False
        self._said_cause: ErrorClass | None = None
        # The last failure that was explained, when (monotonic), and as what.
        self._explanation: tuple[str | None, float, pings.Ping] | None = None
        # One ping at a time is enough for all that doubt.
        self._asking = threading.Lock()
        self._server: str | None = None
        self.wake = threading.Event()
        self.circuit = Circuit()
        self._reconnector = Reconnector(
            self.circuit,
            backoff,
            probe=self.ping,
            replace=self._replace,
            clock=time.monotonic,
            renew=lambda: self.replace("it fails where another process of the node succeeds"),
            company=self._company,
        )
        self._waits = waits
        self._watchdog: Watchdog | None = None
        self._heartbeats = self.listener()

    def was_elected_since(self, moment: float) -> bool:
        """Say whether this client has heard since a moment (monotonic s) that another primary was elected."""
        elected_at = self._heartbeats.elected_at
        return elected_at is not None and elected_at >= moment

    def listener(self) -> Heartbeats:
        """Return a new listener for a client of this link; the newest one's is the present client."""
        self._heartbeats = Heartbeats(self._lost, self._found)
        return self._heartbeats

    def look(self) -> float | None:
        """Look for a server that hangs, and have it given up; return the seconds until there may be more to
        do, None where there is nothing. Blocks for nothing.
        """
        client, watchdog = self._holder.client, self._watchdog
        if client is None:
            return None
        if watchdog is None or watchdog.client is not client:
            watchdog = self._watchdog = Watchdog(
                client,
                self._heartbeats,
                self._timeout_seconds,
                waits=self._waits,
                is_alarmed=lambda: not self.circuit.is_closed or self._company.is_cut_off(),
                speaks=lambda: self.circuit.is_closed and self._company.leads(),
            )
        return watchdog.look()

    def hung_seconds(self, now: float) -> float | None:
        """Return for how long MongoDB has been hanging: it took writes, or was never heard, and says nothing.
        None where that is not why the circuit is open, or where it is closed.
        """
        since = self._hung_since()
        return None if since is None or self.circuit.is_closed else max(0.0, now - since)

    @property
    def error(self) -> str | None:
        """Why MongoDB cannot be reached; None while the circuit is closed."""
        seconds = self.hung_seconds(time.monotonic())
        return self._error if seconds is None else hang.reason(seconds)

    def observe(self, error: BaseException) -> ErrorClass:
        """Classify an error that an operation raised, and return the class.

        Where MongoDB may be away from this process the reporter is woken to `settle` it.
        """
        error_class = classify(error)
        if may_be_outage(error) and self.circuit.is_closed:
            self._doubted_at = time.monotonic()
            self.wake.set()
        if error_class is ErrorClass.OVERLOAD:
            self._overloaded()
        if error_class is ErrorClass.CLOSED:
            self._replace(error_class)
        return error_class

    def settle(self) -> bool:
        """Ask whether MongoDB is away where an error gave reason to since the last call; say whether it
        answers as far as is known.
        """
        doubted_at, self._doubted_at = self._doubted_at, None
        return doubted_at is None or self.answers(doubted_at)

    def answers(self, since: float, *, within: float = float("inf"), is_shutdown: bool = False) -> bool:
        """Say whether MongoDB answers this process's own client, after an error at `since` (monotonic).

        By a ping that began later, one at a time; the circuit hears of it. False at once while the circuit is
        not closed, or where the client was closed for good. It takes a ping's deadline, or `within` seconds
        where that is less: then no answer says nothing to the circuit. Twice as long where another thread is
        in the middle of a ping, and where the server said `is_shutdown`: its answers mean nothing then.
        """
        seconds = min(within, self._timeout_seconds)
        if is_shutdown:
            self._wait_for_shutdown(since, seconds)
        if self.circuit.wait_open(min(_HEARTBEAT_SECONDS, seconds)) or self._holder.state == "closed":
            return False
        if not self._asking.acquire(timeout=2 * seconds):
            return False
        try:
            return self._ask(since, seconds)
        finally:
            self._asking.release()

    def _wait_for_shutdown(self, since: float, seconds: float) -> None:
        """Wait until the circuit opens, or another primary was elected, for so many seconds at most."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at and not self.was_elected_since(since):
            if self.circuit.wait_open(_ELECTION_SECONDS):
                return

    def _ask(self, since: float, seconds: float) -> bool:
        ends_at = time.monotonic() + seconds
        while self.circuit.is_closed and self._answered_at < since:
            result = self._ping(max(ends_at - time.monotonic(), 0.001))
            if result.error_class is ErrorClass.FAILOVER and time.monotonic() < ends_at:
                self.circuit.wait_open(_ELECTION_SECONDS)
            elif result.error_class is ErrorClass.FAILOVER or result.error_class in _UNUSABLE:
                if seconds >= self._timeout_seconds:
                    self._fail(result.error_class, str(result.error))
                return False
            elif not result.is_answered:
                # Too slow, overloaded, or this process's pool is full: all but away.
                return True
        return self.circuit.is_closed

    def ping(self) -> pings.Ping:
        """Ping the server under the deadline; the circuit hears of it. Never raises for MongoDB's errors."""
        result = self._explained(self._ping(self._timeout_seconds))
        is_probe = self.circuit.state is CircuitState.HALF_OPEN
        if not result.is_answered and (is_probe or result.error_class in _UNUSABLE):
            self._fail(result.error_class, str(result.error))
        return result

    def _explained(self, result: pings.Ping) -> pings.Ping:
        """Return a ping that failed with the TLS mistake that is behind it, if there is one."""
        client, known, now = self._holder.present, self._explanation, time.monotonic()
        if result.is_answered or client is None:
            return result
        if known is None or known[0] != result.error or now - known[1] > _EXPLAINED_SECONDS:
            known = (result.error, now, pings.explained(result, client))
            self._explanation = known
        return known[2]

    def _ping(self, seconds: float) -> pings.Ping:
        """Ping under a deadline; an answer closes the circuit."""
        began = time.monotonic()
        try:
            client = self._holder.get()
        except (PyMongoError, OSError) as error:
            # Its options cannot be had now: a name that does not resolve, a file that is not there.
            return pings.failed(error)
        result = pings.ping(client, timeout_seconds=seconds)
        if result.is_answered:
            self._answered_at, self.succeeded_at = began, time.monotonic()
            self._say_change(self.circuit.succeed(self.succeeded_at, "ping"))
        if result.error_class is ErrorClass.OVERLOAD:
            self._overloaded()
        return result

    def ping_as_asked(self) -> None:
        """Ping, and keep what came of it."""
        result = self.ping()
        number, at = _next(self.pinged), time.monotonic()
        self.pinged = Done(number, at, latency_ms=result.latency_ms, error=result.error)

    def check(self) -> dict[str, Any]:
        """Ping, and return verdict, reasons, latency in ms, server, topology, circuit and outage in s."""
        result = self.ping()
        if result.is_answered and self._server is None:
            self._server = pings.server_label(self._holder.get(), timeout_seconds=self._timeout_seconds)
        return {
            "verdict": result.verdict,
            "reasons": self._reasons(result),
            "latency_ms": result.latency_ms,
            "error_class": result.error_class,
            "server": self._server,
            "topology": pings.topology(self._holder.present),
            "circuit": self.circuit.state,
            "outage_seconds": round(self.circuit.outage_seconds(time.monotonic()), 3),
        }

    def _reasons(self, result: pings.Ping) -> list[str]:
        if result.error_class is None:
            return []
        # The driver says of a ping that nobody answered what it was waiting for, and not for how long.
        hung = self.hung_seconds(time.monotonic()) if result.error_class is ErrorClass.OUTAGE else None
        return [f"{result.error_class}: {result.error if hung is None else hang.reason(hung)}"]

    def reconnect(self, *, force: bool = False) -> Attempt | None:
        """Make an attempt if the circuit is not closed and it is due, or one that was ordered; always, with
        `force`. Never sleeps.
        """
        order = self._due_order()
        is_replaced = order is not None and order.replaces and self.replace("asked for")
        is_asked = force or order is not None
        attempt = self._reconnector.attempt() if is_asked else self._reconnector.run_if_due()
        if order is not None and attempt is not None:
            error = None if attempt.connected else attempt.error or str(attempt.error_class)
            number = _next(self.reconnected)
            self.reconnected = Done(number, time.monotonic(), replaced=is_replaced, error=error)
        if attempt is not None and not attempt.connected:
            self._say_failed(attempt)
            self._escalate()
        return attempt

    def wait_closed(self, seconds: float) -> bool:
        """Wait for the circuit to close, for so many seconds at most; say whether it is closed.

        An attempt that is due is made here, should nobody else make it; a ping's deadline bounds that.
        """
        ends_at = time.monotonic() + seconds
        if self.circuit.is_closed:
            return True
        if seconds > 0:
            self.reconnect()
        return self.circuit.wait_closed(ends_at - time.monotonic())

    def order(self, *, replaces: bool, within: float = SPREAD_SECONDS) -> None:
        """Make an attempt at some moment within so many seconds, with a new client where it `replaces`."""
        due_at = time.monotonic() + random.uniform(0.0, within)  # noqa: S311 - no secret hangs on it
        pending = self._order
        self._order = Order(due_at, replaces or (pending is not None and pending.replaces))

    def replace(self, why: str) -> bool:
        """Put a new client, of settings that are read again, in the place of the present one.

        Operations that run on the old one end as they would have; see `ClientHolder.replace`.
        """
        self._renew()
        return self._put_in_place(self._holder.client, why)

    @property
    def server(self) -> str | None:
        """Which server answered the last check, and its version; None before one did."""
        return self._server

    def due_in(self) -> float | None:
        """Return the seconds until the next attempt is due; None while the circuit is closed and none is
        ordered.
        """
        order = self._order
        ordered = [] if order is None else [max(0.0, order.due_at - time.monotonic())]
        return min(
            ordered if self.circuit.is_closed else [*ordered, self._reconnector.due_in()], default=None
        )

    def _due_order(self) -> Order | None:
        order = self._order
        if order is None or order.due_at > time.monotonic():
            return None
        self._order = None
        return order

    def _replace(self, error_class: ErrorClass) -> bool:
        """Replace the client where this one cannot come back: closed, or with settings that changed."""
        client = self._holder.client
        # The error may be of a client that was replaced meanwhile, or of one that its process has closed.
        is_spent = error_class is ErrorClass.CLOSED and client is not None and is_closed(client)
        can_help = is_spent or (error_class in _REFUSED and self._renew())
        return can_help and self._put_in_place(client, str(error_class))

    def _put_in_place(self, old: Client | None, why: str) -> bool:
        """Replace this client and say why; False where it is not the present one any more."""
        if old is None or not self._holder.replace(old):
            return False
        self._server = self._explanation = None
        self._record(Kind.CLIENT_REPLACED, 0.0, why)
        self._is_new = not self.circuit.is_closed
        # Of an outage the line at its end tells.
        level = logging.DEBUG if self._is_new else logging.WARNING
        events.say(logger, level, Event.CLIENT_REPLACED, "replaced the client: %s", why, why=why)
        return True

    def _hung_since(self) -> float | None:
        return None if self._watchdog is None else self._watchdog.hung_since()

    def _lost(self, reason: str) -> None:
        self._is_missed = True
        self.error_class = None
        self._fail(ErrorClass.OUTAGE, reason, since=self._hung_since())

    def _fail(self, error_class: ErrorClass | None, reason: str, *, since: float | None = None) -> None:
        # A refused login makes the driver forget the server: what comes then says only that there is none.
        if self.error_class is not ErrorClass.AUTH or error_class is not ErrorClass.OUTAGE:
            self.error_class = error_class
        self._say_change(self.circuit.fail(time.monotonic(), reason, since=since))
        if error_class in _REFUSED and error_class is not self._said_cause:
            self._said_cause = error_class
            message, cause = _OPENED[error_class], str(error_class)
            speaks = self._company.leads() or self._company.is_prober()
            level = logging.ERROR if speaks else logging.DEBUG
            events.say(logger, level, Event.CIRCUIT_CAUSE, message, reason, cause=cause)

    def _overloaded(self) -> None:
        self.overloads += 1
        self.overloaded_at = time.monotonic()

    def _found(self) -> None:
        self.succeeded_at = time.monotonic()
        # The first one wakes. A server that is there and refuses logins is no reason to hurry at each.
        if self._is_missed and not self.circuit.is_closed:
            self._is_missed = False
            self._reconnector.wake()
            self.wake.set()

    def _say_change(self, change: Change | None) -> None:
        if change is None:
            return
        self._error = None if change.after is CircuitState.CLOSED else change.reason
        speaks = self._on_change(change)
        if CircuitState.CLOSED in (change.before, change.after):
            # A probe that failed is no news, and there are many: the recorder keeps what went before.
            self._record(Kind.CIRCUIT, change.lasted, f"{change.after}: {change.reason}")
        if change.after is CircuitState.OPEN and change.before is CircuitState.CLOSED:
            self._server = None
            self._is_missed = True
            self.wake.set()
            cause = self._said_cause = self.error_class or ErrorClass.OUTAGE
            message = _OPENED.get(cause, "MongoDB cannot be reached: %s")
            level = logging.ERROR if speaks else logging.DEBUG
            events.say(logger, level, Event.CIRCUIT_OPENED, message, change.reason, cause=str(cause))
        if change.after is CircuitState.CLOSED:
            self.error_class = self._explanation = None
            self._reconnector.reset()
            self._has_given_up = False
            message = "MongoDB answers again after %.1f s" + (", to a new client" if self._is_new else "")
            self._is_new = False
            level, fields = logging.INFO if speaks else logging.DEBUG, {"seconds": change.lasted}
            events.say(logger, level, Event.CIRCUIT_CLOSED, message, change.lasted, **fields)

    def _say_failed(self, attempt: Attempt) -> None:
        # One process in a node tries twice a second and more: the 1st, 2nd, 4th, 8th… are told.
        if attempt.number & (attempt.number - 1):
            return
        self._record(Kind.RECONNECT, attempt.number, str(attempt.error_class))
        message = "attempt %d failed (%s: %s), the next is due in %.1f s"
        args = (attempt.number, attempt.error_class, attempt.error, attempt.next_in_seconds)
        events.say(logger, logging.DEBUG, Event.RECONNECT_FAILED, message, *args, error=attempt.error)

    def _escalate(self) -> None:
        """Say once per outage, by the one process of the node that keeps nudging, that it lasts too long."""
        seconds = self.circuit.outage_seconds(time.monotonic())
        if self._has_given_up or seconds < self._give_up_seconds or not self._company.is_prober():
            return
        self._has_given_up = True
        message = "MongoDB cannot be reached since %.0f s, longer than the %.0f s allowed; trying goes on"
        args = (seconds, self._give_up_seconds)
        events.say(
            logger, logging.ERROR, Event.RECONNECT_GIVEN_UP, message, *args, seconds=seconds, error=self.error
        )


def _next(done: Done | None) -> int:
    return 1 if done is None else done.number + 1
