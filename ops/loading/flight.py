"""Batches on their way through the queue: few at a time, known by ids of our own, sent again when lost.

A result is asked for by its key, never waited for: waiting on a subscription can hang across a restart of
Redis. A batch may run twice, which upserts do not mind.
"""

import logging
import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from celery.result import denied_join_result
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from ..problems import AppProblem, Problem
from .batches import Batch

logger = logging.getLogger("celery_pymongo.load")

UPSERT_MANY = "mongo.data.upsert_many"

BYTES_IN_FLIGHT = 12 * 1024 * 1024
"""Characters of all documents in flight; in Redis they take a third more, and as much again in its buffers
while they come and go. One batch may always go."""

_PATIENCE_SECONDS = 60.0
_PATIENCE_AFTER_TROUBLE_SECONDS = 5.0
_RETRY_CAP_SECONDS = 30.0
_SILENCE_SECONDS = 15.0
_GATE_SECONDS = 2.0
_ATTEMPTS = 5

# What the task ends with after its own retries: the outage is not over, and the batch is sent again.
_OUTAGE = frozenset(
    {
        *("AutoReconnect", "ConnectionFailure", "NetworkTimeout", "NotPrimaryError"),
        *("ServerSelectionTimeoutError", "WaitQueueTimeoutError", "WTimeoutError", "WriteConcernError"),
    }
)
# May be the batch's own doing: sent again a few times only.
_ACCIDENTS = frozenset({"WorkerLostError", "SoftTimeLimitExceeded", "TimeLimitExceeded", "ExecutionTimeout"})

_BROKER_ERRORS = (RedisError, OperationalError, OSError)


class BatchFailed(Problem):
    """A worker gave a batch up, and sending it again would not help."""


@dataclass(frozen=True)
class Target:
    """Where the documents go, and by which fields: the task's arguments besides the documents."""

    collection: str
    database: str | None
    key: tuple[str, ...]

    @property
    def options(self) -> dict[str, Any]:
        """The task's keyword arguments."""
        return {"key": self.key[0] if len(self.key) == 1 else list(self.key), "database": self.database}


@dataclass
class Sent:
    """A batch in flight. `due` is when it is to be published, in monotonic seconds; infinite once it is."""

    batch: Batch
    is_counted: bool = True
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    due: float = 0.0
    published: float | None = None
    patience: float = _PATIENCE_SECONDS
    failures: int = 0
    status: str = "PENDING"
    result: Mapping[str, Any] | None = None


