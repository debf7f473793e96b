"""When a node leaves its gated queues alone, and how it does."""

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.bootsteps import RUN
from kombu.entity import Queue

from worker.board import pauses
from worker.board.board import Board
from worker.connection.circuit import CircuitState
from worker.events import Event
from worker.node.gate import Gate, Why, decide
from worker.settings.fields import load_settings

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
ANY = (None, False, True)


# --- the decision ---


@pytest.mark.parametrize(
    ("reaches", "was", "is_young"), list(itertools.product(ANY, (None, *Why), (False, True)))
)
def test_what_an_operator_paused_is_left_alone(
    reaches: bool | None, was: Why | None, *, is_young: bool
) -> None:
    assert decide(reaches=reaches, is_paused=True, was=was, is_young=is_young) is Why.OPERATOR


@pytest.mark.parametrize(
    ("is_paused", "was", "is_young"), list(itertools.product((None, False), (None, *Why), ANY))
)
def test_a_node_without_a_way_to_mongodb_leaves_its_queues_alone(
    is_paused: bool | None, was: Why | None, is_young: bool
) -> None:
    assert decide(reaches=False, is_paused=is_paused, was=was, is_young=is_young) is Why.OUTAGE


@pytest.mark.parametrize("was", [None, *Why])
def test_one_process_that_reaches_mongodb_is_enough(was: Why | None) -> None:
    assert decide(reaches=True, is_paused=False, was=was, is_young=True) is None


@pytest.mark.parametrize(
    ("was", "expected"),
    [(None, None), (Why.OUTAGE, Why.OUTAGE), (Why.OPERATOR, None), (Why.STARTING, None)],
)
def test_where_nobody_tells_an_outage_goes_on_and_none_begins(was: Why | None, expected: Why | None) -> None:
    assert decide(reaches=None, is_paused=False, was=was, is_young=True) is expected


@pytest.mark.parametrize(("is_young", "expected"), [(True, Why.STARTING), (False, None)])
def test_a_node_that_starts_waits_for_what_was_paused_but_not_for_long(
    is_young: bool, expected: Why | None
) -> None:
    for reaches in (None, True):
        assert decide(reaches=reaches, is_paused=None, was=None, is_young=is_young) is expected


# --- the bootstep ---


class Timer:
    """Celery's timer, run by hand."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, tuple[Any, ...]]] = []

    def call_repeatedly(self, _seconds: float, function: Any, args: tuple[Any, ...]) -> Any:
        self.entries.append((function, args))
        return self.entries[-1]

    def cancel(self, entry: Any) -> None:
        self.entries.remove(entry)


class Consumer:
    """What a gate needs of Celery's consumer, whose queues are those of a real app."""

    def __init__(self, board: Board | None, *queues: str) -> None:
        settings = load_settings({"CELERY_PYMONGO_GATED_QUEUES": "mongo.data,bills"}, env_file=None)
        self.app: Any = Celery("test", set_as_current=False)
        self.app.conf.task_queues = [Queue(name) for name in queues]
        self.app.mongo = SimpleNamespace(board=board, settings=settings)
        self.blueprint = SimpleNamespace(state=RUN)
        self.is_broken = False
        self.hub: Any = object()
        self.connection = SimpleNamespace(transport=SimpleNamespace(driver_type="amqp"))
        self.asked: list[Any] = []
        self.beside: Callable[[], Any] | None = None
        self.connect()

    def connect(self) -> None:
        """Begin a connection to the broker: new timers, and a consumer of every queue that is selected."""
        self.timer = Timer()
        self.consumed = set(self.app.amqp.queues.consume_from)
        self.task_consumer: Any = self

    @property
    def queues(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.consumed]

    def cancel_by_queue(self, name: str) -> None:
        self.consumed.discard(name)

    def add_queue(self, queue: Queue) -> None:
        if self.is_broken:
            raise ConnectionError
        self.added = queue.name

    def consume(self) -> None:
        self.consumed.add(self.added)
        beside, self.beside = self.beside, None
        if beside is not None:
            beside()

    def add_task_queue(self, name: str) -> None:
        self.app.amqp.queues.select_add(name)
        self.consumed.add(name)

    def call_soon(self, function: Any, *args: Any) -> None:
        self.asked.append(partial(function, *args))

    def tick(self) -> set[str]:
        for function, args in self.timer.entries:
            function(*args)
        return self.consumed

    def loop(self) -> set[str]:
        """Do what the consumer was asked to, as between two drains."""
        asked, self.asked = self.asked, []
        for each in asked:
            each()
        return self.consumed


