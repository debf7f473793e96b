"""The task base class: the process's client, deadlines, and another run where MongoDB failed this one."""

import sys
from typing import Any

from celery import Task
from celery.exceptions import Reject

from ..broker import time_limits
from ..broker.requeue import UnsentRetry
from ..mongo.holder import Client
from ..process.process import Mongo
from .composing import compose
from .overrides import REQUEST, mongo_of, protect
from .run import may_run_again, refused

# What is left of a time limit for a task to fail by its own error rather than by the limit: PyMongo looks for
# a server each half second (its MIN_HEARTBEAT_INTERVAL), and overshoots a deadline by as much.
_MARGIN = 0.4
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
    Request = REQUEST
    idempotent: bool = True
    """False: never run again once it may have written; then the message goes to the dead letters."""
    waits_out_outages: bool = True
    """False: it runs whether MongoDB is there or not, and an outage is one more error to retry."""
    with_app_class: bool = True
    """False: without what the app's own task class (`task_cls`, `app.Task`) adds, as Flask's context."""

    @property
    def mongo(self) -> Mongo:
        """What `install(app)` gave this app. In a process without it: an error that says so."""
        return mongo_of(self)

    @property
    def client(self) -> Client:
        """The one MongoClient of this process."""
        return mongo_of(self).get_client()

    @property
    def db(self) -> Any:
        """The database that the settings name."""
        return mongo_of(self).get_database()

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Bind the class to its app, as Celery does, with a run around whatever it overrides."""
        compose(cls, app)
        bound = super().bind(app)
        protect(cls)
        return bound

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """Celery's `retry`, for which no message is lost and nothing is done twice that must not be.

        Celery drops the message whose copy cannot be sent, as while Redis is away, or was sent to a RabbitMQ
        that never got it: it goes back to the broker. And a task that must not run twice and may have
        written goes to the dead letters.
        """
        request = self.request
        is_local = request.called_directly or request.is_eager
        if not is_local and not may_run_again(self, mongo_of(self)):
            raise refused(self, mongo_of(self), kwargs.get("exc") or sys.exc_info()[1])
        try:
            confirmed = {} if is_local else mongo_of(self).copies.options()
            return super().retry(*args, **{**confirmed, **kwargs})
        except Reject as error:
            raise (UnsentRetry() if self.acks_late else error.reason) from None

    def seconds_left(self) -> float | None:
        """Return the seconds until this task should end by itself; None without a time limit.

        The soft or hard limit that comes first, less 1 s, or less two fifths of one below 2.5 s.
        """
        limit = time_limits.soonest(self, mongo_of(self).time_limits)
        return None if limit is None else limit - min(_MARGIN_SECONDS, limit * _MARGIN)


class OwnTask(MongoTask):
    """The class of this package's own tasks, which no class of the app's concerns."""

    abstract = True
    with_app_class = False
