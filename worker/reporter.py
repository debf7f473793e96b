"""One thread per process: warms the pool after the start, brings the client back after an outage."""

import logging
import threading
from collections.abc import Callable

from . import events
from .events import Event
from .mongo import health
from .process import Mongo

logger = logging.getLogger("celery_pymongo.reporter")

_TICK_SECONDS = 2.0


class Reporter:
    """The thread of one process. Starts once, ends by itself when asked to, survives its own errors."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celery-pymongo-reporter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; does not wait."""
        self._stopping.set()
        self._mongo.link.wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end; False where it did not in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._survive(self._warm)
        while not self._stopping.is_set():
            self._survive(self._tick)
            self._mongo.link.wake.wait(self._pause())
            self._mongo.link.wake.clear()

    def _survive(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the thread goes on
            if not self._stopping.is_set():
                events.say(logger, logging.WARNING, Event.REPORTER_ERROR, "%s", health.describe(error))

    def _warm(self) -> None:
        """Connect and read before the first task does; the driver then fills the minimum pool by itself."""
        result = self._mongo.check()
        if result["verdict"] == health.Verdict.OK:
            args = (result["server"], result["latency_ms"])
            events.say(logger, logging.INFO, Event.CLIENT_WARM, "%s answered in %.1f ms", *args)
            settings = self._mongo.settings
            timeout = settings.ping_timeout_seconds
            health.warm(self._mongo.get_client(), settings.mongodb_database, timeout_seconds=timeout)

    def _tick(self) -> None:
        if self._mongo.holder.client is None:
            # Closed by somebody before the process ends: nothing to look after.
            return
        self._mongo.link.reconnect()
        self._mongo.warn_of_foreign()

    def _pause(self) -> float:
        """Seconds to the next tick: sooner where a reconnection attempt is due before."""
        due_in = self._mongo.link.due_in()
        return (
            _TICK_SECONDS
            if due_in is None or self._mongo.holder.client is None
            else min(_TICK_SECONDS, max(due_in, 0.01))
        )
