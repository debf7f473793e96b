"""A message as it came: what MAIN tells of it, and that it stays where it was told."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from kombu.entity import Queue
from kombu.message import Message

from worker.broker import original
from worker.broker.request import MongoRequest

QUORUM = {"x-queue-type": "quorum"}


def message(**options: Any) -> Message:
    headers = {"id": "t1", "task": "save", **options.pop("headers", {})}
    chosen = {
        "body": "[[], {}, {}]",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "properties": {"correlation_id": "t1"},
        "delivery_info": {"consumer_tag": "None2", "exchange": "news", "routing_key": "a.b"},
    }
    return Message(headers=headers, **(chosen | options))


def save() -> None:
    """A task."""


def app_with_consumer(*queues: Queue, tags: dict[str, str]) -> Celery:
    """An app whose worker consumes these queues of kombu's under these tags."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.task(save, name="save", shared=False)
    tasks = SimpleNamespace(queues=list(queues), _active_tags=tags)
    app.mongo = SimpleNamespace(consumer=SimpleNamespace(task_consumer=tasks))
    return app


def context(app: Celery, received: Message) -> Any:
    """Return what the process that runs the task has as `self.request`."""
    request = MongoRequest(received, app=app, headers=received.headers)
    return Context(request.request_dict)


def test_the_queue_is_that_of_the_consumers_tag() -> None:
    """The exchange and the routing key may lead to several."""
    app = app_with_consumer(Queue("jobs"), Queue("other"), tags={"jobs": "None2", "other": "None3"})
    found = original.of(context(app, message()))
    assert found is not None
    assert found.queue == "jobs"
    assert (found.body, found.content_type, found.content_encoding) == (
        "[[], {}, {}]",
        "application/json",
        "utf-8",
    )
    assert found.properties == {"correlation_id": "t1"}
    assert dict(found.headers) == {"id": "t1", "task": "save"}


@pytest.mark.parametrize(
    ("arguments", "headers", "counts"),
    [
        (None, {}, False),
        ({"x-queue-type": "classic"}, {}, False),
        (QUORUM, {}, True),
        (None, {"x-delivery-count": 0}, True),
    ],
)
def test_returns_are_counted_by_what_the_app_declares_or_the_broker_says(
    arguments: Any, headers: dict[str, int], counts: bool
) -> None:
    app = app_with_consumer(Queue("jobs", queue_arguments=arguments), tags={"jobs": "None2"})
    found = original.of(context(app, message(headers=headers)))
    assert found is not None
    assert found.counts_returns is counts


@pytest.mark.parametrize("consumer", [None, SimpleNamespace(task_consumer=None)])
def test_a_transport_without_tags_and_a_worker_on_its_way_out_tell_no_queue(consumer: Any) -> None:
    app = app_with_consumer(Queue("jobs"), tags={"jobs": "None2"})
    untagged = original.of(context(app, message(delivery_info={"routing_key": "jobs"})))
    app.mongo.consumer = consumer
    without = original.of(context(app, message()))
    assert untagged is not None
    assert without is not None
    assert (untagged.queue, without.queue) == (None, None)


def test_it_travels_with_no_retry_of_the_task() -> None:
    """Celery sends every key of a request that it does not know as a header."""
    app = app_with_consumer(Queue("jobs"), tags={"jobs": "None2"})
    request = context(app, message())
    assert original.KEY not in str(request.as_execution_options())
    assert original.KEY not in str(request.headers)


def test_a_request_that_came_by_no_message_has_none() -> None:
    assert original.of(Context()) is None
    assert original.of(Context(properties={"correlation_id": "t1"})) is None


def test_what_the_broker_wrote_and_where_it_would_send_more_is_not_copied() -> None:
    app = app_with_consumer(Queue("jobs"), tags={"jobs": "None2"})
    headers = {"x-delivery-count": 4, "x-acquired-count": 5, "CC": ["a"], "BCC": ["b"], "tenant": "x"}
    found = original.of(context(app, message(headers=headers)))
    assert found is not None
    assert found.headers_of_copy() == {"id": "t1", "task": "save", "tenant": "x"}


def test_a_copy_of_a_copy_of_what_was_redelivered_still_says_so() -> None:
    app = app_with_consumer(Queue("jobs"), tags={"jobs": "None2"})
    info = {"consumer_tag": "None2", "redelivered": True}
    first = original.of(context(app, message(delivery_info=info)))
    assert first is not None
    again = original.of(context(app, message(headers=first.headers_of_copy())))
    assert again is not None
    assert again.is_redelivered
    assert again.headers_of_copy() == first.headers_of_copy()


@pytest.mark.parametrize(("sender", "kept"), [("guest", {"user_id": "guest"}), ("shop", {})])
def test_only_ones_own_name_is_sent(sender: str, kept: dict[str, str]) -> None:
    app = app_with_consumer(Queue("jobs"), tags={"jobs": "None2"})
    properties = {"user_id": "guest", "content_type": "text/plain", "application_headers": {"id": "t1"}}
    found = original.of(context(app, message(properties=properties)))
    assert found is not None
    assert found.properties_of_copy(user=sender) == kept
