"""The deletion task: what is older than a date, in bounded batches, safe to run again."""

from datetime import UTC, datetime
from typing import Any

from pymongo.collection import Collection

from .documents import Document, Refused
from .refusals import guarded
from .target import MongoTask, collection_of

EXPIRE_BEFORE = "mongo.data.expire_before"

DELETE_BATCH = 1_000
"""Documents per delete command: some 10 ms on a server, and 20 KB of identifiers."""

DELETE_LIMIT = 100_000
"""Most documents that one run of `expire_before` may be asked to delete."""


def register(app: Any) -> None:
    """Make the function of this module a task of `app`, which `install` has given its `mongo`."""
    app.task(expire_before, name=EXPIRE_BEFORE, bind=True, base=app.mongo.Task, shared=False)


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
    most = _bounded(limit)
    target = collection_of(self, collection, database)
    expired = {field: {"$lt": moment}}
    deleted = guarded(lambda: _delete(target, expired, most))
    more = target.find_one(expired, {"_id": 1}) is not None
    return {"collection": collection, "before": moment.isoformat(), "deleted": deleted, "more": more}


def _bounded(limit: object) -> int:
    if not isinstance(limit, int) or not 1 <= limit <= DELETE_LIMIT:
        raise Refused(f"limit must be a whole number from 1 to {DELETE_LIMIT}")
    return limit


def _past(before: str | datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(before) if isinstance(before, str) else before
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        # What came may be a part of a document, in a wrong place.
        raise Refused("before must be an ISO 8601 date or time")
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
