"""The gate: a node's switch between consuming its gated queues and leaving their messages in the broker.

It closes where no process of the node reaches MongoDB, or where an operator paused a queue. MAIN decides by
its board alone. A queue is taken from the consumer and stays among those that the worker is to consume, so
that a person who cancels or adds a queue by remote control has the last word.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from celery import bootsteps

from .. import events
from ..board import pauses, siblings
from ..board.board import Board
from ..board.row import Row
from ..broker.kind import REDIS
from ..events import Event

logger = logging.getLogger("celery_pymongo.gate")

TICK_SECONDS = 0.25

UNKNOWN_SECONDS = 3.0
"""How long a node that starts waits for what operators paused before: its first process asks at once."""


class Why(StrEnum):
    """Why a queue is not consumed."""

    OUTAGE = "outage"
    OPERATOR = "operator"
    STARTING = "starting"


_MEANINGS = {
    Why.OUTAGE: "no process of this node reaches MongoDB",
    Why.OPERATOR: "paused by an operator",
}


def decide(*, reaches: bool | None, is_paused: bool | None, was: Why | None, is_young: bool) -> Why | None:
    """Return why a queue is left alone from now on; None where it is consumed.

    `reaches`: whether a process reaches MongoDB; None where nobody tells, which changes nothing.
    `is_paused`: None where it is not known yet, which holds a queue only in a node that `is_young`.
    """
    if is_paused:
        return Why.OPERATOR
    if reaches is False or (reaches is None and was is Why.OUTAGE):
        return Why.OUTAGE
    return Why.STARTING if is_paused is None and is_young else None


@dataclass(frozen=True)
class Closed:
    """Why a queue is left alone, and since when: `since` is unix seconds."""

    why: Why
    since: float


class Gate(bootsteps.StartStopStep):
    """Looks every 0.25 s. A lost broker connection ends its timer, and the next start() closes at once what
    was closed, before anything is consumed.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._entry: Any = None
        self._closed: dict[str, Closed] = {}
        self._young_until: float | None = None
        self._has_failed = False
        self._is_asked = False

    def start(self, c: Any) -> None:
        """With each connection to the broker, before its loop."""
        self.stop(c)
        if self._young_until is None:
            self._young_until = time.monotonic() + UNKNOWN_SECONDS
        self._is_asked = False
        self._look(c)
        self._entry = c.timer.call_repeatedly(TICK_SECONDS, self._tick, (c,))

    def stop(self, c: Any) -> None:
        """Leave everything as it is: a worker that ends must not begin to consume again."""
        if self._entry is not None:
            c.timer.cancel(self._entry)
            self._entry = None

    def _tick(self, c: Any) -> None:
        """Look: here, or in the consumer's loop, at most a drain of it later.

        Without an event loop the timer is a thread or a greenlet beside the one that reads the connection. Of
        kombu's transports Redis bears two at once.
        """
        if c.connection is None:  # the worker ends, and this tick was on its way
            return
        if c.hub is not None or c.connection.transport.driver_type == REDIS:
            self._look(c)
        elif not self._is_asked:
            self._is_asked = True
            c.call_soon(self._look_as_asked, c)

    def _look_as_asked(self, c: Any) -> None:
        self._is_asked = False
        self._look(c)

    def _look(self, c: Any) -> None:
        board = c.app.mongo.board
        if board is None or c.task_consumer is None:
            return
        try:
            self._move(c, board, self._decide(c, board))
        except Exception as error:  # noqa: BLE001 - anything raised in a timer could end MAIN
            # The next look tries again; the broker is away, or about to be found so.
            if not self._has_failed:
                logger.warning("the gate could not move, will keep trying: %r", error)
            self._has_failed = True
        else:
            self._has_failed = False

    def _decide(self, c: Any, board: Board) -> dict[str, Why | None]:
        now = time.monotonic()
        is_young = self._young_until is not None and now < self._young_until
        reaches = siblings.reaches(_told(board), now=now)
        paused = pauses.paused(pauses.Orders.read(board.orders), pauses.Known.read(board.paused))
        wanted = c.app.amqp.queues.consume_from
        return {
            queue: decide(
                reaches=reaches,
                is_paused=None if paused is None else queue in paused,
                was=self._why(queue),
                is_young=is_young,
            )
            for queue in c.app.mongo.settings.gated_queues
            if queue in wanted
        }

    def _move(self, c: Any, board: Board, decided: Mapping[str, Why | None]) -> None:
        before, now = self._closed, round(time.time(), 3)
        subscribed = {queue.name for queue in c.task_consumer.queues}
        for queue, why in decided.items():
            if why is not None and queue in subscribed:
                c.task_consumer.cancel_by_queue(queue)
            elif why is None and queue in before and queue not in subscribed:
                _consume(c, queue)
        closed = {queue: _closed(before.get(queue), why, now) for queue, why in decided.items() if why}
        if closed == before or self._closed is not before:
            # Nothing new, or told already by a look that went ahead while this one waited for the broker, as
            # two greenlets do.
            return
        self._closed = closed
        shown = {queue: [str(one.why), one.since] for queue, one in _real(closed).items()}
        board.gate = shown
        _say_closed(before, closed)
        _say_opened(before, [queue for queue, why in decided.items() if why is None], now)

    def _why(self, queue: str) -> Why | None:
        closed = self._closed.get(queue)
        return None if closed is None else closed.why


def _consume(c: Any, name: str) -> None:
    # As its `add_task_queue`, which says in another line what we say.
    c.task_consumer.add_queue(c.app.amqp.queues[name])
    c.task_consumer.consume()


def _told(board: Board) -> Iterable[Any]:
    # Whole rows are read only of those who have reported, and only until one of them says that all is well.
    return map(Row.read, (row for row in board.rows if row.last_tick is not None))


def _closed(before: Closed | None, why: Why, now: float) -> Closed:
    # What was held while the node started is told as closed from now on.
    was_told = before is not None and before.why is not Why.STARTING
    return Closed(why, before.since if before is not None and was_told else now)


def _real(closed: Mapping[str, Closed]) -> dict[str, Closed]:
    return {queue: one for queue, one in closed.items() if one.why is not Why.STARTING}


def _say_closed(before: Mapping[str, Closed], after: Mapping[str, Closed]) -> None:
    new = _real(after).keys() - _real(before).keys()
    for why, meaning in _MEANINGS.items():
        if queues := sorted(queue for queue in new if after[queue].why is why):
            args = (", ".join(queues), meaning)
            events.say(
                logger, logging.WARNING, Event.GATE_CLOSED, "%s: %s", *args, queues=queues, why=str(why)
            )


def _say_opened(before: Mapping[str, Closed], opened: Iterable[str], now: float) -> None:
    # A queue that a person has cancelled meanwhile is not opened.
    were = {queue: one for queue, one in _real(before).items() if queue in set(opened)}
    for why, meaning in _MEANINGS.items():
        if queues := sorted(queue for queue, one in were.items() if one.why is why):
            seconds = now - min(were[queue].since for queue in queues)
            message = "%s, after %.1f s (%s)"
            args = (", ".join(queues), seconds, meaning)
            # `circuit.closed` tells of the end of an outage.
            level = logging.DEBUG if why is Why.OUTAGE else logging.INFO
            fields = {"queues": queues, "why": str(why), "seconds": seconds}
            events.say(logger, level, Event.GATE_OPENED, message, *args, **fields)
