"""Keep the worker alive, and each message running once, when Redis goes away with tasks in flight.

When the connection is lost Celery closes it, and kombu then tries to return the unacknowledged messages
through a transport that has already let go of its client: `AttributeError: 'NoneType' object has no
attribute 'hostname'`. Nothing catches that, so the worker exits, its messages stuck in `unacked` until the
visibility timeout. Where Redis still answers (only the socket was reset), kombu returns messages whose
tasks are running, and they run twice at the same time.

Here a lost connection returns nothing: it hands its messages over to the next one. Those whose task runs on
stay `unacked` and are acknowledged there; the others go back to their queue there. Two more holes close on
the way: an acknowledgement that Redis did not answer is sent again, and a message that Redis handed out but
could not store as unacknowledged is put back.

Only the connection that the worker consumes from is touched, object by object. A transport class of our own
would have to be named in the host's broker URL or setting, once each for redis, rediss and sentinel; a
changed class of kombu's would reach every other app of the process.

What stays as it is: a task of a threads or gevent pool that ends in an error of Celery's own (its result
could not be stored, see `result_backend_always_retry`) never acknowledges, and its message waits for the
worker's end or the visibility timeout. So does, with Celery 5.6, the message of a prefork task that was
running when the connection was lost: that version no longer hears of the task's end (5.7 does).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Any

from celery import bootsteps
from celery.concurrency import prefork, solo
from celery.worker import state
from kombu.transport import redis, virtual

from ...text import agree, count

logger = logging.getLogger(__name__)


def needed() -> bool:
    """Whether closing a channel whose transport has let go of its client still raises AttributeError."""
    channel = object.__new__(redis.Channel)  # its constructor would connect
    channel.connection = object.__new__(redis.Transport)
    channel.connection.client = None
    try:
        channel._connparams()
    except AttributeError:
        return True
    except Exception:  # noqa: BLE001  # upstream may choose any other error for it
        return False
    return False


class Handover:
    """What a lost connection still owes the broker, until the next one pays it.

    A debt is a delivery tag and whether its message goes back to the queue (else it is acknowledged).
    Acknowledgements come from any thread of the pool, hence the lock; it is never held during I/O.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._lock = threading.Lock()
        self._live: HandingOver | None = None
        self._running: set[str] = set()
        self._debts: dict[str, bool] = {}
        self._unstored: dict[str, Any] = {}

    @property
    def is_stopping(self) -> bool:
        """Whether the worker closes its connection for good."""
        return bool(self._consumer.blueprint.state != bootsteps.RUN)

    def lose(self, qos: HandingOver, tags: Collection[str]) -> None:
        """Take over the unacknowledged `tags` of a closed channel."""
        running_on = self._tags_running_on()
        with self._lock:
            if self._live is qos:  # not so for the channels of remote control and gossip
                self._live = None
            for tag in tags:
                if tag in running_on:
                    self._running.add(tag)
                else:
                    self._debts.setdefault(tag, True)

    def owe(self, tag: str, *, requeue: bool) -> None:
        """Settle `tag` on the next connection."""
        with self._lock:
            self._running.discard(tag)
            self._debts[tag] = requeue

    def hold(self, message: Any) -> None:
        """Keep a message that Redis has handed out but may not have stored as unacknowledged."""
        with self._lock:
            self._unstored[message.delivery_tag] = message

    def settle(self, tag: str, *, requeue: bool) -> None:
        """Settle a `tag` of a lost connection: on the live one, or on the next."""
        with self._lock:
            self._running.discard(tag)
            live = self._live
            if live is None or live.is_lost:
                self._debts[tag] = requeue
                return
        live.pay(tag, requeue=requeue)

    def resume(self, qos: HandingOver) -> None:
        """Pay everything through the new connection; what fails stays owed and the error is raised."""
        if self._live is not None and self._live is not qos:
            self._live.hand_over()  # nobody closed it
        with self._lock:
            self._live = qos
            debts, unstored = dict(self._debts), dict(self._unstored)
        for tag, message in unstored.items():
            qos.put_back(message)
            self._forget(tag)
        self._pay(qos, debts)
        returned = sum(debts.values()) + len(unstored)
        _report(returned=returned, late=len(debts) - sum(debts.values()), running=len(self._running))

    def finish(self) -> None:
        """Return what runs no more, at the worker's end; say what cannot be returned."""
        with self._lock:
            live, left = self._live, {**dict.fromkeys(self._running, True), **self._debts}
        if live is not None:
            self._pay(live, left)
        elif left:
            messages, verb = count(len(left), "message"), agree(len(left), "waits", "wait")
            logger.warning("no connection: %s %s for the visibility timeout", messages, verb)

    def _pay(self, qos: HandingOver, debts: dict[str, bool]) -> None:
        for tag, requeue in debts.items():
            qos.pay(tag, requeue=requeue)
            self._forget(tag)

    def _forget(self, tag: str) -> None:
        with self._lock:
            self._running.discard(tag)
            self._debts.pop(tag, None)
            self._unstored.pop(tag, None)

    def _tags_running_on(self) -> set[str]:
        return {request.message.delivery_tag for request in self._requests_running_on()}

    def _requests_running_on(self) -> tuple[Any, ...]:
        pool = self._consumer.pool
        if isinstance(pool, solo.TaskPool):
            return ()  # its tasks run in this very thread
        if isinstance(pool, prefork.TaskPool):
            return tuple(state.active_requests)  # it drops what no child has accepted yet
        return (*state.active_requests, *state.reserved_requests)  # it runs everything that it was given


