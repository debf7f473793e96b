"""A copy on a real RabbitMQ: what survives of a message, and what is known before it is acknowledged."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from celery import Celery
from celery.exceptions import Ignore
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from worker.broker import message as messages
from worker.broker import original
from worker.broker.copies import Copies
from worker.broker.original import Original
from worker.broker.requeue import BackToBroker

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 3}
BODY = b'[[{"$oid": "65f0c0ffee"}], {}, {}]'


@pytest.fixture
def channel(rabbit: str) -> Iterator[Any]:
    with Connection(rabbit) as connection:
        yield connection.channel()


@pytest.fixture
def copies(rabbit: str) -> Iterator[Copies]:
    app = Celery("shop", broker=rabbit, set_as_current=False)
    copies = Copies(app)
    yield copies
    copies._close()
    app.close()


def declare(channel: Any, name: str, **arguments: Any) -> Queue:
    queue: Queue = Queue(name, queue_arguments={**QUORUM, **arguments})(channel)
    queue.declare()
    return queue


def publish(channel: Any, queue: str, body: Any = BODY, **properties: Any) -> None:
    properties = {"content_type": "application/json", "content_encoding": "utf-8"} | properties
    channel.basic_publish(amqp.Message(body, **properties), routing_key=queue)


def get(queue: Any) -> Any:
    """Return the next message, within seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if (message := queue.get()) is not None:
            return message
        time.sleep(0.02)
    raise TimeoutError(queue.name)


def as_it_came(message: Any, queue: Queue) -> Original:
    """Return what the process that runs its task knows of a message."""
    properties = {**message.properties, original.KEY: original.tell(message, queue)}
    found = original.of(SimpleNamespace(properties=properties, delivery_info=message.delivery_info))
    assert found is not None
    return found


def back() -> BackToBroker:
    return BackToBroker("MongoDB is away")


def never() -> bool:
    return False


def test_a_message_survives_with_its_body_headers_and_properties(channel: Any, copies: Copies) -> None:
    queue = declare(channel, "jobs")
    properties: dict[str, Any] = {
        "correlation_id": "c1",
        "reply_to": "answers",
        "priority": 3,
        "delivery_mode": 2,
        "expiration": "600000",
        "message_id": "m1",
        "timestamp": 1_700_000_000,
        "type": "order",
        "app_id": "shop",
        "user_id": "guest",
        "application_headers": {"task": "save", "id": "t1", "tenant": "x", "tree": {"a": [1, True, None]}},
    }
    publish(channel, "jobs", **properties)
    message = get(queue)
    before = as_it_came(message, queue)
    assert isinstance(copies.instead_of(back(), before, wait=never), Ignore)
    message.ack()
    after = as_it_came(get(queue), queue)
    assert (after.body, after.content_type, after.content_encoding) == (
        before.body,
        "application/json",
        "utf-8",
    )
    assert after.properties == before.properties
    assert dict(after.headers) == dict(before.headers)
    assert not after.is_redelivered


@pytest.mark.parametrize("body", [b"\x80\x04K\x01.", "\u00e4\u20ac".encode(), b"", b"x" * 300_000])
def test_bytes_of_any_serializer_stay_as_they_are(body: bytes, channel: Any, copies: Copies) -> None:
    queue = declare(channel, "jobs")
    publish(channel, "jobs", body, content_type="application/x-python-serialize", content_encoding="binary")
    copies.send(as_it_came(get(queue), queue))
    after = get(queue)
    assert (after.body or b"") == body
    assert (after.content_type, after.content_encoding) == ("application/x-python-serialize", "binary")


def test_a_compressed_message_stays_compressed(channel: Any, copies: Copies, rabbit: str) -> None:
    queue = declare(channel, "jobs")
    text = "a text that repeats itself " * 1000
    with Connection(rabbit) as connection:
        connection.Producer().publish(text, routing_key="jobs", compression="zlib", serializer="json")
    copies.send(as_it_came(get(queue), queue))
    raw = SimpleNamespace(body=None)
    deadline = time.monotonic() + 10
    while raw.body is None and time.monotonic() < deadline:
        raw = amqp.Channel.basic_get(channel, "jobs") or raw
    assert raw.body is not None
    assert len(raw.body) < 1000
    queue_again = channel.message_to_python(raw)
    assert queue_again.decode() == text


def test_a_copy_counts_from_zero_however_often_it_is_made(channel: Any, copies: Copies) -> None:
    """More often than the queue would have let the message go back."""
    queue = declare(channel, "jobs")
    publish(channel, "jobs", application_headers={"id": "t1"})
    for _ in range(2 * QUORUM["x-delivery-limit"] + 1):  # type: ignore[operator]  # an int
        message = get(queue)
        assert message.headers["x-delivery-count"] == 0
        assert isinstance(copies.instead_of(back(), as_it_came(message, queue), wait=never), Ignore)
        message.ack()
    assert get(queue).headers["id"] == "t1"


def test_a_copy_of_what_was_delivered_before_says_so(channel: Any, copies: Copies) -> None:
    """The broker cannot know: a task that must not run twice would."""
    queue = declare(channel, "jobs")
    publish(channel, "jobs")
    get(queue).requeue()
    again = as_it_came(get(queue), queue)
    assert again.is_redelivered
    copies.send(again)
    copy = get(queue)
    assert not copy.delivery_info["redelivered"]
    assert original.is_redelivered(SimpleNamespace(**copy.headers, delivery_info=copy.delivery_info))


