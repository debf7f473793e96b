"""What the data tasks refuse, reject and hide, without a server."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from bson import Int64, json_util
from celery import Celery, Task
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ExecutionTimeout,
    OperationFailure,
    WriteConcernError,
    WTimeoutError,
)

from tasks import data, expiry, rollup
from tasks.documents import READ_OPTIONS, Refused, encode
from tasks.hiding import HiddenRequest

CONTENT = "the content of a document"
NOBODY: Any = SimpleNamespace()
EMPTY = {"nUpserted": 0, "nMatched": 0, "nModified": 0, "writeErrors": [], "writeConcernErrors": []}


class Answering:
    """A collection whose bulk writes are kept, and answered with an error where one is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.operations: list[Any] = []
        self.codec_options = READ_OPTIONS
        self.write_concern = SimpleNamespace(acknowledged=True)

    def get_collection(self, name: str, **options: Any) -> "Answering":
        return self

    def bulk_write(self, operations: list[Any], *, ordered: bool) -> SimpleNamespace:
        self.operations = operations
        if self.error:
            raise self.error
        return SimpleNamespace(bulk_api_result=EMPTY | {"nUpserted": len(operations)})


IDLE: Any = SimpleNamespace(db=Answering())


def upsert(
    documents: Any, error: Exception | None = None, **options: Any
) -> tuple[dict[str, Any], list[Any]]:
    collection = Answering(error)
    text = documents if isinstance(documents, str) else encode(documents)
    task: Any = SimpleNamespace(db=collection)
    return data.upsert_many(task, "c", text, **options), collection.operations


@pytest.mark.parametrize(
    ("document", "key", "reason"),
    [
        ({"a": 1}, "_id", "no single value in the key field _id"),
        ({"_id": None}, "_id", "no single value in the key field _id"),
        ({"sku": ["a", "b"]}, "sku", "no single value in the key field sku"),
        ({"sku": 1, "place": "x"}, ["sku", "place.zip"], "no single value in the key field place.zip"),
        ({"_id": 1, "$inc": {"a": 1}}, "_id", "a field name at the top level starts with $"),
        ({"_id": 1, "a": 2**70}, "_id", "BSON cannot hold (OverflowError)"),
        ({"_id": 1, "a": "\ud800"}, "_id", "BSON cannot hold (UnicodeEncodeError)"),
    ],
)
def test_a_document_that_cannot_be_written_is_rejected_and_the_others_are_written(
    document: Any, key: Any, reason: Any
) -> None:
    good = {"_id": 7, "sku": 7, "place": {"zip": 7}}
    text = json_util.dumps(document) + "\n" + json_util.dumps(good)
    result, operations = upsert(text, key=key)
    assert (result["read"], result["inserted"], result["rejected"]) == (2, 1, 1)
    assert len(operations) == 1
    [error] = result["errors"]
    assert error["index"] == 0
    assert reason in error["reason"]


def test_a_document_larger_or_deeper_than_the_server_takes_is_rejected_before_the_batch_suffers() -> None:
    deep: dict[str, Any] = {"_id": 1}
    for _ in range(100):
        deep = {"_id": 1, "a": deep}
    # Small as text: each number becomes an array element with a name of its own.
    large = '{"_id": 2, "a": [' + ",".join("1" * 1_500_000) + "]}"
    result, operations = upsert(encode([deep, {"_id": 3}]) + "\n" + large)
    assert [error["reason"] for error in result["errors"]] == [
        "nested deeper than 100 levels",
        "larger than 16777216 bytes",
    ]
    assert len(operations) == 1


def test_of_documents_with_one_key_the_last_is_written_and_the_others_are_counted() -> None:
    result, operations = upsert([{"_id": 1, "v": 1}, {"_id": 2}, {"_id": 1, "v": 2}, {"_id": True}])
    assert result["superseded"] == 1
    assert [write._doc for write in operations] == [{"_id": 1, "v": 2}, {"_id": 2}, {"_id": True}]


def test_a_key_that_looks_like_an_operator_is_compared_as_a_value() -> None:
    _, [operation] = upsert([{"_id": {"$ne": Int64(5)}}])
    assert operation._filter == {"_id": {"$eq": {"$ne": Int64(5)}}}


def test_an_empty_batch_is_no_write() -> None:
    result, operations = upsert("")
    assert (result["read"], operations) == (0, [])


def test_a_result_names_the_first_rejected_documents_and_counts_all() -> None:
    result, _ = upsert([{}] * 250)
    assert result["rejected"] == 250
    assert [error["index"] for error in result["errors"]] == list(range(data.ERRORS_SHOWN))


