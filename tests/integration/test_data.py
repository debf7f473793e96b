"""The data tasks on a real server: what they leave there, and that nothing shows the documents."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pymongo
import pytest
from bson import DatetimeMS, Decimal128, Int64, ObjectId, Regex
from bson.binary import Binary, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect, ExecutionTimeout, OperationFailure, WriteConcernError

from ops.local.servers import LocalServer
from tasks import data, expiry, rollup
from tasks.documents import Refused, encode
from worker.integration.install import install
from worker.settings.fields import load_settings

CONTENT = "the content of a document"
EXACT: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


@pytest.fixture(scope="module")
def app(mongo: LocalServer) -> Iterator[Celery]:
    app = Celery("data", broker="memory://", backend="cache+memory://", set_as_current=False)
    # From here on the process's own environment plays no part, nor does a .env.
    install(app, load_settings({"MONGODB_URI": mongo.uri, "MONGODB_DATABASE": "data"}, env_file=None))
    yield app
    # The worker of the last tests starts what this ends; start_worker does not send it.
    signals.worker_shutdown.send(sender=None)
    app.mongo.close()
    app.close()


@pytest.fixture
def db(mongo_client: pymongo.MongoClient[dict[str, Any]]) -> Any:
    mongo_client.drop_database("data")
    return mongo_client.get_database("data", codec_options=EXACT)


@pytest.fixture
def upsert(app: Celery, db: Any) -> Any:
    def upsert(collection: str, documents: Any, **options: Any) -> dict[str, Any]:
        text = documents if isinstance(documents, str) else encode(documents)
        result: dict[str, Any] = app.tasks[data.UPSERT_MANY](collection, text, **options)
        assert result["read"] == sum(
            result[name] for name in ("inserted", "modified", "unchanged", "superseded", "rejected")
        )
        return result

    return upsert


@contextmanager
def failing(client: pymongo.MongoClient[dict[str, Any]], **fault: Any) -> Iterator[None]:
    """The server's failCommand: for one command, unless `fault` says otherwise."""
    client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": fault})
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def counts(result: dict[str, Any]) -> tuple[int, ...]:
    return tuple(result[name] for name in ("inserted", "modified", "unchanged", "superseded", "rejected"))


# --- upsert_many ---


@pytest.mark.parametrize("format", ["json", "bson"])
def test_every_type_is_stored_as_it_was_sent(upsert: Any, db: Any, format: Any) -> None:
    document = {
        "_id": ObjectId(),
        "small": 5,
        "long": Int64(5),
        "double": 5.0,
        "decimal": Decimal128("1.20"),
        "when": datetime(2024, 2, 29, 12, 30, 15, 289000, tzinfo=UTC),
        "before": datetime(1, 1, 1, tzinfo=UTC),
        "uuid": UUID(int=7),
        "bytes": b"\0\xff",
        "pattern": Regex("^a", "i"),
        "nested": [{"__type__": "datetime", "__value__": "x"}, {"$date": "x"}, None],
    }
    upsert("types", encode([document], format=format))
    stored = db.types.find_one()
    assert stored == document
    assert {name: type(value) for name, value in stored.items()} == {
        name: type(value) for name, value in document.items()
    }
    types = db.types.aggregate(
        [{"$project": {name: {"$type": f"${name}"} for name in ("small", "long", "double")}}]
    ).next()
    assert (types["small"], types["long"], types["double"]) == ("int", "long", "double")


def test_dates_beyond_those_of_python_are_stored_as_they_were_sent(upsert: Any, db: Any) -> None:
    batch = [{"_id": 1, "at": DatetimeMS(-62198755200000)}, {"_id": 2, "at": DatetimeMS(253402300800000)}]
    upsert("dates", batch)
    assert list(db.dates.find()) == batch


def test_the_same_batch_again_changes_nothing(upsert: Any, db: Any) -> None:
    batch: list[dict[str, Any]] = [{"_id": number, "value": number % 7} for number in range(1_000)]
    assert counts(upsert("again", batch)) == (1_000, 0, 0, 0, 0)
    assert counts(upsert("again", batch)) == (0, 0, 1_000, 0, 0)
    batch[3]["value"] = "new"
    assert counts(upsert("again", batch)) == (0, 1, 999, 0, 0)
    assert db.again.count_documents({}) == 1_000


def test_the_stored_document_is_the_one_sent_and_not_a_mixture(upsert: Any, db: Any) -> None:
    upsert("whole", [{"_id": 1, "old": 1}])
    upsert("whole", [{"_id": 1, "a.b": 2}])
    assert list(db.whole.find()) == [{"_id": 1, "a.b": 2}]


