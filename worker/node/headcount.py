"""What MAIN writes on its board: how many processes there should be, and what the node consumes."""

import json
import logging
from typing import Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool

logger = logging.getLogger("celery_pymongo.board")

_SECONDS = 2.0


class Headcount(bootsteps.StartStopStep):
    """Looks every 2 s: a pool grows and shrinks, queues come and go. Touches memory only."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._entry: Any = None

    def start(self, c: Any) -> None:
        """With each connection to the broker, whose timers end with it."""
        self.stop(c)
        self._look(c)
        self._entry = c.timer.call_repeatedly(_SECONDS, self._look, (c,))

    def stop(self, c: Any) -> None:
        if self._entry is not None:
            c.timer.cancel(self._entry)
            self._entry = None
        if c.blueprint.state in (bootsteps.CLOSE, bootsteps.TERMINATE) and c.app.mongo.board is not None:
            # The node ends: idle processes go at once, others finish their tasks, and none is replaced.
            c.app.mongo.board.expected = 0

    def _look(self, c: Any) -> None:
        board = c.app.mongo.board
        if board is None:
            return
        try:
            board.expected = c.pool.num_processes if isinstance(c.pool, TaskPool) else 1
            board.queues = json.dumps(_queues(c))
        except Exception as error:  # noqa: BLE001 - anything raised in a timer could end MAIN
            logger.debug("headcount: %r", error)


def _queues(c: Any) -> list[str]:
    consumer = c.task_consumer
    return sorted(queue.name for queue in consumer.queues) if consumer else []
