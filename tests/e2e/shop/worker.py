"""A shop's own worker.py: an app of its own, with Celery's defaults, that calls install(app)."""

import os

from celery import Celery
from celery_pymongo import install

app = Celery("shop", broker=os.environ["SHOP_REDIS"], backend=os.environ["SHOP_REDIS"], include=["tasks"])
app.conf.beat_schedule = {"shop.count": {"task": "shop.count", "schedule": 3600.0}}
app.conf.task_routes = {"shop.*": {"queue": "orders"}}
install(app)
