"""What becomes of a task that MongoDB failed. Pure: `MongoTask` does it.

| what failed it | late acknowledgement | early acknowledgement |
|---|---|---|
| in an outage: a transient error, a refused login, TLS or options | back to the broker, no retry | a copy |
| a soft time limit while MongoDB is away | likewise | likewise |
| else: a transient error | a retry, after a full-jitter delay | a retry |
| anything else | fails at once | fails at once |

Transient are outage, failover, overload, an exhausted pool, a deadline and a closed client. There is an
outage where MongoDB does not answer a ping of this process's own client after the error, or did not while
the task ran, or elected another primary meanwhile. Without one the error is the task's own, as where
another cluster is away: a retry is one of `max_retries`. A task that is run eagerly has no broker to go
back to: it retries. A login, TLS or options that are refused to a ping are of the process, not of the task,
and a person mends them: the task waits.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

from celery.exceptions import SoftTimeLimitExceeded, TaskPredicate

from ..mongo.classify import ErrorClass, is_login_refused

HOLD_SECONDS = 1.0
"""A task that goes back keeps its slot for so long, counted from its start, unless the circuit closes: on a
queue that is not gated the broker hands it out again at once, and would ever faster.
"""

COPY_SECONDS = 60.0
"""For so long a task that goes back keeps its slot where the broker takes no copy of it and the outage lasts:
its queue would count a return a second.
"""

PAUSE_SECONDS = 0.2
"""The shortest hold on average: a server that answers pings and drops the operation is no reason to spin."""


class Way(StrEnum):
    """How a task that failed goes on."""

    FAIL = "fail"
    RETRY = "retry"
    REQUEUE = "requeue"
    RESEND = "resend"


@dataclass(frozen=True)
class Terms:
    """What a task allows: its message is acknowledged late; it waits outages out with the broker (no eager
    one can); it has a retry left.
    """

    acks_late: bool
    waits: bool
    can_retry: bool


def is_of_celery(error: BaseException) -> bool:
    """Say whether an error says itself what becomes of the task, whatever was handled when it was raised."""
    return isinstance(error, (TaskPredicate, SoftTimeLimitExceeded))


def can_wait(error: BaseException, error_class: ErrorClass) -> bool:
    """Say whether the error is one that a task waits out, should there be an outage."""
    is_login = error_class is ErrorClass.AUTH and is_login_refused(error)
    is_refused = is_login or error_class is ErrorClass.CONFIG
    return error_class.is_transient or is_refused or isinstance(error, SoftTimeLimitExceeded)


def needs_ping(error: BaseException, error_class: ErrorClass) -> bool:
    """Say whether only a ping can tell if there is an outage, where no heartbeat has noticed one.

    An overloaded server answers, a ping waits in the same full pool, a closed client was the process's own
    doing, and a time limit leaves no time.
    """
    asked = (
        *(ErrorClass.OUTAGE, ErrorClass.FAILOVER, ErrorClass.DEADLINE),
        *(ErrorClass.AUTH, ErrorClass.CONFIG),
    )
    return error_class in asked and can_wait(error, error_class)


def way(error_class: ErrorClass, terms: Terms, *, is_away: bool) -> Way:
    """Return how the task goes on; `is_away`: it waits out an outage."""
    if is_away:
        return wait(terms)
    return Way.RETRY if error_class.is_transient and terms.can_retry else Way.FAIL


def reason(error: BaseException, error_class: ErrorClass, *, is_away: bool) -> str:
    """Return why the task goes on as it does."""
    if not is_away or error_class is ErrorClass.OUTAGE:
        return str(error_class)
    name = type(error).__name__ if error_class is ErrorClass.FOREIGN else error_class
    return f"{name} in an outage"


def wait(terms: Terms) -> Way:
    """Return how a task waits out an outage."""
    return Way.REQUEUE if terms.acks_late else Way.RESEND


def hold_seconds(elapsed: float) -> float:
    """Return how long a task that failed `elapsed` seconds after its start waits for the circuit to close."""
    return max(HOLD_SECONDS - elapsed, 0.0)


def pause_seconds() -> float:
    """Return how long a task that goes back keeps its slot at least."""
    return random.uniform(0.5, 1.5) * PAUSE_SECONDS  # noqa: S311 - no secret hangs on it


def resend_seconds(outage_seconds: float, *, base: float, cap: float) -> float:
    """Return when a copy runs: a random moment of as long again as the outage lasts, so ever rarer."""
    return random.uniform(0.0, min(cap, max(base, outage_seconds)))  # noqa: S311 - no secret hangs on it
