"""A mongod with logins: which role each feature needs, and what a refused login looks like."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pymongo
import pytest
import redis as redis_py
from celery import Celery
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from ops.drills import site
from ops.local.servers import LocalServer
from tasks.documents import encode
from tests.e2e.apps.secured import PASSWORD, app_uri, secured_server
from worker.fleet.history import History
from worker.integration.install import install
from worker.mongo.once import Effect, once, run_once
from worker.process.process import Mongo
from worker.server import connections
from worker.settings.fields import load_settings


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


# --- which role each feature needs ---

Documents = pymongo.MongoClient[dict[str, Any]]

SHOP, READ = {"role": "readWrite", "db": "shop"}, {"role": "read", "db": "shop"}
OF_HISTORY = {"role": "readWrite", "db": "celery_pymongo"}


def check_health(mongo: Mongo) -> bool:
    report = mongo.check()
    return bool(report["verdict"] == "ok" and report["server"] and report["topology"]["primary"])


def reconnect(mongo: Mongo) -> bool:
    return bool(mongo.reconnect(force=True)["attempt"]["connected"])


def read(mongo: Mongo) -> bool:
    return bool(mongo.get_database().orders.find_one({"_id": 0}))


def write(mongo: Mongo) -> bool:
    return bool(mongo.get_database().orders.insert_one({}).acknowledged)


def write_once(mongo: Mongo) -> bool:
    orders, id_ = mongo.get_database().orders, uuid4().hex
    effects = [once(orders, {"_id": id_}, {"$inc": {"n": 1}}, task_id=id_, upsert=True) for _ in range(2)]
    return effects == [Effect.NOW, Effect.BEFORE]


def run_in_transaction(mongo: Mongo) -> bool:
    database, id_ = mongo.get_database(), uuid4().hex

    def body(session: ClientSession) -> None:
        database.orders.insert_one({"_id": id_}, session=session)

    return [run_once(database, body, task_id=id_) for _ in range(2)] == [Effect.NOW, Effect.BEFORE]


def count_connections(mongo: Mongo) -> bool:
    client, own = mongo.get_client(), mongo.appname
    found = connections.read(client, prefix=own[:10], own=own, timeout_seconds=10)
    counted = list(found.members.values())
    return bool(counted) and all(one.current and one.available and one.by_appname for one in counted)


def keep_history(mongo: Mongo, redis: LocalServer) -> bool:
    with redis_py.Redis.from_url(redis.uri) as client:
        name = uuid4().hex
        history = History(client, lambda *parts: ":".join((name, *map(str, parts))), days=30)
        history.append({"seen": 1})
        kept = mongo.get_client()["celery_pymongo"][f"history_{name}"]
        return history.backfill(kept) == 1 and "at_1" in kept.index_information()


def drill(mongo: Mongo) -> bool:
    client = mongo.get_client()
    with site.prepared(client, "shop_drill", seconds=10) as made:
        client.shop_drill[site.READ].update_one({"_id": 1}, {"$inc": {"n": 1}})
    return made.left is None and client.shop_drill.list_collection_names() == []


Roles = list[dict[str, str]]

FEATURES: dict[str, tuple[Callable[..., bool], Roles, Roles | None]] = {
    "health": (check_health, [], None),
    "reconnection": (reconnect, [], None),
    "reading": (read, [READ], [OF_HISTORY]),
    "writing": (write, [SHOP], [READ]),
    "once": (write_once, [SHOP], [READ]),
    "run_once": (run_in_transaction, [SHOP], [READ]),
    "connections": (count_connections, [{"role": "clusterMonitor", "db": "admin"}], [SHOP]),
    "history": (keep_history, [OF_HISTORY], [SHOP]),
    "drill": (drill, [{"role": "readWrite", "db": "shop_drill"}], [SHOP]),
}
"""Each feature, all the roles that its user has, and such as do not do; as in docs/guides/permissions.md."""


@contextmanager
def as_user(server: LocalServer, roles: Roles) -> Iterator[Mongo]:
    """A process whose user has these roles alone."""
    name = f"user-{uuid4().hex}"
    with Documents(server.uri) as root:
        root.shop.command("createUser", name, pwd=PASSWORD, roles=roles)
        root.shop.orders.update_one({"_id": 0}, {"$setOnInsert": {"_id": 0}}, upsert=True)
    uri = app_uri(server).replace("//app:", f"//{name}:")
    mongo = Mongo(load_settings({"MONGODB_URI": uri}, env_file=None))
    try:
        yield mongo
    finally:
        mongo.close()


@pytest.mark.parametrize("feature", FEATURES)
def test_the_roles_of_a_feature_are_enough_and_needed(
    feature: str, secured: LocalServer, redis: LocalServer
) -> None:
    use, roles, unfit = FEATURES[feature]
    more = (redis,) if feature == "history" else ()
    with as_user(secured, roles) as mongo:
        assert use(mongo, *more)
    if unfit is not None:
        with as_user(secured, unfit) as mongo, suppress(OperationFailure):
            assert not use(mongo, *more)


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