class Flight:
    """The window: `put` a batch unless it `is_full`, `step` often, and take what `landed` in order."""

    def __init__(
        self, app: Any, target: Target, *, limit: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._task = app.tasks[UPSERT_MANY]
        self._target = target
        self._limit = limit
        self._now = now
        self._sent: deque[Sent] = deque()
        self._last_landing = now()
        self._gate: str | None = None
        self._ask_at = now()
        self.away: str | None = None

    @property
    def batches(self) -> int:
        """How many are in flight."""
        return len(self._sent)

    @property
    def is_any_under_way(self) -> bool:
        """Whether the next to land, in the order of the file, was published."""
        return bool(self._sent) and self._sent[0].published is not None

    @property
    def queue(self) -> str:
        """The queue that the batches go to."""
        return str(self._app.amqp.router.route({}, UPSERT_MANY)["queue"].name)

    def is_full(self, batch: Batch) -> bool:
        """Whether this batch has to wait."""
        size = sum(sent.batch.size for sent in self._sent) + batch.size
        return bool(self._sent) and (len(self._sent) >= self._limit or size > BYTES_IN_FLIGHT)

    def put(self, batch: Batch) -> None:
        """Take a batch; it is published by `step`."""
        self._sent.append(Sent(batch, result=None if batch.sent else _NOTHING))

    def put_first(self, batches: list[Batch]) -> None:
        """Take parts of a batch that landed, to learn all that was rejected in it: not counted again."""
        self._sent.extendleft(Sent(batch, is_counted=False) for batch in reversed(batches))

    def step(self, *, publish: bool = True) -> bool:
        """Publish what is due and fetch what is done; whether anything was. Raises BatchFailed."""
        try:
            acted = self._publish_due() if publish else False
            fetched = self._fetch()
            if publish:
                self._recall()
            self._ask_why()
        except _BROKER_ERRORS as error:
            self._say_away(error)
            return False
        self._say_back()
        return acted or fetched

    def landed(self) -> Iterator[Sent]:
        """Yield, in the order of the file, the batches that are done up to the first that is not."""
        while self._sent and self._sent[0].result is not None:
            self._last_landing = self._now()
            yield self._sent.popleft()

    @property
    def trouble(self) -> str | None:
        """What it is waiting for, in words; None while batches land."""
        if self.away:
            return self.away
        if self._gate == "operator":
            return f"an operator paused the queue {self.queue}; waiting"
        if self._gate or any(sent.failures or sent.status == "RETRY" for sent in self._sent):
            return "the workers do not get through to MongoDB and try again; waiting"
        silent = self._seconds_silent()
        if silent > _SILENCE_SECONDS:
            return f"no result for {silent:.0f} s: does a worker consume the queue {self.queue}?"
        return None

    def _ask_why(self) -> None:
        """Where nothing lands, learn whether the workers leave the queue alone, and why."""
        now, silent = self._now(), self._seconds_silent()
        if silent < _GATE_SECONDS:
            self._gate = None
        elif now >= self._ask_at:
            self._gate = self._app.mongo.watch.gates().get(self.queue)
            self._ask_at = now + _GATE_SECONDS

    def _seconds_silent(self) -> float:
        """Seconds since a batch landed, but no longer than the next has been on its way."""
        published = self._sent[0].published if self._sent else None
        return 0.0 if published is None else self._now() - max(published, self._last_landing)

    # -- publishing --------------------------------------------------------------------------------

    def _publish_due(self) -> bool:
        now = self._now()
        due = [sent for sent in self._sent if sent.result is None and sent.due <= now]
        for sent in due:
            self._publish(sent)
        return bool(due)

    def _publish(self, sent: Sent) -> None:
        arguments = (self._target.collection, sent.batch.text)
        # Inside it Celery subscribes to no result.
        with denied_join_result():
            self._task.apply_async(arguments, self._target.options, task_id=sent.id)
        sent.published, sent.due = self._now(), math.inf

    def _recall(self) -> None:
        """Publish again what is overdue, but only into an empty queue: a message that waits is not lost, and
        copies of it would pile up in Redis."""
        now = self._now()
        overdue = [sent for sent in self._sent if _silence(sent, now) > sent.patience]
        if not overdue or not self._is_queue_empty():
            return
        for sent in overdue:
            logger.info("batch %s is overdue and is sent again", sent.id)
            sent.patience *= 2
            self._publish(sent)

    def _is_queue_empty(self) -> bool:
        with self._app.connection_for_write() as connection, closing(connection.channel()) as channel:
            try:
                declared = channel.queue_declare(self.queue, passive=True)
            except connection.channel_errors:  # Redis has no key for an empty queue
                return True
            return not declared.message_count

    # -- results -----------------------------------------------------------------------------------

    def _fetch(self) -> bool:
        awaited = [sent for sent in self._sent if sent.published is not None and sent.result is None]
        if not awaited:
            return False
        backend = self._app.backend
        keys = [backend.get_key_for_task(sent.id) for sent in awaited]
        found = [
            (sent, payload) for sent, payload in zip(awaited, backend.mget(keys), strict=True) if payload
        ]
        acted = [self._take(sent, backend.decode(payload)) for sent, payload in found]
        return any(acted)

    def _take(self, sent: Sent, told: Mapping[str, Any]) -> bool:
        status = sent.status = told["status"]
        if status == "SUCCESS":
            sent.result = told["result"]
            sent.failures = 0
            self._forget(sent)
        elif status in ("FAILURE", "REVOKED"):
            self._forget(sent)
            self._failed(sent, told)
        else:
            sent.published = self._now()  # a worker has it: RETRY, STARTED
            return False
        return True

    def _forget(self, sent: Sent) -> None:
        backend = self._app.backend
        backend.delete(backend.get_key_for_task(sent.id))

    def _failed(self, sent: Sent, told: Mapping[str, Any]) -> None:
        error = told["result"] if isinstance(told["result"], dict) else {}
        kind = str(error.get("exc_type", told["status"]))
        sent.failures += 1
        if kind not in _OUTAGE and (kind not in _ACCIDENTS or sent.failures >= _ATTEMPTS):
            raise BatchFailed(
                f"a worker failed with {_lines(sent.batch)}: {kind}{_words(error)}; "
                "once that is mended, the same command goes on from there"
            )
        sent.published = None
        sent.due = self._now() + min(_RETRY_CAP_SECONDS, 2.0 ** (sent.failures - 1))

    # -- trouble -----------------------------------------------------------------------------------

    def _say_away(self, error: Exception) -> None:
        if self.away is None:
            logger.info("Redis is away (%s)", error)
        self.away = f"Redis {self._what_it_does(error)}; waiting for it"

    def _what_it_does(self, error: Exception) -> str:
        """Return what Redis does, as a predicate; kombu's own error stands for what its transport met."""
        met, mongo = error.__cause__ or error, self._app.mongo
        if isinstance(error, (RedisError, OSError)):
            met = error
        is_refusal = isinstance(met, RedisError) and not mongo.is_redis_away(met)
        does: str = mongo.redis_reason(met) if is_refusal else f"is away ({type(error).__name__})"
        return does

    def _say_back(self) -> None:
        if self.away is None:
            return
        self.away = None
        # What it held may be gone with it: asked for soon, and sent again if its queue is empty.
        for sent in self._sent:
            if sent.published is not None:
                sent.published, sent.patience = self._now(), _PATIENCE_AFTER_TROUBLE_SECONDS


_NUMBERS = ("inserted", "modified", "unchanged", "superseded", "rejected")
_NOTHING: Mapping[str, Any] = dict.fromkeys(_NUMBERS, 0) | {"errors": []}


def refuse_app(app: Any) -> None:
    """Refuse an app whose batches could not be sent or counted."""
    if UPSERT_MANY not in app.tasks:
        raise AppProblem(f"the app {app.main} has no task {UPSERT_MANY}: call install(app) where it is made")
    if not hasattr(app.backend, "get_key_for_task"):
        raise AppProblem(
            f"the app {app.main} stores no results that can be read by key: set result_backend to a Redis URL"
        )


def _silence(sent: Sent, now: float) -> float:
    return 0.0 if sent.published is None or sent.result is not None else now - sent.published


def _lines(batch: Batch) -> str:
    first, last = batch.sent[0][0].line, batch.sent[-1][0].line
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _words(error: Mapping[str, Any]) -> str:
    message = error.get("exc_message")
    words = message[0] if isinstance(message, list | tuple) and message else message
    return f": {words}" if isinstance(words, str) else ""
