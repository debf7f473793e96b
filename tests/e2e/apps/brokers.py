"""An app of one's own on any broker of kombu's, with `install(app)`.

BROKERS_URL and BROKERS_BACKEND are its broker and result backend, BROKERS_CONF is JSON: Celery settings.
"""

import json
import os
import time
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from tests.e2e.apps import loud
from worker import MongoTask, call, get_database, install

loud.speak()
app = Celery("brokers", broker=os.environ["BROKERS_URL"], backend=os.environ.get("BROKERS_BACKEND"))
app.conf.update(task_default_queue="shop", broker_connection_retry_on_startup=True)
app.conf.update(json.loads(os.environ.get("BROKERS_CONF", "{}")))
install(app)


@app.task(bind=True, base=MongoTask)
def save(self: MongoTask, key: Any) -> Any:
    """Upsert one document, and count how often it was written."""
    self.db.orders.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True)
    return key


@app.task(bind=True, base=MongoTask, idempotent=False)
def charge(self: MongoTask, key: Any) -> Any:
    """Insert one document, which must not be done twice."""
    self.db.orders.insert_one({"_id": key, "n": 1})
    return key


@app.task(bind=True, base=MongoTask)
def again(self: MongoTask, key: Any, seconds: float) -> Any:
    """Count the run; hold the first for a while, and have it retried."""
    update = {"$inc": {"n": 1}}
    runs = self.db.orders.find_one_and_update({"_id": key}, update, upsert=True, return_document=True)["n"]
    if runs == 1:
        time.sleep(seconds)
        raise self.retry(countdown=0)
    return key


@app.task(bind=True, base=MongoTask)
def nap(self: MongoTask, key: Any, seconds: float) -> Any:
    """Hold the slot for a while, then upsert one document."""
    time.sleep(seconds)
    self.db.orders.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True)
    return key


@app.task
def count() -> int:
    """Count the orders in a task of Celery's own class, which waits for nothing."""
    return call(lambda: int(get_database().orders.count_documents({})), attempts=1)


@worker_ready.connect
def send_to_oneself(**_kwargs: Any) -> None:
    """Send what BROKERS_SEND names (task ids by task name): the memory transport reaches no other process."""
    for name, task_id in json.loads(os.environ.get("BROKERS_SEND", "{}")).items():
        app.send_task(name, ("own",) if name.endswith("save") else (), task_id=task_id)
