"""Fetch the next message when a slot falls free, not up to two seconds later (gevent, eventlet).

Pools of greenlets have no event loop: the consumer sits in `drain_events(timeout=2.0)`. kombu asks Redis
for a message when a drain begins, and only with credit left, so a drain that began with every slot taken
sleeps its two seconds through whatever the slots do meanwhile: with acks_late and a prefetch of 1, c tasks
per 2 s. Prefork, threads and solo run the event loop on POSIX and have no such wait.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.worker import loops
from kombu.transport import redis

STEP_SECONDS = 0.005
"""How often to look for a free slot while every slot is taken: at most this is lost per task."""

HOLD_SECONDS = 0.5
"""How long to hold a drain back at most: fan-out messages (gossip) and a shutdown wait for it."""


def needed() -> bool:
    """Whether the loop without an event loop still drains for two seconds whatever the slots do."""
    return "drain_events(timeout=2.0)" in inspect.getsource(loops.synloop)


class DrainWhenFree(bootsteps.StartStopStep):
    """Hold a drain back until there is credit, so that it begins by asking for a message.

    With credit nothing changes, and an idle worker costs what it always did. Merely cutting the drain short
    would cost Redis: every drain that ends empty counts towards a sweep of its `unacked` messages.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, c: Any) -> bool:
        """Only where there is no event loop."""
        return c.hub is None

    def start(self, c: Any) -> None:
        """Leave other brokers alone: they hand a message out in the middle of a drain, too."""
        if not isinstance(c.connection.transport, redis.Transport):
            return
        # On the connection, not on its class: it ends with the connection and starts anew with the next.
        c.connection.drain_events = _patient(c, c.connection.drain_events)


def _patient(c: Any, drain: Callable[..., Any]) -> Callable[..., Any]:
    qos = c.task_consumer.channel.qos

    def drain_when_free(timeout: float | None = None) -> Any:
        deadline = time.monotonic() + HOLD_SECONDS
        while not qos.can_consume() and time.monotonic() < deadline:
            if c._pending_operations:
                return None  # acknowledgements, where Celery (5.6) runs them between two drains
            time.sleep(STEP_SECONDS)
        return drain(timeout=timeout if qos.can_consume() else STEP_SECONDS)

    return drain_when_free
