"""A message is noted as unacknowledged in the same step that takes it from its queue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from socket import MSG_PEEK
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_py
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer
from kombu.transport.virtual import Empty

from ops.local.servers import LocalServer
from worker.integration.fixes import take_and_note
from worker.integration.fixes.take_and_note import TAKE, WAIT_SECONDS, TakeAndNote, Taker

PREFIX = "take:"
QUEUES = [Queue("a"), Queue("b")]
OPTIONS = {"global_keyprefix": PREFIX}


@pytest.fixture
def client(redis: LocalServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis.uri, socket_timeout=5) as client:
        client.flushall()
        yield client


@pytest.fixture
def connection(redis: LocalServer, client: redis_py.Redis) -> Iterator[Connection]:
    with Connection(redis.uri, transport_options=OPTIONS) as connection:
        yield connection


def publish(connection: Connection, *bodies: Any, queue: str = "a", **options: Any) -> None:
    with connection.clone() as own, own.Producer() as producer:
        for body in bodies:
            declare = [*QUEUES, Queue(queue)]
            producer.publish(body, routing_key=queue, declare=declare, serializer="json", **options)


def subscribe(connection: Connection, got: list[Any]) -> Any:
    """Consume in kombu's own way."""
    consumer: Any = Consumer(
        connection, QUEUES, callbacks=[lambda body, message: got.append((body, message))]
    )
    consumer.qos(prefetch_count=0)
    consumer.channel.do_restore = False  # at its close, by a connection that kombu then leaves open
    consumer.consume()
    return consumer


def consume(connection: Connection, got: list[Any], *, unread: float | None = None) -> Any:
    consumer = subscribe(connection, got)
    Taker(consumer.channel, unread=unread).begin()
    return consumer


def ask(connection: Any, consumer: Any) -> None:
    """Let a consumer ask Redis for a message, and wait until the reply is there, unread."""
    consumer.channel.client.script_load(TAKE)
    connection.transport.cycle._register_BRPOP(consumer.channel)
    assert consumer.channel.client.connection.can_read(timeout=5)


def drain(connection: Connection, got: list[Any], count: int) -> None:
    for _ in range(20):
        if len(got) >= count:
            return
        idle(connection, seconds=0.5)
    raise AssertionError(f"{len(got)} messages, not {count}")


def idle(connection: Connection, *, seconds: float = 0.2) -> None:
    """Let it wait, and deliver what comes."""
    try:
        connection.drain_events(timeout=seconds)
    except TimeoutError:
        return


def unacked(client: redis_py.Redis) -> dict[str, list[Any]]:
    stored: Any = client.hgetall(PREFIX + "unacked")
    return {tag.decode(): json.loads(text) for tag, text in stored.items()}


def calls(client: redis_py.Redis, command: str) -> int:
    stats: Any = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


# --- what is taken is noted


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


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"n": 1}, {}),
        ("x" * 1_000_000, {}),
        ({"text": 'a "quoted" \\ line\n', "umlaut": "ü"}, {"body_encoding": None}),
        ("ends with a backslash \\", {"body_encoding": None}),
        ({"n": 2}, {"headers": {"body": '{"body": "', "delivery_tag": "not this"}, "exchange": "amq.direct"}),
    ],
    ids=["small", "large", "quotes", "backslash", "headers"],
)
def test_the_note_is_made_once_and_holds_the_message_as_it_is(
    body: Any, options: dict[str, Any], connection: Connection, client: redis_py.Redis
) -> None:
    connection.default_channel.body_encoding = options.pop("body_encoding", "base64")
    exchange = options.get("exchange", "")
    with connection.Producer() as producer:
        if exchange:
            QUEUES[0](producer.channel).queue_declare()
            producer.channel.exchange_declare(exchange, "direct")
            producer.channel.queue_bind("a", exchange, "a")
        producer.publish(body, routing_key="a", serializer="json", **options)
    (sent,) = map(json.loads, client.lrange(PREFIX + "a", 0, -1))
    got: list[Any] = []
    consumer = consume(connection, got)
    client.config_resetstat()
    ask(connection, consumer)
    noted = unacked(client)
    consumer.channel._brpop_read()
    ((received, message),) = got
    assert received == body
    assert noted == unacked(client) == {message.delivery_tag: [sent, "", "a"]}
    assert (calls(client, "hset"), calls(client, "zadd")) == (1, 1)
    message.ack()
    assert (unacked(client), client.zcard(PREFIX + "unacked_index")) == ({}, 0)