def test_fields_may_be_the_key_and_the_stored_id_is_kept(upsert: Any, db: Any) -> None:
    db.sales.create_index(["shop", "item.sku"], unique=True)
    sale = {"shop": "a", "item": {"sku": 1}, "n": 1}
    key = ["shop", "item.sku"]
    assert counts(upsert("sales", [sale, {**sale, "shop": "b"}, {**sale, "n": 2}], key=key)) == (
        2,
        0,
        0,
        1,
        0,
    )
    first = db.sales.find_one({"shop": "a"})
    assert counts(upsert("sales", [{**sale, "n": 3}], key=key)) == (0, 1, 0, 0, 0)
    assert db.sales.find_one({"shop": "a"}) == {**first, "n": 3}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=12), max_size=4))
def test_batches_leave_what_one_document_after_the_other_would(upsert: Any, db: Any, batches: Any) -> None:
    db.model.delete_many({})
    model: dict[int, int] = {}
    for batch in batches:
        upsert("model", [{"_id": key, "value": value} for key, value in batch])
        model |= dict(batch)
    assert {stored["_id"]: stored["value"] for stored in db.model.find()} == model


def test_bad_documents_cost_themselves_and_are_told_without_their_content(upsert: Any, db: Any) -> None:
    db.create_collection("strict", validator={"$jsonSchema": {"required": ["email"]}})
    db.strict.create_index("email", unique=True)
    db.strict.insert_one({"_id": 0, "email": CONTENT})
    text = encode([{"_id": 1, "email": "a"}, {"_id": 2, "email": CONTENT}, {"_id": 3, "name": CONTENT}])
    text += f'\n{{"_id": {{"$oid": "{CONTENT}"}}}}\n' + encode([{"email": CONTENT}, {"_id": 6, "email": "b"}])
    result = upsert("strict", text)
    assert counts(result) == (2, 0, 0, 0, 4)
    assert [(error["index"], error["code"]) for error in result["errors"]] == [
        (1, 11000),
        (2, 121),
        (3, None),
        (4, None),
    ]
    assert "(email)" in result["errors"][0]["reason"]
    assert CONTENT not in str(result)
    assert sorted(db.strict.distinct("_id")) == [0, 1, 6]


def test_another_database_may_be_named(upsert: Any, mongo_client: Any) -> None:
    mongo_client.drop_database("elsewhere")
    upsert("c", [{"_id": 1}], database="elsewhere")
    assert mongo_client["elsewhere"]["c"].count_documents({}) == 1


def test_one_message_that_runs_in_four_places_at_once_leaves_each_document_once(app: Celery, db: Any) -> None:
    db.race.create_index("sku", unique=True)
    text = encode([{"sku": number} for number in range(200)])
    task = app.tasks[data.UPSERT_MANY]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: task("race", text, key="sku"), range(4)))
    assert db.race.count_documents({}) == 200


def test_an_error_of_the_connection_or_the_server_is_raised_for_the_task_to_run_again(
    upsert: Any, mongo_client: Any
) -> None:
    with (
        failing(mongo_client, failCommands=["update"], closeConnection=True),
        pytest.raises(AutoReconnect),
        without_driver_retries(upsert, mongo_client) as once,
    ):
        once("c", [{"_id": 1}])
    with (
        failing(mongo_client, failCommands=["update"], errorCode=50),
        pytest.raises(ExecutionTimeout, match="code 50"),
    ):
        upsert("c", [{"_id": 1}])


@contextmanager
def without_driver_retries(upsert: Any, client: Any) -> Iterator[Any]:
    """The driver hides one lost connection by its own retry; here it does not."""
    from worker import use_client

    host, port = client.address
    once: pymongo.MongoClient[Any] = pymongo.MongoClient(host, port, retryWrites=False, directConnection=True)
    with once, use_client(once):
        yield upsert


def test_writes_that_a_majority_did_not_confirm_are_no_result(upsert: Any, mongo_client: Any) -> None:
    concern = {"code": 100, "codeName": "UnsatisfiableWriteConcern", "errmsg": "not enough members"}
    with (
        failing(mongo_client, failCommands=["update"], writeConcernError=concern),
        pytest.raises(WriteConcernError, match="code 100"),
    ):
        upsert("c", [{"_id": 1}])


# --- upsert_many by a key of one's own: mongod sees no write where nothing changes ---