class Node:
    """A worker with a gate and a board of two rows, which consumes three queues."""

    def __init__(self, board: Board) -> None:
        self.board = board
        board.paused = pauses.Known(0, {}).text()
        self.consumer = Consumer(board, "mongo.data", "bills", "other")
        self.gate = Gate(self.consumer)

    def start(self) -> set[str]:
        self.gate.start(self.consumer)
        return self.consumer.consumed

    def show(self, *circuits: CircuitState) -> set[str]:
        for row, circuit in zip(self.board.rows, circuits, strict=False):
            row.begin(os.getpid())
            row.set_circuit(circuit)
            row.write_report(b'{"ok": 0.5}')
        return self.consumer.tick()

    def say(self, *queues: str, pause: bool) -> set[str]:
        orders, known = pauses.Orders.read(self.board.orders), pauses.Known.read(self.board.paused)
        self.board.orders = pauses.add(orders, known, queues, pause=pause).text()
        return self.consumer.tick()


@pytest.fixture
def node(caplog: pytest.LogCaptureFixture) -> Iterator[Node]:
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    board = Board.create(node="n", deployment=f"gate-{os.getpid()}", slots=2)
    yield Node(board)
    board.unlink()


ALL = {"mongo.data", "bills", "other"}


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any, Any]]:
    told = [
        (vars(record)["event"], vars(record)["fields"])
        for record in caplog.records
        if "event" in vars(record)
    ]
    return [(event, fields["queues"], fields["why"]) for event, fields in told]


