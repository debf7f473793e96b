"""A write that takes effect once, however often its task runs: its marker is written with it, or not at all.

| the write | use | the marker is |
|---|---|---|
| one document, known by its `_id` | `once` | in the document, set by the same update |
| several, or one that many tasks change | `run_once` | in the collection `_once`, in the same transaction |
| inserts | `_id`s made of the task's id and a number | the `_id`: a second insert fails with code 11000 |
| sets fields, and adds nothing | a plain upsert | not needed |

What may happen, and what comes of it:
- A crash before the reply, a lost reply, a commit with an unknown result: run it again. Marker and effect are
  both there or both not, so the second run does nothing, or does all of it.
- Two workers with the same task at once: the server lets one update, or one transaction, go first. The other
  meets its marker: as a filter that matches nothing, a duplicate key or a write conflict.
- The driver's own retry of a write, and ours: one run more, as above.
- A document with MOST markers of a week takes no more of it: the write is refused, and no marker forgotten.
- The marker is forgotten after REMEMBERED, with its document, or by whoever replaces the document as a whole.
  So REMEMBERED has to be longer than a message may wait to be delivered again.
"""

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pymongo import ReadPreference
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ConfigurationError, DuplicateKeyError, OperationFailure

from ..errors import MarkersFullError
from ..tracking.work import current_work
from . import once_pipeline
from .backoff import Backoff

MARK = once_pipeline.MARK
"""The field that holds a document's markers, and the collection that holds those of transactions."""

REMEMBERED = timedelta(days=7)
"""How long a marker is kept at least; in a document that nobody writes to it stays."""

MOST = 10_000
"""Markers of one document in a week. Beyond them a write is refused, and none is forgotten: a task that comes
back would count twice. They are a megabyte by then, of the 16 that a document may have.
"""

CONFLICT_SECONDS = 5.0
"""How long a transaction is tried again that others' writes get in the way of."""

_CONFLICTS = Backoff(base=0.005, cap=0.25)

# The document's markers are in four boxes, used in turn, a week each. The one after next is emptied with each
# write: not the next, since a clock that is ahead may have begun it.
_BOXES = "abcd"

_NO_TRANSACTIONS = (
    "run_once() needs transactions, which a standalone server has not: make it a replica set (of one member "
    "will do), or use once(), whose marker is in the document itself"
)


class Effect(StrEnum):
    """What became of the write."""

    NOW = "now"
    """It took effect in this call."""
    BEFORE = "before"
    """It had taken effect in an earlier run: nothing was written."""
    NONE = "none"
    """No document matched: nothing was written, now or before."""


def once(
    collection: Collection[Any],
    filter: Mapping[str, Any],
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    task_id: str,
    upsert: bool = False,
) -> Effect:
    """Update one document as `update_one` does, unless this task has done so before.

    `task_id` names the write: a task that writes a document twice adds a word of its own to each. Where it
    has the id of the task that runs, the marker has that task's name, too, since `replace()` gives an id to
    other tasks; any other text is a key of yours, for whoever uses it. `filter` names the document by its
    `_id`, and may say more; `update` has operators, e.g. `{"$inc": {"n": 1}}`, or is a pipeline of stages, in
    which the markers outlive a document that is replaced. The marker costs the document some 80 bytes a task
    for REMEMBERED and goes when the document is deleted; it has room for MOST a week. Where hundreds of tasks
    a day change one document use `run_once`.

    Raises:
        MarkersFullError: the document has MOST markers of this week.
        ValueError: there is no task id (the task was called directly), no one document is named, or a stage
            of the pipeline is not known to keep markers.
        PyMongoError: the update's own; call again, as often as it takes.
    """
    _check(filter, task_id)
    names, now = _names(task_id), time.time()
    guarded, marked = _marked(filter, update, names=names, now=now)
    markers = _Markers(names, _last_of(now))
    update_once = functools.partial(_update, collection, guarded, marked, markers=markers, upsert=upsert)
    try:
        return update_once()
    except DuplicateKeyError:
        # Another task's upsert may have come first: then this one finds the document now.
        return update_once()


def run_once(database: Database[Any], body: Callable[[ClientSession], object], *, task_id: str) -> Effect:
    """Run `body(session)` in a transaction, unless this task has done so before: NOW or BEFORE. `task_id` is
    as in `once`.

    Every operation of `body` takes `session=session`: one without is no part of the transaction and runs as
    often as the body does. That may be several times before one counts; what it raises undoes all, the marker
    too. The marker is a document of `database`'s collection `_once`.

    An unknown commit is raised: call again, and the marker tells. So is an outage, where with_transaction()
    would keep the caller for two minutes.

    Raises:
        ValueError: there is no task id (the task was called directly).
        ConfigurationError: the server has no transactions; use `once`.
        PyMongoError: the body's, or the commit's.
    """
    _check({"_id": task_id}, task_id)
    names = _names(task_id)
    markers = database[MARK]
    # Outside of the transaction: it can make neither an index nor, on some servers, the collection.
    markers.create_index("until", expireAfterSeconds=0)
    ends = time.monotonic() + CONFLICT_SECONDS
    failures = 0
    with database.client.start_session() as session:
        while True:
            try:
                if _transact(session, markers, body, names=names):
                    return Effect.NOW
                if _is_kept(markers, names):
                    return Effect.BEFORE
            except OperationFailure as error:
                _raise_unless_conflict(error, is_late=time.monotonic() > ends)
            time.sleep(_CONFLICTS.delay(failures))
            failures += 1