def test_a_copy_reaches_its_queue_alone(channel: Any, copies: Copies) -> None:
    """Neither the exchange that the message came by nor what RabbitMQ was asked to copy it to."""
    queue, other = declare(channel, "jobs"), declare(channel, "other")
    channel.exchange_declare("news", "fanout", durable=True, auto_delete=False)
    for each in (queue, other):
        channel.queue_bind(each.name, "news")
    message = amqp.Message(BODY, application_headers={"CC": ["other"], "id": "t1"})
    channel.basic_publish(message, exchange="news")
    get(other).ack()
    copies.send(as_it_came(get(queue), queue))
    assert get(queue).headers["id"] == "t1"
    assert other.get() is None


def test_the_name_of_another_user_is_left_out(channel: Any, copies: Copies) -> None:
    queue = declare(channel, "jobs")
    publish(channel, "jobs", user_id="guest")
    message = as_it_came(get(queue), queue)
    foreign = Original(**{**vars(message), "properties": {**message.properties, "user_id": "somebody"}})
    copies.send(foreign)
    assert "user_id" not in get(queue).properties


def test_a_full_queue_takes_the_copy_once_there_is_room(channel: Any, copies: Copies) -> None:
    """Until then the message is not acknowledged, and nobody says that it is."""
    limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = declare(channel, "jobs", **limits)
    publish(channel, "jobs", application_headers={"id": "first"})
    message = as_it_came(get(queue), queue)
    # A quorum queue learns a little late that it is full.
    deadline = time.monotonic() + 10
    while queue.queue_declare(passive=True).message_count < 3 and time.monotonic() < deadline:
        publish(channel, "jobs", application_headers={"id": "filler"})
    waits: list[int] = []

    def wait() -> bool:
        waits.append(1)
        queue.purge()
        time.sleep(0.1)
        return len(waits) < 50

    assert isinstance(copies.instead_of(back(), message, wait=wait), Ignore)
    assert waits
    assert get(queue).headers["id"] == "first"


def test_a_message_goes_back_where_its_queue_takes_no_copy(
    channel: Any, copies: Copies, caplog: pytest.LogCaptureFixture
) -> None:
    queue = declare(channel, "jobs")
    publish(channel, "jobs")
    message = as_it_came(get(queue), queue)
    channel.queue_delete("jobs")
    error = back()
    assert copies.instead_of(error, message, wait=lambda: True) is error
    assert "its queue counts that" in caplog.text
    # What failed leaves nothing behind that the next copy would be confirmed by.
    other = declare(channel, "other")
    publish(channel, "other")
    copies.send(as_it_came(get(other), other))
    assert get(other) is not None


@pytest.mark.parametrize("arguments", [{}, {"x-queue-type": "classic"}])
def test_a_queue_that_does_not_count_gets_its_message_back(
    arguments: dict[str, str], channel: Any, copies: Copies
) -> None:
    queue = Queue("plain", queue_arguments=arguments or None)(channel)
    queue.declare()
    publish(channel, "plain")
    message, error = as_it_came(get(queue), queue), back()
    assert copies.instead_of(error, message, wait=never) is error
    assert queue.get() is None


def test_a_queue_that_was_declared_elsewhere_is_known_by_its_messages(channel: Any) -> None:
    """As by a policy, or by the default of its virtual host."""
    queue = declare(channel, "jobs")
    publish(channel, "jobs")
    told: Callable[..., Any] = original.tell
    assert told(get(queue), Queue("jobs"))["counts_returns"]


# --- what Celery sends: retries, and copies of messages that were acknowledged early ---


def send(copies: Copies, queue: Queue) -> None:
    """Send a task as a retry is sent."""
    copies._app.send_task("save", (1,), queue=queue, task_id="t1", **copies.options())


def test_what_celery_sends_is_known_to_be_there(channel: Any, copies: Copies) -> None:
    copies._app.conf.task_send_sent_event = True  # to an exchange that leads nowhere
    queue = declare(channel, "jobs")
    send(copies, queue)
    assert queue.queue_declare(passive=True).message_count == 1


def test_what_a_full_queue_refuses_is_an_error_at_once(channel: Any, copies: Copies) -> None:
    queue = Queue("jobs", queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"})(channel)
    queue.declare()
    publish(channel, "jobs")
    with pytest.raises(OperationalError):
        send(copies, queue)
    assert queue.queue_declare(passive=True).message_count == 1


def test_a_dead_letter_is_sent_again_only_if_its_queue_takes_it(channel: Any, copies: Copies) -> None:
    queue = Queue("jobs", queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"})(channel)
    queue.declare()
    copies._app.conf.task_queues = [queue]
    publish(channel, "jobs", application_headers={"task": "save", "id": "t1"})
    kept = as_it_came(get(queue), queue)
    messages.send(copies._app, kept, **copies.options())
    with pytest.raises(OperationalError):
        messages.send(copies._app, kept, **copies.options())
    assert get(queue).headers["id"] == "t1"


def test_what_no_queue_takes_is_an_error(channel: Any, copies: Copies) -> None:
    channel.exchange_declare("news", "topic", durable=True, auto_delete=False)
    with pytest.raises(Exception, match="NO_ROUTE"):
        copies._app.send_task("save", exchange="news", routing_key="x", **copies.options())


def test_a_connection_that_has_died_meanwhile_is_made_anew(channel: Any, copies: Copies) -> None:
    queue = declare(channel, "jobs")
    for number in (1, 2):
        send(copies, queue)
        assert queue.queue_declare(passive=True).message_count == number
        copies._connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)


def test_redis_needs_none_of_it() -> None:
    app = Celery("shop", broker="redis://127.0.0.1:1", set_as_current=False)
    assert Copies(app).options() == {}
