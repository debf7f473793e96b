"""What waits in queues of RabbitMQ, as `status`, health and the doctor are told."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from worker.broker.amqp_queues import SECONDS, AmqpQueues
from worker.broker.queues import Queue as Waits


@pytest.fixture
def app(rabbit: str) -> Iterator[Celery]:
    app = Celery("x", broker=rabbit, set_as_current=False)
    arguments = {"x-queue-type": "quorum"}
    app.conf.task_queues = [Queue("plain"), Queue("kept", queue_arguments=arguments), Queue("empty")]
    yield app
    app.close()


def test_queues_of_both_kinds_are_counted_and_those_that_are_not_there_left_out(app: Celery) -> None:
    with app.connection_for_write() as connection:
        for queue in app.amqp.queues.values():
            queue(connection.default_channel).declare()
    for name, number in (("plain", 3), ("kept", 2)):
        for _ in range(number):
            app.send_task("t", queue=name)

    found = AmqpQueues(app)
    deadline = time.monotonic() + 5
    while (waiting := found.read(["plain", "never", "kept", "nor this", "empty"])).queues != {
        "plain": Waits(3, None),
        "kept": Waits(2, None),
        "empty": Waits(0, None),
    }:
        assert time.monotonic() < deadline, waiting
    assert waiting.unacked is None


def test_a_broker_that_is_away_is_an_error_within_its_time() -> None:
    app = Celery("x", broker="amqp://127.0.0.1:1//;amqp://127.0.0.1:2//", set_as_current=False)
    began = time.monotonic()
    with pytest.raises(OperationalError):
        AmqpQueues(app).read(["q"])
    assert time.monotonic() - began < 2 * SECONDS
