"""mongoengine's documents through the one client: forks, replacements, aliases, its disconnect()."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import mongoengine
import pytest
from mongoengine.connection import ConnectionFailure

from ops.local.servers import LocalServer
from worker import get_client, get_database
from worker.mongoengine import connect
from worker.process import process
from worker.process.process import Mongo
from worker.settings.fields import load_settings

NAME = f"documents_{uuid4().hex[:8]}"


class Order(mongoengine.Document):
    number = mongoengine.IntField(primary_key=True)
    price = mongoengine.IntField()
    meta = {"collection": "orders", "indexes": ["price"]}  # noqa: RUF012 - as mongoengine has it


class Elsewhere(mongoengine.Document):
    name = mongoengine.StringField()
    meta = {"db_alias": "other"}  # noqa: RUF012 - as mongoengine has it


@pytest.fixture
def ours(mongo: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mongo]:
    settings = load_settings({"MONGODB_URI": mongo.uri, "MONGODB_DATABASE": NAME}, env_file=None)
    ours = Mongo(settings)
    monkeypatch.setattr(process, "_current", ours)
    yield ours
    for alias in ("default", "other"):
        mongoengine.disconnect(alias)
    ours.get_client().drop_database(NAME)
    ours.close()


def in_a_fork(body: Callable[[], None]) -> None:
    if (pid := os.fork()) == 0:
        try:
            body()
        except BaseException:  # noqa: BLE001 - a child of a test must not go on as its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_connecting_at_a_modules_top_opens_nothing(ours: Mongo) -> None:
    connect(alias="default")
    connect("elsewhere", alias="other", host="mongodb://localhost/x")
    assert ours.holder.state == "not open"


def test_documents_are_in_the_settings_database_by_the_one_client(ours: Mongo) -> None:
    connect()
    Order(number=1, price=5).save()
    assert get_database().orders.find_one() == {"_id": 1, "price": 5}
    assert Order.objects(price=5).first().number == 1
    assert Order._get_collection().database.client is get_client()
    assert "price_1" in get_database().orders.index_information()
    assert ours.monitor.totals(0.0).count["checked_out"] > 0


def test_what_the_parent_cached_is_right_in_a_child(ours: Mongo) -> None:
    connect()
    Order(number=1, price=5).save()
    parents = get_client()

    def body() -> None:
        assert Order.objects.get(number=1).price == 5
        assert Order._get_collection().database.client is get_client() is not parents

    in_a_fork(body)


def test_documents_follow_a_replacement(ours: Mongo) -> None:
    connect()
    Order(number=1, price=5).save()
    first = get_client()
    ours.holder.replace()
    assert Order.objects.get(number=1).price == 5
    assert Order._get_collection().database.client is get_client() is not first


def test_aliases_share_the_client_and_have_their_databases(ours: Mongo) -> None:
    connect()
    connect(f"{NAME}_2", alias="other")
    connect(f"{NAME}_2", alias="other")  # again, as module reloads do
    Order(number=1).save()
    Elsewhere(name="x").save()
    assert get_client()[f"{NAME}_2"].elsewhere.count_documents({}) == 1
    get_client().drop_database(f"{NAME}_2")


def test_disconnect_leaves_the_client_open(ours: Mongo) -> None:
    connect()
    Order(number=1).save()
    mongoengine.disconnect()
    assert get_database().orders.count_documents({}) == 1
    with pytest.raises(ConnectionFailure, match="default connection"):
        Order(number=2).save()
    connect()
    Order(number=2).save()
    assert get_database().orders.count_documents({}) == 2


def test_arguments_that_name_the_same_servers_are_taken(ours: Mongo, mongo: LocalServer) -> None:
    connect(NAME, host=mongo.uri, maxPoolSize=3)
    Order(number=1).save()
    assert get_database().orders.count_documents({}) == 1


@pytest.mark.parametrize(
    "arguments", [{"host": "mongodb://db.example:27018/x"}, {"host": "db.example", "port": 27018}]
)
def test_other_servers_are_refused_in_one_line(ours: Mongo, arguments: dict[str, Any]) -> None:
    connect(NAME, **arguments)
    with pytest.raises(ConnectionFailure, match=r"connect\(\) names db.example:27018, and .*MONGODB_URI"):
        Order.objects.first()
