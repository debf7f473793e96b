"""Handles for a module's top: nothing is opened before they are used, and each use is this process's."""

import copy
import os
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from worker import client, db, get_client, get_database, on_replace, use_client
from worker.process import process
from worker.process.process import Mongo
from worker.settings.fields import load_settings


@pytest.fixture
def mongo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mongo]:
    uri = "mongodb://127.0.0.1:1/shop?serverSelectionTimeoutMS=10"
    mongo = Mongo(load_settings({"MONGODB_URI": uri}, env_file=None))
    monkeypatch.setattr(process, "_current", mongo)
    monkeypatch.setattr(process, "_keepers", [])
    yield mongo
    mongo.close()


def unpickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - our own


def test_no_name_of_a_database_or_collection_opens_the_client(mongo: Mongo) -> None:
    found = [db.orders, db["orders"], db.fs.files, client.other, client["other"]["orders"]]
    assert mongo.holder.state == "not open"
    assert [repr(one) for one in found] == [
        "celery_pymongo.db['orders']",
        "celery_pymongo.db['orders']",
        "celery_pymongo.db['fs.files']",
        "celery_pymongo.client['other']",
        "celery_pymongo.client['other']['orders']",
    ]


def test_what_is_used_is_the_processes_own(mongo: Mongo) -> None:
    assert db.orders.full_name == "shop.orders"
    assert client["other"].orders.full_name == "other.orders"
    assert db.orders.database == get_database()
    assert db.client is client.admin.client is get_client()


def test_each_use_follows_a_replacement_and_a_test_client(mongo: Mongo) -> None:
    orders = db.orders
    before = orders.database.client
    mongo.holder.replace()
    assert orders.database.client is get_client()
    assert orders.database.client is not before
    fake = {"shop": {"orders": type("Fake", (), {"find_one": lambda self: 42})()}}
    with use_client(fake):
        assert orders.find_one() == 42


def test_a_fork_has_its_own(mongo: Mongo) -> None:
    parents = id(db.client)
    out, into = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(into, b"own" if id(db.orders.database.client) != parents else b"parent's")
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(out, 100) == b"own"


@pytest.mark.parametrize("handle", [client, db, db.orders, client["other"]["orders"]])
def test_copies_and_pickles_are_handles_of_the_same(handle: Any, mongo: Mongo) -> None:
    for twin in (copy.copy(handle), copy.deepcopy(handle), unpickled(handle)):
        assert twin == handle
        assert hash(twin) == hash(handle)
    assert mongo.holder.state == "not open"


@pytest.mark.parametrize(("handle", "kind"), [(client, MongoClient), (db, Database), (db.x, Collection)])
def test_each_is_an_instance_of_what_it_stands_for(handle: Any, kind: type) -> None:
    assert isinstance(handle, kind)
    assert set(dir(kind)) <= set(dir(handle))


def test_what_pymongo_refuses_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="compare with None"):
        bool(db.orders)
    with pytest.raises(TypeError, match="Collection has no such method"):
        db.orders.fnd_one({})
    with pytest.raises(TypeError):
        iter(db)  # type: ignore[call-overload] # that it cannot be is the test
    with pytest.raises(AttributeError, match="_x"):
        _ = db._x
    with pytest.raises(AttributeError, match="cannot be set"):
        db.orders = 1
    with pytest.raises(TypeError, match="must be str"):
        db[1]  # type: ignore[index] # that it cannot be is the test
    assert client
    assert db is not None


def test_whoever_keeps_the_client_hears_of_a_replacement(
    mongo: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    @on_replace
    def fails(_client: Any) -> None:
        raise RuntimeError("of the app")

    on_replace(heard.append)
    first = get_client()
    mongo.holder.replace()
    assert heard == [get_client()]
    assert heard[0] is not first
    assert "a callback of on_replace() failed" in caplog.text