@pytest.fixture
def by_sku(upsert: Any, db: Any, mongo_client: Any) -> Any:
    """Upsert into `wares` by `sku`; return the counts and how many entries the oplog has got of it."""
    db.wares.create_index("sku", unique=True)
    oplog = mongo_client.local["oplog.rs"]

    def entries() -> int:
        count: int = oplog.count_documents({"ns": "data.wares", "op": {"$in": ["i", "u"]}})
        return count

    def by_sku(documents: Any, **options: Any) -> tuple[tuple[int, ...], int]:
        before = entries()
        return counts(upsert("wares", documents, key="sku", **options)), entries() - before

    return by_sku


def test_the_same_again_by_another_key_writes_nothing(by_sku: Any, db: Any) -> None:
    batch: list[dict[str, Any]] = [{"sku": n, "price": f"${n}", "tags": [{"a.b": n}]} for n in range(500)]
    assert by_sku(batch) == ((500, 0, 0, 0, 0), 500)
    assert by_sku(batch) == ((0, 0, 500, 0, 0), 0)
    batch[7]["price"] = "$$ROOT"
    assert by_sku(batch) == ((0, 1, 499, 0, 0), 1)
    assert db.wares.find_one({"sku": 7}, {"_id": 0}) == batch[7]


@pytest.mark.parametrize(
    "after",
    [
        {"sku": 1, "kept": 1},
        {"sku": 1, "gone": 1, "kept": 2},
        {"sku": 1, "gone": 1, "kept": Int64(1)},
        {"sku": 1, "gone": 1, "kept": {"$literal": 1}},
        {"sku": 1, "kept": 1, "gone": 1},
        {"sku": 1, "gone": 1, "kept": 1, "new": [None, {"": 0}, {"$set": {"x.y": "$sku"}}]},
    ],
    ids=["removed", "changed", "type", "operator", "order", "added"],
)
def test_a_difference_of_any_kind_is_one_write_and_the_stored_document_is_the_one_sent(
    by_sku: Any, db: Any, after: dict[str, Any]
) -> None:
    by_sku([{"sku": 1, "gone": 1, "kept": 1}])
    identity = db.wares.find_one()["_id"]
    assert by_sku([after]) == ((0, 1, 0, 0, 0), 1)
    stored = db.wares.find_one()
    assert list(stored.items()) == [("_id", identity), *after.items()]
    assert [type(value) for value in stored.values()][1:] == [type(value) for value in after.values()]
    assert by_sku([after]) == ((0, 0, 1, 0, 0), 0)


def test_the_largest_and_the_deepest_document_are_written_by_another_key_too(by_sku: Any, db: Any) -> None:
    deep: dict[str, Any] = {}
    for _ in range(data.DEPTH_LIMIT - 2):
        deep = {"a": deep}
    # As text small enough for a message, as BSON with the name of each element over 15 MiB.
    large = '{"sku": 2, "a": [' + ",".join(["1"] * 1_370_000) + "]}"
    text = encode([{"sku": 1, "a": deep}]) + "\n" + large
    assert by_sku(text) == ((2, 0, 0, 0, 0), 2)
    assert by_sku(text) == ((0, 0, 2, 0, 0), 0)
    size = db.wares.aggregate([{"$match": {"sku": 2}}, {"$project": {"size": {"$bsonSize": "$$ROOT"}}}])
    assert next(size)["size"] > 15 * 1024 * 1024


def test_a_document_that_brings_its_own_id_keeps_it(by_sku: Any, db: Any) -> None:
    assert by_sku([{"_id": 5, "sku": 1}]) == ((1, 0, 0, 0, 0), 1)
    assert by_sku([{"_id": 5, "sku": 1}]) == ((0, 0, 1, 0, 0), 0)
    assert by_sku([{"_id": 6, "sku": 1}]) == ((0, 0, 0, 0, 1), 0)
    assert list(db.wares.find()) == [{"_id": 5, "sku": 1}]


# --- UUIDs in the client's own representation ---


@pytest.mark.parametrize("representation", ["standard", "pythonLegacy", "javaLegacy", "csharpLegacy"])
@pytest.mark.parametrize("format", ["json", "bson"])
def test_uuids_are_written_and_found_as_the_client_writes_them(
    mongo: LocalServer, app: Celery, upsert: Any, representation: str, format: Any
) -> None:
    from worker import use_client

    one, other = UUID("00112233-4455-6677-8899-aabbccddeeff"), UUID(int=5)
    uri = f"{mongo.uri}?uuidRepresentation={representation}"
    with (
        pymongo.MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=10_000) as client,
        use_client(client),
    ):
        own = client["data"]
        own.ids.insert_one({"_id": one, "n": 1})
        sent = {"_id": one, "n": 2, "of": [other], "bytes": Binary(one.bytes, 0)}
        assert counts(upsert("ids", encode([sent], format=format))) == (0, 1, 0, 0, 0)
        assert list(own.ids.find()) == [{"_id": one, "n": 2, "of": [other], "bytes": one.bytes}]
        stages = encode([{"$match": {"_id": one}}, {"$set": {"by": other}}], format=format)
        app.tasks[rollup.AGGREGATE_INTO]("ids", stages, "found")
        assert own.found.distinct("_id", {"by": other}) == [one]


