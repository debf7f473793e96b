"""One pooled MongoDB client per Celery worker process.

The public names are loaded on first use: Celery imports this package at every start of its command
line, which must not pay for pymongo.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .delivery.task import MongoTask as MongoTask
    from .integration.install import install as install
    from .mongo.once import once as once
    from .mongo.once import run_once as run_once
    from .process.handles import client as client
    from .process.handles import db as db
    from .process.process import call as call
    from .process.process import get_client as get_client
    from .process.process import get_database as get_database
    from .process.process import on_replace as on_replace
    from .process.process import use_client as use_client

_HOMES = {
    "install": ".integration.install",
    "get_client": ".process.process",
    "get_database": ".process.process",
    "use_client": ".process.process",
    "call": ".process.process",
    "client": ".process.handles",
    "db": ".process.handles",
    "on_replace": ".process.process",
    "MongoTask": ".delivery.task",
    "once": ".mongo.once",
    "run_once": ".mongo.once",
}

__all__ = [
    "MongoTask",
    "call",
    "client",
    "db",
    "get_client",
    "get_database",
    "install",
    "on_replace",
    "once",
    "run_once",
    "use_client",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
