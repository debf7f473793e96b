"""A shop's own tasks.py."""

import sys
from typing import Any

from celery_pymongo import MongoTask

import ops
from worker import app


@app.task(name="shop.sell", bind=True, base=MongoTask)
def sell(self: Any, order: int) -> dict[str, Any]:
    """Write an order idempotently."""
    self.db.orders.update_one({"_id": order}, {"$set": {"price": ops.price(order)}}, upsert=True)
    return {"orders": self.db.orders.count_documents({"_id": order}), "pid": self.mongo.pool()["pid"]}


@app.task(name="shop.modules")
def modules() -> dict[str, str]:
    """Return where the modules of both sides come from."""
    names = ("worker", "tasks", "ops", "celery_pymongo", "celery_pymongo.tasks", "celery_pymongo.ops")
    return {name: str(sys.modules[name].__file__) for name in names if name in sys.modules}
