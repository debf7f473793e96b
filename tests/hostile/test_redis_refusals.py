"""What Redis answers and what it does not: only a lost connection is a Redis that is away."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError
from redis import exceptions

from tests.unit import told_errors
from worker.integration import beat
from worker.mongo.backoff import Backoff
from worker.process.publisher import Publisher
from worker.store import redis_errors

OOM = exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

SAID: list[tuple[Exception, bool, str]] = [
    (
        exceptions.ConnectionError("Error 111 connecting to secret:6379"),
        True,
        "does not answer (ConnectionError)",
    ),
    (exceptions.TimeoutError("x"), True, "does not answer (TimeoutError)"),
    (ConnectionResetError("x"), True, "does not answer (ConnectionResetError)"),
    (OOM, False, "is full and refuses writes (OOM)"),
    (
        exceptions.ResponseError("Error running script: -OOM command not allowed"),
        False,
        "is full and refuses writes (OOM)",
    ),
    (exceptions.NoPermissionError("no permissions"), False, "does not let this user do it (NOPERM)"),
    (exceptions.ReadOnlyError("x"), False, "is a replica, which takes no writes (READONLY)"),
    (
        exceptions.ResponseError("MISCONF Redis is configured to save"),
        False,
        "cannot write to its disk and refuses writes (MISCONF)",
    ),
    (exceptions.AuthenticationError("x"), False, "refuses the login (AuthenticationError)"),
    (exceptions.BusyLoadingError("x"), False, "is loading its data (LOADING)"),
    (exceptions.ResponseError("ERR secret"), False, "refuses it (ResponseError)"),
    (KeyError("secret"), False, "could not be read (KeyError)"),
]


@pytest.mark.parametrize(("error", "is_away", "said"), SAID, ids=lambda value: type(value).__name__)
def test_what_redis_does_is_said_in_its_own_word(error: Exception, is_away: bool, said: str) -> None:
    assert redis_errors.is_away(error) is is_away
    assert redis_errors.what_it_does(error) == said


def caused(cause: Exception | None) -> OperationalError:
    error = OperationalError("x")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OOM, "Redis is full and refuses writes (OOM)"),
        (caused(OOM), "Redis is full and refuses writes (OOM)"),
        (caused(None), "Redis does not answer (OperationalError)"),
        (exceptions.ConnectionError("x"), "Redis does not answer (ConnectionError)"),
    ],
)
def test_beat_waits_for_a_redis_that_is_full_and_says_so(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended with a stack where Redis was full."""
    caplog.set_level(logging.INFO, logger="celery_pymongo")
    waiting: Any = SimpleNamespace(_away_since=None, _end_if_closed=lambda: None)
    errors = [error, error]

    def act() -> None:
        if errors:
            raise errors.pop()

    assert [beat.Scheduler._tried(waiting, act) for _ in range(3)] == [False, False, True]
    assert [line for line in caplog.messages if said in line] == [
        f"beat.waiting: {said}; beat waits and goes on"
    ]


def test_beat_ends_with_what_it_cannot_wait_for() -> None:
    waiting: Any = SimpleNamespace(_away_since=None, _end_if_closed=lambda: None)

    def act() -> None:
        raise exceptions.ResponseError("WRONGTYPE x")

    with pytest.raises(exceptions.ResponseError):
        beat.Scheduler._tried(waiting, act)


@pytest.mark.parametrize(("error", "_is_away", "said"), SAID[:-1], ids=lambda value: type(value).__name__)
def test_a_command_ends_with_one_line_that_quotes_nothing(
    error: Exception, _is_away: bool, said: str
) -> None:
    assert told_errors.mongo().redis_problem(error) == f"Redis at h:6379/0 {said}"


def test_a_process_says_with_which_word_its_reports_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        def publish(self, _member: str, _report: bytes) -> None:
            raise OOM

    registry: Any = Full()
    publisher = Publisher(registry, Backoff(1, 2))
    assert publisher.publish(0.0, "w1@h/0", b"{}") is None
    assert publisher.is_away
    assert "Redis does not take this process's reports (OOM)" in caplog.text
