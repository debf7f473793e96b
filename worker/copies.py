"""A copy instead of a return: for queues that count how often a message goes back, and drop it at a limit.

RabbitMQ's quorum queues do, from its version 4 on after 20 returns if nothing else is declared: an outage
would lose tasks in silence. The copy counts from zero. It is as the message came, for its queue
alone, and the message is acknowledged only once the broker says that it has the copy.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore
from kombu.compression import compress

from .original import Original
from .requeue import BackToBroker

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger("celery_pymongo.task")

SECONDS = 5.0
"""How long the broker may take to connect, and to say that it has a copy."""


class Copies:
    """Sends copies of messages, from one process, over a connection of its own; from any of its threads.

    The consumer's would be blocked with it while RabbitMQ has its memory or disk alarm.
    """

    def __init__(self, app: "Celery") -> None:
        self._app = app
        self._lock = threading.Lock()
        self._pid = 0
        self._connection: Any = None
        self._channel: Any = None

    def instead_of(
        self, error: BackToBroker, message: Original | None, *, wait: Callable[[], bool]
    ) -> Exception:
        """Return what ends the run in place of `error`: Ignore, once a copy of `message` is kept.

        Where it cannot be sent it is tried again while `wait()`, which takes a moment, returns true; then the
        message goes back after all: that counts once, and loses nothing.
        """
        if message is None or not message.counts_returns or message.queue is None:
            return error
        while True:
            try:
                self.send(message)
            except Exception as failure:  # noqa: BLE001 - each transport has errors of its own
                logger.debug("a copy was not sent: %r", failure)
                if not self._may_come(failure) or not wait():
                    text = (
                        "a message of %s goes back as it is, and its queue counts that: no copy was sent (%s)"
                    )
                    logger.warning(text, message.queue, type(failure).__name__)
                    return error
            else:
                ignored: Exception = Ignore(str(error.reason))
                return ignored

    def send(self, message: Original) -> None:
        """Send a copy to the queue that the message came from; return once the broker has it.

        Raises what kombu's transport raises; then it is not known whether the broker has it.
        """
        with self._lock:
            try:
                self._publish(self._open(), message)
            except BaseException:
                # A confirmation that comes late would be taken for that of the next copy.
                self._close()
                raise

    def _publish(self, channel: Any, message: Original) -> None:
        # py-amqp has a text for an empty body, and no codec for "binary".
        body: Any = message.body or b""
        if name := message.headers.get("compression"):
            body, _ = compress(body, name)
        properties = message.properties_of_copy(user=self._connection.userid)
        prepared = channel.prepare_message(
            body,
            priority=properties.pop("priority", None),
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=message.headers_of_copy(),
            properties=properties,
        )
        # Mandatory: else the broker confirms, and drops, what it has no queue for.
        channel.basic_publish(
            prepared, exchange="", routing_key=message.queue, mandatory=True, confirm_timeout=SECONDS
        )

    def _open(self) -> Any:
        if self._pid != os.getpid():
            # A fork inherits its parent's connection, which is not its own to use or to close.
            self._pid, self._connection, self._channel = os.getpid(), None, None
        if self._channel is None:
            options = {"confirm_publish": True, "read_timeout": SECONDS, "write_timeout": SECONDS}
            self._connection = self._app.connection_for_write(
                transport_options=options, connect_timeout=SECONDS
            )
            self._channel = self._connection.channel()
        return self._channel

    def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _may_come(self, failure: Exception) -> bool:
        """Say whether another try may send what this one did not: not where the broker has no such queue."""
        return not isinstance(failure, self._app.connection_for_write().channel_errors)
