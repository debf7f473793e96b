"""The stamp of a message, the names of kombu's keys, and which brokers can be read."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.signals import before_task_publish
from kombu.transport.redis import PRIORITY_STEPS, Channel

from worker.broker import queues
from worker.broker.queues import HEADER, Layout, Queue, Waiting


def app_with(**conf: Any) -> Celery:
    app = Celery(set_as_current=False)
    app.conf.update(conf)
    return app


def client_of(app: Celery) -> Any:
    found = queues.of(app)
    assert found is not None
    return found._redis.connection_pool


def test_a_message_is_stamped_with_the_senders_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1234.5)
    headers: dict[str, Any] = {"id": "x"}
    queues.stamp(headers)
    assert headers == {"id": "x", HEADER: 1234.5}


@pytest.fixture
def disconnected() -> Iterator[None]:
    """Nothing is stamped after the test."""
    yield
    before_task_publish.disconnect(dispatch_uid="celery_pymongo.queues")


@pytest.mark.usefixtures("disconnected")
def test_every_task_that_is_sent_is_stamped_once_connected() -> None:
    queues.connect()
    queues.connect()
    headers: dict[str, Any] = {}
    told = before_task_publish.send(sender="a.task", headers=headers, body=())
    # Others of ours may be connected, too.
    assert HEADER in headers
    assert [answer for receiver, answer in told if receiver is queues._on_publish] == [None]


@pytest.mark.parametrize("headers", [None, (), "text"])
def test_odd_headers_do_not_keep_a_message_from_being_sent(headers: Any) -> None:
    queues._on_publish(headers=headers, sender="a.task")


def test_the_layout_is_kombus() -> None:
    ours = Layout()
    assert (ours.separator, ours.unacked) == (Channel.sep, Channel.unacked_key)
    assert list(ours.priorities) == PRIORITY_STEPS
    assert ours.lists("q") == ["q", "q\x06\x163", "q\x06\x166", "q\x06\x169"]


def test_a_brokers_own_names_are_used() -> None:
    options = {"global_keyprefix": "p:", "sep": "/", "priority_steps": [0, 5], "unacked_key": "taken"}
    found = queues.of(app_with(broker_url="redis://localhost", broker_transport_options=options))
    assert found is not None
    assert found._layout.lists("q") == ["p:q", "p:q/5"]
    assert found._layout == Layout("p:", "/", (0, 5), "taken")


@pytest.mark.parametrize("url", ["amqp://localhost", "memory://", "sqs://", "redis+socket:///tmp/redis.sock"])
def test_what_waits_in_another_broker_is_unknown(url: str) -> None:
    assert queues.of(app_with(broker_url=url)) is None


def test_the_redis_that_is_read_is_the_brokers() -> None:
    pool = client_of(app_with(broker_url="redis://:secret@one:7000/3"))
    kwargs = pool.connection_kwargs
    assert [kwargs[name] for name in ("host", "port", "db", "password")] == ["one", 7000, 3, "secret"]
    pool = client_of(app_with(broker_url="redis://one", broker_read_url=["redis://two", "redis://three"]))
    assert pool.connection_kwargs["host"] == "two"


@pytest.mark.parametrize("tls", [True, {"ssl_ca_certs": "/ca.pem"}])
def test_a_broker_by_tls_is_read_by_tls(tls: Any) -> None:
    pool = client_of(app_with(broker_url="redis://one", broker_use_ssl=tls))
    assert pool.connection_class.__name__ == "SSLConnection"
    assert pool.connection_kwargs.get("ssl_ca_certs") == (None if tls is True else "/ca.pem")


def test_a_broker_behind_sentinels_is_read_from_its_master() -> None:
    options = {"master_name": "main", "sentinel_kwargs": {"password": "theirs"}}
    urls = "sentinel://:secret@one:26379/1;sentinel://two:26380"
    pool = client_of(app_with(broker_url=urls, broker_transport_options=options))
    assert (pool.service_name, pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == (
        "main",
        "secret",
        1,
    )
    assert [
        sentinel.connection_pool.connection_kwargs["port"] for sentinel in pool.sentinel_manager.sentinels
    ] == [
        26379,
        26380,
    ]


def test_what_waits_is_plain_json() -> None:
    waiting = Waiting({"q": Queue(3, None)}, 2)
    assert waiting.to_dict() == {"queues": {"q": {"depth": 3, "age": None}}, "unacked": 2}


def test_queues_under_a_closed_gate_are_asked_about_first_though_nobody_consumes_them() -> None:
    closed = {"queues": ["mongo.health"], "gate": {"orders": "outage", "mail": "operator"}}
    open_ = {"queues": ["mongo.health", "mail"], "gate": {}}
    assert queues.to_ask([closed, open_, {}], ["mongo.ops", "mail"]) == [
        *("mail", "orders"),
        *("mongo.health", "mongo.ops"),
    ]