def test_a_message_that_another_program_wrote_is_noted(
    connection: Connection, client: redis_py.Redis
) -> None:
    """Its keys in another order, and without spaces."""
    got: list[Any] = []
    consume(connection, got)
    publish(connection, "theirs")
    sent = json.loads(client.rpop(PREFIX + "a") or b"")  # type: ignore[arg-type]  # typed for asyncio, too
    client.lpush(PREFIX + "a", json.dumps(dict(sorted(sent.items(), reverse=True)), separators=(",", ":")))
    drain(connection, got, 1)
    ((body, message),) = got
    assert (body, [*unacked(client)]) == ("theirs", [message.delivery_tag])


@pytest.mark.parametrize("is_bound", [True, False])
def test_a_message_goes_back_to_the_queue_that_it_came_from(
    is_bound: bool, connection: Connection, client: redis_py.Redis
) -> None:
    """By its exchange kombu would return it to both queues, or to none, which loses it."""
    exchange = Exchange("news", "topic")
    with connection.clone() as own, own.Producer() as producer:
        for queue in QUEUES:
            Queue(queue.name, exchange, "sport.#").maybe_bind(producer.channel).declare()
        producer.publish(1, exchange="news", routing_key="sport.golf", priority=3, serializer="json")
    (message,) = client.lrange(PREFIX + "a\x06\x163", 0, -1)
    client.delete(PREFIX + "b\x06\x163")
    if not is_bound:
        client.delete(PREFIX + "_kombu.binding.news")
    consumer = consume(connection, [])
    ask(connection, consumer)
    (tag,) = unacked(client)
    consumer.channel.qos.restore_by_tag(tag)
    assert (unacked(client), client.llen(PREFIX + "b\x06\x163")) == ({}, 0)
    (returned,) = client.lrange(PREFIX + "a\x06\x163", 0, -1)
    assert json.loads(returned)["body"] == json.loads(message)["body"]


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


@pytest.mark.parametrize("way", [subscribe, consume])
def test_priorities_are_kombus(way: Any, connection: Connection) -> None:
    for priority in (9, 0, 6, 3):
        publish(connection, priority, priority=priority)
    got: list[Any] = []
    way(connection, got)
    drain(connection, got, 4)
    assert [body for body, _ in got] == [0, 3, 6, 9]


def test_a_redis_without_memory_hands_out_what_it_has(connection: Connection, client: redis_py.Redis) -> None:
    publish(connection, 1)
    got: list[Any] = []
    consume(connection, got)
    client.config_set("maxmemory", "1")
    try:
        drain(connection, got, 1)
        assert len(unacked(client)) == 1
    finally:
        client.config_set("maxmemory", "0")


def test_a_script_that_redis_forgot_is_sent_again(connection: Connection, client: redis_py.Redis) -> None:
    got: list[Any] = []
    consume(connection, got)
    for number in (1, 2):
        client.script_flush()
        publish(connection, number)
        drain(connection, got, number)
    assert len(unacked(client)) == 2


# --- what cannot be read


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


def test_a_message_that_kombu_cannot_read_does_not_come_again(
    connection: Connection, client: redis_py.Redis
) -> None:
    """Nor does it stop the sweep, which reads what is noted."""
    publish(connection, 1, headers={"at": {"__type__": "datetime", "__value__": "no date"}})
    consumer = consume(connection, [])
    ask(connection, consumer)
    assert len(unacked(client)) == 1
    with pytest.raises(ValueError, match="isoformat"):
        consumer.channel._brpop_read()
    assert (unacked(client), client.zcard(PREFIX + "unacked_index")) == ({}, 0)


# --- a reply that is lost with its connection


def test_a_message_whose_reply_is_lost_comes_again_by_the_same_channel(connection: Connection) -> None:
    publish(connection, 1)
    got: list[Any] = []
    consumer = consume(connection, got)
    ask(connection, consumer)
    consumer.channel.client.connection.disconnect()
    drain(connection, got, 1)


