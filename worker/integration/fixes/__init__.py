"""Bugs of Celery's and kombu's that stand in the way: one file each, off when they are mended upstream."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import bootsteps

from ...broker.kind import AMQP, REDIS
from ...events import Event, say
from . import gevent_stall, gevent_sweep, prefetch_restore, redis_restart, replacement_hole, take_and_note

__all__ = ["FIXES", "Fix", "active", "install"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fix:
    """One bug and the consumer bootstep that mends it; `needed()` looks whether the bug is still there.

    `broker`: the kind of broker that the bug shows with, None where with any; the step leaves others alone.
    """

    name: str
    mends: str
    upstream: str
    step: type
    needed: Callable[[], bool]
    broker: str | None = REDIS


FIXES = (
    Fix(
        name="replacement-hole",
        mends="prefork: an exited child is replaced after up to 5 s",
        upstream="celery#9588; celery.concurrency.asynpool.AsynPool.timers",
        step=replacement_hole.ReplaceExitedChildren,
        needed=replacement_hole.needed,
        broker=None,
    ),
    Fix(
        name="redis-restart",
        mends="Redis broker: a connection lost with tasks in flight ends the worker or runs a task twice",
        upstream="kombu.transport.redis.Channel.close after celery's on_connection_error_after_connected",
        step=redis_restart.HandOverMessages,
        needed=redis_restart.needed,
    ),
    Fix(
        name="gevent-stall",
        mends="Redis broker, gevent, eventlet: with acks_late and a prefetch of 1, c tasks per 2 s",
        upstream="celery.worker.loops.synloop",
        step=gevent_stall.DrainWhenFree,
        needed=gevent_stall.needed,
    ),
    Fix(
        name="gevent-sweep",
        mends="Redis broker, gevent, eventlet: an idle worker never returns messages of workers that died",
        upstream="kombu.transport.redis.MultiChannelPoller.get",
        step=gevent_sweep.ReturnMessagesOfTheDead,
        needed=gevent_sweep.needed,
    ),
    Fix(
        name="take-and-note",
        mends="Redis broker: a worker that is killed, or loses its connection, may take a message along",
        upstream="kombu.transport.redis.Channel._brpop_start",
        step=take_and_note.TakeAndNote,
        needed=take_and_note.needed,
    ),
    Fix(
        name="prefetch-restore",
        mends="RabbitMQ, threads, gevent, eventlet: a connection lost with tasks in flight hangs the worker",
        upstream="celery.worker.consumer.Consumer._restore_prefetch_count_after_connection_restart",
        step=prefetch_restore.RestorePrefetchInLoop,
        needed=prefetch_restore.needed,
        broker=AMQP,
    ),
)


def active() -> tuple[Fix, ...]:
    """The fixes that the installed Celery and kombu still need."""
    return tuple(fix for fix in FIXES if fix.needed())


class SayWhatIsMended(bootsteps.StartStopStep):
    """Name, once per worker, the fixes that are active with its pool and broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        if c.restart_count == 0:
            fits = [fix for fix in FIXES if fix.broker in (None, c.connection.transport.driver_type)]
            names = [fix.name for fix in fits if any(type(step) is fix.step for step in c.steps)]
            say(logger, logging.INFO, Event.FIX_ACTIVE, "%s", ", ".join(names) or "none")


def install(app: Any) -> None:
    """Add the bootsteps of the active fixes to `app`'s workers; a second call changes nothing."""
    app.steps["consumer"].update(fix.step for fix in active())
    app.steps["consumer"].add(SayWhatIsMended)
