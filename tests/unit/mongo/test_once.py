"""A write's marker: where it is put, what it keeps out, when it is forgotten."""

from collections.abc import Iterator
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import ConfigurationError, DuplicateKeyError, OperationFailure
from pymongo.results import UpdateResult

from worker.mongo import once as module
from worker.mongo.classify import ErrorClass, classify
from worker.tracking.work import Work, current_work

WEEK = module.REMEMBERED.total_seconds()
TIMES = st.floats(min_value=0, max_value=4e9)


def marked(
    filter: dict[str, Any] | None = None, update: dict[str, Any] | None = None, *, now: float = 0.0
) -> tuple[dict[str, Any], Any]:
    names = ["t shop.sell", "t"]
    return module._marked(filter or {"_id": 1}, update or {"$inc": {"n": 1}}, names=names, now=now)


def boxes(now: float) -> tuple[str, str]:
    """Where an update puts its marker, and what it empties."""
    _, update = marked(now=now)
    return next(iter(update["$push"])), next(iter(update["$unset"]))


def test_the_marker_goes_with_the_update_and_keeps_the_same_task_out() -> None:
    guarded, update = marked()
    assert update == {"$inc": {"n": 1}, "$push": {"_once.a": "t shop.sell"}, "$unset": {"_once.c": ""}}
    assert guarded == {
        "_id": 1,
        **{f"_once.{box}": {"$nin": ["t shop.sell", "t"]} for box in "abcd"},
        "_once.a.9999": {"$exists": False},
    }


@pytest.fixture
def work() -> Iterator[Work]:
    """A task that runs, within another."""
    outer = Work("shop.day", "d-1", 0.0)
    work = Work("shop.sell", "t-1", 0.0, outer=outer)
    token = current_work.set(work)
    yield work
    current_work.reset(token)


@pytest.mark.parametrize(
    ("task_id", "name"),
    [
        ("t-1", "t-1 shop.sell"),
        ("t-1/bonus", "t-1/bonus shop.sell"),
        ("bonus:t-1", "bonus:t-1 shop.sell"),
        ("d-1", "d-1 shop.day"),
        ("t-12", None),
        ("order 7", None),
    ],
)
@pytest.mark.usefixtures("work")
def test_a_marker_has_the_name_of_the_task_whose_id_it_has(task_id: str, name: str | None) -> None:
    """Any other text is a key of the app's, for whichever task uses it."""
    assert module._names(task_id) == ([task_id] if name is None else [name, task_id])


def test_a_task_that_replaced_itself_is_another(work: Work) -> None:
    work.replaced = 2
    assert module._names("t-1") == ["t-1 shop.sell 2", "t-1"]


def test_outside_a_task_a_marker_is_what_the_caller_says() -> None:
    assert module._names("t-1") == ["t-1"]


def test_what_the_caller_pushes_and_unsets_stays() -> None:
    filter, update = {"_id": 1, "state": "new"}, {"$push": {"log": "x"}, "$unset": {"old": ""}}
    guarded, sent = marked(filter, update)
    assert sent["$push"]["log"] == "x"
    assert sent["$unset"]["old"] == ""
    assert guarded["state"] == "new"
    assert (filter, update) == ({"_id": 1, "state": "new"}, {"$push": {"log": "x"}, "$unset": {"old": ""}})


@given(TIMES, st.floats(min_value=-WEEK, max_value=WEEK))
def test_no_marker_is_forgotten_before_its_time_even_by_a_clock_that_is_wrong(at: float, off: float) -> None:
    """By less than a week, that is: ahead or behind."""
    assert boxes(at)[0] != boxes(max(0.0, at + off))[1]


@given(TIMES)
def test_a_marker_is_forgotten_by_the_first_write_of_the_week_after_next(at: float) -> None:
    monday = (at // WEEK) * WEEK
    assert boxes(at)[0] == boxes(monday + 2.5 * WEEK)[1]


@pytest.mark.parametrize("task_id", ["", None])
def test_without_a_task_id_nothing_is_done(task_id: Any) -> None:
    """A task that is called directly has none, and None would match every document that has no marker."""
    with pytest.raises(ValueError, match="called directly"):
        module._check({"_id": 1}, task_id)


@pytest.mark.parametrize(
    "filter", [{}, {"sku": "x"}, {"_id": {"$in": [1, 2]}}, {"_id": {"$gt": 1}}, {"$or": [{"_id": 1}]}]
)
def test_a_filter_that_names_no_one_document_is_refused(filter: dict[str, Any]) -> None:
    """A second run would pass the marked document by and change the next."""
    with pytest.raises(ValueError, match="names the _id"):
        module._check(filter, "t")


@pytest.mark.parametrize("document_id", [1, "x", None, {"shop": 1, "day": 2}])
def test_any_id_names_a_document(document_id: Any) -> None:
    module._check({"_id": document_id, "more": {"$gt": 1}}, "t")


class Raced:
    """A collection in which another task's upsert has just made the document, marked or not for ours."""

    def __init__(self, *, is_marked: bool, updates: int) -> None:
        self.is_marked = is_marked
        self.updates = updates
        self.asked = 0

    def update_one(self, *_: Any, upsert: bool) -> UpdateResult:
        assert upsert
        self.asked += 1
        if self.asked < self.updates:
            raise DuplicateKeyError("E11000", 11000)
        return UpdateResult({"n": 1, "nModified": 1}, acknowledged=True)

    def with_options(self, **_: Any) -> Self:
        return self

    def find_one(self, *_: Any) -> dict[str, Any] | None:
        return {"_id": 1} if self.is_marked else None


def upsert_into(collection: Any) -> module.Effect:
    return module.once(collection, {"_id": 1}, {"$inc": {"n": 1}}, task_id="t", upsert=True)


def test_an_upsert_that_came_second_updates_what_the_first_has_made() -> None:
    collection = Raced(is_marked=False, updates=2)
    assert upsert_into(collection) is module.Effect.NOW
    assert collection.asked == 2


def test_an_upsert_that_finds_its_own_marker_was_here_before() -> None:
    assert upsert_into(Raced(is_marked=True, updates=2)) is module.Effect.BEFORE


def test_a_duplicate_key_that_stays_is_the_callers() -> None:
    with pytest.raises(DuplicateKeyError):
        upsert_into(Raced(is_marked=False, updates=3))


def conflict(*labels: str) -> OperationFailure:
    return OperationFailure("WriteConflict", 112, {"errorLabels": list(labels)})


def test_a_conflict_is_tried_again_until_it_is_late() -> None:
    module._raise_unless_conflict(conflict("TransientTransactionError"), is_late=False)
    with pytest.raises(OperationFailure):
        module._raise_unless_conflict(conflict("TransientTransactionError"), is_late=True)
    with pytest.raises(OperationFailure):
        module._raise_unless_conflict(conflict(), is_late=False)


def test_a_server_without_transactions_is_a_mistake_in_the_configuration_that_names_the_way_out() -> None:
    refused = OperationFailure(
        "Transaction numbers are only allowed on a replica set member or mongos", 20, {"ok": 0}
    )
    with pytest.raises(ConfigurationError, match=r"replica set.*once\(\)") as caught:
        module._raise_unless_conflict(refused, is_late=False)
    assert classify(caught.value) is ErrorClass.CONFIG


def test_another_illegal_operation_is_not_taken_for_it() -> None:
    with pytest.raises(OperationFailure, match="something else"):
        module._raise_unless_conflict(OperationFailure("something else", 20), is_late=False)
