"""Where documents are: names that MongoDB takes, and the unique index that a key other than `_id` needs.

Without it a batch that runs twice at once inserts twice.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pymongo
from pymongo.errors import InvalidName, PyMongoError

from ..problems import UsageProblem
from ..text import names as some

_SECONDS = 2.0


class Keyed(Protocol):
    """What is loaded: into which collection, by which fields."""

    @property
    def collection(self) -> str:
        """The collection's name."""

    @property
    def key(self) -> tuple[str, ...]:
        """The fields of the key; none for `_id`."""


def collection_of(app: Any, database: str | None, name: str) -> Any:
    """Return a collection, by the app's own client; no I/O. UsageProblem for a name that is none."""
    try:
        return app.mongo.get_database(database)[name]
    except InvalidName as error:
        raise UsageProblem(str(error)) from None


def servers_of(app: Any) -> str:
    """Return the hosts that the app's URI names: of it all, what says where the documents are."""
    uri: str = app.mongo.settings.mongodb_uri.get_secret_value()
    return uri.partition("://")[2].partition("/")[0].rpartition("@")[2]


def is_empty(app: Any, database: str, name: str) -> bool:
    """Whether a collection is known to hold nothing; MongoDB may be away now."""
    try:
        with pymongo.timeout(_SECONDS):
            return collection_of(app, database, name).find_one({}, {"_id": 1}) is None
    except PyMongoError:
        return False


def refuse_key(key: Sequence[str], columns: Sequence[str] | None) -> None:
    """Refuse key fields that no row can have, as far as `columns` (None: not known) tell."""
    for field in key:
        if not field or field.startswith("$"):
            raise UsageProblem(f"--key {field!r} names no field")
        if columns is not None and field not in columns:
            raise UsageProblem(f"--key {field}: the file has no such column; it has {some(columns)}")


def ensure_unique(app: Any, database: str, keyed: Keyed, *, say: Callable[[str], None]) -> None:
    """Make the index in a collection without documents; in another, say that it is missing.

    Never in the way of the load: MongoDB may be away now, or the user may not see indexes.
    """
    fields = keyed.key
    if not fields or fields == ("_id",):
        return
    place = f"{database}.{keyed.collection}"
    try:
        with pymongo.timeout(_SECONDS):
            collection = collection_of(app, database, keyed.collection)
            if _has_unique(collection, fields):
                return
            if collection.find_one({}, {"_id": 1}) is None:
                collection.create_index([(name, pymongo.ASCENDING) for name in fields], unique=True)
                say(f"{place}: made a unique index on {', '.join(fields)}")
                return
    except PyMongoError as error:
        say(f"{place}: could not look for a unique index on {', '.join(fields)} ({type(error).__name__})")
        return
    names = ", ".join(f"{name}: 1" for name in fields)
    say(
        f"{place} has no unique index on {', '.join(fields)}: each row is a scan, and a batch that runs "
        "twice may insert twice. In mongosh: "
        f"db.{keyed.collection}.createIndex({{{names}}}, {{unique: true}})"
    )


def _has_unique(collection: Any, fields: Sequence[str]) -> bool:
    indexes = collection.index_information().values()
    # Any order of the same fields, or of some of them, keeps the key from being there twice.
    return any(index.get("unique") and {name for name, _ in index["key"]} <= set(fields) for index in indexes)
