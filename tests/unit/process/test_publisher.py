"""When a report is sent, and what is said where Redis is away."""

import logging
from itertools import pairwise
from typing import Any

import pytest
import redis

from worker.fleet.registry import Published, TooLargeError
from worker.mongo.backoff import Backoff
from worker.process.publisher import Publisher
from worker.store import app_redis, records
from worker.store.redis_client import NoRedisError


class Fleet:
    """A registry that takes reports, or raises what it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.taken: list[tuple[str, bytes]] = []
        self.tries = 0
        self.left: list[str] = []
        self.documents: dict[str, dict[str, Any]] = {}
        self.stored = 0

    def publish(self, member: str, report: bytes) -> Published:
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.taken.append((member, report))
        return Published(1000.0 + self.tries, None)

    def load(self, _kind: Any, name: str) -> dict[str, Any] | None:
        if self.error is not None:
            raise self.error
        return self.documents.get(name)

    def store(self, name: str, document: dict[str, Any]) -> None:
        self.stored += 1
        self.documents[name] = document

    def goodbye(self, member: str) -> None:
        if self.error is not None:
            raise self.error
        self.left.append(member)


@pytest.fixture
def fleet(caplog: pytest.LogCaptureFixture) -> Fleet:
    caplog.set_level(logging.INFO, logger="celery_pymongo")
    return Fleet()


def longest(_low: float, high: float) -> float:
    """The longest delay that full jitter can draw."""
    return high


def publisher(fleet: Any) -> Publisher:
    return Publisher(fleet, Backoff(0.5, 30.0), uniform=longest)


def run(reporter: Publisher, start: float, end: float, step: float = 0.25) -> list[float]:
    """Tick from start to end; return the moments at which Redis was asked."""
    asked = []
    fleet: Any = reporter._registry
    now = start
    while now < end:
        before = fleet.tries
        reporter.publish(now, "n/0", b"{}")
        asked += [now] * (fleet.tries - before)
        now += step
    return asked


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_each_tick_sends_a_report_while_redis_takes_them(fleet: Fleet, caplog: Any) -> None:
    reporter = publisher(fleet)
    assert reporter.publish(0.0, "n/0", b"one") == Published(1001.0, None)
    assert reporter.publish(0.0, "n/0", b"two") == Published(1002.0, None)
    assert fleet.taken == [("n/0", b"one"), ("n/0", b"two")]
    assert told(caplog) == []


@pytest.mark.parametrize(
    "error", [redis.ConnectionError("x"), redis.TimeoutError("x"), OSError("x"), TooLargeError("x")]
)
def test_whatever_redis_does_nothing_is_raised(fleet: Fleet, error: Exception) -> None:
    reporter = publisher(fleet)
    fleet.error = error
    assert reporter.publish(0.0, "n/0", b"{}") is None
    assert reporter.is_away


def test_an_outage_is_told_once_without_the_errors_text_and_its_end_once(fleet: Fleet, caplog: Any) -> None:
    reporter = publisher(fleet)
    fleet.error = redis.ConnectionError("connecting to redis://user:secret@host")
    run(reporter, 0.0, 100.0)
    fleet.error = None
    run(reporter, 100.0, 200.0)
    (warning, away), (info, back) = told(caplog)
    assert (warning, info) == ("WARNING", "INFO")
    assert away.startswith("registry.away: ")
    assert "ConnectionError" in away
    assert "0.5 s" in away
    assert "secret" not in away
    assert "host" not in away
    assert back == "registry.back: Redis takes this process's reports again, after 121.5 s"


def test_the_redis_is_named_with_what_is_lost(fleet: Any, caplog: Any) -> None:
    lost = app_redis.lost_while_away(is_broker=False)
    reporter = Publisher(fleet, Backoff(0.5, 30.0), uniform=longest, lost=lambda: f". Without it {lost}")
    fleet.error = redis.ConnectionError()
    run(reporter, 0.0, 1.0)
    ((_, away),) = told(caplog)
    assert away.endswith("then with backoff. Without it " + lost)
    assert "tasks run" in lost
    assert "no message is taken" in app_redis.lost_while_away(is_broker=True)


def test_a_second_outage_is_told_again(fleet: Fleet, caplog: Any) -> None:
    reporter = publisher(fleet)
    for start in (0.0, 10.0):
        fleet.error = redis.TimeoutError()
        run(reporter, start, start + 1)
        fleet.error = None
        run(reporter, start + 5, start + 6)
    assert [level for level, _ in told(caplog)] == ["WARNING", "INFO"] * 2


def test_redis_is_asked_ever_less_often_and_at_least_every_30_seconds(fleet: Fleet) -> None:
    reporter = publisher(fleet)
    fleet.error = redis.ConnectionError()
    asked = run(reporter, 0.0, 150.0)
    pauses = [later - sooner for sooner, later in pairwise(asked)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_after_an_outage_every_tick_sends_again(fleet: Fleet) -> None:
    reporter = publisher(fleet)
    fleet.error = redis.ConnectionError()
    run(reporter, 0.0, 1.0)
    fleet.error = None
    assert len(run(reporter, 10.0, 12.0, step=1.0)) == 2
    assert not reporter.is_away


def test_leave_is_taken_of_a_redis_that_is_there(fleet: Fleet) -> None:
    reporter = publisher(fleet)
    assert reporter.goodbye("n/0")
    assert fleet.left == ["n/0"]


def test_no_time_is_spent_on_a_goodbye_that_nobody_hears(fleet: Fleet, caplog: Any) -> None:
    reporter = publisher(fleet)
    fleet.error = redis.ConnectionError()
    assert not reporter.goodbye("n/0")
    reporter.publish(0.0, "n/0", b"{}")
    fleet.error = None
    assert not reporter.goodbye("n/0")
    assert fleet.left == []


def test_a_document_is_stored_only_where_it_changed(fleet: Fleet) -> None:
    reporter = publisher(fleet)
    assert reporter.amend(records.PAUSED, "x", lambda stood: stood | {"a": 1}) == {"a": 1}
    assert reporter.amend(records.PAUSED, "x", lambda stood: stood | {"a": 1}) == {"a": 1}
    assert (fleet.documents, fleet.stored) == ({"x": {"a": 1}}, 1)


@pytest.mark.parametrize("error", [redis.ConnectionError("x"), OSError("x")])
def test_a_document_that_redis_does_not_give_is_not_changed(fleet: Fleet, error: Exception) -> None:
    fleet.error = error
    assert publisher(fleet).amend(records.PAUSED, "x", lambda stood: stood | {"a": 1}) is None
    assert fleet.documents == {}


def test_of_a_node_one_process_tells_that_redis_is_away(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    registry: Any = fleet
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    kept = Publisher(registry, Backoff(0.5, 30.0), uniform=longest, speaks=lambda: False)
    fleet.error = redis.ConnectionError("away")
    kept.publish(0.0, "w1@h/0", b"{}")
    fleet.error = None
    kept.publish(10.0, "w1@h/0", b"{}")
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"]


def test_where_no_redis_is_named_nothing_is_said_and_nothing_is_asked_again(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.error = NoRedisError()
    reporter = publisher(fleet)
    assert run(reporter, 0.0, 100.0) == [0.0]
    assert (reporter.is_away, caplog.messages) == (True, [])
    assert not reporter.goodbye("n/0")
