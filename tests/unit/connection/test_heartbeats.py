"""From heartbeats to 'lost' and 'found'."""

import pytest
from bson import ObjectId
from pymongo import monitoring
from pymongo.errors import AutoReconnect, NetworkTimeout, _OperationCancelled
from pymongo.hello import Hello

from worker.connection.heartbeats import Heartbeats

A, B = ("a", 27017), ("b", 27017)
PRIMARY = {"ok": 1, "isWritablePrimary": True, "setName": "rs", "hosts": ["a:27017", "b:27017"]}
SECONDARY = PRIMARY | {"isWritablePrimary": False, "secondary": True}


class Told:
    """A listener and what it told."""

    def __init__(self) -> None:
        self.facts: list[str] = []
        self.now = 0.0
        self.listener = Heartbeats(
            self.facts.append, lambda: self.facts.append("found"), clock=lambda: self.now
        )

    def succeed(self, server: tuple[str, int], reply: dict[str, object]) -> None:
        self.listener.started(monitoring.ServerHeartbeatStartedEvent(server))
        self.listener.succeeded(monitoring.ServerHeartbeatSucceededEvent(0.001, Hello(reply), server))

    def fail(self, server: tuple[str, int], error: Exception | None = None) -> None:
        event = monitoring.ServerHeartbeatFailedEvent(0.001, error or AutoReconnect("reset"), server)
        self.listener.failed(event)


@pytest.fixture
def told() -> Told:
    return Told()


def test_the_last_writable_server_that_fails_is_a_loss_with_its_server_and_reason(told: Told) -> None:
    told.succeed(A, PRIMARY)
    told.fail(A, NetworkTimeout("slow"))
    assert told.facts == ["found", "a:27017: slow"]


def test_every_writable_heartbeat_is_told_so_that_an_outage_ends_at_once(told: Told) -> None:
    told.succeed(A, PRIMARY)
    told.succeed(A, PRIMARY)
    assert told.facts == ["found", "found"]


def test_an_election_is_a_later_one_than_the_last(told: Told) -> None:
    first, second, third = (PRIMARY | {"electionId": ObjectId(f"{number:024x}")} for number in (1, 2, 3))
    told.succeed(A, first)
    told.succeed(A, first)
    assert told.listener.elected_at is None  # there was one before this client
    for at, server, reply, elected_at in [
        (5.0, B, second, 5.0),
        (6.0, A, first, 5.0),  # it has not heard of its successor
        (7.0, B, second, 5.0),
        (8.0, B, PRIMARY, 5.0),  # of no replica set
        (9.0, B, third, 9.0),  # the same member again
    ]:
        told.now = at
        told.succeed(server, reply)
        assert told.listener.elected_at == elected_at


def test_a_member_that_fails_beside_the_primary_is_no_loss(told: Told) -> None:
    told.succeed(A, PRIMARY)
    told.succeed(B, SECONDARY)
    told.fail(B)
    assert told.facts == ["found"]


def test_a_dead_member_that_answers_before_the_primary_at_the_start_is_no_loss(told: Told) -> None:
    """A refused connection is quicker than a primary: each start would log an outage."""
    told.fail(B)
    told.succeed(A, PRIMARY)
    told.fail(B)
    assert told.facts == ["found"]


def test_a_primary_that_steps_down_and_dies_is_a_loss(told: Told) -> None:
    told.succeed(A, PRIMARY)
    told.succeed(A, SECONDARY)
    told.fail(A)
    assert told.facts == ["found", "a:27017: reset"]


def test_a_check_that_the_driver_cancelled_says_nothing(told: Told) -> None:
    told.succeed(A, PRIMARY)
    told.fail(A, _OperationCancelled("operation cancelled"))
    assert told.facts == ["found"]
