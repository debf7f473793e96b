"""The app whose workers are hurt: the service's, three kinds of writes, and a ledger of every run.

RIG_PAUSE_SECONDS is how long a task takes before its write, and again behind it, so that faults meet tasks
on either side of one. While the file that RIG_CROWD names exists each process fills its own pool. Where
RIG_TRANSACTION_SECONDS is not 0 the second kind writes in a transaction that takes so long.
"""

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from tests.e2e.apps import loud
from tests.faults.ledger import PATH, Ledger
from tests.faults.settings import CROWD, PAUSE, QUEUE, TRANSACTION
from worker import once, run_once
from worker.celery import create_app
from worker.delivery.task import MongoTask

logger = logging.getLogger(__name__)

loud.speak()
app = create_app()
app.conf.update(task_default_queue=QUEUE)
_ledger = Ledger(os.environ[PATH])
_ledger.open()

_pause_seconds = float(os.environ[PAUSE])
_transaction_seconds = float(os.environ[TRANSACTION])
_crowd = Path(os.environ[CROWD])
_crowding = threading.Lock()


@app.task(base=MongoTask, bind=True)
def put(self: Any, key: str) -> str:
    """Set a field: the same however often it runs."""
    _before(self)
    self.db.puts.update_one({"_id": key}, {"$set": {"value": key}}, upsert=True)
    return _after(self, key)


@app.task(base=MongoTask, bind=True)
def count(self: Any, key: str) -> str:
    """Add one, under `once`, or under `run_once` in a transaction that stays open for a while."""
    _before(self)
    task_id = self.request.id
    if _transaction_seconds:
        run_once(self.db, _SlowCount(self.db.counts, key), task_id=task_id)
    else:
        once(self.db.counts, {"_id": key}, {"$inc": {"n": 1}}, task_id=task_id, upsert=True)
    return _after(self, key)


@app.task(base=MongoTask, bind=True, idempotent=False)
def add(self: Any, key: str) -> str:
    """Add one, with nothing to tell a second run from the first."""
    _before(self)
    self.db.adds.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True)
    return _after(self, key)


def _before(task: Any) -> None:
    if _crowd.exists() and _crowding.acquire(blocking=False):
        for _ in range(task.client.options.pool_options.max_pool_size):
            threading.Thread(target=_hold, args=(task.db,), daemon=True).start()
    time.sleep(_pause_seconds)


class _SlowCount:
    """The body of a transaction; it says when it was interrupted and has to run again."""

    def __init__(self, counts: Collection[Any], key: str) -> None:
        self._counts, self._key = counts, key
        self._runs = 0

    def __call__(self, session: ClientSession) -> None:
        self._runs += 1
        if self._runs > 1:
            logger.warning("the transaction runs again")
        self._counts.update_one({"_id": self._key}, {"$inc": {"n": 1}}, upsert=True, session=session)
        time.sleep(_transaction_seconds)


def _after(task: Any, key: str) -> str:
    _ledger.wrote(task)
    time.sleep(_pause_seconds)
    return key


def _hold(database: Any) -> None:
    """Hold a connection of the pool, by a command that the server lets wait, until the crowd goes."""
    while _crowd.exists():
        try:
            database.puts.distinct("nothing")
        except PyMongoError:
            time.sleep(0.05)
