"""The data tasks: idempotent bulk upserts, roll-ups and bounded deletion, each safe to run again."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Protocol, TypeVar

import bson
from bson import json_util
from pymongo import MongoClient, ReplaceOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, WriteConcernError, WTimeoutError

from .documents import (
    CODEC_ERRORS,
    READ_OPTIONS,
    Document,
    Format,
    HidesDocuments,
    Refused,
    Rejected,
    decode,
    depth,
    encode,
    shown,
)

UPSERT_MANY = "mongo.data.upsert_many"
AGGREGATE_INTO = "mongo.data.aggregate_into"
EXPIRE_BEFORE = "mongo.data.expire_before"

DOCUMENT_LIMIT = 16 * 1024 * 1024
"""Bytes of BSON of one document with its key: the server's maximum, which it enforces per batch."""

DEPTH_LIMIT = 100
"""Levels of nesting of one document: MongoDB's documented maximum, enforced per batch as well."""

ERRORS_SHOWN = 100
"""Rejected documents that a result names; `rejected` counts them all."""

DELETE_BATCH = 1_000
"""Documents per delete command: some 10 ms on a server, and 20 KB of identifiers."""

DELETE_LIMIT = 100_000
"""Most documents that one run of `expire_before` may be asked to delete."""

# Codes in a bulk reply that say nothing about the document: network, primary, interruption, overload,
# deadline, write conflict, and authorisation (mongodb/mongo, src/mongo/base/error_codes.yml).
_NOT_THE_DOCUMENT = frozenset(
    {6, 7, 89, 9001, 91, 133, 189, 10107, 11600, 11602, 13435, 13436, 202, 262, 462, 24, 50, 64, 112, 13, 18}
)
_DUPLICATE_KEY, _IMMUTABLE_FIELD, _VALIDATION = 11000, 66, 121
# Unknown stage and unknown operator: the server's text quotes the pipeline's own words, no document.
_PIPELINE_WORDS = frozenset({40324, 168})
_RETRY_LABELS = ("RetryableWriteError", "RetryableError", "SystemOverloadedError")

T = TypeVar("T")


class MongoTask(Protocol):
    """What these functions use of the task that they run as."""

    app: Any
    client: MongoClient[Document]
    db: Database[Document]


