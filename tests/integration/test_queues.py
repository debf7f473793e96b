"""What waits in a broker, as kombu and Celery themselves put it there."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis as redis_py
from celery import Celery
from celery.signals import before_task_publish

from ops.local.servers import LocalServer
from worker.broker import queues
from worker.broker.queues import HEADER, Queues
from worker.fleet import beat_pulse
from worker.fleet.beat_pulse import BeatPulse
from worker.store.redis_client import connect_url

PREFIX = "shop:"
DAY = 86_400.0


@pytest.fixture(params=["", PREFIX], ids=["bare", "prefixed"])
def app(request: pytest.FixtureRequest, redis: LocalServer, redis_client: redis_py.Redis) -> Iterator[Celery]:
    """An app whose broker is an empty Redis."""
    options = {"global_keyprefix": request.param} if request.param else {}
    app = Celery(broker=redis.uri, set_as_current=False, broker_transport_options=options)
    app.conf.task_ignore_result = True
    queues.connect()
    yield app
    before_task_publish.disconnect(dispatch_uid="celery_pymongo.queues")
    app.close()


@pytest.fixture
def broker(app: Celery) -> Queues:
    """The app's queues."""
    found = queues.of(app)
    assert found is not None
    return found


def publish(app: Celery, queue: str, *, sent_at: float | None, body: Any = (), priority: int = 0) -> None:
    """Put a message there as another program would."""
    headers = {} if sent_at is None else {HEADER: sent_at}
    with app.connection_for_write() as connection, connection.Producer() as producer:
        declared = app.amqp.queues.select_add(queue)
        options: Any = {"routing_key": queue, "declare": [declared], "priority": priority}
        producer.publish(body, exchange=declared.exchange, headers=headers, **options)


def test_tasks_are_counted_and_have_an_age(app: Celery, broker: Queues) -> None:
    for _ in range(3):
        app.send_task("any.task", queue="q")
    waiting = broker.read(["q", "empty"])
    assert waiting.queues["q"].depth == 3
    age = waiting.queues["q"].age
    assert age is not None
    assert 0 <= age < 5
    assert (waiting.queues["empty"].depth, waiting.queues["empty"].age) == (0, None)
    assert waiting.unacked == 0


def test_every_queue_that_was_ever_declared_is_known_by_name(app: Celery, broker: Queues) -> None:
    assert broker.bound() == []
    # A connection declares a queue once, and kombu shares connections among tests.
    names = [f"{name} {uuid4()}" for name in ("a mistake", "b")]
    for name in names:
        app.send_task("any.task", queue=name)
    app.control.broadcast("ping", reply=False)
    assert broker.bound() == names


def test_messages_of_every_priority_count(app: Celery, broker: Queues) -> None:
    for priority in (0, 1, 3, 6, 9):
        app.send_task("any.task", queue="q", priority=priority)
    publish(app, "q", sent_at=time.time() - DAY, priority=6)
    found = broker.read(["q"]).queues["q"]
    assert found.depth == 6
    # The older one came last, so it stands at the head.
    assert found.age == pytest.approx(DAY, abs=5)


def test_the_next_message_is_the_oldest(app: Celery, broker: Queues) -> None:
    publish(app, "q", sent_at=time.time() - DAY)
    for _ in range(3):
        app.send_task("any.task", queue="q")
    assert broker.read(["q"]).queues["q"].age == pytest.approx(DAY, abs=5)


def test_a_message_that_was_given_back_keeps_its_age(app: Celery, broker: Queues) -> None:
    publish(app, "q", sent_at=time.time() - DAY)
    with app.connection_for_read() as connection:
        simple = connection.SimpleQueue(app.amqp.queues.select_add("q"))
        message = simple.get(timeout=5)
        taken = broker.read(["q"])
        assert (taken.queues["q"].depth, taken.unacked) == (0, 1)
        app.send_task("any.task", queue="q")
        message.requeue()
        simple.close()
    back = broker.read(["q"])
    assert (back.queues["q"].depth, back.unacked) == (2, 0)
    assert back.queues["q"].age == pytest.approx(DAY, abs=5)


def test_the_age_of_a_foreign_message_is_unknown(app: Celery, broker: Queues) -> None:
    publish(app, "q", sent_at=None, body={"text": f'"{HEADER}": 12'})
    found = broker.read(["q"]).queues["q"]
    assert (found.depth, found.age) == (1, None)


def test_what_a_task_is_called_with_is_not_taken_for_its_age(app: Celery, broker: Queues) -> None:
    app.send_task("any.task", args=[f'"{HEADER}": 12', {HEADER: 12}], queue="q")
    age = broker.read(["q"]).queues["q"].age
    assert age is not None
    assert age < 5


def test_a_senders_clock_that_is_ahead_makes_no_negative_age(app: Celery, broker: Queues) -> None:
    publish(app, "q", sent_at=time.time() + DAY)
    assert broker.read(["q"]).queues["q"].age == 0


def test_a_large_message_is_not_fetched_for_its_age(
    app: Celery, broker: Queues, redis_client: redis_py.Redis
) -> None:
    batch = base64.b64encode(os.urandom(1 << 20)).decode()
    for _ in range(2):
        app.send_task("any.task", args=[batch], argsrepr="(…)", queue="q")
    before = sent_by(redis_client)
    age = broker.read(["q"]).queues["q"].age
    assert age is not None
    assert age < 5
    assert sent_by(redis_client) - before < 50_000


def sent_by(client: redis_py.Redis) -> int:
    stats: Any = client.info("stats")
    return int(stats["total_net_output_bytes"])


def test_a_list_that_empties_meanwhile_has_no_age(
    app: Celery, broker: Queues, redis_client: redis_py.Redis
) -> None:
    assert list(broker._stamps("gone", 2)) == []


def test_the_rights_that_are_named_are_enough(redis: LocalServer, app: Celery, redis_client: Any) -> None:
    app.send_task("any.task", queue="q")
    rights = [word.strip("`") for word in str(queues.__doc__).split() if word.strip("`").startswith("+")]
    redis_client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", "~*", *rights)
    url = redis.uri.replace("redis://", "redis://app:secret@")
    reading = Celery(broker=url, set_as_current=False)
    reading.conf.broker_transport_options = app.conf.broker_transport_options
    broker = queues.of(reading)
    assert broker is not None
    found = broker.read(["q"]).queues["q"]
    assert (found.depth, found.age is None) == (1, False)
    # Who may not look for more finds no more.
    assert broker.bound() == []


def test_the_rights_of_a_beat_that_are_named_are_enough(redis: LocalServer, redis_client: Any) -> None:
    rights = [word.strip("`") for word in str(beat_pulse.__doc__).split() if word.strip("`").startswith("+")]
    redis_client.execute_command("ACL", "SETUSER", "beat", "reset", "on", ">secret", "~shop:*", *rights)
    with connect_url(redis.uri.replace("redis://", "redis://beat:secret@")) as client:
        pulse = BeatPulse(client, lambda name: f"shop:{name}")
        pulse.beat("Scheduler")
        found = pulse.read()
    assert found is not None
    assert found.scheduler == "Scheduler"
