"""The roll-up task: an aggregation on the server, merged into another collection, safe to run again."""

import time
from collections.abc import Sequence
from typing import Any

from bson import json_util
from bson.codec_options import CodecOptions
from pymongo.collection import Collection

from .documents import CODEC_ERRORS, Document, Refused, decode, reading
from .hiding import hiding
from .refusals import guarded
from .target import MongoTask, collection_of

AGGREGATE_INTO = "mongo.data.aggregate_into"


def register(app: Any) -> None:
    """Make the function of this module a task of `app`, which `install` has given its `mongo`."""
    app.task(aggregate_into, name=AGGREGATE_INTO, bind=True, base=hiding(app.mongo.Task), shared=False)


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
    merge = _merge(into, fields, when_matched)
    if into == source:
        raise Refused("a roll-up reads one collection and writes another: name another `into`")
    started = time.monotonic()
    from_, to = collection_of(self, source, database), collection_of(self, into, database)
    stages = [*_stages(pipeline, from_.codec_options), merge]
    _refuse_ambiguous(to, fields)
    self.app.mongo.call(lambda: guarded(lambda: _exhaust(from_, stages)), deadline=deadline)
    return {
        "source": source,
        "into": into,
        "documents": to.estimated_document_count(),
        "seconds": round(time.monotonic() - started, 3),
    }


def _stages(pipeline: str | list[Document], target: CodecOptions[Document]) -> list[Document]:
    stages = _read_stages(pipeline, target) if isinstance(pipeline, str) else pipeline
    for place, stage in enumerate(stages):
        if not isinstance(stage, dict) or len(stage) != 1:
            raise Refused(f"stage {place} of the pipeline is not a document with one operator")
        if stage.keys() & {"$out", "$merge"}:
            raise Refused(f"stage {place} of the pipeline writes: aggregate_into adds the $merge itself")
    return list(stages)


def _read_stages(text: str, target: CodecOptions[Document]) -> list[Any]:
    if not text.lstrip().startswith("["):
        return list(decode(text, target=target))
    try:
        stages: list[Any] = json_util.loads(text, json_options=reading(target))
    except CODEC_ERRORS as error:
        kind = type(error).__name__
    else:
        return stages
    raise Refused(f"the pipeline is not an Extended JSON array ({kind})")


def _merge(into: str, fields: list[str], when_matched: str) -> Document:
    if when_matched not in ("replace", "merge"):
        raise Refused("when_matched must be replace or merge")
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
