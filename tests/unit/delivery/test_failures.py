"""A task that an outage fails is told in one line; whatever else fails, as Celery tells it."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import errors

from worker.connection.circuit import Circuit
from worker.delivery import failures

REFUSED = errors.ServerSelectionTimeoutError("a:27017: [Errno 111] Connection refused, Timeout: 3.0s")


class OrderError(Exception):
    """An app's own."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.fixture
def circuit() -> Iterator[Circuit]:
    made = Circuit()
    failures.shorten(Circuit)
    failures.shorten(lambda: made)
    yield made
    failures.shorten(Circuit)


def log(error: Exception, caplog: pytest.LogCaptureFixture) -> str:
    """Log a failure as Celery does, and return it as a log has it."""
    told = {"name": "shop.count", "id": "1", "exc": repr(error), "description": "raised unexpected"}
    message = "Task %(name)s[%(id)s] %(description)s: %(exc)s"
    logger = logging.getLogger(failures.LOGGER)
    logger.error(message, told, exc_info=error, extra={"data": told})
    assert len([one for one in logger.filters if isinstance(one, failures.OutageInOneLine)]) == 1
    return logging.Formatter().format(caplog.records[-1])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (REFUSED, "ServerSelectionTimeoutError, since MongoDB is away: a:27017: Connection refused"),
        (caused(OrderError("secret"), REFUSED), "OrderError, since MongoDB is away"),
    ],
)
def test_what_an_outage_fails_is_one_line(
    circuit: Circuit, caplog: pytest.LogCaptureFixture, error: Exception, text: str
) -> None:
    circuit.fail(time.monotonic(), "refused")
    assert log(error, caplog) == f"Task shop.count[1] raised unexpected: {text}"


@pytest.mark.parametrize(
    ("error", "is_open"),
    [
        (REFUSED, False),
        (OrderError("x"), True),
        (errors.DuplicateKeyError("x"), True),
    ],
)
def test_what_else_fails_is_told_with_its_traceback(
    circuit: Circuit, caplog: pytest.LogCaptureFixture, error: Exception, is_open: bool
) -> None:
    if is_open:
        circuit.fail(time.monotonic(), "refused")
    assert repr(error) in log(error, caplog)
    assert caplog.records[-1].exc_info is not None


def test_a_record_of_another_kind_passes(circuit: Circuit, caplog: pytest.LogCaptureFixture) -> None:
    circuit.fail(time.monotonic(), "refused")
    arguments: Any = ("plain", 1)
    logging.getLogger(failures.LOGGER).error("%s %d", *arguments, exc_info=REFUSED)
    assert caplog.messages == ["plain 1"]
