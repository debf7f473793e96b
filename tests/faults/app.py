"""The app whose workers are hurt: the service's, three kinds of writes, and a ledger of every run.

RIG_PAUSE_SECONDS is how long a task takes before its write, and again behind it, so that faults meet tasks
on either side of one. While the file that RIG_CROWD names exists each process fills its own pool.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from tests.faults.ledger import PATH, Ledger
from tests.faults.settings import CROWD, PAUSE, QUEUE
from worker import once
from worker.celery import create_app
from worker.task import MongoTask

app = create_app()
app.conf.update(task_default_queue=QUEUE)
Ledger(os.environ[PATH]).open()

_pause_seconds = float(os.environ[PAUSE])
_crowd = Path(os.environ[CROWD])
_crowding = threading.Lock()


@app.task(base=MongoTask, bind=True)
def put(self: Any, key: str) -> str:
    """Set a field: the same however often it runs."""
    _before(self)
    self.db.puts.update_one({"_id": key}, {"$set": {"value": key}}, upsert=True)
    return _after(key)


@app.task(base=MongoTask, bind=True)
def count(self: Any, key: str) -> str:
    """Add one, under `once`."""
    _before(self)
    once(self.db.counts, {"_id": key}, {"$inc": {"n": 1}}, task_id=self.request.id, upsert=True)
    return _after(key)


@app.task(base=MongoTask, bind=True, idempotent=False)
def add(self: Any, key: str) -> str:
    """Add one, with nothing to tell a second run from the first."""
    _before(self)
    self.db.adds.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True)
    return _after(key)


def _before(task: Any) -> None:
    if _crowd.exists() and _crowding.acquire(blocking=False):
        for _ in range(task.client.options.pool_options.max_pool_size):
            threading.Thread(target=_hold, args=(task.db,), daemon=True).start()
    time.sleep(_pause_seconds)


def _after(key: str) -> str:
    time.sleep(_pause_seconds)
    return key


def _hold(database: Any) -> None:
    """Hold a connection of the pool, by a command that the server lets wait, until the crowd goes."""
    while _crowd.exists():
        try:
            database.puts.distinct("nothing")
        except PyMongoError:
            time.sleep(0.05)