@dataclass(frozen=True, slots=True)
class _Write:
    index: int
    identity: bytes
    operation: ReplaceOne[Document]


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`, which `install` has given its `mongo`."""
    hiding = type("DocumentsTask", (HidesDocuments, app.mongo.Task), {"abstract": True})
    # Not shared: Celery would give them, with this app's base, to every other app of the process.
    app.task(upsert_many, name=UPSERT_MANY, bind=True, base=hiding, shared=False)
    app.task(aggregate_into, name=AGGREGATE_INTO, bind=True, base=hiding, shared=False)
    app.task(expire_before, name=EXPIRE_BEFORE, bind=True, base=app.mongo.Task, shared=False)


def upsert_signature(  # noqa: PLR0913 - the task's arguments and its sender's
    app: Any,
    collection: str,
    documents: Iterable[Mapping[str, Any]],
    *,
    key: str | Sequence[str] = "_id",
    database: str | None = None,
    format: Format = "json",
    **options: Any,
) -> Any:
    """Return the signature that upserts documents; raise `Refused` where a worker would.

    `options` are `apply_async`'s. Needs only the task's name: the producer may know nothing of the worker.
    """
    args = (collection, encode(documents, format=format))
    kwargs = {"key": key if isinstance(key, str) else list(key), "database": database}
    return app.signature(UPSERT_MANY, args=args, kwargs=kwargs, **options, **shown(args, kwargs))


def send_upsert_many(
    app: Any, collection: str, documents: Iterable[Mapping[str, Any]], **options: Any
) -> Any:
    """Send documents to be upserted and return the AsyncResult; the arguments are `upsert_signature`'s."""
    return upsert_signature(app, collection, documents, **options).apply_async()


def upsert_many(
    self: MongoTask,
    collection: str,
    documents: str,
    *,
    key: str | Sequence[str] = "_id",
    database: str | None = None,
) -> dict[str, Any]:
    """Replace or insert each document by its key, and return counts and the documents rejected.

    After it the stored document with this key *is* the one sent, however often it runs. `documents` is what
    `encode` returns. `key` is one field or several, dots reach into documents; a key other than `_id` needs
    a unique index, or two batches at once insert twice. Of documents with one key the last wins; the others
    are `superseded`. read = inserted + modified + unchanged + superseded + rejected.
    """
    target = _collection(self, collection, database)
    if not target.write_concern.acknowledged:
        raise Refused("upsert_many reports what was written, so it needs a write concern above w=0")
    fields = [key] if isinstance(key, str) else list(key)
    items = [_prepare(index, item, fields) for index, item in enumerate(decode(documents))]
    rejected = [item for item in items if isinstance(item, Rejected)]
    latest = {item.identity: item for item in items if isinstance(item, _Write)}
    counts, refused = _guarded(lambda: _apply(target, list(latest.values())))
    return {
        "collection": collection,
        "read": len(items),
        **counts,
        "superseded": len(items) - len(rejected) - len(latest),
        **_report(rejected + refused),
    }


def aggregate_into(  # noqa: PLR0913 - a task's arguments are its message
    self: MongoTask,
    source: str,
    pipeline: str | list[Document],
    into: str,
    *,
    on: str | Sequence[str] = "_id",
    when_matched: str = "replace",
    deadline: float | None = None,
    database: str | None = None,
) -> dict[str, Any]:
    """Roll a collection up into another: run the pipeline on the server and $merge what comes out.

    `pipeline` is an Extended JSON array, `encode(stages)`, or a list of plain JSON stages. `on` needs a
    unique index where it is not `_id`; `when_matched` is `replace` or `merge`. `deadline` (seconds) is for
    roll-ups that outlast the driver's socket timeout. The server does not say how many documents it merged:
    `documents` is how many `into` holds now, by its metadata.
    """
    fields = [on] if isinstance(on, str) else list(on)
    stages = [*_stages(pipeline), _merge(into, fields, when_matched)]
    if into == source:
        raise Refused("a roll-up reads one collection and writes another: name another `into`")
    started = time.monotonic()
    from_, to = _collection(self, source, database), _collection(self, into, database)
    _refuse_ambiguous(to, fields)
    self.app.mongo.call(lambda: _guarded(lambda: _exhaust(from_, stages)), deadline=deadline)
    return {
        "source": source,
        "into": into,
        "documents": to.estimated_document_count(),
        "seconds": round(time.monotonic() - started, 3),
    }


def expire_before(  # noqa: PLR0913 - a task's arguments are its message
    self: MongoTask,
    collection: str,
    field: str,
    *,
    before: str | datetime,
    limit: int = 10_000,
    database: str | None = None,
) -> dict[str, Any]:
    """Delete at most `limit` documents whose date `field` is before a moment, in batches.

    `before` is an ISO 8601 date or time; without an offset it is UTC. It may not lie in the future. Documents
    where the field is missing or no date are never touched. Give the field an index. `more` tells whether a
    further run would find any.
    """
    moment = _past(before)
    if not 1 <= limit <= DELETE_LIMIT:
        raise Refused(f"limit must be 1 to {DELETE_LIMIT}, not {limit}")
    target = _collection(self, collection, database)
    expired = {field: {"$lt": moment}}
    deleted = _guarded(lambda: _delete(target, expired, limit))
    more = target.find_one(expired, {"_id": 1}) is not None
    return {"collection": collection, "before": moment.isoformat(), "deleted": deleted, "more": more}


# --- upsert_many ---


def _prepare(index: int, item: Document | Rejected, fields: Sequence[str]) -> _Write | Rejected:
    if isinstance(item, Rejected):
        return item
    if any(name.startswith("$") for name in item):
        return Rejected(index, "a field name at the top level starts with $")
    key = {field: _value(item, field) for field in fields}
    missing = [field for field, value in key.items() if value is None or isinstance(value, list)]
    if missing:
        return Rejected(index, f"no single value in the key field {missing[0]}")
    # $eq, or a key that is itself a document would be taken for an operator.
    where = {field: {"$eq": value} for field, value in key.items()}
    problem = _unstorable(where, item)
    if problem:
        return Rejected(index, problem)
    return _Write(index, bson.encode(key), ReplaceOne(where, item, upsert=True))


def _value(document: Document, path: str) -> Any:
    def step(value: Any, name: str) -> Any:
        return value.get(name) if isinstance(value, dict) else None

    return reduce(step, path.split("."), document)


def _unstorable(where: Document, document: Document) -> str | None:
    """Return why a document would take its whole batch down with it, or None."""
    try:
        if depth(document) > DEPTH_LIMIT:
            return f"nested deeper than {DEPTH_LIMIT} levels"
        size = len(bson.encode({"q": where, "u": document}, codec_options=READ_OPTIONS))
    except CODEC_ERRORS as error:
        return f"a value or a key that BSON cannot hold ({type(error).__name__})"
    return f"larger than {DOCUMENT_LIMIT} bytes" if size > DOCUMENT_LIMIT else None


def _apply(target: Collection[Document], writes: Sequence[_Write]) -> tuple[dict[str, int], list[Rejected]]:
    if not writes:
        return _counts({"nUpserted": 0, "nMatched": 0, "nModified": 0}), []
    try:
        result = target.bulk_write([write.operation for write in writes], ordered=False)
        return _counts(result.bulk_api_result), []
    except BulkWriteError as error:
        reply: Mapping[str, Any] = error.details
    # Out of the handler, so that nothing raised here is chained to an error that holds the documents.
    _raise_if_not_about_documents(reply)
    refused = [_rejected(writes[failed["index"]].index, failed) for failed in reply["writeErrors"]]
    return _counts(reply), refused


def _counts(reply: Mapping[str, Any]) -> dict[str, int]:
    modified = reply["nModified"]
    return {
        "inserted": reply["nUpserted"],
        "modified": modified,
        "unchanged": reply["nMatched"] - modified,
    }


def _rejected(index: int, failed: Mapping[str, Any]) -> Rejected:
    # Never the server's own text: it quotes values, and the entry carries the whole operation.
    code = failed.get("code")
    if code == _DUPLICATE_KEY:
        names = ", ".join(failed.get("keyPattern") or ()) or "not said which"
        return Rejected(index, f"another document has its value in a unique index ({names})", code)
    if code == _IMMUTABLE_FIELD:
        return Rejected(index, "the stored document with this key has another _id", code)
    if code == _VALIDATION:
        return Rejected(index, "it fails the collection's validation", code)
    return Rejected(index, f"the server refused it with code {code}", code)


def _report(rejected: list[Rejected]) -> dict[str, Any]:
    rejected = sorted(rejected, key=lambda item: item.index)
    return {"rejected": len(rejected), "errors": [item.to_dict() for item in rejected[:ERRORS_SHOWN]]}


# --- errors without documents ---


def _raise_if_not_about_documents(reply: Mapping[str, Any]) -> None:
    for failed in reply["writeErrors"]:
        if failed.get("code") in _NOT_THE_DOCUMENT:
            raise _told(OperationFailure, failed)
    for concern in reply["writeConcernErrors"]:
        timed_out = concern.get("code") == 64 or "wtimeout" in concern.get("errInfo", {})
        raise _told(WTimeoutError if timed_out else WriteConcernError, concern)


def _guarded(operation: Callable[[], T]) -> T:
    """Run an operation; raise what the server refuses anew, same class and code, without documents."""
    try:
        return operation()
    except OperationFailure as error:
        kind, told = type(error), {"code": error.code, "errmsg": str(error), **(error.details or {})}
        labels = [label for label in _RETRY_LABELS if error.has_error_label(label)]
    raise _told(kind, told, labels)


def _told(kind: type[OperationFailure], reply: Mapping[str, Any], labels: Sequence[str] = ()) -> Exception:
    code, name = reply.get("code"), reply.get("codeName", "unnamed")
    text = reply.get("errmsg") if code in _PIPELINE_WORDS else "its text may quote documents and is withheld"
    details = {"errorLabels": labels} if labels else None
    return kind(f"the server answered with code {code} ({name}): {text}", code, details)


# --- aggregate_into ---


def _stages(pipeline: str | list[Document]) -> list[Document]:
    stages = _read_stages(pipeline) if isinstance(pipeline, str) else pipeline
    for place, stage in enumerate(stages):
        if not isinstance(stage, dict) or len(stage) != 1:
            raise Refused(f"stage {place} of the pipeline is not a document with one operator")
        if stage.keys() & {"$out", "$merge"}:
            raise Refused(f"stage {place} of the pipeline writes: aggregate_into adds the $merge itself")
    return list(stages)


def _read_stages(text: str) -> list[Any]:
    if not text.lstrip().startswith("["):
        return list(decode(text))
    try:
        stages: list[Any] = json_util.loads(text)
    except CODEC_ERRORS as error:
        kind = type(error).__name__
    else:
        return stages
    raise Refused(f"the pipeline is not an Extended JSON array ({kind})")


def _merge(into: str, fields: list[str], when_matched: str) -> Document:
    if when_matched not in ("replace", "merge"):
        raise Refused(f"when_matched must be replace or merge, not {when_matched}")
    return {"$merge": {"into": into, "on": fields, "whenMatched": when_matched, "whenNotMatched": "insert"}}


def _refuse_ambiguous(into: Collection[Document], fields: list[str]) -> None:
    # Asked first: the server's own error has no code of its own on every version.
    unique = [
        {name for name, _ in index["key"]}
        for index in into.index_information().values()
        if index.get("unique") and "partialFilterExpression" not in index
    ]
    if fields != ["_id"] and set(fields) not in unique:
        names = ", ".join(fields)
        raise Refused(
            f"$merge on {names} needs a unique index of {into.name} on exactly that: create it first"
        )


def _exhaust(source: Collection[Document], stages: list[Document]) -> None:
    with source.aggregate(stages) as cursor:
        for _ in cursor:
            pass


# --- expire_before ---


def _past(before: str | datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(before) if isinstance(before, str) else before
    except ValueError:
        raise Refused(f"before must be an ISO 8601 date or time, not {before!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment > datetime.now(UTC):
        raise Refused(f"before lies in the future ({moment.isoformat()}): it would delete live documents")
    return moment


def _delete(target: Collection[Document], expired: Document, limit: int) -> int:
    deleted = 0
    for start in range(0, limit, DELETE_BATCH):
        found = target.find(expired, {"_id": 1}).limit(min(DELETE_BATCH, limit - start))
        identifiers = [document["_id"] for document in found]
        if not identifiers:
            break
        # The date again: a document renewed since it was found must live.
        deleted += target.delete_many({"_id": {"$in": identifiers}, **expired}).deleted_count
    return deleted


def _collection(task: MongoTask, name: str, database: str | None) -> Collection[Document]:
    home = task.db if database is None else task.client[database]
    return home.get_collection(name, codec_options=READ_OPTIONS)
