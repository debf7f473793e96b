"""One operation, tried again where trying again can help, within a number of attempts and a time."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import pymongo

from .backoff import Backoff
from .classify import classify, driver_attempts

T = TypeVar("T")

# Short waits: the caller holds a task's slot or a web request meanwhile. An outage is not waited out here.
_BACKOFF = Backoff(base=0.1, cap=2.0)


@dataclass(frozen=True)
class Limits:
    """How long a call may take: `asked` for by the caller, `left` to its task, and `driver`'s own limits.

    Seconds; None is no limit. The driver's limits are its selection, queue and socket timeouts added up.
    """

    asked: float | None
    left: float | None
    driver: float

    @property
    def deadline(self) -> float | None:
        """The time to hand to `pymongo.timeout()`, or None where the driver's own limits serve.

        `pymongo.timeout()` replaces the selection and queue timeouts, so a long time limit handed to it
        would let an operation wait that long for a server. Hence only a time that was asked for, or one
        that is shorter than the driver's limits.
        """
        if self.asked is not None:
            return self.asked if self.left is None else min(self.asked, self.left)
        if self.left is not None and self.left < self.driver:
            return self.left
        return None


def bounded(deadline: float | None) -> AbstractContextManager[object]:
    """Return a context in which operations end within `deadline` seconds; None changes nothing."""
    # timeout(0) would mean no timeout at all.
    return nullcontext() if deadline is None else pymongo.timeout(max(deadline, 0.001))


def call(  # noqa: PLR0913 - the last three are for tests and for the one caller that has a circuit
    operation: Callable[[], T],
    *,
    attempts: int = 3,
    limits: Limits,
    observe: Callable[[BaseException], object] = lambda _error: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Run `operation()` until it succeeds, its attempts are spent or its time is over; then raise its error.

    Only transient errors are tried again, after a full-jitter delay (base 0.1 s, cap 2 s). Attempts that
    the driver made by itself count. The operation may run more than once: make it idempotent.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts}")
    started = clock()
    spent = failures = 0
    while True:
        left = None if limits.deadline is None else limits.deadline - (clock() - started)
        try:
            with bounded(left):
                return operation()
        except Exception as error:
            observe(error)
            spent += driver_attempts(error)
            delay = _BACKOFF.delay(failures)
            failures += 1
            time_is_over = left is not None and clock() - started + delay >= (limits.deadline or 0)
            if not classify(error).is_transient or spent >= attempts or time_is_over:
                raise
        sleep(delay)
