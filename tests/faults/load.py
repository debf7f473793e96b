"""A steady stream of tasks of each kind, each with a document of its own, and who took which of them."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from tests.faults.settings import MODULE, QUEUE

KINDS = ("put", "count", "add")
"""Sets a field; adds one under `once`; adds one and must not run twice."""


@dataclass
class Sent:
    """What was sent, by kind: the tasks' ids, which are the keys of their documents too.

    `accepted` by the broker; `unsure`: the connection broke while it was sent, so it may be there or not.
    """

    accepted: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    unsure: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})

    @property
    def count(self) -> int:
        """How many tasks the broker has accepted."""
        return sum(map(len, self.accepted.values()))


class Load:
    """Sends a task of each kind, `per_second` times, from a thread of its own until it is stopped."""

    def __init__(self, sender: Celery, *, per_second: float) -> None:
        self.sent = Sent()
        self._sender = sender
        self._interval = 1.0 / per_second
        self._ends = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more; a message under way is waited for. Raises what ended the sending early."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(60)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ends.wait(self._interval):
                for kind in KINDS:
                    self._send(kind)
        except Exception as error:  # noqa: BLE001 - told by stop(), in the thread that asks
            self._error = error

    def _send(self, kind: str) -> None:
        task_id = uuid.uuid4().hex
        taken = self.sent.accepted
        try:
            # A connection of its own: those of the sender's pool may be from before Redis was killed. And no
            # retry: a message that is sent twice is no fault of a worker's.
            with self._sender.connection_for_write() as connection:
                options = {"queue": QUEUE, "retry": False, "connection": connection}
                self._sender.send_task(f"{MODULE}.{kind}", (task_id,), task_id=task_id, **options)
        except (OperationalError, RedisError, OSError):
            taken = self.sent.unsure
        taken[kind].add(task_id)
