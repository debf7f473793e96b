"""Our queues are declared as the app declares its own, in every process that knows the app."""

import pickle
from typing import Any

import pytest
from celery import Celery
from celery.app.amqp import AMQP
from celery.exceptions import QueueNotFound
from kombu.entity import Exchange, Queue

from worker.broker import own_queues
from worker.broker.own_queues import WithOwnQueues
from worker.settings import schedule


def app_with(**conf: Any) -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    own_queues.declare(app)
    # After install(app), as a module may go on.
    app.conf.update(conf)
    return app


def ours(app: Celery) -> list[Any]:
    return [app.amqp.queues[name] for name in schedule.QUEUES]


def types(app: Celery) -> set[str | None]:
    return {(queue.queue_arguments or {}).get("x-queue-type") for queue in ours(app)}


def test_they_are_what_celery_would_make_of_a_missing_queue() -> None:
    app, plain = app_with(), Celery("plain", broker="memory://", set_as_current=False)
    assert [vars(queue) for queue in ours(app)] == [vars(plain.amqp.queues[q.name]) for q in ours(app)]


def test_they_are_known_where_no_queue_may_be_created() -> None:
    """Beat, a web process and the command line send without being a worker."""
    app = app_with(task_queues=[Queue("jobs")], task_create_missing_queues=False)
    sent = [app.amqp.router.route({"queue": name}, "any")["queue"].name for name in schedule.QUEUES]
    assert sent == list(schedule.QUEUES)
    with pytest.raises(QueueNotFound):
        app.amqp.router.route({"queue": "other"}, "any")


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, None),
        ({"task_create_missing_queue_type": "classic"}, None),
        ({"task_create_missing_queue_type": "quorum"}, "quorum"),
        ({"task_default_queue_type": "quorum"}, "quorum"),
        ({"task_create_missing_queue_type": "quorum", "task_queues": [Queue("jobs")]}, "quorum"),
        ({"task_create_missing_queue_type": "quorum", "task_create_missing_queues": False}, "quorum"),
    ],
)
def test_they_have_the_type_of_the_apps_own(conf: dict[str, Any], expected: str | None) -> None:
    assert types(app_with(**conf)) == {expected}


def test_they_have_the_exchange_and_the_priorities_of_the_apps_own() -> None:
    app = app_with(task_create_missing_queue_exchange_type="topic", task_queue_max_priority=5)
    assert {queue.exchange.type for queue in ours(app)} == {"topic"}
    assert {queue.queue_arguments["x-max-priority"] for queue in ours(app)} == {5}


def test_a_queue_that_the_app_declares_stays_the_apps() -> None:
    theirs = Queue("mongo.health", Exchange("monitoring"), routing_key="health")
    app = app_with(task_queues=[Queue("jobs"), theirs])
    assert app.amqp.queues["mongo.health"] is theirs


def test_an_alias_of_the_apps_is_left_alone() -> None:
    theirs = Queue("health", alias="mongo.health")
    app = app_with(task_queues=[theirs])
    assert app.amqp.queues["mongo.health"] is theirs
    assert "mongo.health" not in dict(app.amqp.queues)


def test_the_apps_default_queue_stays() -> None:
    assert set(app_with().amqp.queues) == {"celery", *schedule.QUEUES}


def test_only_a_worker_consumes_them() -> None:
    app = app_with(task_queues=[Queue("jobs")])
    # Celery has a list of what is consumed by default since 5.7; before, all queues are.
    if hasattr(app.amqp.queues, "_default_consume_from"):
        assert set(app.amqp.queues.consume_from) == {"jobs"}
    own_queues.consume(app)
    own_queues.consume(app)
    assert set(app.amqp.queues.consume_from) == {"jobs", *schedule.QUEUES}


@pytest.mark.parametrize("has_queues", [False, True])
def test_an_app_that_was_used_before_learns_of_them(has_queues: bool) -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    assert app.amqp.queues if has_queues else app.amqp
    own_queues.declare(app)
    app.conf.task_default_queue = "shop"
    assert set(app.amqp.queues) == {"celery" if has_queues else "shop", *schedule.QUEUES}


class OwnAMQP(AMQP):
    """An app's own class of `amqp`."""


@pytest.mark.parametrize("amqp", [OwnAMQP, f"{__name__}:OwnAMQP"])
def test_an_apps_own_amqp_class_is_kept(amqp: Any) -> None:
    app = Celery("shop", broker="memory://", amqp=amqp, set_as_current=False)
    own_queues.declare(app)
    assert type(app.amqp).__name__ == "OwnAMQP"
    assert set(app.amqp.queues) >= set(schedule.QUEUES)


def test_it_travels_into_a_spawned_child() -> None:
    assert pickle.loads(pickle.dumps(WithOwnQueues(OwnAMQP))) == WithOwnQueues(OwnAMQP)  # noqa: S301 - ours
