"""One run of a task by a worker: what comes before its body, and after one that MongoDB failed."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

from celery.exceptions import Ignore, Reject, Retry
from redis import RedisError

from .. import events
from ..broker import original
from ..broker.message import carry_on
from ..broker.requeue import BackToBroker, UnsentRetry
from ..errors import DeadLetteredError, NeedsRedisError, TaskExitError
from ..events import Event
from ..mongo.calls import bounded
from ..mongo.classify import ErrorClass, is_shutdown
from ..process.process import Mongo, task_ends_at
from ..store.redis_client import NoRedisError
from ..tracking.work import current_work
from . import recovery
from .attempts import Admission
from .deliveries import NotKeptError, StillRunningError
from .ending import end_fork, end_of_process, is_greenlet_exit
from .recovery import Terms, Way

T = TypeVar("T")
logger = logging.getLogger("celery_pymongo.task")

# What a ping may take where the task's own end is nearer, out of the time that is left for its error.
_PING_SECONDS = 0.1


class Run:
    """Begins, fails and ends one run; in its own thread. `left` is the seconds that it may take, if any."""

    def __init__(self, task: Any, mongo: Mongo, left: float | None) -> None:
        self._task = task
        self._mongo = mongo
        self._began = time.monotonic()
        self.ends_at = None if left is None else self._began + left
        self._original = original.of(task.request)
        self.is_in_body = False
        self._has_begun = False
        # What the deliveries know this run by, where they have to.
        self._id: str | None = None
        self._work = current_work.get()
        if self._work is not None:
            self._work.ends_at = self.ends_at

    def part(self, call: Callable[[], T]) -> T:
        """Return what a part of the run returns, the first after the run has begun; raise what gives the task
        another run, or none, or the error of the part.
        """
        token = task_ends_at.set(self.ends_at)
        try:
            return self._part(call)
        except BackToBroker as error:
            until = time.monotonic() + min(recovery.COPY_SECONDS, self._seconds_to_end())
            is_unsent = isinstance(error, UnsentRetry)
            if is_unsent:
                # The broker would hand it out again at once.
                self._pause()

            def wait() -> bool:
                is_over = self._pause() if is_unsent else self._hold(recovery.HOLD_SECONDS)
                return time.monotonic() < until and not is_over

            raise self._mongo.copies.instead_of(error, self._original, wait=wait) from None
        finally:
            task_ends_at.reset(token)

    def _part(self, call: Callable[[], T]) -> T:
        if not self._has_begun:
            self._has_begun = True
            self._begin()
        try:
            with bounded(self._mongo.limits().deadline):
                result = call()
        except BaseException as error:
            if self._is_forked():
                end_fork(error, self._mongo.close)
            self._failed(error)
            raise
        if self._is_forked():
            end_fork(None, self._mongo.close)
        return result

    def _is_forked(self) -> bool:
        return self._work is not None and self._work.is_forked

    def _begin(self) -> None:
        """Return where the body is to run; raise what ends the run without it."""
        # An eager run has neither a broker to go back to nor a delivery.
        if self._task.request.is_eager:
            return
        carry_on(self._task.request)
        try:
            self._ask()
        except Exception:
            raise
        except BaseException as error:
            self._failed(error)
            raise

    def _ask(self) -> None:
        self._wait_for_mongo()
        try:
            self._id = self._mongo.deliveries.begin(self._task)
        except NoRedisError:
            # Waiting does not help it. An idempotent task asks nobody where nobody can tell.
            raise NeedsRedisError(self._task.name) from None
        except (RedisError, NotKeptError, StillRunningError) as error:
            self._pause()
            self._go_on(recovery.wait(self._terms()), str(error) or type(error).__name__)

    def end(self, *, is_done: bool = True) -> None:
        """Say that the run is over, where anybody has to know; `is_done`: and that no other may follow.

        It is noted once Celery is done with it: its hooks may end the process as well as its body.
        """
        if self._id is None:
            return
        note = partial(self._mongo.deliveries.end, self._task, self._id, is_done=is_done)
        if (work := current_work.get()) is None:
            note()
        else:
            work.at_end = note

    def _failed(self, error: BaseException) -> None:
        """Raise what gives the task another run, or none; return where its error shall stand."""
        if (end := end_of_process(error)) is not None:
            self._interrupted()
            if end is not error:
                raise end
            return
        if is_greenlet_exit(error):
            self._killed(error)
            return
        if isinstance(error, MemoryError) or not isinstance(error, Exception):
            self._exited(error)
            return
        if isinstance(error, BackToBroker):
            # A retry of the task's own that could not be sent, or its letter.
            return
        failed_at, terms = time.monotonic(), self._terms()
        error_class = self._observe(error)
        is_away = terms.waits and self._is_away(error, error_class, failed_at)
        way = recovery.way(error_class, terms, is_away=is_away)
        if way is not Way.FAIL and not may_run_again(self._task, self._mongo):
            if self._task.request.is_eager:
                # No message: the error stands.
                return
            self._refuse(error)
        self.end(is_done=way is Way.FAIL and not _asks_again(error))
        self._go_on(way, recovery.reason(error, error_class, is_away=is_away), error)

    def _wait_for_mongo(self) -> None:
        """Go back to the broker, after a moment, where MongoDB is known to be away."""
        link = self._mongo.link
        if link.circuit.is_closed or not self._terms().waits or self._hold(recovery.HOLD_SECONDS):
            return
        self._go_on(recovery.wait(self._terms()), f"MongoDB is away ({link.error})")

    def _observe(self, error: Exception) -> ErrorClass:
        return ErrorClass.FOREIGN if recovery.is_of_celery(error) else self._mongo.link.observe(error)

    def _is_away(self, error: Exception, error_class: ErrorClass, failed_at: float) -> bool:
        """Say whether an outage has to do with the error; then the slot is kept for a moment."""
        link = self._mongo.link
        if not recovery.can_wait(error, error_class):
            return False
        # An outage that ended while the task ran will do, but not for a soft time limit that strikes later.
        since = failed_at if recovery.is_of_celery(error) else self._began
        if not (link.circuit.was_open_since(since) or link.was_elected_since(since)):
            within = max(self._seconds_to_end(), _PING_SECONDS)
            if not recovery.needs_ping(error, error_class):
                return False
            answers = link.answers(failed_at, within=within, is_shutdown=is_shutdown(error))
            if answers and not link.was_elected_since(since):
                return False
        time.sleep(min(recovery.pause_seconds(), self._seconds_to_end()))
        self._hold(recovery.hold_seconds(time.monotonic() - self._began))
        return True

    def _interrupted(self) -> None:
        """Note that the process is told to end in the middle of the run, as a cold shutdown does."""
        # What may not run again stays a run that began and did not end.
        if not self._task.request.is_eager and may_run_again(self._task, self._mongo):
            self._mongo.deliveries.interrupt(self._task, self._id)

    def _killed(self, error: BaseException) -> None:
        """Give the message of a greenlet back that is killed, as at a cold shutdown: Celery acknowledges it
        as one that is done. One that was revoked has been acknowledged already, and stays so.
        """
        task = self._task
        self._interrupted()
        if not task.acks_late or task.request.is_eager:
            return
        if not may_run_again(task, self._mongo):
            self._refuse(error)
        raise BackToBroker("its greenlet was killed")

    def _exited(self, error: BaseException) -> None:
        """Fail the task that raises what would end its process: Celery would run it again, for ever, and at a
        MemoryError end the whole worker.

        Outside a worker, where an eager task runs, its caller sees to it, or the person who pressed Ctrl-C.
        """
        if self._task.request.is_eager:
            return
        self.end()
        raise TaskExitError(f"{error!r} ends the task, not its process") from error

    def _refuse(self, error: BaseException) -> NoReturn:
        dead = refused(self._task, self._mongo, error)
        if isinstance(dead, DeadLetteredError):
            self.end()
        raise dead from error

    def _go_on(self, way: Way, reason: str, error: Exception | None = None) -> None:
        if way is Way.RETRY:
            self._retry(reason, error)
        if way in (Way.REQUEUE, Way.RESEND):
            self._mongo.requeued += 1
            message = "%s[%s] goes back to the broker: %s"
            args = (self._task.name, self._task.request.id, reason)
            events.say(logger, logging.DEBUG, Event.TASK_REQUEUED, message, *args, reason=reason)
        if way is Way.REQUEUE:
            # A copy is a first delivery again.
            if self._original is None or not self._original.counts_returns:
                self._mongo.deliveries.give_back(self._task)
            raise BackToBroker(reason) from None
        if way is Way.RESEND:
            self._resend()
            raise Ignore(reason) from None

    def _retry(self, reason: str, error: Exception | None) -> None:
        task, retries = self._task, self._task.request.retries
        delay = self._mongo.backoff.delay(retries)
        message = "%s[%s] met %s and runs again in %.1f s (retry %d of %s)"
        args = (task.name, task.request.id, reason, delay, retries + 1, task.max_retries)
        events.say(logger, logging.WARNING, Event.TASK_RETRY, message, *args, error_class=reason)
        raise task.retry(exc=error, countdown=delay) from error

    def _resend(self) -> None:
        """Send a copy with the retries that the message has. Before the end of this run: a worker that dies
        in between makes the task run twice, rather than never.
        """
        settings = self._mongo.settings
        outage = self._mongo.link.circuit.outage_seconds(time.monotonic())
        base, cap = settings.backoff_base_seconds, settings.backoff_cap_seconds
        delay = recovery.resend_seconds(outage, base=base, cap=cap)
        self._task.signature_from_request(self._task.request, countdown=delay).apply_async(
            **self._mongo.copies.options()
        )

    def _terms(self) -> Terms:
        task = self._task
        # Celery's None is no limit.
        can_retry = task.max_retries is None or task.request.retries < task.max_retries
        return Terms(bool(task.acks_late), task.waits_out_outages and not task.request.is_eager, can_retry)

    def _pause(self) -> bool:
        """Keep the slot for a moment; return False, since nothing is known to be over then."""
        time.sleep(min(recovery.HOLD_SECONDS, self._seconds_to_end()))
        return False

    def _hold(self, seconds: float) -> bool:
        return self._mongo.link.wait_closed(min(seconds, self._seconds_to_end()))

    def _seconds_to_end(self) -> float:
        return float("inf") if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())


def _asks_again(error: Exception) -> bool:
    """Say whether the task itself asks for another run."""
    return isinstance(error, Retry) or (isinstance(error, Reject) and bool(error.requeue))


def may_run_again(task: Any, mongo: Mongo) -> bool:
    """Say whether another run does no harm: the task may run twice, or has certainly written nothing yet."""
    work = current_work.get()
    has_written_nothing = mongo.has_write_counter and work is not None and not work.writes
    return bool(task.idempotent or has_written_nothing)


def refused(task: Any, mongo: Mongo, error: BaseException | None) -> Exception:
    """Put the message of a task that must not run again to the dead letters; return what ends its run."""
    try:
        dead: Exception = mongo.deliveries.refuse(task, Admission.UNKNOWN, error=error)
    except NotKeptError as unkept:
        if not task.acks_late:
            return DeadLetteredError(f"it may have written, must not run twice, and {unkept}")
        # The run does not end for those who ask, so that the message waits until the letter is written.
        return BackToBroker(str(unkept))
    return dead