def test_a_message_whose_reply_is_lost_comes_again_by_the_next_connection(
    connection: Connection, client: redis_py.Redis
) -> None:
    publish(connection, 1, 2)
    first = subscribe(connection, [])
    second: list[Any] = []
    worker = SimpleNamespace(task_consumer=first)
    step = TakeAndNote(worker)
    step.start(worker)
    ask(connection, first)
    with connection.clone() as other:
        worker.task_consumer = subscribe(other, second)
        step.start(worker)
        drain(other, second, 2)
        # And no message that somebody else took is returned.
        assert [body for body, _ in second] == [1, 2]
        assert len(unacked(client)) == 2


# --- waiting


def test_a_message_that_comes_to_an_idle_worker_stays_in_its_queue_until_it_is_noted(
    connection: Connection, client: redis_py.Redis
) -> None:
    got: list[Any] = []
    consumer = consume(connection, got)
    idle(connection)
    publish(connection, "late")
    assert consumer.channel.client.connection.can_read(timeout=5)  # Redis has reported it
    assert (client.llen(PREFIX + "a"), unacked(client)) == (1, {})
    drain(connection, got, 1)
    assert (client.llen(PREFIX + "a"), len(unacked(client))) == (0, 1)


def test_a_report_that_comes_with_the_reply_before_it_is_heard(connection: Connection) -> None:
    got: list[Any] = []
    consumer = consume(connection, got)
    consumer.channel.brpop_timeout = 60  # or it would soon look by itself
    ask(connection, consumer)
    with pytest.raises(Empty):
        consumer.channel._brpop_read()
    connection.transport.cycle._register_BRPOP(consumer.channel)
    socket = consumer.channel.client.connection._sock
    unread = len(socket.recv(1000, MSG_PEEK))
    publish(connection, 1)
    while len(socket.recv(1000, MSG_PEEK)) == unread:
        time.sleep(0.01)
    with pytest.raises(Empty):
        consumer.channel._brpop_read()
    drain(connection, got, 1)


def test_a_worker_without_a_free_slot_hears_no_report(connection: Connection) -> None:
    """kombu drops a connection that speaks then."""
    got: list[Any] = []
    consumer = consume(connection, got)
    consumer.qos(prefetch_count=1)
    idle(connection)
    publish(connection, 1)
    drain(connection, got, 1)
    before = consumer.channel.client.connection._sock
    publish(connection, 2, queue="b")
    idle(connection)
    assert consumer.channel.client.connection._sock is before
    got[0][1].ack()
    drain(connection, got, 2)


def test_an_idle_worker_asks_no_more_than_kombu_does(connection: Connection, client: redis_py.Redis) -> None:
    consume(connection, [])
    idle(connection)
    client.config_resetstat()
    began = time.monotonic()
    idle(connection, seconds=2.5)
    idle(connection, seconds=0.1)
    stats: Any = client.info("commandstats")
    asked = sum(
        stat["calls"]
        for name, stat in stats.items()
        if name not in ("cmdstat_info", "cmdstat_config|resetstat")
    )
    assert 1 <= asked <= 1 + (time.monotonic() - began) / connection.transport.brpop_timeout


def test_a_queue_that_is_cancelled_while_it_waits_keeps_its_messages(
    connection: Connection, client: redis_py.Redis
) -> None:
    """As the gate does; kombu by itself would take one more, and put it back with a warning."""
    got: list[Any] = []
    consumer = consume(connection, got)
    idle(connection)
    consumer.cancel_by_queue("a")
    publish(connection, 1)
    publish(connection, 2, queue="b")
    drain(connection, got, 1)
    idle(connection)
    assert [body for body, _ in got] == [2]
    assert client.llen(PREFIX + "a") == 1


def test_a_queue_that_is_added_while_it_waits_is_consumed(connection: Connection) -> None:
    got: list[Any] = []
    consumer = consume(connection, got)
    consumer.channel.brpop_timeout = 60  # or it would soon look by itself
    idle(connection)
    publish(connection, 1, queue="c")
    consumer.add_queue(Queue("c"))
    consumer.consume()
    drain(connection, got, 1)