def _report(*, returned: int, late: int, running: int) -> None:
    if returned or late or running:
        message = "connection restored: %s returned, %d acknowledged late, %s on"
        tasks = f"{count(running, 'task')} {agree(running, 'runs', 'run')}"
        logger.info(message, count(returned, "message"), late, tasks)


class HandingOver:
    """Mixed into a channel's QoS class: a lost connection hands over instead of restoring."""

    channel: Any
    handover: Handover
    _delivered: Any
    _dirty: set[str]
    _lost = False

    @property
    def is_lost(self) -> bool:
        """Whether this channel can no longer reach Redis, even if Redis is back."""
        connection = self.channel.connection
        return self._lost or connection is None or connection.client is None

    def append(self, message: Any, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)  # type: ignore[misc]  # the class it is mixed into has it
        except Exception:
            self.handover.hold(message)
            raise

    def ack(self, delivery_tag: str) -> None:
        self._settle(delivery_tag, super().ack, requeue=False)  # type: ignore[misc]  # as above

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        def act(tag: str) -> None:
            super(HandingOver, self).reject(tag, requeue=requeue)  # type: ignore[misc]  # as above

        self._settle(delivery_tag, act, requeue=requeue)

    def _settle(self, tag: str, act: Callable[[str], None], *, requeue: bool) -> None:
        if self.is_lost:
            self.handover.settle(tag, requeue=requeue)
            return
        try:
            act(tag)
        except Exception:
            self.handover.owe(tag, requeue=requeue)
            if not self.is_lost:  # lost between the question and the act: owed, and nobody else's business
                raise

    def pay(self, tag: str, *, requeue: bool) -> None:
        """Settle a tag that another connection took; raises what Redis raises, and still owes it then."""
        try:
            if requeue:
                self.restore_by_tag(tag)  # type: ignore[attr-defined]  # as above
            else:
                self._remove_from_indices(tag).execute()  # type: ignore[attr-defined]  # as above
        except Exception:
            self.handover.owe(tag, requeue=requeue)
            raise

    def put_back(self, message: Any) -> None:
        """Return a message to its queue whether or not Redis had stored it as unacknowledged."""
        tag, info = message.delivery_tag, message.delivery_info
        with self.channel.conn_or_acquire() as client:
            if client.hexists(self.channel.unacked_key, tag):
                self.pay(tag, requeue=True)
            else:
                self.channel._do_restore_message(message._raw, info["exchange"], info["routing_key"], client)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        if not self.handover.is_stopping:
            self.hand_over()
            return
        if self._lost:
            return
        try:
            super().restore_unacked_once(stderr)  # type: ignore[misc]  # as above
        except Exception as error:  # noqa: BLE001  # an exit must not fail on a broker that is gone
            messages = count(len(self._delivered), "message")
            logger.warning("cannot return %s at shutdown: %r", messages, error)

    def hand_over(self) -> None:
        """Leave every message that is not acknowledged to the next connection."""
        self._on_collect.cancel()  # type: ignore[attr-defined]  # as above
        if not self._lost:
            self._lost = True
            self.handover.lose(self, [tag for tag in self._delivered if tag not in self._dirty])


def adopt(connection: Any, handover: Handover) -> None:
    """Make every channel of a fresh `connection` hand over to `handover`; other brokers are left alone."""
    transport = connection.transport
    if not isinstance(transport, redis.Transport):
        return
    transport.Channel = _channel_class(transport.Channel, handover)
    for channel in transport.channels:  # the one that connecting has made, not used yet
        if channel._qos is None and channel.QoS is not virtual.QoS:
            channel.QoS = transport.Channel.QoS


def _channel_class(base: Any, handover: Handover) -> Any:
    qos = type("QoS", (HandingOver, base.QoS), {"handover": handover})
    return type(base.__name__, (base,), {"QoS": qos})


class HandOverMessages(bootsteps.StartStopStep):
    """Adopt each connection that the consumer makes before it is used; resume once its channel is set up."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._handover = Handover(c)
        # No step comes between: connecting goes on to register with the event loop, which makes the QoS.
        connect = c.connection_for_read

        def connection_for_read(heartbeat: float | None = None) -> Any:
            connection = connect(heartbeat=heartbeat)
            adopt(connection, self._handover)
            return connection

        c.connection_for_read = connection_for_read

    def start(self, c: Any) -> None:
        # Channels of other brokers than kombu's virtual ones have no such attribute.
        qos = getattr(c.task_consumer.channel, "qos", None)
        if isinstance(qos, HandingOver):
            self._handover.resume(qos)

    def shutdown(self, c: Any) -> None:  # noqa: ARG002  # a bootstep's signature
        try:
            self._handover.finish()
        except Exception as error:  # noqa: BLE001  # as in restore_unacked_once
            logger.warning("cannot return messages at shutdown: %r", error)
