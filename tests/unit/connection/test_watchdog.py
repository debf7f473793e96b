"""Which servers are asked, and what follows."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient, monitoring
from pymongo.errors import AutoReconnect, NetworkTimeout
from pymongo.hello import Hello

from worker.connection.hang import STALLED_SECONDS
from worker.connection.heartbeats import Heartbeats
from worker.connection.watchdog import Watchdog
from worker.events import Event
from worker.pool import adapter

A, B = ("a", 27017), ("b", 27017)
WRITABLE = {"ok": 1, "isWritablePrimary": True, "setName": "rs", "hosts": ["a:27017", "b:27017"]}
SECONDARY = WRITABLE | {"isWritablePrimary": False, "secondary": True}


class World:
    """A client that is not connected, its heartbeats, and servers that answer as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.lost: list[str] = []
        self.asked: list[tuple[str, int | None]] = []
        self.interrupted: list[tuple[str, int | None]] = []
        self.renewed: list[tuple[str, int | None]] = []
        self.answer: Callable[[], bool] = lambda: False
        self.waits: dict[str, float] = {}
        self.is_alarmed = False
        self.speaks = True
        self.client: MongoClient[Any] = MongoClient(
            "mongodb://a:27017,b:27017", connect=False, heartbeatFrequencyMS=2000
        )
        self.heartbeats = Heartbeats(self.lost.append, lambda: None, clock=lambda: self.now)
        self.watchdog = Watchdog(
            self.client,
            self.heartbeats,
            2.0,
            waits=lambda: self.waits,
            is_alarmed=lambda: self.is_alarmed,
            speaks=lambda: self.speaks,
            clock=lambda: self.now,
        )
        monkeypatch.setattr(adapter, "answers", self._answers)
        monkeypatch.setattr(
            adapter, "interrupt", lambda _client, address, _why: self.interrupted.append(address)
        )
        monkeypatch.setattr(adapter, "renew_heartbeat", lambda _client, address: self.renewed.append(address))

    def _answers(self, client: Any, address: tuple[str, int | None], seconds: float) -> bool:
        assert client is self.client
        self.asked.append(address)
        self.now += seconds
        return self.answer()

    def hear(self, address: tuple[str, int], reply: dict[str, Any] = WRITABLE) -> None:
        self.heartbeats.started(monitoring.ServerHeartbeatStartedEvent(address))
        event = monitoring.ServerHeartbeatSucceededEvent(0.001, Hello(reply), address)
        self.heartbeats.succeeded(event)

    def fail(self, address: tuple[str, int], error: Exception) -> None:
        self.heartbeats.failed(monitoring.ServerHeartbeatFailedEvent(0.001, error, address))

    def look(self, now: float) -> float | None:
        """Look at a moment, and wait for what is asked."""
        self.now = now
        due_in = self.watchdog.look()
        for thread in threading.enumerate():
            if thread.name == "celery-pymongo-asking":
                thread.join(5)
        return due_in


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    made = World(monkeypatch)
    yield made
    made.client.close()


def test_a_server_that_is_heard_in_time_is_left_alone(world: World) -> None:
    world.hear(A)
    assert world.look(101.0) == pytest.approx(1.25)
    assert world.look(102.2) == pytest.approx(0.05)
    assert world.asked == []


