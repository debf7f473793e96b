"""What a node says of itself: what it is, in how many bytes, and nothing that is a secret."""

from __future__ import annotations

import json
import weakref
from typing import Any

import pytest
from celery import Celery

from worker.board.board import RECORD_BYTES
from worker.fleet import node_record
from worker.integration.config import celery_config
from worker.settings.fields import load_settings

WORKER: dict[str, Any] = {
    "node": "w1@h",
    "began": 1.0,
    "kind": "threads",
    "broker": "redis",
    "concurrency": 8,
    "prefetch": 1,
    "max_tasks_per_child": None,
    "init_handlers": [],
}


def build(
    *, limits: dict[str, float | None] | None = None, conf: dict[str, Any] | None = None, **environ: str
) -> dict[str, Any]:
    settings = load_settings(environ, env_file=None)
    app = Celery("x", set_as_current=False)
    app.conf.update(celery_config(settings) | (conf or {}))
    told = {"a": 300.0} if limits is None else limits
    return node_record.build(app.conf, settings, worker=WORKER, limits=told, risks=[])


def test_a_record_says_what_the_node_is() -> None:
    told = build()
    assert {name: told[name] for name in WORKER} == WORKER
    assert set(told["versions"]) == {"python", "celery", "kombu", "redis", "pymongo"}
    assert told["options"]["maxPoolSize"] == 50
    assert told["options"]["minPoolSize"] == 8
    assert (told["visibility_timeout"], told["longest_time_limit"], told["result_backend"]) == (
        3600,
        300,
        "redis",
    )
    assert told["nofile"] > 0


@pytest.mark.parametrize(
    ("limits", "longest", "shortest", "named"),
    [
        ({"a": 10.0, "b": 300.0, "c": 300.0}, 300.0, 10.0, ["b", "c"]),
        ({"a": 10.0, "b": None}, None, 10.0, []),
        ({}, None, None, []),
    ],
)
def test_limits_of_tasks_are_those_that_hold(
    limits: dict[str, float | None], longest: Any, shortest: Any, named: list[str]
) -> None:
    told = build(limits=limits)
    found = (told["longest_time_limit"], told["shortest_time_limit"], told["longest_tasks"])
    assert found == (longest, shortest, named)


def test_a_record_holds_no_host_no_user_and_no_secret() -> None:
    told = build(
        MONGODB_URI="mongodb://ada:s3cret@db.example/shop?tls=true&tlsInsecure=true",
        REDIS_URL="rediss://:s3cret@cache.example/0?ssl_cert_reqs=none",
    )
    text = node_record.encode(told, RECORD_BYTES)
    assert not [word for word in ("s3cret", "ada", "example", "shop") if word in text]
    assert told["mongodb"] == {"local": False, "login": True, "tls": True, "verified": False}
    assert told["redis"] == {"local": False, "login": True, "tls": True, "verified": False}


@pytest.mark.parametrize(
    ("uri", "is_local"),
    [
        ("mongodb://localhost:27017", True),
        ("mongodb://127.0.0.1:1,127.0.0.1:2/x", True),
        ("mongodb://[::1]:27017", True),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock", True),
        ("mongodb://127.0.0.1,db1", False),
        ("mongodb+srv://localhost.example", False),
    ],
)
def test_a_host_is_this_one_or_over_a_network(uri: str, is_local: bool) -> None:
    assert build(MONGODB_URI=uri)["mongodb"]["local"] is is_local


def test_a_record_that_is_too_long_leaves_out_what_is_missed_least() -> None:
    told = build() | {"risks": ["r" * 200] * 8, "before_fork": ["f" * 400] * 5}
    assert json.loads(node_record.encode(told, 10_000)) == told
    short = json.loads(node_record.encode(told, RECORD_BYTES))
    assert "risks" not in short
    assert short["before_fork"] == told["before_fork"]


def test_handlers_of_the_apps_own_are_told_from_celerys_and_ours() -> None:
    def connects() -> None: ...

    def resolve(receiver: Any) -> Any:
        return receiver() if isinstance(receiver, weakref.ref) else receiver

    receivers = [(1, connects), (2, weakref.ref(connects)), (3, Celery.close), (4, node_record.build)]
    found = node_record.init_handlers(receivers, resolve, own="worker")
    assert found[0] == found[1]
    assert found[0].startswith(f"{__name__}.{connects.__qualname__} (")
    assert found[0].endswith(f"test_node_record.py:{connects.__code__.co_firstlineno})")


def test_a_handler_that_is_gone_is_none() -> None:
    assert node_record.init_handlers([(1, None)], lambda receiver: receiver, own="worker") == []


def test_celerys_own_client_for_results_is_told() -> None:
    assert build(conf={"result_backend": "mongodb+srv://x/y"})["result_backend"] == "mongodb"
