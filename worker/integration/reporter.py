"""The threads of a process: one warms the pool, shows how it does, brings the client back after an outage;
the other looks for a server that hangs, since the first one may wait for that server, or for Redis.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from .. import events
from ..connection.circuit import CircuitState
from ..connection.link import Done
from ..events import Event
from ..mongo.reasons import reason
from ..process.presence import Presence
from ..process.process import Mongo
from ..sentry import Agent
from ..server import pings

logger = logging.getLogger("celery_pymongo.reporter")

_TICK_SECONDS = 2.0
# A fleet that was started at once must not report at once for ever.
_JITTER = 0.1


class Reporter:
    """The threads of one process. Start once, end by themselves when asked to, survive their own errors."""

    def __init__(self, mongo: Mongo, presence: Presence, agent: Agent) -> None:
        self._mongo = mongo
        self._presence = presence
        self._agent = agent
        self._show_at = self._keep_at = 0.0
        self._shown: tuple[CircuitState, Done | None] | None = None
        self._errors: dict[str, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celery-pymongo-reporter", daemon=True)
        self._look_in: float | None = None
        self._watchman = threading.Thread(
            target=self._keep_watch, name="celery-pymongo-watchdog", daemon=True
        )

    def start(self) -> None:
        """Start the threads."""
        self._thread.start()
        self._watchman.start()

    def stop(self) -> None:
        """Ask the threads to end; does not wait."""
        self._stopping.set()
        self._mongo.link.wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the first thread to end; False where it did not in time. The other holds nothing."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # Seen at once: where MongoDB is away the warming takes seconds.
        for step in (self._show, self._warm):
            self._survive(step)
        while not self._stopping.is_set():
            for step in (self._reconnect, self._keep_open, self._show, self._tell, self._watch):
                self._survive(step)
            self._mongo.link.wake.wait(self._pause())
            self._mongo.link.wake.clear()

    def _keep_watch(self) -> None:
        while not self._stopping.is_set():
            self._survive(self._look)
            pause = _TICK_SECONDS if self._look_in is None else min(self._look_in, _TICK_SECONDS)
            self._stopping.wait(max(pause, 0.05))

    def _look(self) -> None:
        self._look_in = self._mongo.link.look()

    def _survive(self, step: Callable[[], None]) -> None:
        """Run a step; an error of its is said once until the step works again, or another error comes."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the thread goes on
            text = reason(error)
            if self._errors.get(step.__name__) != text and not self._stopping.is_set():
                args = (step.__name__.strip("_"), text)
                events.say(logger, logging.WARNING, Event.REPORTER_ERROR, "%s: %s", *args)
            self._errors[step.__name__] = text
        else:
            self._errors.pop(step.__name__, None)

    def _warm(self) -> None:
        """Connect and read before the first task does."""
        result = self._mongo.check()
        if result["verdict"] == pings.Verdict.OK:
            args = (result["server"], result["latency_ms"])
            events.say(logger, logging.INFO, Event.CLIENT_WARM, "%s answered in %.1f ms", *args)
            settings = self._mongo.settings
            timeout = settings.ping_timeout_seconds
            pings.warm(self._mongo.get_client(), settings.mongodb_database, timeout_seconds=timeout)

    def _reconnect(self) -> None:
        # Closed by somebody before the process ends: nothing to look after.
        if self._mongo.holder.state == "closed":
            return
        # Where it was just seen to be away the attempt is for the next turn.
        if self._mongo.link.settle():
            self._mongo.link.reconnect()
        self._mongo.warn_of_foreign()

    def _keep_open(self) -> None:
        if time.monotonic() >= self._keep_at:
            self._keep_at = time.monotonic() + self._mongo.keep_open()

    def _show(self) -> None:
        """Tick every 2 s, also where attempts to reconnect come faster; at once where the circuit moved, or
        where an operator's order was carried out.
        """
        now, link = time.monotonic(), self._mongo.link
        state = (link.circuit.state, link.reconnected)
        if now >= self._show_at or state != self._shown:
            self._show_at, self._shown = now + _jittered(), state
            self._presence.tick(now)

    def _tell(self) -> None:
        self._agent.tick(time.monotonic(), is_redis_away=self._presence.is_redis_away)

    def _watch(self) -> None:
        self._mongo.watch.run_if_stale()

    def _pause(self) -> float:
        """Seconds to the next step: sooner where a reconnection attempt is due before the next tick."""
        pause = max(self._show_at - time.monotonic(), 0.01)
        due_in = self._mongo.link.due_in()
        is_closed = self._mongo.holder.state == "closed"
        return pause if due_in is None or is_closed else min(pause, max(due_in, 0.01))


def _jittered() -> float:
    spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret hangs on it
    return _TICK_SECONDS * spread
