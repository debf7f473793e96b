"""An `app.mongo` that has words for errors and nothing else."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from worker.process.process import Mongo


def mongo(**more: Any) -> Any:
    made: Any = SimpleNamespace(reason=Mongo.reason, redis_address="h:6379/0", **more)
    made.redis_reason, made.unreadable = Mongo.redis_reason, Mongo.unreadable
    made.is_redis_away = Mongo.is_redis_away
    made.redis_problem = partial(Mongo.redis_problem, made)
    return made