def bulk_error(*write_errors: Any, concern: Any = None) -> BulkWriteError:
    failed = [{"index": 0, "errmsg": CONTENT, "op": {"u": CONTENT}, **error} for error in write_errors]
    concerns = [concern] if concern else []
    return BulkWriteError(EMPTY | {"writeErrors": failed, "writeConcernErrors": concerns})


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def assert_silent(error: BaseException) -> None:
    """Nothing that a log, a result or Sentry could take from the error holds the document."""
    for one in chain(error):
        assert CONTENT not in f"{one!r} {one.args!r} {getattr(one, 'details', None)!r}"


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        ({"code": 11000, "keyPattern": {"email": 1}}, "its value in a unique index (email)"),
        ({"code": 11000}, "its value in a unique index (not said which)"),
        ({"code": 121, "errInfo": {"details": CONTENT}}, "fails the collection's validation"),
        ({"code": 66}, "has another _id"),
        ({"code": 2}, "refused it with code 2"),
    ],
)
def test_what_the_server_refuses_is_told_without_the_servers_words(failed: Any, reason: Any) -> None:
    result, _ = upsert([{"a": 1}, {"_id": 2}], bulk_error(failed))
    rejected = result["errors"][1]
    assert (rejected["index"], rejected["code"]) == (1, failed["code"])
    assert reason in rejected["reason"]
    assert CONTENT not in str(result)


@pytest.mark.parametrize("code", [91, 10107, 11600, 50, 112, 13])
def test_a_bulk_error_that_is_not_about_a_document_is_raised_with_its_code_and_no_document(code: Any) -> None:
    with pytest.raises(OperationFailure) as caught:
        upsert([{"_id": 1}, {"_id": 2}], bulk_error({"code": 11000}, {"code": code, "index": 1}))
    assert caught.value.code == code
    assert_silent(caught.value)


@pytest.mark.parametrize(
    ("concern", "kind"),
    [
        ({"code": 64, "errmsg": "waiting timed out"}, WTimeoutError),
        ({"code": 100, "errmsg": "not enough members"}, WriteConcernError),
    ],
)
def test_writes_that_were_not_confirmed_are_an_error_and_no_result(concern: Any, kind: Any) -> None:
    with pytest.raises(kind) as caught:
        upsert([{"_id": 1}], bulk_error(concern=concern))
    assert caught.value.code == concern["code"]


def test_a_transient_error_passes_as_itself() -> None:
    error = AutoReconnect("connection closed")
    with pytest.raises(AutoReconnect) as caught:
        upsert([{"_id": 1}], error)
    assert caught.value is error


@pytest.mark.parametrize("kind", [OperationFailure, ExecutionTimeout])
def test_a_refused_command_keeps_its_class_code_and_labels_and_loses_its_text(kind: Any) -> None:
    reply = {
        "code": 50,
        "codeName": "MaxTimeMSExpired",
        "errmsg": CONTENT,
        "errorLabels": ["RetryableWriteError"],
    }
    with pytest.raises(kind) as caught:
        upsert([{"_id": 1}], kind(CONTENT, 50, reply))
    assert (type(caught.value), caught.value.code) == (kind, 50)
    assert caught.value.has_error_label("RetryableWriteError")
    assert "code 50 (MaxTimeMSExpired)" in str(caught.value)
    assert_silent(caught.value)


def test_unacknowledged_writes_are_refused() -> None:
    client: MongoClient[Any] = MongoClient("mongodb://127.0.0.1:1/?w=0", connect=False)
    task: Any = SimpleNamespace(db=client["d"])
    with client, pytest.raises(Refused, match="above w=0"):
        data.upsert_many(task, "c", encode([{"_id": 1}]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a", [{"$match": {}}, {"$out": "b"}], "b"), "stage 1 of the pipeline writes"),
        (("a", '[{"$merge": {"into": "b"}}]', "b"), "stage 0 of the pipeline writes"),
        (("a", [{"$match": {}, "$limit": 1}], "b"), "stage 0 of the pipeline is not a document with one"),
        (("a", "[1]", "b"), "stage 0 of the pipeline is not a document with one"),
        (("a", "[", "b"), r"not an Extended JSON array \(JSONDecodeError\)"),
        (("a", "nonsense", "b"), "stage 0 of the pipeline is not a document with one"),
        (("a", [], "a"), "reads one collection and writes another"),
    ],
)
def test_a_roll_up_that_would_write_elsewhere_or_cannot_be_read_is_refused(
    arguments: Any, sentence: Any
) -> None:
    with pytest.raises(Refused, match=sentence):
        rollup.aggregate_into(IDLE, *arguments)


