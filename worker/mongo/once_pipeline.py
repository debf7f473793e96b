"""A marker in an update that is a pipeline: set by a last stage, and kept by those that make a new document.

| stage | the markers that stand |
|---|---|
| `$set`, `$addFields`, `$unset` | stay by themselves |
| `$replaceWith`, `$replaceRoot` | are merged into the new document, from the one before |
| `$project` that names what it keeps | are named, too |
| `$project` that names what it drops | stay by themselves |

A stage that names the markers' field itself is refused: it could forget them, and a write would count twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MARK = "_once"
"""The field that holds a document's markers."""


def marked(stages: Sequence[Mapping[str, Any]], own: str, name: str, *, emptied: str) -> list[dict[str, Any]]:
    """Return the pipeline with a marker `name` put into the field `own`, and the field `emptied` taken out.

    Raises ValueError for a stage that is not known to keep markers.
    """
    # A name is no expression: it may begin with a dollar sign.
    box = {"$concatArrays": [{"$ifNull": [f"${own}", []]}, [{"$literal": name}]]}
    return [*map(_keeping, stages), {"$set": {own: box}}, {"$unset": [emptied]}]


def _keeping(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stage such that the markers which stand outlive it."""
    items: list[tuple[str, Any]] = list(stage.items()) or [("an empty stage", None)]
    (name, body), *more = items
    if more or name not in _STAGES:
        known = ", ".join(_STAGES)
        raise ValueError(f"once() knows the stages {known}, one name each; write {name} as one of these")
    if any(path.partition(".")[0] == MARK for path in _paths(name, body)):
        raise ValueError(f"{name} names {MARK}, where once() keeps its markers: leave that field alone")
    if name == "$replaceWith":
        return {name: _with_markers(body)}
    if name == "$replaceRoot" and isinstance(body, Mapping):
        return {name: {**body, "newRoot": _with_markers(body.get("newRoot"))}}
    if name == "$project" and not _is_exclusion(body):
        return {name: {**body, MARK: 1}}
    return dict(stage)


_STAGES = ("$set", "$addFields", "$unset", "$replaceWith", "$replaceRoot", "$project")


def _with_markers(root: Any) -> dict[str, Any]:
    # What is no object is the server's to refuse: merged, null would be an empty document.
    is_object = {"$eq": [{"$type": "$$root"}, "object"]}
    merged = {"$mergeObjects": ["$$root", {MARK: f"${MARK}"}]}
    return {"$let": {"vars": {"root": root}, "in": {"$cond": [is_object, merged, "$$root"]}}}


def _paths(name: str, body: Any) -> Iterator[str]:
    """Yield the fields that a stage writes or drops by name."""
    if name in ("$replaceWith", "$replaceRoot"):
        return
    yield from [body] if isinstance(body, str) else map(str, body or ())


def _is_exclusion(spec: Any) -> bool:
    """Say whether a $project drops fields, as the server decides: by its first field but `_id`."""
    others = [value for field, value in spec.items() if field != "_id"]
    return _drops(others[0] if others else spec.get("_id"))


def _drops(value: Any) -> bool:
    if isinstance(value, Mapping):
        inner = next(iter(value.items()), None)
        # An operator computes the field, which keeps it.
        return inner is not None and not inner[0].startswith("$") and _drops(inner[1])
    return isinstance(value, (bool, int, float)) and not value
