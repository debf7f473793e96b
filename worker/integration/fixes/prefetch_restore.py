"""Restore the prefetch in the consumer's own loop (threads, gevent and eventlet, on AMQP).

After a lost connection Celery takes as many messages fewer as tasks run on, and asks for one more as each of
them is acknowledged: in the thread that ran the task, which then waits for the broker's answer on the very
connection that the consumer's loop reads. The loop takes the answer, or a piece of it, and both wait for
ever: a worker that consumes nothing and does not end. Quorum queues are spared: Celery takes no fewer there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import bootsteps, worker
from celery.concurrency import prefork, solo

from ...broker.kind import AMQP

_METHOD = "def _restore_prefetch_count_after_connection_restart("


def needed() -> bool:
    """Whether Celery still asks from whichever thread acknowledges.

    Its consumer is read and not imported: that takes Celery's tracer of tasks as it is, before Sentry has put
    its own in the place.
    """
    source = Path(worker.__file__).with_name("consumer") / "consumer.py"
    _, _, rest = source.read_text().partition(_METHOD)
    return bool(rest) and "call_soon" not in rest.partition("\n    def ")[0]


class RestorePrefetchInLoop(bootsteps.StartStopStep):
    """Hand it to the loop, where acknowledgements are made, too."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, c: Any) -> bool:
        """Only where other threads or greenlets acknowledge than the loop's own."""
        return not isinstance(c.pool, (prefork.TaskPool, solo.TaskPool))

    def start(self, c: Any) -> None:
        """Leave kombu's own transports alone: there the prefetch is a number in this process."""
        if c.connection.transport.driver_type != AMQP:
            return
        from celery.worker.consumer import Consumer

        restore = Consumer._restore_prefetch_count_after_connection_restart

        def restore_in_loop(promise: Any, *args: Any) -> None:
            c.call_soon(restore, c, promise, *args)

        c._restore_prefetch_count_after_connection_restart = restore_in_loop
