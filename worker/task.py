"""The task base class: the process's client, deadlines, and retries by class of error."""

import logging
import time
from typing import Any

from celery import Task

from . import events
from .errors import NotInstalledError
from .events import Event
from .mongo.calls import bounded
from .mongo.holder import Client
from .process import Mongo, task_ends_at

logger = logging.getLogger("celery_pymongo.task")

# What is left of a time limit for a task to fail by its own error rather than by the limit.
_MARGIN = 0.1
_MARGIN_SECONDS = 1.0


class MongoTask(Task):
    """A task with `self.client` and `self.db`, run again when MongoDB was away for a moment.

    Acknowledged late and redelivered when its process is lost, so it may run more than once: write
    idempotently. Transient errors (outage, failover, overload, deadline) are retried with full jitter up
    to `max_retries` times; errors that no retry mends fail at once.
    """

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    max_retries: int | None = 10

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
        mongo, is_direct = self.mongo, self.request.called_directly
        left = None if is_direct else self.seconds_left()
        token = task_ends_at.set(task_ends_at.get() if left is None else time.monotonic() + left)
        try:
            with bounded(mongo.limits().deadline):
                return super().__call__(*args, **kwargs)
        except Exception as error:
            self._retry_if_transient(error)
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

    def _retry_if_transient(self, error: Exception) -> None:
        """Raise Retry for a transient error of MongoDB's; return where the error shall stand."""
        error_class = self.mongo.link.observe(error)
        if not error_class.is_transient or self.request.called_directly:
            return
        retries = self.request.retries
        # Celery's None is no limit.
        if self.max_retries is not None and retries >= self.max_retries:
            return
        delay = self.mongo.backoff.delay(retries)
        message = "%s[%s] met %s and runs again in %.1f s (retry %d of %s)"
        args = (self.name, self.request.id, error_class, delay, retries + 1, self.max_retries)
        events.say(logger, logging.WARNING, Event.TASK_RETRY, message, *args, error_class=error_class)
        raise self.retry(exc=error, countdown=delay) from error
