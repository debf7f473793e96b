"""What becomes of a task that MongoDB failed."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from pymongo import errors

from worker.delivery import recovery
from worker.delivery.recovery import Terms, Way, way
from worker.mongo.classify import classify

LATE = Terms(acks_late=True, waits=True, can_retry=True)
EARLY = Terms(acks_late=False, waits=True, can_retry=True)
SPENT = Terms(acks_late=True, waits=True, can_retry=False)

NO_SERVER = errors.ServerSelectionTimeoutError("refused")
BAD_LOGIN = errors.OperationFailure("Authentication failed.", 18)
BAD_ATLAS_LOGIN = errors.OperationFailure("bad auth : authentication failed", 8000)
NO_ATLAS_ROLE = errors.OperationFailure("user is not allowed to do action [update] on [app.orders]", 8000)
EXPIRED = errors.ServerSelectionTimeoutError("SSL: certificate verify failed: certificate has expired")
NO_ROLE = errors.OperationFailure("not allowed", 13)


@pytest.mark.parametrize(
    ("error", "is_away", "ways"),
    [
        (NO_SERVER, True, (Way.REQUEUE, Way.RESEND, Way.REQUEUE)),
        (NO_SERVER, False, (Way.RETRY, Way.RETRY, Way.FAIL)),
        (BAD_LOGIN, True, (Way.REQUEUE, Way.RESEND, Way.REQUEUE)),
        (BAD_LOGIN, False, (Way.FAIL, Way.FAIL, Way.FAIL)),
        (errors.NotPrimaryError("x"), True, (Way.REQUEUE, Way.RESEND, Way.REQUEUE)),
        (errors.NotPrimaryError("x"), False, (Way.RETRY, Way.RETRY, Way.FAIL)),
        (errors.WaitQueueTimeoutError("x"), False, (Way.RETRY, Way.RETRY, Way.FAIL)),
        (errors.DuplicateKeyError("x", 11000), False, (Way.FAIL, Way.FAIL, Way.FAIL)),
        (EXPIRED, True, (Way.REQUEUE, Way.RESEND, Way.REQUEUE)),
        (EXPIRED, False, (Way.FAIL, Way.FAIL, Way.FAIL)),
        (errors.ConfigurationError("x"), False, (Way.FAIL, Way.FAIL, Way.FAIL)),
        (OSError(18, "not MongoDB's"), False, (Way.FAIL, Way.FAIL, Way.FAIL)),
    ],
    ids=repr,
)
def test_each_error_has_one_way_for_each_kind_of_task(
    error: Exception, is_away: bool, ways: tuple[Way, ...]
) -> None:
    found = [way(classify(error), terms, is_away=is_away) for terms in (LATE, EARLY, SPENT)]
    assert found == list(ways)


@pytest.mark.parametrize(
    ("error", "can_wait", "needs_ping"),
    [
        (NO_SERVER, True, True),
        (errors.AutoReconnect("reset"), True, True),
        (errors.NetworkTimeout("timed out"), True, True),
        (errors.NotPrimaryError("x"), True, True),
        (errors.WriteConcernError("Replication is being shut down", 91), True, True),
        (errors.ExecutionTimeout("x", 50), True, True),
        (BAD_LOGIN, True, True),
        (BAD_ATLAS_LOGIN, True, True),
        (errors.OperationFailure("busy", 462), True, False),
        (errors.WaitQueueTimeoutError("x"), True, False),
        (errors.InvalidOperation("Cannot use MongoClient after close"), True, False),
        (SoftTimeLimitExceeded(), True, False),
        (NO_ATLAS_ROLE, False, False),
        (NO_ROLE, False, False),
        (errors.DuplicateKeyError("x", 11000), False, False),
        (errors.ConfigurationError("x"), True, True),
        (EXPIRED, True, True),
        (ValueError("x"), False, False),
        (OSError(18, "not MongoDB's"), False, False),
    ],
    ids=repr,
)
def test_what_an_outage_may_have_to_do_with_and_what_only_a_ping_tells(
    error: Exception, can_wait: bool, needs_ping: bool
) -> None:
    assert recovery.can_wait(error, classify(error)) is can_wait
    assert recovery.needs_ping(error, classify(error)) is needs_ping


def test_a_code_of_other_code_is_no_refused_login() -> None:
    error = ValueError("x")
    error.code = 18  # type: ignore[attr-defined] # as errors of other libraries have one
    assert not recovery.can_wait(error, classify(error))


@pytest.mark.parametrize(
    ("error", "is_away", "expected"),
    [
        (NO_SERVER, True, "outage"),
        (NO_SERVER, False, "outage"),
        (errors.NotPrimaryError("x"), True, "failover in an outage"),
        (errors.NotPrimaryError("x"), False, "failover"),
        (SoftTimeLimitExceeded(), True, "SoftTimeLimitExceeded in an outage"),
    ],
)
def test_the_reason_says_no_more_than_is_known(error: Exception, is_away: bool, expected: str) -> None:
    assert recovery.reason(error, classify(error), is_away=is_away) == expected


def test_a_slot_is_kept_for_the_rest_of_a_second() -> None:
    assert [recovery.hold_seconds(elapsed) for elapsed in (0.0, 0.25, 5.0)] == [1.0, 0.75, 0.0]


def test_what_goes_back_pauses_for_a_moment_of_its_own() -> None:
    pauses = [recovery.pause_seconds() for _ in range(200)]
    assert 0.1 <= min(pauses) < 0.15
    assert 0.25 < max(pauses) <= 0.3


@pytest.mark.parametrize(("outage", "most"), [(0.0, 0.5), (8.0, 8.0), (600.0, 30.0)])
def test_a_copy_waits_about_as_long_again_as_the_outage_lasts(outage: float, most: float) -> None:
    delays = [recovery.resend_seconds(outage, base=0.5, cap=30.0) for _ in range(200)]
    assert 0.9 * most < max(delays) <= most
    assert min(delays) < 0.1 * most
