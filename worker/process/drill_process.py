"""`python -m worker.process.drill_process`: it fills its pool and reports to the fleet as any other does.

A drill starts it (see `drills`), gives it its order on stdin, and lets it go by closing that.
"""

import json
import os
import pickle
import select
import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from pymongo import CursorType
from pymongo.errors import PyMongoError

from ..fleet.registry import Registry
from ..store.redis_client import connect
from ..tracking.work import current_work
from .attribution import Attribution
from .drills import Order
from .presence import Presence
from .process import Mongo, Place, adopt
from .publisher import Publisher

TASK = "mongo drill exhaust"
"""What the fleet sees it do."""

_TICK_SECONDS = 0.5
_CLOSE_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
# Without it a thread would have its connection again before one that waits is awake.
_BETWEEN_SECONDS = 0.005


def main() -> int:
    """Fill the pool until stdin is closed or the time is over; return the exit code."""
    order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the drill that started this process
    ends_at = time.monotonic() + order.seconds
    mongo = Mongo(order.settings)
    mongo.options = order.options
    adopt(mongo)
    mongo.enter_process(Place(order.node, order.threads, "drill"))
    attribution = Attribution(lambda: mongo.suspicion)
    # Not in the hurry of a process that is told to end: its goodbye shall be heard.
    registry = Registry(connect(order.settings), order.settings.key)
    publisher = Publisher(registry, mongo.backoff)
    presence = Presence(mongo, attribution, publisher)
    is_over = threading.Event()
    work = attribution.works.begin(TASK, order.node, outer=None)
    current_work.set(work)
    threads = [
        threading.Thread(target=copy_context().run, args=(_hold, mongo, order, is_over), daemon=True)
        for _ in range(order.threads)
    ]
    try:
        for thread in threads:
            thread.start()
        presence.tick(time.monotonic())
        print(json.dumps({"pid": os.getpid(), "node": order.node}), flush=True)  # noqa: T201 - it is awaited
        _until(lambda: time.monotonic() >= ends_at, lambda: presence.tick(time.monotonic()))
    finally:
        is_over.set()
        for thread in threads:
            thread.join(order.hold_ms / 1000 + _CLOSE_SECONDS)
        attribution.works.end(order.node)
        mongo.close(_CLOSE_SECONDS)
        presence.goodbye(time.monotonic())
    return 0


def _until(is_over: Callable[[], bool], tick: Callable[[], object]) -> None:
    """Tick until it is over, or until whoever holds the other end of stdin lets go or dies."""
    while not is_over():
        readable, _, _ = select.select([sys.stdin], [], [], _TICK_SECONDS)
        if readable and not os.read(sys.stdin.fileno(), 64):
            return
        tick()


def _hold(mongo: Mongo, order: Order, is_over: threading.Event) -> None:
    """Hold a connection again and again: the server answers a read at the end of a tailed collection late."""
    collection: Any = mongo.get_client()[order.database][order.collection]
    while not is_over.is_set():
        try:
            with collection.find(cursor_type=CursorType.TAILABLE_AWAIT) as cursor:
                cursor.max_await_time_ms(order.hold_ms)
                while cursor.alive and not is_over.wait(_BETWEEN_SECONDS):
                    next(cursor, None)
        except PyMongoError as error:
            # A wait for a connection that took too long is what the drill is for.
            mongo.link.observe(error)
        is_over.wait(_PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
