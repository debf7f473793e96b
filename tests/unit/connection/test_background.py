"""What PyMongo's background threads log becomes one line per state."""

import logging
from collections.abc import Iterator
from contextlib import suppress

import pytest
from pymongo import errors
from pymongo.logger import _CLIENT_LOGGER

from tests.unit.driver_names import moved
from worker.connection import background
from worker.connection.background import QUIET_SECONDS, OneLine
from worker.events import Event

_log_client_error = moved("_log_client_error", "logger")
pytestmark = pytest.mark.skipif(
    _log_client_error is None, reason="before PyMongo 4.12 they print to standard error, which nobody hears"
)

REFUSED = errors.OperationFailure("Authentication failed.", 18, {"code": 18})
GONE = errors.AutoReconnect("a:27017: [Errno 111] Connection refused (configured timeouts: x)")


class Driver:
    """A filter on the driver's logger, and what the driver's threads meet."""

    def __init__(self) -> None:
        self.now = 100.0
        self.is_told = False
        self.filter = OneLine(lambda: self.is_told, clock=lambda: self.now)

    def meet(self, error: Exception) -> None:
        with suppress(type(error)):
            self._work(error)

    def _work(self, error: Exception) -> None:
        try:
            raise error
        except type(error):
            _log_client_error()
            raise


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    before = list(_CLIENT_LOGGER.filters)
    _CLIENT_LOGGER.filters[:] = [made.filter]
    yield made
    _CLIENT_LOGGER.filters[:] = before


def test_the_driver_still_logs_there() -> None:
    assert _CLIENT_LOGGER.name == background.LOGGER


def test_a_failure_is_one_line_however_often_it_is_met(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        driver.meet(REFUSED)
        driver.now += 10
    [record] = caplog.records
    assert record.getMessage() == "client.background: login refused (Authentication failed, code 18)"
    assert (record.exc_info, record.levelno) == (None, logging.WARNING)
    assert vars(record)["event"] == Event.CLIENT_BACKGROUND


def test_another_failure_is_news_and_so_is_one_that_was_over(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (REFUSED, GONE, REFUSED, GONE):
        driver.meet(error)
    driver.now += QUIET_SECONDS + 1
    driver.meet(GONE)
    told = [record.getMessage().partition(": ")[2] for record in caplog.records]
    gone = "a:27017: Connection refused"
    assert told == ["login refused (Authentication failed, code 18)", gone, gone]


def test_what_the_circuit_tells_is_not_told_twice(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    driver.is_told = True
    driver.meet(REFUSED)
    assert caplog.records == []


def test_an_error_of_other_code_keeps_its_traceback(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    driver.meet(ValueError("a bug"))
    assert caplog.records[0].exc_info is not None


def test_a_new_client_makes_no_second_filter() -> None:
    before = list(_CLIENT_LOGGER.filters)
    try:
        for _ in range(2):
            background.watch(lambda: False)
        assert len([one for one in _CLIENT_LOGGER.filters if isinstance(one, OneLine)]) == 1
    finally:
        _CLIENT_LOGGER.filters[:] = before