def test_one_that_answers_neither_its_heartbeat_nor_a_question_hangs(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.hear(A)
    world.look(102.25)
    assert (world.asked, world.interrupted) == ([A], [A])
    assert world.lost == ["hung: no answer for 4 s"]
    assert world.watchdog.hung_since() == 100.0
    told = [(record.event, record.levelname) for record in caplog.records if hasattr(record, "event")]
    assert told == [(Event.SERVER_HUNG, "WARNING")]
    assert "a:27017 hangs: no answer for 4 s; what waits for it is interrupted" in caplog.text


def test_what_another_process_or_the_circuit_tells_of_is_no_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.speaks = False
    world.hear(A)
    world.look(102.25)
    told = [(record.event, record.levelname) for record in caplog.records if hasattr(record, "event")]
    assert told == [(Event.SERVER_HUNG, "DEBUG")]


def test_it_is_given_up_once_until_it_is_heard_again(world: World) -> None:
    world.hear(A)
    for now in (102.25, 105.0, 130.0):
        assert world.look(now) is None
    assert world.interrupted == [A]
    world.fail(A, NetworkTimeout("timed out"))
    assert world.watchdog.hung_since() == 100.0
    world.now = 140.0
    world.hear(A)
    assert world.watchdog.hung_since() is None
    world.look(142.25)
    assert world.interrupted == [A, A]


def test_what_refuses_does_not_hang(world: World) -> None:
    world.hear(A)
    world.look(102.25)
    world.fail(A, AutoReconnect("Connection refused"))
    assert world.watchdog.hung_since() is None
    assert world.look(110.0) is None
    assert world.asked == [A]


def test_one_that_answers_the_question_is_well_and_its_heartbeats_get_a_new_connection(world: World) -> None:
    world.answer = lambda: True
    world.hear(A)
    world.look(102.25)
    assert (world.asked, world.renewed) == ([A], [A])
    assert (world.interrupted, world.lost, world.watchdog.hung_since()) == ([], [], None)
    # From the answer on it is as any other.
    assert world.look(104.5) == pytest.approx(102.25 + 1.75 + 2.25 - 104.5)


def test_one_that_is_asked_before_its_heartbeat_is_due_keeps_its_connection(world: World) -> None:
    world.answer = lambda: True
    world.watchdog._patience = type(world.watchdog._patience)(heartbeat=10.0, ping=2.0)
    world.waits = {"a:27017": 99.0}
    world.hear(A)
    assert world.look(102.0) == pytest.approx(0.25)
    world.look(102.25)
    assert (world.asked, world.renewed) == ([A], [])


def test_a_process_of_the_node_that_is_cut_off_makes_the_others_ask(world: World) -> None:
    world.watchdog._patience = type(world.watchdog._patience)(heartbeat=10.0, ping=2.0)
    world.hear(A)
    assert world.look(105.0) == pytest.approx(5.25)
    world.is_alarmed = True
    world.look(105.0)
    assert world.interrupted == [A]


def test_an_answer_that_comes_after_all_counts(world: World) -> None:
    """The heartbeat arrives while the server is being asked."""

    def late() -> bool:
        world.hear(A)
        return False

    world.answer = late
    world.hear(A)
    world.look(102.25)
    assert (world.interrupted, world.watchdog.hung_since()) == ([], None)


def test_a_process_that_stood_still_while_it_asked_asks_again(world: World) -> None:
    def stall() -> bool:
        world.now += STALLED_SECONDS + 0.1
        return False

    world.answer = stall
    world.hear(A)
    world.look(102.25)
    assert (world.asked, world.interrupted) == ([A], [])
    world.answer = lambda: False
    world.look(106.0)
    assert (world.asked, world.interrupted) == ([A, A], [A])


def test_a_secondary_that_hangs_is_interrupted_and_does_not_open_the_circuit(world: World) -> None:
    world.hear(A)
    world.hear(B, SECONDARY)
    world.now = 102.0
    world.hear(A)
    world.look(102.25)
    assert (world.asked, world.interrupted) == ([B], [B])
    assert (world.lost, world.watchdog.hung_since()) == ([], None)


def test_a_hung_primary_whose_place_is_taken_is_interrupted_alone(world: World) -> None:
    world.hear(A)
    world.now = 102.0
    world.hear(B)
    world.look(102.25)
    assert world.interrupted == [A]
    assert (world.lost, world.watchdog.hung_since()) == ([], None)


def test_a_dead_primary_beside_a_hung_secondary_is_no_hang(world: World) -> None:
    world.hear(A)
    world.hear(B, SECONDARY)
    world.fail(A, AutoReconnect("Connection refused"))
    world.look(102.25)
    assert world.interrupted == [B]
    assert world.lost == ["a:27017: Connection refused"]
    assert world.watchdog.hung_since() is None


def test_one_that_has_never_said_anything_hangs_too(world: World) -> None:
    """Its port is open, and no hello is answered."""
    world.heartbeats.started(monitoring.ServerHeartbeatStartedEvent(A))
    world.look(102.25)
    assert world.interrupted == [A]
    assert world.watchdog.hung_since() == 100.0
    # Nothing is lost that never was; a ping opens the circuit.
    assert world.lost == []


def test_a_server_that_is_no_longer_of_the_deployment_is_not_asked(world: World) -> None:
    world.hear(("gone", 27017))
    assert world.look(110.0) is None
    assert world.asked == []
