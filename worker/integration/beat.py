"""The service's beat: RedBeat that outlives Redis, once it is known that this Redis may be used."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import kombu.exceptions
import redis.exceptions
from celery.beat import SchedulingError
from celery.signals import beat_init
from redbeat import RedBeatScheduler
from redbeat.schedulers import LUA_EXTEND_TO_SCRIPT, acquire_distributed_beat_lock, get_redis
from redis.exceptions import LockError

from .. import events
from ..events import Event
from ..store import redis_errors, redis_server
from ..text import printable

logger = logging.getLogger("celery_pymongo.beat")
# Where people look for what beat sends.
_sent = logging.getLogger("celery.beat")

RETRY_SECONDS = 1.0
"""The pause between two tries while Redis is away, or another beat leads."""

_AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    kombu.exceptions.OperationalError,
    OSError,
)


class Scheduler(RedBeatScheduler):
    """RedBeat's scheduler. It writes to Redis before Celery sends its first signal to a beat, hence here.

    Where Redis stops answering it waits and goes on; where the lock went with Redis' memory it takes it again
    and stores its entries anew; where another beat has it, it stands by.
    """

    lock: Any = None
    _away_since: float | None = None
    _has_led = False
    _is_standing_by = False
    _is_closed = False

    def setup_schedule(self) -> None:
        """Store the entries, once Redis is there, and where it may be used; exit code 78 elsewhere."""
        # RedBeat's own way to the lock blocks for as long as another leads, and gives up where Redis is away.
        beat_init.disconnect(acquire_distributed_beat_lock)
        while not self._tried(self._store):
            time.sleep(RETRY_SECONDS)

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due, once this beat leads; return the seconds to the next tick.

        A stand-by stays in here: what pulses or judges after each tick takes it for one that sends.
        """
        self._end_if_closed()
        seconds: list[float] = []
        while not (self._tried(lambda: seconds.extend(self._tick(*args, **kwargs))) and seconds):
            time.sleep(RETRY_SECONDS)
        return seconds[0]

    def maybe_due(self, entry: Any, **kwargs: Any) -> Any:
        """Send an entry that is due; return the seconds until it is due again.

        RedBeat's own logs every error with its stack; that the broker is away is said once, by `tick`.
        """
        is_due, next_in = entry.is_due()
        if is_due:
            # RedBeat has its entries in Redis: their names are anybody's.
            name, task = printable(str(entry.name)), printable(str(entry.task))
            _sent.info("Scheduler: Sending due task %s (%s)", name, task)
            try:
                result = self.apply_async(entry, **kwargs)
            except SchedulingError as error:
                self._end_if_closed()
                if away := _away(error):
                    raise away from None
                logger.exception("%s cannot be sent", name)
            else:
                _sent.debug("Scheduler: %s sent. id->%s", task, getattr(result, "id", None))
        return next_in

    def _ensure_connected(self) -> Any:
        """Connect to the broker, or raise: the waiting is done in one place."""
        return self.connection.ensure_connection(max_retries=1)

    def _store(self) -> None:
        redis_server.refuse(self.app)
        super().setup_schedule()

    def _tick(self, *args: Any, **kwargs: Any) -> list[float]:
        """Return the seconds to the next tick; nothing where another beat leads."""
        if self.lock_key and self.lock is None:
            self.lock = self._new_lock()
        # RedBeat's tick begins by extending the lock.
        with suppress(LockError):
            return [super().tick(*args, **kwargs)]
        if not self.lock.acquire(blocking=False):
            self._stand_by()
            return []
        self._lead()
        return [super().tick(*args, **kwargs)]

    def _new_lock(self) -> Any:
        client = get_redis(self.app)
        lock = client.lock(self.lock_key, timeout=self.lock_timeout)
        # As RedBeat does: redis-py's own adds to the time that is left.
        lock.lua_extend = client.register_script(LUA_EXTEND_TO_SCRIPT)
        return lock

    def _lead(self) -> None:
        if self._has_led:
            self._say_lost("it was free and is taken again")
        else:
            logger.info("this beat leads")
        self._has_led, self._is_standing_by = True, False
        # Redis may have come back with nothing in it.
        super().setup_schedule()

    def _stand_by(self) -> None:
        if self._is_standing_by:
            return
        self._is_standing_by = True
        if self._has_led:
            self._say_lost("another beat leads, this one stands by")
        else:
            logger.info("another beat leads, this one stands by")

    def _say_lost(self, what: str) -> None:
        events.say(logger, logging.WARNING, Event.BEAT_LOCK_LOST, "the leader's lock was lost: %s", what)

    def _tried(self, act: Callable[[], object]) -> bool:
        """Act, and say whether Redis answered; that it does not, and that it does again, is said once."""
        try:
            act()
        except Exception as error:
            self._end_if_closed()
            met = _away(error)
            if met is None:
                raise
            self.__dict__.pop("producer", None)  # a cached property: it holds a channel that may be broken
            if self._away_since is None:
                self._away_since = time.monotonic()
                message = "Redis %s; beat waits and goes on"
                events.say(logger, logging.WARNING, Event.BEAT_WAITING, message, _what_redis_does(met))
            return False
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            self._away_since = None
            message = "Redis answers again after %.1f s; beat goes on"
            events.say(logger, logging.INFO, Event.BEAT_RESUMED, message, seconds, seconds=seconds)
        return True

    def _end_if_closed(self) -> None:
        """Raise SystemExit once this beat was told to end.

        Celery's handler of SIGTERM closes the connection that the interrupted call may be reading from: then
        an error of that call takes the place of the handler's SystemExit.
        """
        if self._is_closed:
            raise SystemExit

    def close(self) -> None:
        """Release the lock, where Redis is there to be told; else it expires."""
        self._is_closed = True
        try:
            super().close()
        except _AWAY as error:
            logger.debug("the lock is left to expire: %s", type(error).__name__)


def _away(error: BaseException | None) -> BaseException | None:
    """Return the error in this chain that says that Redis is away, or full, if there is one."""
    while error is not None and not isinstance(error, _AWAY):
        if redis_errors.code(error) in redis_errors.WRITES_REFUSED:
            break
        error = error.__cause__ or error.__context__
    return error


def _what_redis_does(error: BaseException) -> str:
    """Return a predicate: kombu's own error stands for what its transport met."""
    met = error.__cause__ if isinstance(error, kombu.exceptions.OperationalError) else error
    if not isinstance(met, (redis.exceptions.RedisError, OSError)):
        return f"does not answer ({type(error).__name__})"
    return redis_errors.what_it_does(met)
