"""What tells a message from others of its task's id."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.task import Context
from celery.signals import before_task_publish
from kombu.message import Message

from worker.broker import message, original
from worker.broker.message import HEADER
from worker.broker.request import MongoRequest

TAG = str(uuid4())


def sell(*_args: Any) -> None:
    """A task."""


@pytest.fixture(scope="module")
def app() -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.task(sell, name="shop.sell", shared=False)
    app.mongo = SimpleNamespace(consumer=None)
    return app


@pytest.fixture
def run(app: Celery) -> Any:
    """Return the task as its process sees it, of a message with these parts."""

    def run(*, task: str = "shop.sell", raw: Any = None, redelivered: bool = False, **changes: Any) -> Any:
        headers = {"id": "1", "task": "shop.sell", "retries": 0} | changes.pop("headers", {})
        properties = {"correlation_id": "1"} | changes.pop("properties", {})
        came = {"body": b"[[], {}, {}]", "content_type": "application/json", "content_encoding": "utf-8"}
        info = {"exchange": "", "routing_key": "shop", "redelivered": redelivered}
        received = Message(headers=headers, properties=properties, delivery_info=info, **(came | changes))
        if raw is not None:
            received._raw = raw  # type: ignore[attr-defined] # as kombu's own transports have it
        request = MongoRequest(received, app=app, headers=received.headers)
        told = pickle.loads(pickle.dumps(request.request_dict))  # noqa: S301 - on its way to a child
        return SimpleNamespace(name=task, request=Context(told))

    return run


# -- names -----------------------------------------------------------------------------------------


def test_each_message_that_is_sent_gets_a_name_which_its_copies_keep() -> None:
    message.connect()
    message.connect()
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for headers in (one, other):
        before_task_publish.send(sender="a.task", headers=headers, body=())
    copy = {**one}
    before_task_publish.send(sender="a.task", headers=copy, body=())
    assert one[HEADER] == copy[HEADER] != other[HEADER]


@pytest.mark.parametrize("headers", [None, (), "text"])
def test_odd_headers_do_not_keep_a_message_from_being_sent(headers: Any) -> None:
    message._on_publish(headers=headers, sender="a.task")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"headers": {HEADER: "a"}}, {"headers": {HEADER: "b"}}),
        ({"headers": {HEADER: "a"}}, {"headers": {HEADER: "a"}, "task": "shop.other"}),
        ({"properties": {"delivery_tag": TAG}}, {"properties": {"delivery_tag": str(uuid4())}}),
        ({"body": b"[[1], {}, {}]"}, {"body": b"[[2], {}, {}]"}),
        ({"headers": {"retries": 0}}, {"headers": {"retries": 1}}),
    ],
)
def test_other_work_under_the_same_id_has_another_name(run: Any, one: Any, other: Any) -> None:
    assert message.name_of(run(**one)) != message.name_of(run(**other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"headers": {HEADER: "a", "retries": 0}},
            {"headers": {HEADER: "a", "retries": 1}, "body": b"[[1], {}, {}]"},
        ),
        ({"properties": {"delivery_tag": TAG}}, {"properties": {"delivery_tag": TAG}, "redelivered": True}),
        # A transport that counts, or tags each delivery anew.
        ({}, {"headers": {"x-delivery-count": 2}, "redelivered": True}),
        ({"properties": {"delivery_tag": 7}}, {"properties": {"delivery_tag": 8}}),
        ({"body": "[[], {}, {}]"}, {}),
    ],
)
def test_a_message_that_is_delivered_again_or_retried_keeps_its_name(run: Any, one: Any, other: Any) -> None:
    assert message.name_of(run(**one)) == message.name_of(run(**other))


def test_the_retry_of_a_message_from_elsewhere_keeps_its_name(run: Any) -> None:
    tagged: dict[str, Any] = {"properties": {"delivery_tag": TAG}}
    for changes in ({}, tagged):
        task = run(**changes)
        message.carry_on(task.request)
        copy = task.request.as_execution_options()["headers"]
        before_task_publish.send(sender="a.task", headers=copy, body=())
        assert message.name_of(run(headers=copy | {"retries": 1})) == message.name_of(task)


def test_the_copy_of_a_message_from_elsewhere_keeps_its_name(run: Any) -> None:
    """A queue that counts returns gets a copy; the broker calls it new, and it may not be."""
    task = run(redelivered=True)
    came = original.of(task.request)
    assert came is not None
    copy = run(headers=came.headers_of_copy())
    assert message.name_of(copy) == message.name_of(task)
    assert not message.is_first_delivery(copy)


def test_where_the_broker_says_so_a_message_that_is_named_by_its_bytes_is_certainly_new(run: Any) -> None:
    """As AMQP's do: what they do not call redelivered was never delivered."""
    assert message.is_first_delivery(run())
    assert not message.is_first_delivery(run(redelivered=True))
    assert not message.is_first_delivery(run(properties={"delivery_info": {}}))
    assert not message.is_first_delivery(run(headers={HEADER: "a"}))


def test_what_a_transport_says_beside_the_rest_is_heard(run: Any) -> None:
    """Files, databases and memory say there that they deliver a message again."""
    assert original.is_redelivered(run(raw={"redelivered": True}).request)
    assert not original.is_redelivered(run(raw={}).request)
