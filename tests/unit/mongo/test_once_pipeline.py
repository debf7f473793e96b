"""A pipeline's stages keep the markers that stand, or are refused."""

from typing import Any

import pytest

from worker.mongo.once_pipeline import marked

IS_OBJECT = {"$eq": [{"$type": "$$root"}, "object"]}
MERGED = {"$mergeObjects": ["$$root", {"_once": "$_once"}]}
KEPT = {"$let": {"vars": {"root": "$new"}, "in": {"$cond": [IS_OBJECT, MERGED, "$$root"]}}}


def first(stage: dict[str, Any]) -> dict[str, Any]:
    return marked([stage], "_once.a", "t", emptied="_once.c")[0]


def test_the_marker_is_set_after_all_else() -> None:
    *_, mark, forget = marked([{"$set": {"n": 1}}], "_once.a", "$t", emptied="_once.c")
    box = {"$concatArrays": [{"$ifNull": ["$_once.a", []]}, [{"$literal": "$t"}]]}
    assert (mark, forget) == ({"$set": {"_once.a": box}}, {"$unset": ["_once.c"]})


@pytest.mark.parametrize(
    "stage",
    [
        {"$set": {"n": {"$add": ["$n", 1]}}},
        {"$addFields": {"a.b": 1}},
        {"$unset": "old"},
        {"$unset": ["old", "older"]},
        {"$project": {"old": 0}},
        {"$project": {"_id": 1, "old": False}},
        {"$project": {"a": {"b": 0}}},
        {"$project": {"_id": 0}},
    ],
)
def test_what_keeps_markers_by_itself_stays_as_it_is(stage: dict[str, Any]) -> None:
    assert first(stage) == stage


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"$replaceWith": "$new"}, {"$replaceWith": KEPT}),
        ({"$replaceRoot": {"newRoot": "$new"}}, {"$replaceRoot": {"newRoot": KEPT}}),
        ({"$project": {"n": 1}}, {"$project": {"n": 1, "_once": 1}}),
        ({"$project": {"_id": 0, "n": True}}, {"$project": {"_id": 0, "n": True, "_once": 1}}),
        (
            {"$project": {"n": {"$literal": 0}}},
            {"$project": {"n": {"$literal": 0}, "_once": 1}},
        ),
        ({"$project": {"n": "$$REMOVE"}}, {"$project": {"n": "$$REMOVE", "_once": 1}}),
    ],
)
def test_what_makes_a_new_document_takes_the_markers_along(
    stage: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert first(stage) == expected


@pytest.mark.parametrize(
    "stage",
    [
        {"$unset": "_once"},
        {"$unset": ["a", "_once.b"]},
        {"$set": {"_once": {}}},
        {"$project": {"_once": 0}},
        {"$merge": "elsewhere"},
        {"$set": {"a": 1}, "$unset": "b"},
        {},
    ],
)
def test_what_could_forget_a_marker_is_refused(stage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="once"):
        first(stage)