def test_workers_that_came_too_late_look_again_and_not_too_often(
    connection: Connection, client: redis_py.Redis
) -> None:
    first: list[Any] = []
    second: list[Any] = []
    publish(connection, *range(200))
    messages: Any = client.lrange(PREFIX + "a", 0, -1)
    client.delete(PREFIX + "a")
    consume(connection, first)
    with connection.clone() as other:
        late = consume(other, second)
        idle(other)
        idle(connection)
        sent = commands_of(late)
        began = time.monotonic()
        for message in messages:
            client.lpush(PREFIX + "a", message)
            drain(connection, first, len(first) + 1)
            idle(other, seconds=0.001)
        assert 2 <= sent.count("EVALSHA") <= 2 + (time.monotonic() - began) / (WAIT_SECONDS / 2)
        idle(other)
        publish(connection, "last")
        drain(other, second, 1)


def commands_of(consumer: Any) -> list[str]:
    """Note what this consumer sends from now on."""
    redis_connection = consumer.channel.client.connection
    pack = redis_connection.pack_commands
    names: list[str] = []

    def pack_commands(commands: Any) -> Any:
        names.extend(command[0] for command in commands)
        return pack(commands)

    redis_connection.pack_commands = pack_commands
    return names


def test_workers_without_the_fix_share_its_queues(connection: Connection, client: redis_py.Redis) -> None:
    ours: list[Any] = []
    theirs: list[Any] = []
    consume(connection, ours)
    with connection.clone() as other:
        subscribe(other, theirs)
        for number in range(20):
            publish(connection, number)
            idle(other if number % 2 else connection, seconds=0.05)
        for _ in range(20):
            idle(connection, seconds=0.05)
            idle(other, seconds=0.05)
        assert sorted(body for body, _ in ours + theirs) == list(range(20))
        assert len(unacked(client)) == 20


# --- a Redis that refuses


@pytest.fixture
def without(redis: LocalServer, client: redis_py.Redis) -> Iterator[Callable[[str], str]]:
    """Return the URI of a user who may do all but one thing."""

    def make(command: str) -> str:
        rights: dict[str, Any] = {"keys": ["*"], "channels": ["*"], "commands": ["+@all", f"-{command}"]}
        client.acl_setuser("plain", enabled=True, passwords=["+p"], **rights)
        return redis.uri.replace("redis://", "redis://plain:p@")

    yield make
    client.acl_deluser("plain")


@pytest.mark.parametrize("command", ["eval", "evalsha"])
def test_a_user_who_may_not_run_scripts_takes_messages_as_before(
    command: str, without: Callable[[str], str], client: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.script_flush()
    got: list[Any] = []
    with Connection(without(command), transport_options=OPTIONS) as connection:
        consume(connection, got)
        publish(connection, 1, 2)
        drain(connection, got, 2)
    assert [body for body, _ in got] == [1, 2]
    assert len(unacked(client)) == 2
    assert "refuses a script (NoPermissionError)" in caplog.text


def test_a_user_who_may_not_track_looks_every_now_and_then(
    without: Callable[[str], str], client: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    got: list[Any] = []
    with Connection(without("client"), transport_options=OPTIONS) as connection:
        consume(connection, got)
        idle(connection)
        publish(connection, 1)
        drain(connection, got, 1)
        client.config_resetstat()
        began = time.monotonic()
        idle(connection, seconds=1.0)
        assert 1 <= calls(client, "evalsha") <= 1 + (time.monotonic() - began) / WAIT_SECONDS
    assert len(unacked(client)) == 1
    assert caplog.text.count("reports no changes (NoPermissionError)") == 1


# --- where it is off


def test_it_is_off_once_kombu_takes_messages_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert take_and_note.needed()

    def start(self: Any) -> None:
        self.client.connection.send_command("BLMOVE")

    monkeypatch.setattr("kombu.transport.redis.Channel._brpop_start", start)
    assert not take_and_note.needed()


def test_messages_that_kombu_does_not_note_either_are_left_alone(redis: LocalServer) -> None:
    with Connection(redis.uri, transport_options={"ack_emulation": False}) as connection:
        worker = SimpleNamespace(task_consumer=subscribe(connection, []))
        TakeAndNote(worker).start(worker)
        assert "_brpop_start" not in vars(worker.task_consumer.channel)
