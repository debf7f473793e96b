"""The task base class: the process's client, deadlines, and another run where MongoDB failed this one."""

import logging
import time
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from pymongo.errors import NetworkTimeout

from . import events, recovery
from .errors import NotInstalledError
from .events import Event
from .mongo.calls import bounded
from .mongo.holder import Client
from .process import Mongo, task_ends_at
from .recovery import Terms, Way
from .requeue import BackToBroker

logger = logging.getLogger("celery_pymongo.task")

# What is left of a time limit for a task to fail by its own error rather than by the limit.
_MARGIN = 0.1
_MARGIN_SECONDS = 1.0


class MongoTask(Task):
    """A task with `self.client` and `self.db` that an outage of MongoDB, however long, does not fail.

    Acknowledged late and redelivered when its process is lost, so it may run more than once: write
    idempotently, or under `once`. In an outage it goes back to the broker, where it costs neither a slot
    nor a retry. Failover, overload and deadlines are retried with full jitter up to `max_retries` times;
    errors that no retry mends fail at once (`recovery` has the table).
    """

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    max_retries: int | None = 10
    waits_out_outages: bool = True
    """False: it runs whether MongoDB is there or not, and an outage is one more error to retry."""

    @property
    def mongo(self) -> Mongo:
        """What `install(app)` gave this app. In a process without it: an error that says so."""
        mongo: Mongo | None = getattr(self.app, "mongo", None)
        if mongo is None:
            raise NotInstalledError(str(self.app.main))
        return mongo

    @property
    def client(self) -> Client:
        """The one MongoClient of this process."""
        return self.mongo.get_client()

    @property
    def db(self) -> Any:
        """The database that the settings name."""
        return self.mongo.get_database()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task's body, with its time limit as the end of its operations.

        Called like a function inside another task, it keeps that task's end.
        """
        mongo, is_direct, began = self.mongo, self.request.called_directly, time.monotonic()
        left = None if is_direct else self.seconds_left()
        token = task_ends_at.set(task_ends_at.get() if left is None else began + left)
        try:
            self._wait_for_mongo()
            with bounded(mongo.limits().deadline):
                return super().__call__(*args, **kwargs)
        except Exception as error:
            self._recover(error, time.monotonic() - began)
            raise
        finally:
            task_ends_at.reset(token)

    def seconds_left(self) -> float | None:
        """Return the seconds until this task should end by itself; None without a time limit.

        The soft or hard limit that comes first, less a tenth of it (1 s at most).
        """
        hard, soft = self.request.timelimit or (None, None)
        node_hard, node_soft = self.mongo.time_limits
        # As Celery has it: the message's, the task's (or the app's, which the task has taken), the node's.
        limits = (hard or self.time_limit or node_hard, soft or self.soft_time_limit or node_soft)
        limit = min((seconds for seconds in limits if seconds), default=None)
        return None if limit is None else limit - min(_MARGIN_SECONDS, limit * _MARGIN)

    def _wait_for_mongo(self) -> None:
        """Go back to the broker, after a moment, where MongoDB is known to be away."""
        link = self.mongo.link
        if link.circuit.is_closed or not self._terms().waits or self._hold(recovery.HOLD_SECONDS):
            return
        self._go_on(recovery.wait(self._terms()), f"MongoDB is away ({link.error})")

    def _recover(self, error: Exception, elapsed: float) -> None:
        """Raise what gives the task another run; return where its error shall stand."""
        error_class, terms = self.mongo.link.observe(error), self._terms()
        if self.request.called_directly:
            return
        is_back = False
        if terms.waits and recovery.is_outage(error, error_class):
            time.sleep(min(recovery.pause_seconds(), self._seconds_to_end()))
            is_back = self._hold(
                recovery.hold_seconds(
                    elapsed,
                    has_timed_out=isinstance(error, NetworkTimeout),
                    ping_seconds=self.mongo.settings.ping_timeout_seconds,
                )
            )
        self._go_on(recovery.way(error, error_class, terms, is_back=is_back), str(error_class), error)

    def _go_on(self, way: Way, reason: str, error: Exception | None = None) -> None:
        if way is Way.RETRY:
            self._say_and_retry(reason, error)
        if way in (Way.REQUEUE, Way.RESEND):
            self.mongo.requeued += 1
            message = "%s[%s] goes back to the broker: %s"
            args = (self.name, self.request.id, reason)
            events.say(logger, logging.INFO, Event.TASK_REQUEUED, message, *args, reason=reason)
        if way is Way.REQUEUE:
            raise BackToBroker(reason) from None
        if way is Way.RESEND:
            self._resend()
            raise Ignore(reason) from None

    def _say_and_retry(self, reason: str, error: Exception | None) -> None:
        retries = self.request.retries
        delay = self.mongo.backoff.delay(retries)
        message = "%s[%s] met %s and runs again in %.1f s (retry %d of %s)"
        args = (self.name, self.request.id, reason, delay, retries + 1, self.max_retries)
        events.say(logger, logging.WARNING, Event.TASK_RETRY, message, *args, error_class=reason)
        raise self.retry(exc=error, countdown=delay) from error

    def _resend(self) -> None:
        """Send a copy with the retries that the message has. Before the end of this run: a worker that dies
        in between makes the task run twice, rather than never.
        """
        mongo = self.mongo
        outage = mongo.link.circuit.outage_seconds(time.monotonic())
        base, cap = mongo.settings.backoff_base_seconds, mongo.settings.backoff_cap_seconds
        delay = recovery.resend_seconds(outage, base=base, cap=cap)
        self.signature_from_request(self.request, countdown=delay).apply_async()

    def _terms(self) -> Terms:
        # Celery's None is no limit.
        can_retry = self.max_retries is None or self.request.retries < self.max_retries
        has_broker = not (self.request.called_directly or self.request.is_eager)
        return Terms(bool(self.acks_late), self.waits_out_outages and has_broker, can_retry)

    def _hold(self, seconds: float) -> bool:
        return self.mongo.link.wait_closed(min(seconds, self._seconds_to_end()))

    def _seconds_to_end(self) -> float:
        ends_at = task_ends_at.get()
        return float("inf") if ends_at is None else max(0.0, ends_at - time.monotonic())
