"""The collections of ours in MongoDB: may we use them, and do they forget?"""

from collections.abc import Iterable
from typing import Any

import pymongo
from pymongo.errors import OperationFailure

from ..mongo.once import MARK
from .history import collection_name

_UNAUTHORIZED = 13
_NO_SUCH_COLLECTION = 26

Kept = tuple[str, str, str]
"""A database, a collection, and the field that its TTL index is on."""


def expected(*, database: str, history: str | None, deployment: str) -> list[Kept]:
    """Return the collections that may be there."""
    markers: Kept = (database, MARK, "until")
    return [markers] if history is None else [markers, (history, collection_name(deployment), "at")]


def look(client: Any, kept: Iterable[Kept], *, seconds: float) -> dict[str, Any]:
    """Return the databases that we may not use, and the collections without their TTL index by its field.

    A collection that is not there needs none. Raises PyMongoError where MongoDB does not answer in time.
    """
    refused: list[str] = []
    without: dict[str, str] = {}
    with pymongo.timeout(seconds):
        for database, name, field in kept:
            try:
                indexes = client[database][name].index_information()
            except OperationFailure as error:
                if error.code == _UNAUTHORIZED:
                    refused.append(database)
                elif error.code != _NO_SUCH_COLLECTION:
                    raise
            else:
                if indexes and not any("expireAfterSeconds" in index for index in indexes.values()):
                    without[f"{database}.{name}"] = field
    return {"refused": refused, "without_ttl": without}
