"""MongoDB with users: readWrite on one database is enough, and what a refused login looks like."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
from celery import Celery
from pymongo.errors import OperationFailure

from ops.local.servers import LocalServer
from tasks.documents import encode
from tests.e2e.apps.secured import PASSWORD, app_uri, secured_server
from worker.installer import install
from worker.process import Mongo
from worker.settings import load_settings


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with secured_server(tmp_path_factory.mktemp("secured")) as server:
        yield server
        server.kill()  # its own way takes 2 s


@pytest.fixture(scope="module")
def app(secured: LocalServer, redis: LocalServer) -> Iterator[Celery]:
    """An app whose client is the user "app"; its tasks run in this process."""
    app = Celery("roles", broker="memory://", backend="cache+memory://", set_as_current=False)
    # The history needs no database of its own.
    env = {
        "MONGODB_URI": app_uri(secured),
        "REDIS_URL": redis.uri,
        "CELERY_PYMONGO_HISTORY_DATABASE": "shop",
    }
    install(app, load_settings(env, env_file=None))
    app.conf.task_always_eager = True
    app.conf.task_store_eager_result = False
    yield app
    app.mongo.close()
    app.close()


@pytest.fixture
def run(app: Celery) -> Callable[..., dict[str, Any]]:
    def run(task: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        result: dict[str, Any] = app.tasks[task].apply(args, kwargs, throw=True).result
        return result

    return run


def test_read_write_on_one_database_is_enough_for_health(run: Callable[..., dict[str, Any]]) -> None:
    report = run("mongo.health.check")
    assert (report["verdict"], report["reasons"], report["circuit"]) == ("ok", [], "closed")
    assert report["server"]
    assert report["topology"]["primary"]


def test_what_the_user_may_not_see_is_unknown_and_no_error(
    run: Callable[..., dict[str, Any]], app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OperationFailure, match="not authorized"):
        app.mongo.get_client().admin.command("serverStatus")
    report = run("mongo.pool.snapshot")
    assert report["server"]["source"] == "not permitted"
    assert (report["server"]["current"], report["server"]["others"]) == (None, None)
    assert report["process"]["counters"]["created"] > 0
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.INFO] == []


def test_read_write_on_one_database_is_enough_to_reconnect(run: Callable[..., dict[str, Any]]) -> None:
    assert run("mongo.reconnect.attempt")["attempt"] is None
    assert run("mongo.reconnect.run")["connected"] is True


def test_read_write_on_one_database_is_enough_for_the_data_tasks(run: Callable[..., dict[str, Any]]) -> None:
    sales = encode([{"_id": n, "shop": n % 2, "at": None} for n in range(10)])
    assert run("mongo.data.upsert_many", "sales", sales)["inserted"] == 10
    totals = [{"$group": {"_id": "$shop", "n": {"$sum": 1}}}]
    assert run("mongo.data.aggregate_into", "sales", totals, "totals")["documents"] == 2
    assert run("mongo.data.expire_before", "sales", "at", before="2020-01-01")["deleted"] == 0


def test_another_database_is_refused_by_one_error_and_never_retried(
    run: Callable[..., dict[str, Any]], app: Celery
) -> None:
    with pytest.raises(OperationFailure, match="code 13"):
        run("mongo.data.upsert_many", "sales", encode([{"_id": 1}]), database="elsewhere")
    # One task without a role is no reason to think the server lost.
    assert app.mongo.link.circuit.is_closed


# --- a wrong password ---


@pytest.fixture
def locked_out(secured: LocalServer) -> Iterator[Mongo]:
    settings = load_settings(
        {"MONGODB_URI": app_uri(secured, "wrong " + PASSWORD), "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "0.3"},
        env_file=None,
    )
    mongo = Mongo(settings)
    yield mongo
    mongo.close()


def test_a_wrong_password_is_a_refused_login_however_often_it_is_asked(locked_out: Mongo) -> None:
    # The driver names it once and then says that it finds no server.
    reports = [locked_out.check() for _ in range(3)]
    assert [(r["verdict"], r["error_class"]) for r in reports] == [("down", "auth")] * 3
    assert all("authentication failed" in r["reasons"][0].lower() for r in reports)


def test_a_refused_login_makes_the_reconnector_look_again(locked_out: Mongo) -> None:
    assert locked_out.reconnect()["attempt"] is None
    assert locked_out.check()["circuit"] == "open"
    attempt = locked_out.reconnect()["attempt"]
    assert (attempt["connected"], attempt["error_class"]) == (False, "auth")


def test_a_wrong_password_is_not_tried_again_by_call(locked_out: Mongo) -> None:
    calls: list[int] = []

    def operation() -> Any:
        calls.append(1)
        return locked_out.get_database().sales.find_one()

    for _ in range(2):
        with pytest.raises(pymongo.errors.PyMongoError, match=r"(?i)authentication failed"):
            locked_out.call(operation, deadline=1)
    assert len(calls) == 2


def test_no_credential_is_in_a_report_a_log_or_an_error(
    locked_out: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    reports = [locked_out.check(), locked_out.reconnect(force=True), locked_out.get_stats()]
    shown = [*map(repr, reports), repr(locked_out.settings), repr(locked_out.get_client()), caplog.text]
    for text in shown:
        for secret in (PASSWORD, quote(PASSWORD, safe=""), "p@ss", "p%40ss"):
            assert secret not in text
