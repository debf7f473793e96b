"""Where a data task works: the collection it names, read and written with the same options everywhere."""

from typing import Any, Protocol

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from .documents import READ_OPTIONS, Document


class MongoTask(Protocol):
    """What these functions use of the task that they run as."""

    app: Any
    client: MongoClient[Document]
    db: Database[Document]


def collection_of(task: MongoTask, name: str, database: str | None) -> Collection[Document]:
    """Return a collection of `database`, or of the database that the settings name.

    It writes as the client does: UUIDs in the representation that the URI names, types of the app's own.
    """
    home = task.db if database is None else task.client[database]
    options = home.codec_options.with_options(
        tz_aware=READ_OPTIONS.tz_aware, datetime_conversion=READ_OPTIONS.datetime_conversion
    )
    return home.get_collection(name, codec_options=options)
