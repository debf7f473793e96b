"""A message is noted as unacknowledged in the same step that takes it from its queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer

from ops.local.servers import LocalServer
from worker.fixes import gevent_take
from worker.fixes.gevent_take import Taker

PREFIX = "take:"
QUEUES = [Queue("a"), Queue("b")]


@pytest.fixture
def client(redis: LocalServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis.uri, socket_timeout=5) as client:
        client.flushall()
        yield client


@pytest.fixture
def connection(redis: LocalServer, client: redis_py.Redis) -> Iterator[Connection]:
    with Connection(redis.uri, transport_options={"global_keyprefix": PREFIX}) as connection:
        yield connection


def publish(connection: Connection, *bodies: Any, queue: str = "a") -> None:
    with connection.clone() as own, own.Producer() as producer:
        for body in bodies:
            producer.publish(body, routing_key=queue, declare=QUEUES, serializer="json")


def consume(connection: Connection, got: list[Any]) -> Any:
    consumer = Consumer(connection, QUEUES, callbacks=[lambda body, message: got.append((body, message))])
    consumer.qos(prefetch_count=10)
    Taker(consumer.channel).begin()
    consumer.consume()
    return consumer


def ask(connection: Any, consumer: Any) -> None:
    """Let a consumer ask Redis for a message, and wait until the answer is there, unread."""
    connection.transport.cycle._register_BRPOP(consumer.channel)
    assert consumer.channel.client.connection.can_read(timeout=5)


def drain(connection: Connection, got: list[Any], count: int) -> None:
    for _ in range(20):
        if len(got) >= count:
            return
        try:
            connection.drain_events(timeout=0.5)
        except TimeoutError:
            continue
    raise AssertionError(f"{got} is not {count} messages")


def unacked(client: redis_py.Redis) -> dict[str, list[Any]]:
    stored: Any = client.hgetall(PREFIX + "unacked")
    return {tag.decode(): json.loads(text) for tag, text in stored.items()}


def test_a_worker_that_dies_before_it_reads_the_reply_has_noted_the_message(
    connection: Connection, client: redis_py.Redis
) -> None:
    publish(connection, {"n": 1})
    consumer = consume(connection, [])
    ask(connection, consumer)
    assert client.llen(PREFIX + "a") == 0
    ((tag, (message, exchange, routing_key)),) = unacked(client).items()
    assert (message["properties"]["delivery_tag"], exchange, routing_key) == (tag, "", "a")
    assert client.zscore(PREFIX + "unacked_index", tag)
    # As another worker's sweep does, once the visibility timeout is over.
    got: list[Any] = []
    with connection.clone() as other:
        heir = consume(other, got)
        heir.channel.qos.restore_by_tag(tag)
        drain(other, got, 1)
    assert [body for body, _ in got] == [{"n": 1}]


def test_messages_of_every_queue_come_in_order_and_are_acknowledged(
    connection: Connection, client: redis_py.Redis
) -> None:
    got: list[Any] = []
    consume(connection, got)
    publish(connection, 1, 2, 3)
    publish(connection, "x", queue="b")
    drain(connection, got, 4)
    assert [body for body, _ in got if body != "x"] == [1, 2, 3]
    assert len(unacked(client)) == 4
    for _, message in got:
        message.ack()
    assert (unacked(client), client.zcard(PREFIX + "unacked_index")) == ({}, 0)


def test_a_message_that_comes_to_an_idle_worker_is_taken(connection: Connection) -> None:
    got: list[Any] = []
    consume(connection, got)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.3)
    publish(connection, "late")
    drain(connection, got, 1)


def test_what_is_no_message_is_handed_to_kombu(connection: Connection, client: redis_py.Redis) -> None:
    got: list[Any] = []
    consumer = consume(connection, got)
    client.lpush(PREFIX + "a", "no json")
    ask(connection, consumer)
    with pytest.raises(ValueError, match="Expecting value"):
        consumer.channel._brpop_read()
    assert unacked(client) == {}
    publish(connection, "next")
    drain(connection, got, 1)


def test_a_user_who_may_not_run_scripts_takes_messages_as_before(
    redis: LocalServer, client: redis_py.Redis
) -> None:
    client.acl_setuser(
        "plain", enabled=True, passwords=["+p"], keys=["*"], channels=["*"], commands=["+@all", "-eval"]
    )
    options = {"global_keyprefix": PREFIX}
    got: list[Any] = []
    try:
        uri = redis.uri.replace("redis://", "redis://plain:p@")
        with Connection(uri, transport_options=options) as connection:
            consume(connection, got)
            publish(connection, 1, 2)
            drain(connection, got, 2)
    finally:
        client.acl_deluser("plain")
    assert [body for body, _ in got] == [1, 2]


def test_it_is_off_once_kombu_takes_messages_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gevent_take.needed()

    def start(self: Any) -> None:
        self.client.connection.send_command("BLMOVE")

    monkeypatch.setattr("kombu.transport.redis.Channel._brpop_start", start)
    assert not gevent_take.needed()
