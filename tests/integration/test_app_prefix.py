"""An app whose keys have a prefix, and whose Redis user may use no others: ours are among them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_py
from celery import Celery

from ops.local.servers import LocalServer
from worker.broker.shared_queues import FRESH_SECONDS, SharedQueues
from worker.delivery.attempts import Attempt, Attempts, Delivered
from worker.delivery.dead_letters import DeadLetters, Letter
from worker.delivery.stores import Stores
from worker.fleet.beat_pulse import BeatPulse
from worker.fleet.drill_notes import DrillNotes
from worker.settings.fields import load_settings

LETTER = Letter("7", "shop.sell", "shop", "poison", 1.0, "w1@h", 0, 1)


@pytest.fixture
def broker(redis: LocalServer) -> Iterator[str]:
    """The URL of a user that may use keys of the shop alone."""
    with redis_py.Redis.from_url(redis.uri) as client:
        client.flushall()
        client.acl_setuser("shop", enabled=True, passwords=["+pw"], keys=["shop:*"], commands=["+@all"])
        yield redis.uri.replace("redis://", "redis://shop:pw@")
        assert [key for key in client.scan_iter() if not key.startswith(b"shop:")] == []
        client.acl_deluser("shop")


def test_what_is_kept_in_the_redis_of_an_app_is_under_its_prefix(broker: str) -> None:
    settings = load_settings({}, env_file=None)
    app = Celery(broker=broker, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": "shop:"}
    stores, mongo = Stores.of(settings), SimpleNamespace(settings=settings, redis_settings=settings)
    made: Any = mongo
    stores.follow(app.conf, made)
    assert mongo.redis_settings.key("x") == "shop:celery-pymongo:default:x"
    stores.registry.publish("w1@h/0", json.dumps({"pid": os.getpid()}).encode())
    stores.registry.introduce("w1@h", "{}")
    stores.registry.store("paused", {"mongo.data": [True, 1.0]})
    stores.history.append({"at": 1.0})
    BeatPulse(stores.client, stores.key).beat("Scheduler")
    DrillNotes(stores.client, stores.key).note("1", "exhaust", seconds=1)
    SharedQueues(stores.client, mongo.redis_settings.key_beside, "b").note("default", ["shop"], now=1.0)
    assert stores.ledger.take("me")
    DeadLetters(stores.client, stores.key).put(LETTER, "{}")
    attempts = Attempts(stores.client, stores.key, done_seconds=60)
    attempts.begin(Delivered("7", "m"), "run", Attempt("w1@h", 0, 1, None, "h", 1.0))
    assert stores.history.oldest() is not None
    assert stores.registry.paused([]).found[""]["mongo.data"][0]


def test_deployments_see_which_of_their_queues_others_consume(redis: LocalServer) -> None:
    settings = load_settings({}, env_file=None)
    with redis_py.Redis.from_url(redis.uri) as client:
        client.flushall()
        now = client.time()[0]
        shared = SharedQueues(client, settings.key_beside, "b")
        shared.note("gone", ["shop"], now=now - FRESH_SECONDS - 5)
        for number in range(50):
            shared.note("staging", ["shop", "mail"], now=now + number / 100)
        shared.note("prod", ["shop"], now=now)
        client.zadd(settings.key_beside("consumers", "b"), {"odd": now})
        assert shared.others("prod") == {"shop": ("staging",), "mail": ("staging",)}
        assert shared.others("staging") == {"shop": ("prod",)}
        assert SharedQueues(client, settings.key_beside, "another").others("prod") == {}
        assert client.zcard(settings.key_beside("consumers", "b")) == 4
