"""What MAIN does before its first fork so that its children share its memory."""

import gc
from types import SimpleNamespace

import pytest
from celery import Celery

from worker.delivery.stores import Stores
from worker.integration.signals import Lifecycle
from worker.process.process import Mongo
from worker.sentry import Agent
from worker.settings.fields import load_settings


@pytest.fixture
def lifecycle():
    gc.unfreeze()
    settings = load_settings({}, env_file=None)
    mongo, stores = Mongo(settings), Stores.of(settings)
    agent = Agent(mongo, stores.registry, stores.ledger, stores.windows)
    made = Lifecycle(Celery("test", set_as_current=False), mongo, stores, agent)
    made.worker_init(
        sender=SimpleNamespace(
            hostname="n", pool_cls="prefork", concurrency=1, time_limit=None, soft_time_limit=None
        )
    )
    yield made
    made._remove_board()
    gc.unfreeze()


def test_a_collection_before_a_fork_no_longer_touches_what_main_had_before_the_first(lifecycle):
    lifecycle.worker_before_create_process()
    assert gc.get_freeze_count() > len(gc.get_objects())


def test_what_main_makes_between_forks_is_still_collected(lifecycle):
    lifecycle.worker_before_create_process()
    frozen = gc.get_freeze_count()
    kept: list[list[int]] = [[] for _ in range(100)]
    lifecycle.worker_before_create_process()
    assert gc.get_freeze_count() == frozen, f"{len(kept)} new lists were frozen"
