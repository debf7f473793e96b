"""A Flask app with a context task, as Flask's own guide has it, beside MongoTask.

FLASK_SHOP_HIDING=1 adds a task whose base and FlaskTask cannot both hold.
"""

import logging.config
import os
from typing import Any

from celery import Celery, Task, shared_task
from flask import Flask, current_app

from tests.e2e.apps import loud
from worker import MongoTask, db, install

loud.speak()
flask_app = Flask("flask_shop")
flask_app.config["SHOP"] = "the shop"


class FlaskTask(Task):
    """The guide's."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run within the application's context."""
        with flask_app.app_context():
            return self.run(*args, **kwargs)


class Labelled(Task):
    """A mixin of the shop's."""

    mongo: Any = "a name that MongoTask has, too"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Say who runs."""
        return [self.__class__.__name__, super().__call__(*args, **kwargs)]


class First(Labelled, MongoTask):
    """The mixin first."""


class Last(MongoTask, Labelled):
    """The mixin last."""


app = Celery(
    "flask_shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"], task_cls=FlaskTask
)
app.conf.update(task_default_queue="shop", broker_connection_retry_on_startup=True)
app.set_default()
install(app)
orders = db.orders
logging.config.dictConfig({"version": 1})  # which disables existing loggers


def _save(key: Any) -> Any:
    orders.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True)
    return current_app.config["SHOP"]


@app.task(bind=True, base=MongoTask)
def save(_self: MongoTask, key: Any) -> Any:
    """Save by the usual decorator."""
    return _save(key)


@shared_task(bind=True, base=MongoTask)
def shared(_self: MongoTask, key: Any) -> Any:
    """Save by a shared task."""
    return _save(key)


@app.task(bind=True, base=First)
def first(_self: MongoTask, key: Any) -> Any:
    """Save beside a mixin."""
    return _save(key)


@app.task(bind=True, base=Last)
def last(_self: MongoTask, key: Any) -> Any:
    """Save beside a mixin that comes last."""
    return _save(key)


@app.task
def plain(key: Any) -> Any:
    """Save without MongoTask."""
    return _save(key)


class Hiding(MongoTask):
    """Ends with run(), so that FlaskTask's would not be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As it is often copied."""
        return self.run(*args, **kwargs)


if os.environ.get("FLASK_SHOP_HIDING"):
    app.task(name="hidden", base=Hiding)(_save)
