"""What becomes of a task that MongoDB failed. Pure: `MongoTask` does it.

| what failed it | late acknowledgement | early acknowledgement |
|---|---|---|
| outage; a login that was refused | back to the broker, costs no retry | a copy is sent, costs no retry |
| a soft time limit while MongoDB is away | likewise | likewise |
| an operation that got no answer from a server that answers others | a retry | a retry |
| failover, overload, deadline, closed client | a retry, after a full-jitter delay | a retry |
| anything else | fails at once | fails at once |

A retry is one of `max_retries`. A task that is run eagerly has no broker to go back to: it retries. A login
that was refused is of the process, not of the task, and new credentials mend it: the task waits for them.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

from celery.exceptions import SoftTimeLimitExceeded
from pymongo.errors import NetworkTimeout

from .mongo.classify import ErrorClass, is_login_refused

HOLD_SECONDS = 1.0
"""A task that goes back keeps its slot for so long, counted from its start, unless the circuit closes: on a
queue that is not gated the broker hands it out again at once, and would ever faster.
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


def cause(error: BaseException, error_class: ErrorClass, *, is_away: bool) -> ErrorClass:
    """Return the class of what failed a task: a soft time limit that strikes while MongoDB is away is the
    outage's, whose end the task has waited for.
    """
    return ErrorClass.OUTAGE if is_away and isinstance(error, SoftTimeLimitExceeded) else error_class


def is_outage(error: BaseException, error_class: ErrorClass) -> bool:
    """Say whether the error is about the process's link to MongoDB, and not about this task."""
    is_login = error_class is ErrorClass.AUTH and is_login_refused(error)
    return error_class is ErrorClass.OUTAGE or is_login


def way(error: BaseException, error_class: ErrorClass, terms: Terms, *, is_back: bool) -> Way:
    """Return how the task goes on; `is_back`: MongoDB answers the process again, some moments later."""
    # Sent, and no answer for the socket's timeout, by a server that answers a ping: it is the operation.
    is_its_own = is_back and isinstance(error, NetworkTimeout)
    if terms.waits and is_outage(error, error_class) and not is_its_own:
        return wait(terms)
    return Way.RETRY if error_class.is_transient and terms.can_retry else Way.FAIL


def wait(terms: Terms) -> Way:
    """Return how a task waits out an outage."""
    return Way.REQUEUE if terms.acks_late else Way.RESEND


def hold_seconds(elapsed: float, *, has_timed_out: bool, ping_seconds: float) -> float:
    """Return how long a task that failed waits at most for the circuit to close, `elapsed` since its start.

    One whose operation timed out waits for the verdict of a ping: it says what timed out.
    """
    return max(HOLD_SECONDS - elapsed, ping_seconds if has_timed_out else 0.0, 0.0)


def pause_seconds() -> float:
    """Return how long a task that goes back keeps its slot at least."""
    return random.uniform(0.5, 1.5) * PAUSE_SECONDS  # noqa: S311 - no secret hangs on it


def resend_seconds(outage_seconds: float, *, base: float, cap: float) -> float:
    """Return when a copy runs: a random moment of as long again as the outage lasts, so ever rarer."""
    return random.uniform(0.0, min(cap, max(base, outage_seconds)))  # noqa: S311 - no secret hangs on it
