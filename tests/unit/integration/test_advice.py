"""Advice on an app's own Celery settings."""

from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from worker.integration.advice import advise
from worker.integration.config import celery_config
from worker.settings.fields import load_settings

SAFE: dict[str, Any] = {
    "broker_url": "redis://localhost",
    "result_backend": "redis://localhost",
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_deduplicate_successful_tasks": True,
    "result_expires": timedelta(days=1),
    "broker_transport_options": {"visibility_timeout": 3600, "socket_timeout": 5},
}


def conf(**changes: Any) -> Any:
    app = Celery("x", set_as_current=False)
    app.conf.update(SAFE | changes)
    return app.conf


def test_the_services_own_settings_need_no_advice():
    app = Celery("x", set_as_current=False)
    app.conf.update(celery_config(load_settings({}, env_file=None)))
    assert advise(app.conf, 300.0, broker="redis") == []


def test_safe_settings_need_none():
    assert advise(conf(), 300.0, broker="redis") == []


@pytest.mark.parametrize(
    ("changes", "begins", "ends"),
    [
        ({"task_acks_late": False}, "task_acks_late=False:", "set it to True"),
        ({"task_reject_on_worker_lost": False}, "task_reject_on_worker_lost=False:", "set it to True"),
        (
            {"broker_transport_options": {"visibility_timeout": 300, "socket_timeout": 5}},
            "broker_transport_options['visibility_timeout']=300:",
            "set it above every time limit",
        ),
        (
            {"worker_cancel_long_running_tasks_on_connection_loss": True},
            "worker_cancel_long_running_tasks_on_connection_loss=True:",
            "set it to False",
        ),
        (
            {"worker_deduplicate_successful_tasks": False},
            "worker_deduplicate_successful_tasks=False:",
            "set it to True",
        ),
        ({"result_backend": None}, "result_backend is not set:", "set one"),
        ({"task_ignore_result": True}, "task_ignore_result=True:", "set it to False"),
        (
            {"result_expires": 60},
            "result_expires=60 s:",
            "set it above broker_transport_options['visibility_timeout']",
        ),
        (
            {"broker_transport_options": {"visibility_timeout": 3600}},
            "broker_transport_options['socket_timeout'] is not set:",
            "set it to a few seconds",
        ),
    ],
)
def test_each_doubtful_setting_gets_one_line_that_says_what_to_set(changes: Any, begins: str, ends: str):
    (line,) = advise(conf(**changes), 300.0, broker="redis")
    assert line.startswith(begins)
    assert line.endswith(ends)


def test_a_task_without_a_limit_may_outrun_the_visibility_timeout():
    (line,) = advise(conf(), None, broker="redis")
    assert line.startswith("task_time_limit is not set:")


@pytest.mark.parametrize(("prefetch", "waits"), [(0, "without end"), (12, "up to 3600 s")])
def test_messages_that_a_worker_holds_back_for_too_long_run_twice(prefetch: int, waits: str):
    """Whether the configuration says so, or the worker's command line."""
    (line,) = advise(conf(worker_prefetch_multiplier=prefetch), 300.0, broker="redis")
    assert line.startswith(f"worker_prefetch_multiplier={prefetch}: a message may wait {waits} in a worker")
    assert line.endswith("set it to 1")
    assert advise(conf(), 300.0, broker="redis", prefetch=prefetch) == [line]
    assert advise(conf(worker_prefetch_multiplier=prefetch), 300.0, broker="redis", prefetch=1) == []


def test_a_message_must_not_come_back_after_once_has_forgotten_it():
    changes = {"broker_transport_options": {"visibility_timeout": 700_000, "socket_timeout": 5}}
    (line,) = advise(conf(result_expires=None, **changes), 300.0, broker="redis")
    assert line.endswith("may come back after `once` has forgotten that it ran; set it to 604800 or less")


def test_results_that_never_expire_are_fine():
    assert advise(conf(result_expires=None), 300.0, broker="redis") == []


def test_celerys_defaults_get_one_line_each():
    app = Celery("x", broker="redis://localhost", set_as_current=False)
    assert [line.split(":")[0].split("=")[0] for line in advise(app.conf, None, broker="redis")] == [
        "task_acks_late",
        "task_time_limit is not set",
        "worker_deduplicate_successful_tasks",
        "broker_transport_options['socket_timeout'] is not set",
    ]


def test_rabbitmq_is_not_measured_by_what_redis_does():
    options = {"broker_transport_options": {"confirm_publish": True}, "worker_prefetch_multiplier": 0}
    assert advise(conf(**options), None, broker="amqp") == []


def test_celerys_defaults_for_rabbitmq_get_one_line_each():
    app = Celery("x", broker="amqp://localhost", set_as_current=False)
    assert [line.split(":")[0].split("=")[0] for line in advise(app.conf, None, broker="amqp")] == [
        "task_acks_late",
        "worker_deduplicate_successful_tasks",
        "broker_transport_options['confirm_publish'] is not set",
    ]


@pytest.mark.parametrize("kind", ["filesystem", "sql"])
def test_a_broker_that_forgets_what_a_worker_has_is_named(kind):
    (line,) = advise(conf(), None, broker=kind)
    assert line.startswith("broker_url: ")
    assert kind in line


def test_of_other_brokers_nothing_is_said_but_what_holds_of_all():
    assert advise(conf(), None, broker="SQS") == []
    assert advise(Celery("x", set_as_current=False).conf, None, broker="memory") == []
