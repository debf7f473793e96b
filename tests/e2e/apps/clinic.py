"""An app of somebody's own with the troubles of the incidents: CLINIC_CONF is JSON, its Celery settings.

CLINIC_EARLY is the URI of a client that a module opens where it is imported: before the fork.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals
from pymongo import MongoClient

from tests.e2e.apps import loud
from worker.integration.config import celery_config
from worker.integration.install import install
from worker.process.process import call, get_database
from worker.settings.fields import load_settings

loud.speak()
app = Celery("clinic")
app.conf.update(celery_config(load_settings()))
app.conf.update(json.loads(os.environ.get("CLINIC_CONF", "{}")))
install(app)

if uri := os.environ.get("CLINIC_EARLY"):
    EARLY: MongoClient[Any] = MongoClient(uri)
    EARLY.admin.command("ping")


if flag := os.environ.get("CLINIC_BLOCKS_START"):

    @signals.worker_process_init.connect(weak=False)
    def warm_caches(**_kwargs: Any) -> None:
        """Take 6 s at the start of each child while there is such a file."""
        if Path(str(flag)).exists():
            time.sleep(6.0)


@app.task(name="clinic.nothing")
def nothing() -> int:
    """Do nothing, in a process."""
    return os.getpid()


@app.task(name="clinic.nap")
def nap(seconds: float) -> None:
    """Hold a slot and no connection."""
    time.sleep(seconds)


@app.task(name="clinic.read")
def read(times: int) -> int:
    """Read so many times, a short while each."""
    for _ in range(times):
        get_database().clinic.find_one({"_id": 0})
    return times


@app.task(name="clinic.report")
def report() -> int:
    """Hold a connection for as long as the server takes."""
    return len(get_database().clinic.distinct("_id"))


@app.task(name="clinic.ask")
def ask() -> None:
    """Read once, and let the process know what became of it."""
    call(lambda: get_database().clinic.find_one({"_id": 0}), attempts=1)


@app.task(name="clinic.write")
def write(number: int) -> None:
    """Write one document."""
    get_database().clinic.insert_one({"n": number})


@app.task(name="clinic.save", base=app.mongo.Task)
def save(number: int) -> int:
    """Write one document, however often it runs."""
    get_database().saved.replace_one({"_id": number}, {"_id": number}, upsert=True)
    return number


@app.task(name="clinic.connect")
def connect() -> int:
    """Make a client for one call, and drop it."""
    client: MongoClient[Any] = MongoClient(os.environ["MONGODB_URI"])
    return client.shop.orders.count_documents({})


KEPT: list[Any] = []


@app.task(name="clinic.forget_session")
def forget_session() -> None:
    """Use a session, and end it never."""
    session = app.mongo.get_client().start_session()
    get_database().clinic.find_one({}, session=session)
    KEPT.append(session)


@app.task(name="clinic.keep_client")
def keep_client() -> None:
    """Open another client, and keep it."""
    client: MongoClient[Any] = MongoClient(os.environ["MONGODB_URI"])
    client.admin.command("ping")
    KEPT.append(client)