# --- aggregate_into ---

TOTALS = [{"$group": {"_id": "$shop", "total": {"$sum": "$n"}}}]


@pytest.fixture
def roll_up(app: Celery, db: Any) -> Any:
    db.sales.insert_many(
        [{"shop": "ab"[n % 2], "n": n, "at": datetime(2024, 1, 1 + n, tzinfo=UTC)} for n in range(10)]
    )
    return app.tasks[rollup.AGGREGATE_INTO]


@pytest.mark.parametrize(
    "pipeline", [TOTALS, encode(TOTALS), '[{"$group": {"_id": "$shop", "total": {"$sum": "$n"}}}]']
)
def test_a_roll_up_leaves_the_same_however_often_it_runs(roll_up: Any, db: Any, pipeline: Any) -> None:
    for _ in range(2):
        result = roll_up("sales", pipeline, "totals", when_matched="replace")
        assert sorted(db.totals.find(), key=str) == [{"_id": "a", "total": 20}, {"_id": "b", "total": 25}]
    assert (result["source"], result["into"], result["documents"]) == ("sales", "totals", 2)
    assert result["seconds"] >= 0


def test_merging_keeps_the_other_fields_and_replacing_does_not(roll_up: Any, db: Any) -> None:
    db.totals.insert_one({"_id": "a", "note": "kept"})
    roll_up("sales", TOTALS, "totals", when_matched="merge")
    assert db.totals.find_one({"_id": "a"}) == {"_id": "a", "note": "kept", "total": 20}
    roll_up("sales", TOTALS, "totals")
    assert db.totals.find_one({"_id": "a"}) == {"_id": "a", "total": 20}


def test_dates_in_a_pipeline_are_dates(roll_up: Any, db: Any) -> None:
    recent: list[dict[str, Any]] = [{"$match": {"at": {"$gte": datetime(2024, 1, 9, tzinfo=UTC)}}}, *TOTALS]
    roll_up("sales", encode(recent), "totals")
    assert sorted(db.totals.find(), key=str) == [{"_id": "a", "total": 8}, {"_id": "b", "total": 9}]


def test_a_roll_up_by_fields_needs_a_unique_index_and_says_so(roll_up: Any, db: Any) -> None:
    by_shop = [*TOTALS, {"$project": {"_id": 0, "shop": "$_id", "total": 1}}]
    with pytest.raises(Refused, match="needs a unique index of totals"):
        roll_up("sales", by_shop, "totals", on="shop")
    db.totals.create_index("shop", unique=True)
    for _ in range(2):
        roll_up("sales", by_shop, "totals", on=["shop"], deadline=30.0)
    assert db.totals.count_documents({}) == 2


def test_a_wrong_pipeline_is_told_and_a_failed_one_does_not_quote_documents(roll_up: Any, db: Any) -> None:
    with pytest.raises(OperationFailure, match=r"\$nonsense"):
        roll_up("sales", [{"$nonsense": 1}], "totals")
    db.sales.insert_one({"shop": CONTENT})
    with pytest.raises(OperationFailure, match="code 241") as caught:
        roll_up("sales", [{"$project": {"n": {"$toInt": "$shop"}}}], "totals")
    assert CONTENT not in f"{caught.value!r} {caught.value.details}"
    assert caught.value.__context__ is None


# --- expire_before ---


