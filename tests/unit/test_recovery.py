"""What becomes of a task that MongoDB failed."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from pymongo import errors

from worker import recovery
from worker.mongo.classify import ErrorClass, classify
from worker.recovery import Terms, Way, way

LATE = Terms(acks_late=True, waits=True, can_retry=True)
EARLY = Terms(acks_late=False, waits=True, can_retry=True)
SPENT = Terms(acks_late=True, waits=True, can_retry=False)
EAGER = Terms(acks_late=True, waits=False, can_retry=True)

NOBODY = errors.ServerSelectionTimeoutError("nobody")
RESET = errors.AutoReconnect("reset")
SILENT = errors.NetworkTimeout("timed out")
BAD_LOGIN = errors.OperationFailure("Authentication failed.", 18)
BAD_ATLAS_LOGIN = errors.OperationFailure("bad auth : authentication failed", 8000)
NO_ATLAS_ROLE = errors.OperationFailure("user is not allowed to do action [update] on [app.orders]", 8000)
NO_ROLE = errors.OperationFailure("not allowed", 13)


@pytest.mark.parametrize(
    ("error", "is_back", "ways"),
    [
        (NOBODY, False, (Way.REQUEUE, Way.RESEND, Way.REQUEUE, Way.RETRY)),
        (RESET, True, (Way.REQUEUE, Way.RESEND, Way.REQUEUE, Way.RETRY)),
        (SILENT, False, (Way.REQUEUE, Way.RESEND, Way.REQUEUE, Way.RETRY)),
        (SILENT, True, (Way.RETRY, Way.RETRY, Way.FAIL, Way.RETRY)),
        (BAD_LOGIN, False, (Way.REQUEUE, Way.RESEND, Way.REQUEUE, Way.FAIL)),
        (BAD_ATLAS_LOGIN, False, (Way.REQUEUE, Way.RESEND, Way.REQUEUE, Way.FAIL)),
        (NO_ATLAS_ROLE, False, (Way.FAIL, Way.FAIL, Way.FAIL, Way.FAIL)),
        (NO_ROLE, False, (Way.FAIL, Way.FAIL, Way.FAIL, Way.FAIL)),
        (errors.NotPrimaryError("x"), False, (Way.RETRY, Way.RETRY, Way.FAIL, Way.RETRY)),
        (errors.WaitQueueTimeoutError("x"), True, (Way.RETRY, Way.RETRY, Way.FAIL, Way.RETRY)),
        (errors.ExecutionTimeout("x", 50), True, (Way.RETRY, Way.RETRY, Way.FAIL, Way.RETRY)),
        (errors.DuplicateKeyError("x", 11000), True, (Way.FAIL, Way.FAIL, Way.FAIL, Way.FAIL)),
        (errors.ConfigurationError("x"), False, (Way.FAIL, Way.FAIL, Way.FAIL, Way.FAIL)),
        (OSError(18, "not MongoDB's"), False, (Way.FAIL, Way.FAIL, Way.FAIL, Way.FAIL)),
    ],
    ids=repr,
)
def test_each_error_has_one_way_for_each_kind_of_task(
    error: Exception, is_back: bool, ways: tuple[Way, ...]
) -> None:
    found = [way(error, classify(error), terms, is_back=is_back) for terms in (LATE, EARLY, SPENT, EAGER)]
    assert found == list(ways)


@pytest.mark.parametrize(
    ("error", "is_away", "expected"),
    [
        (SoftTimeLimitExceeded(), True, ErrorClass.OUTAGE),
        (SoftTimeLimitExceeded(), False, ErrorClass.FOREIGN),
        (ValueError(), True, ErrorClass.FOREIGN),
    ],
)
def test_a_soft_time_limit_is_the_outages_while_it_lasts(
    error: Exception, is_away: bool, expected: ErrorClass
) -> None:
    assert recovery.cause(error, classify(error), is_away=is_away) is expected


def test_a_code_of_somebody_elses_is_no_refused_login() -> None:
    error = ValueError("x")
    error.code = 18  # type: ignore[attr-defined] # as errors of other libraries have one
    assert not recovery.is_outage(error, ErrorClass.FOREIGN)


def test_a_slot_is_kept_for_the_rest_of_a_second_or_for_the_verdict_of_a_ping() -> None:
    held = [
        recovery.hold_seconds(elapsed, has_timed_out=timed_out, ping_seconds=2.0)
        for elapsed, timed_out in ((0.25, False), (5.0, False), (20.0, True), (0.0, True))
    ]
    assert held == [0.75, 0.0, 2.0, 2.0]


def test_what_goes_back_pauses_for_a_moment_of_its_own() -> None:
    pauses = [recovery.pause_seconds() for _ in range(200)]
    assert 0.1 <= min(pauses) < 0.15
    assert 0.25 < max(pauses) <= 0.3


@pytest.mark.parametrize(("outage", "most"), [(0.0, 0.5), (8.0, 8.0), (600.0, 30.0)])
def test_a_copy_waits_about_as_long_again_as_the_outage_lasts(outage: float, most: float) -> None:
    delays = [recovery.resend_seconds(outage, base=0.5, cap=30.0) for _ in range(200)]
    assert 0.9 * most < max(delays) <= most
    assert min(delays) < 0.1 * most