def _check(filter: Mapping[str, Any], task_id: str) -> None:
    if not task_id:
        raise ValueError("a task id is needed to do something once: a task that is called directly has none")
    name = filter.get("_id")
    is_condition = isinstance(name, Mapping) and any(key.startswith("$") for key in name)
    if "_id" not in filter or is_condition:
        # With any other filter a second run would pass the marked document by and take the next one.
        raise ValueError("once() changes one document: its filter names the _id itself")


def _names(task_id: str) -> list[str]:
    """Return the names of a write: that of its marker, and the one that a marker of a version before has.

    The place that a task takes in a row of replacements is its name's end, as a task may replace itself.
    """
    work = current_work.get()
    while work is not None and not _has_word(task_id, work.id):
        work = work.outer
    if work is None:
        return [task_id]
    place = f" {work.replaced}" if work.replaced else ""
    return [f"{task_id} {work.name}{place}", task_id]


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _marked(
    filter: Mapping[str, Any],
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    names: Sequence[str],
    now: float,
) -> tuple[dict[str, Any], dict[str, Any] | list[dict[str, Any]]]:
    """Return the filter that leaves a marked document out, and the update that marks it."""
    own, emptied = (f"{MARK}.{box}" for box in _boxes(now))
    guarded = {**filter, **{f"{MARK}.{box}": {"$nin": list(names)} for box in _BOXES}}
    guarded[_last_of(now)] = {"$exists": False}
    if not isinstance(update, Mapping):
        return guarded, once_pipeline.marked(update, own, names[0], emptied=emptied)
    push = {**update.get("$push", {}), own: names[0]}
    unset = {**update.get("$unset", {}), emptied: ""}
    return guarded, {**update, "$push": push, "$unset": unset}


def _boxes(now: float) -> tuple[str, str]:
    """Return the box that takes markers at this moment (unix seconds), and the one to be emptied."""
    week = int(now // REMEMBERED.total_seconds())
    return _BOXES[week % len(_BOXES)], _BOXES[(week + 2) % len(_BOXES)]


def _last_of(now: float) -> str:
    """Return the place that the last marker takes that there is room for."""
    return f"{MARK}.{_boxes(now)[0]}.{MOST - 1}"


@dataclass(frozen=True)
class _Markers:
    """What a write's marker may be called, and the place that is taken where there is room for none."""

    names: Sequence[str]
    last: str


def _update(
    collection: Collection[Any],
    guarded: Mapping[str, Any],
    marked: Mapping[str, Any] | list[dict[str, Any]],
    *,
    markers: _Markers,
    upsert: bool,
) -> Effect:
    try:
        result = collection.update_one(guarded, marked, upsert=upsert)
    except DuplicateKeyError:
        if _is_marked(collection, guarded["_id"], markers):
            return Effect.BEFORE
        raise
    if result.matched_count or result.did_upsert:
        return Effect.NOW
    return Effect.BEFORE if _is_marked(collection, guarded["_id"], markers) else Effect.NONE


def _is_marked(collection: Collection[Any], document_id: object, markers: _Markers) -> bool:
    """Say whether the document that the update has passed by has the marker; raises MarkersFullError where it
    has no room for one.
    """
    marks = [{f"{MARK}.{box}": {"$in": list(markers.names)}} for box in _BOXES]
    primary = collection.with_options(read_preference=ReadPreference.PRIMARY)
    if primary.find_one({"_id": document_id, "$or": marks}, {"_id": 1}) is not None:
        return True
    if primary.find_one({"_id": document_id, markers.last: {"$exists": True}}, {"_id": 1}) is not None:
        raise MarkersFullError(MOST)
    return False


def _transact(
    session: ClientSession,
    markers: Collection[Any],
    body: Callable[[ClientSession], object],
    *,
    names: Sequence[str],
) -> bool:
    """Run the body beside a new marker and commit; return False, and do nothing, where there is one."""
    own, *before = names
    with session.start_transaction():
        try:
            markers.insert_one({"_id": own, "until": datetime.now(UTC) + REMEMBERED}, session=session)
        except DuplicateKeyError:
            session.abort_transaction()
            return False
        if before and markers.find_one({"_id": {"$in": before}}, session=session) is not None:
            session.abort_transaction()
            return False
        body(session)
    return True


def _is_kept(markers: Collection[Any], names: Sequence[str]) -> bool:
    """Say whether the marker is there to stay, and keep it from expiring meanwhile.

    What was seen in a transaction that ended may still be rolled back in a failover. This write waits until
    as many members hold it as the write concern asks for.
    """
    until = datetime.now(UTC) + REMEMBERED
    found = markers.update_one({"_id": {"$in": list(names)}}, {"$max": {"until": until}})
    return found.matched_count == 1


def _raise_unless_conflict(error: OperationFailure, *, is_late: bool) -> None:
    if error.code == 20 and "ransaction numbers" in str(error):  # IllegalOperation
        raise ConfigurationError(_NO_TRANSACTIONS) from error
    if is_late or not error.has_error_label("TransientTransactionError"):
        raise error