def test_a_roll_up_is_refused_where_matching_is_not_replace_or_merge() -> None:
    with pytest.raises(Refused, match=r"when_matched must be replace or merge$"):
        rollup.aggregate_into(IDLE, "a", [], "b", when_matched="fail")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"before": "yesterday"}, "before must be an ISO 8601 date or time$"),
        ({"before": datetime.now(UTC) + timedelta(hours=1)}, "before lies in the future"),
        ({"before": "2999-01-01"}, r"before lies in the future \(2999-01-01T00:00:00\+00:00\)"),
        ({"before": "2020-01-01", "limit": 0}, "limit must be a whole number from 1 to 100000$"),
        ({"before": "2020-01-01", "limit": 100_001}, "limit must be a whole number from 1 to 100000$"),
    ],
)
def test_an_expiry_that_cannot_be_meant_is_refused(options: Any, sentence: Any) -> None:
    with pytest.raises(Refused, match=sentence):
        expiry.expire_before(NOBODY, "c", "when", **options)


@pytest.fixture
def app() -> Iterator[Any]:
    app = Celery("data", broker="memory://", set_as_current=False)
    app.mongo = SimpleNamespace(Task=type("MongoTask", (Task,), {"abstract": True}))
    app.conf.task_routes = {"mongo.data.*": {"queue": "mongo.data"}}
    app.conf.task_send_sent_event = True
    yield app
    app.close()


@pytest.fixture
def sent(app: Any) -> Callable[[], list[Any]]:
    """The messages that reached the queue so far, oldest first."""

    def read() -> list[Any]:
        with app.connection_for_read() as connection, connection.SimpleQueue("mongo.data") as queue:
            messages = []
            while queue.qsize():
                messages.append(queue.get_nowait())
                messages[-1].ack()
            return messages

    read()
    return read


def direct(app: Any) -> None:
    text = encode([{"_id": CONTENT}])
    upsert = app.tasks[data.UPSERT_MANY]
    upsert.delay("c", text)
    upsert.delay("c", documents=text)
    upsert.apply_async(("c", text), argsrepr=CONTENT)
    upsert.s("c", text).apply_async()
    app.tasks[rollup.AGGREGATE_INTO].delay("a", encode([{"$match": {"a": CONTENT}}]), into="b")


def helpers(app: Any) -> None:
    data.send_upsert_many(app, "c", [{"_id": CONTENT}], key=["_id", "b"], format="bson")
    data.upsert_signature(app, "c", [{"_id": CONTENT}], countdown=0).delay()


@pytest.mark.parametrize(
    ("send", "is_registered", "count"), [(direct, True, 5), (helpers, True, 2), (helpers, False, 2)]
)
def test_no_header_of_a_message_shows_a_document(
    app: Any, sent: Any, send: Any, is_registered: Any, count: Any
) -> None:
    if is_registered:
        for module in (data, expiry, rollup):
            module.register(app)
    send(app)
    messages = sent()
    assert len(messages) == count
    for message in messages:
        assert CONTENT not in f"{message.headers} {message.properties}"
        assert "hidden" in message.headers["argsrepr"] + message.headers["kwargsrepr"]


def test_the_tasks_have_their_names_and_the_apps_base(app: Any) -> None:
    for module in (data, expiry, rollup):
        module.register(app)
    names = [data.UPSERT_MANY, rollup.AGGREGATE_INTO, expiry.EXPIRE_BEFORE]
    assert all(isinstance(app.tasks[name], app.mongo.Task) for name in names)


def test_a_received_message_is_masked_whoever_stamped_it(app: Any, sent: Any) -> None:
    text = encode([{"_id": CONTENT}])
    app.send_task(data.UPSERT_MANY, ("c", text), queue="mongo.data")
    for module in (data, expiry, rollup):
        module.register(app)
    [message] = sent()
    assert CONTENT in message.headers["argsrepr"]
    request = HiddenRequest(message, app=app, task=app.tasks[data.UPSERT_MANY], headers=message.headers)
    assert CONTENT not in f"{request!r} {request.argsrepr} {request.kwargsrepr} {request.info()}"
    assert CONTENT not in request.request_dict["argsrepr"]
    assert request.args == ["c", text]


def test_the_producer_is_refused_what_the_worker_would_refuse(app: Any) -> None:
    with pytest.raises(Refused, match="more than 10000 documents"):
        data.send_upsert_many(app, "c", ({"_id": n} for n in range(10_001)))