@pytest.fixture
def expire(app: Celery, db: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(expiry, "DELETE_BATCH", 50)
    db.log.insert_many([{"at": datetime(2024, 1, 1 + n % 20, tzinfo=UTC)} for n in range(260)])
    db.log.insert_many([{"at": "2024-01-01"}, {"at": None}, {}])
    return app.tasks[expiry.EXPIRE_BEFORE]


def test_only_documents_with_an_earlier_date_are_deleted_and_a_second_run_finds_none(
    expire: Any, db: Any
) -> None:
    result = expire("log", "at", before="2024-01-11")
    assert (result["deleted"], result["more"]) == (130, False)
    assert db.log.count_documents({}) == 133
    assert db.log.find_one({"at": {"$type": "date"}}, sort=[("at", 1)])["at"].day == 11
    assert expire("log", "at", before="2024-01-11")["deleted"] == 0


def test_a_limit_bounds_a_run_and_more_tells_of_the_rest(expire: Any) -> None:
    deleted = [(run["deleted"], run["more"]) for run in (expire_limited(expire) for _ in range(3))]
    assert deleted == [(120, True), (120, True), (20, False)]


def expire_limited(expire: Any) -> dict[str, Any]:
    result: dict[str, Any] = expire("log", "at", before="2024-02-01", limit=120)
    return result


@pytest.mark.parametrize(
    "before",
    [
        "2024-01-02",
        "2024-01-02T00:00:00Z",
        "2024-01-02T02:00:00+02:00",
        datetime(2024, 1, 2, tzinfo=UTC),
        datetime(2024, 1, 2),  # noqa: DTZ001 - that this one is UTC is the point
        datetime(2024, 1, 2, tzinfo=UTC) + timedelta(microseconds=1),
    ],
)
def test_a_moment_without_an_offset_is_utc(expire: Any, before: Any) -> None:
    assert expire("log", "at", before=before)["deleted"] == 13


def test_identifiers_of_any_type_are_deleted(app: Celery, db: Any) -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    ids = [UUID(int=7), {"a": Int64(1)}, "x", 1.5]
    db.odd.insert_many([{"_id": value, "at": at} for value in ids])
    assert app.tasks[expiry.EXPIRE_BEFORE]("odd", "at", before="2024-02-01")["deleted"] == len(ids)


class RenewedMeanwhile:
    """A database of one collection in which somebody renews each document that was found."""

    def __init__(self, collection: Any) -> None:
        self.found = collection.find
        self.update_many = collection.update_many
        self.delete_many = collection.delete_many
        self.find_one = collection.find_one
        self.codec_options = collection.codec_options

    def get_collection(self, _name: str, **_options: Any) -> RenewedMeanwhile:
        return self

    def find(self, *arguments: Any) -> RenewedMeanwhile:
        self.cursor = self.found(*arguments)
        return self

    def limit(self, count: int) -> list[Any]:
        found = list(self.cursor.limit(count))
        self.update_many({}, {"$set": {"at": datetime.now(UTC)}})
        return found


def test_a_document_renewed_after_it_was_found_lives(expire: Any, db: Any) -> None:
    task: Any = SimpleNamespace(db=RenewedMeanwhile(db.log))
    result = expiry.expire_before(task, "log", "at", before="2024-02-01", limit=10)
    assert (result["deleted"], result["more"]) == (0, False)
    assert db.log.count_documents({}) == 263


# --- through a worker ---


@contextmanager
def worker(app: Celery) -> Iterator[None]:
    """A worker in this process that leaves logging to the test."""
    signals.setup_logging.connect(leave_logging, weak=False)
    try:
        with start_worker(app, pool="solo", perform_ping_check=False, queues=["mongo.data"]):
            yield
    finally:
        signals.setup_logging.disconnect(leave_logging)


def leave_logging(**_options: Any) -> None:
    """Celery sets logging up only where nobody listens to this signal."""


def test_a_worker_runs_the_tasks_and_neither_log_nor_inspect_shows_a_document(
    app: Celery, db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = Celery("foreign", broker="memory://", backend="cache+memory://", set_as_current=False)
    db.strict.create_index("email", unique=True)
    db.strict.insert_one({"_id": 0, "email": CONTENT})
    batch = [{"_id": 1, "email": CONTENT}, {"_id": 2, "email": "b"}]
    caplog.set_level(logging.INFO)
    described = []

    def describe(request: Any, **_: Any) -> None:
        described.append(request.info())

    signals.task_received.connect(describe, weak=False)
    try:
        with worker(app):
            sent = [
                data.send_upsert_many(app, "strict", batch),
                app.tasks[data.UPSERT_MANY].delay("strict", encode(batch)),
                foreign.send_task(data.UPSERT_MANY, ("strict", encode(batch)), queue="mongo.data"),
                app.tasks[data.UPSERT_MANY].delay("strict", [{"_id": CONTENT}]),
            ]
            results = [app.AsyncResult(one.id).get(timeout=20, propagate=False) for one in sent]
    finally:
        signals.task_received.disconnect(describe)
        foreign.close()
    assert [one["rejected"] for one in results[:3]] == [1, 1, 1]
    assert "must be the string that encode() makes" in str(results[3])
    assert len(described) == 4
    assert CONTENT not in str(described)
    assert sum("received" in record.getMessage() for record in caplog.records) == 4
    assert not [record for record in caplog.records if CONTENT in f"{record.getMessage()} {record.__dict__}"]