def test_the_gate_closes_and_opens_with_the_last_and_the_first_process_that_reaches_mongodb(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    assert node.start() == ALL
    assert node.show(CLOSED, CLOSED) == ALL
    assert node.show(OPEN, CLOSED) == ALL
    assert node.show(OPEN, OPEN) == {"other"}
    assert node.show(OPEN, OPEN) == {"other"}
    assert node.show(CLOSED, OPEN) == ALL
    both = ["bills", "mongo.data"]
    assert said(caplog) == [(Event.GATE_CLOSED, both, "outage"), (Event.GATE_OPENED, both, "outage")]


def test_the_board_says_what_is_left_alone_and_why(node: Node) -> None:
    node.start()
    node.show(OPEN, OPEN)
    assert {queue: why for queue, (why, _) in node.board.gate.items()} == {
        "mongo.data": "outage",
        "bills": "outage",
    }
    node.show(CLOSED)
    assert node.board.gate == {}


def test_a_node_whose_processes_have_not_reported_consumes(node: Node) -> None:
    assert node.start() == ALL
    node.board.rows[0].begin(os.getpid())
    node.board.rows[0].set_circuit(OPEN)
    assert node.consumer.tick() == ALL


def test_a_child_that_starts_in_an_outage_does_not_open_the_gate(node: Node) -> None:
    node.start()
    node.show(OPEN, OPEN)
    row = node.board.rows[1]
    row.begin(os.getppid())
    assert node.consumer.tick() == {"other"}
    row.write_report(b'{"ok": null}')
    assert node.consumer.tick() == {"other"}


def test_an_operator_pauses_one_queue_whatever_mongodb_does(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.start()
    node.show(CLOSED)
    assert node.say("bills", pause=True) == {"mongo.data", "other"}
    assert node.show(OPEN, OPEN) == {"other"}
    assert node.show(CLOSED) == {"mongo.data", "other"}
    assert node.say("bills", pause=False) == ALL
    assert said(caplog) == [
        (Event.GATE_CLOSED, ["bills"], "operator"),
        (Event.GATE_CLOSED, ["mongo.data"], "outage"),
        (Event.GATE_OPENED, ["mongo.data"], "outage"),
        (Event.GATE_OPENED, ["bills"], "operator"),
    ]


def test_a_pause_from_before_the_start_holds_before_anything_is_consumed(node: Node) -> None:
    node.board.paused = ""
    assert node.start() == {"other"}
    node.board.paused = pauses.Known(0, {"bills": (True, 1.0)}).text()
    assert node.consumer.tick() == {"mongo.data", "other"}


def test_a_node_that_cannot_learn_what_was_paused_begins_after_a_while(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.board.paused = ""
    assert node.start() == {"other"}
    node.gate._young_until = 0.0
    assert node.consumer.tick() == ALL
    assert said(caplog) == []
    assert node.board.gate == {}


def test_a_closed_gate_stays_closed_over_a_lost_connection_to_the_broker(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.start()
    node.show(OPEN, OPEN)
    node.gate.stop(node.consumer)
    node.consumer.connect()
    assert node.consumer.consumed == ALL
    assert node.start() == {"other"}
    assert len(node.consumer.timer.entries) == 1
    assert node.show(CLOSED) == ALL
    assert [event for event, *_ in said(caplog)] == [Event.GATE_CLOSED, Event.GATE_OPENED]


def test_a_worker_that_ends_consumes_nothing_again(node: Node) -> None:
    node.start()
    node.show(OPEN, OPEN)
    timer = node.consumer.timer
    node.gate.stop(node.consumer)
    node.gate.stop(node.consumer)
    assert timer.entries == []
    assert node.show(CLOSED) == {"other"}


def test_a_queue_that_a_person_cancelled_is_not_consumed_again(node: Node) -> None:
    node.start()
    node.show(OPEN, OPEN)
    node.consumer.app.amqp.queues.deselect("bills")
    assert node.show(OPEN, OPEN) == {"other"}
    assert node.show(CLOSED) == {"mongo.data", "other"}


def test_a_queue_that_a_person_cancelled_before_is_left_out(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.start()
    node.consumer.app.amqp.queues.deselect("bills")
    node.consumer.cancel_by_queue("bills")
    node.show(OPEN, OPEN)
    assert node.show(CLOSED) == {"mongo.data", "other"}
    assert [queues for _, queues, _ in said(caplog)] == [["mongo.data"]] * 2


def test_a_queue_that_a_person_adds_in_an_outage_waits_with_the_others(node: Node) -> None:
    node.start()
    node.show(OPEN, OPEN)
    node.consumer.add_task_queue("bills")
    assert node.consumer.tick() == {"other"}


def test_two_looks_at_once_tell_of_it_once(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Under gevent one goes ahead while another waits for the broker."""
    node.start()
    node.show(OPEN, OPEN)
    node.consumer.beside = node.consumer.tick
    assert node.show(CLOSED, OPEN) == ALL
    assert [event for event, _, _ in said(caplog)] == [Event.GATE_CLOSED, Event.GATE_OPENED]


def test_what_fails_never_ends_mains_loop_and_is_tried_again(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.start()
    node.show(OPEN, OPEN)
    node.consumer.is_broken = True
    assert node.show(CLOSED) == {"other"}
    assert node.consumer.tick() == {"other"}
    assert caplog.text.count("the gate could not move") == 1
    node.consumer.is_broken = False
    assert node.consumer.tick() == ALL
    assert said(caplog)[-1][0] == Event.GATE_OPENED


def test_without_an_event_loop_the_consumers_own_loop_moves_the_gate(node: Node) -> None:
    """Its connection is read there; however long a drain takes, it looks once."""
    node.consumer.hub = None
    assert node.start() == ALL
    for _ in range(3):
        assert node.show(OPEN, OPEN) == ALL
    assert len(node.consumer.asked) == 1
    assert node.consumer.loop() == {"other"}
    assert node.show(CLOSED, CLOSED) == {"other"}
    assert node.consumer.loop() == ALL


def test_after_a_lost_connection_the_consumers_loop_is_asked_anew(node: Node) -> None:
    node.consumer.hub = None
    node.start()
    node.show(OPEN, OPEN)
    node.consumer.asked.clear()
    node.gate.stop(node.consumer)
    node.consumer.connect()
    assert node.start() == {"other"}
    node.show(CLOSED, CLOSED)
    assert node.consumer.loop() == ALL


def test_redis_bears_that_the_gate_moves_at_once(node: Node) -> None:
    node.consumer.hub = None
    node.consumer.connection.transport.driver_type = "redis"
    node.start()
    assert node.show(OPEN, OPEN) == {"other"}


def test_without_a_board_there_is_no_gate() -> None:
    consumer = Consumer(None, "mongo.data")
    Gate(consumer).start(consumer)
    assert consumer.tick() == {"mongo.data"}


def test_a_worker_without_a_consumer_is_left_alone(node: Node) -> None:
    node.start()
    node.consumer.task_consumer = None
    assert node.show(OPEN, OPEN) == ALL
