"""The upsert task: documents replaced or inserted by their key, safe to run again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import bson
from bson.codec_options import CodecOptions
from pymongo import ReplaceOne, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from .documents import (
    CODEC_ERRORS,
    Document,
    Format,
    Refused,
    Rejected,
    decode,
    depth,
    encode,
)
from .hiding import hiding, shown
from .refusals import guarded, raise_if_not_about_documents
from .target import MongoTask, collection_of

UPSERT_MANY = "mongo.data.upsert_many"

DOCUMENT_LIMIT = 16 * 1024 * 1024
"""Bytes of BSON of one document with its key: the server's maximum, which it enforces per batch."""

DEPTH_LIMIT = 100
"""Levels of nesting of one document: MongoDB's documented maximum, enforced per batch as well."""

ERRORS_SHOWN = 100
"""Rejected documents that a result names; `rejected` counts them all."""

_DUPLICATE_KEY, _IMMUTABLE_FIELD, _VALIDATION = 11000, 66, 121


@dataclass(frozen=True, slots=True)
class _Write:
    index: int
    identity: bytes
    operation: ReplaceOne[Document] | UpdateOne


def register(app: Any) -> None:
    """Make `upsert_many` a task of `app`, which `install` has given its `mongo`."""
    # Not shared: Celery would give it, with this app's base, to every other app of the process.
    app.task(upsert_many, name=UPSERT_MANY, bind=True, base=hiding(app.mongo.Task), shared=False)


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
    target = collection_of(self, collection, database)
    if not target.write_concern.acknowledged:
        raise Refused("upsert_many reports what was written, so it needs a write concern above w=0")
    fields = [key] if isinstance(key, str) else list(key)
    options = target.codec_options
    received = enumerate(decode(documents, target=options))
    items = [_prepare(index, item, fields, options) for index, item in received]
    rejected = [item for item in items if isinstance(item, Rejected)]
    latest = {item.identity: item for item in items if isinstance(item, _Write)}
    counts, refused = guarded(lambda: _apply(target, list(latest.values())))
    return {
        "collection": collection,
        "read": len(items),
        **counts,
        "superseded": len(items) - len(rejected) - len(latest),
        **_report(rejected + refused),
    }


def _prepare(
    index: int, item: Document | Rejected, fields: Sequence[str], options: CodecOptions[Document]
) -> _Write | Rejected:
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
    problem = _unstorable(where, item, options)
    if problem:
        return Rejected(index, problem)
    return _Write(index, bson.encode(key, codec_options=options), _replacement(where, item))


def _replacement(where: Document, document: Document) -> ReplaceOne[Document] | UpdateOne:
    """Return the write after which the document with this key is the one sent, and which writes nothing where
    it is already.

    A plain replacement without an `_id` is a write of its own to mongod, oplog entry and all, however equal;
    the same as a pipeline that keeps the stored `_id` is not.
    """
    if "_id" in document:
        return ReplaceOne(where, document, upsert=True)
    # $literal: what looks like an expression, "$price", is a value.
    merged = {"$mergeObjects": [{"_id": "$_id"}, {"$literal": document}]}
    return UpdateOne(where, [{"$replaceWith": merged}], upsert=True)


def _value(document: Document, path: str) -> Any:
    def step(value: Any, name: str) -> Any:
        return value.get(name) if isinstance(value, dict) else None

    return reduce(step, path.split("."), document)


def _unstorable(where: Document, document: Document, options: CodecOptions[Document]) -> str | None:
    """Return why a document would take its whole batch down with it, or None."""
    try:
        if depth(document) > DEPTH_LIMIT:
            return f"nested deeper than {DEPTH_LIMIT} levels"
        size = len(bson.encode({"q": where, "u": document}, codec_options=options))
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
    raise_if_not_about_documents(reply)
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
