"""What runs when, and which queue carries what."""

import pytest
from celery import Celery

from worker.celery import create_app
from worker.settings import schedule
from worker.settings.fields import load_settings


def test_each_message_expires_before_its_successor_is_sent() -> None:
    for shortest in (False, True):
        names = ("HEALTH", "SNAPSHOT", "RECONNECT") if shortest else ()
        environ = {f"CELERY_PYMONGO_{name}_INTERVAL_SECONDS": "1" for name in names}
        for entry in schedule.entries(load_settings(environ, env_file=None)).values():
            assert 0 < entry["options"]["expires"] < entry["schedule"]


def test_the_intervals_are_the_settings() -> None:
    environ = {"CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "7", "CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS": "8"}
    entries = schedule.entries(load_settings(environ, env_file=None))
    assert {name: entry["schedule"] for name, entry in entries.items()} == {
        "mongo.health.check": 7.0,
        "mongo.pool.snapshot": 8.0,
        "mongo.reconnect.attempt": 5.0,
    }


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    from pymongo import MongoClient

    from worker.process import process

    monkeypatch.setattr(process, "_current", None)
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)
    return create_app(load_settings({}, env_file=None))


def test_every_entry_names_a_task_of_the_app_and_is_sent_where_it_is_routed(app: Celery) -> None:
    entries = app.conf.beat_schedule
    assert set(entries) == {"mongo.health.check", "mongo.pool.snapshot", "mongo.reconnect.attempt"}
    for entry in entries.values():
        assert entry["task"] in app.tasks
        assert entry["options"]["queue"] == app.amqp.router.route({}, entry["task"])["queue"].name


def test_every_task_of_ours_has_a_queue_of_its_subject(app: Celery) -> None:
    ours = [name for name in app.tasks if not name.startswith("celery.")]
    assert len(ours) >= 5
    for name in ours:
        assert name.startswith("mongo.")
        assert app.amqp.router.route({}, name)["queue"].name in schedule.QUEUES


def test_every_route_leads_to_a_queue_that_the_worker_listens_to() -> None:
    assert {route["queue"] for route in schedule.routes().values()} == set(schedule.QUEUES)
