"""A copy instead of a return: for queues that count how often a message goes back, and drop it at a limit.

RabbitMQ's quorum queues do, from its version 4 on after 20 returns if nothing else is declared: an outage
would lose tasks in silence. The copy counts from zero. It is as the message came, for its queue
alone, and the message is acknowledged only once the broker says that it has the copy.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from celery.exceptions import Ignore
from kombu.compression import compress
from kombu.exceptions import OperationalError

from ..text import printable
from . import kind
from .original import Original
from .requeue import BackToBroker

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger("celery_pymongo.task")

T = TypeVar("T")

SECONDS = 5.0
"""How long the broker may take to connect, and to say that it has a copy."""

# Else the broker confirms, and drops, what it has no queue for.
_MANDATORY = {"mandatory": True}


class Copies:
    """Sends copies of messages, from one process, over a connection of its own; from any of its threads.

    The consumer's would be blocked with it while RabbitMQ has its memory or disk alarm, and what the app's
    own connections send is confirmed only where `confirm_publish` is set.
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
                    logger.warning(text, printable(message.queue), type(failure).__name__)
                    return error
            else:
                ignored: Exception = Ignore(str(error.reason))
                return ignored

    def send(self, message: Original) -> None:
        """Send a copy to the queue that the message came from; return once the broker has it.

        Raises what kombu's transport raises; then it is not known whether the broker has it.
        """
        self._confirmed(lambda channel: self._publish(channel, message))

    def options(self) -> dict[str, Any]:
        """Return options of `apply_async` with which it returns once the broker has the message.

        Where the broker is not of AMQP there are none: with Redis the answer to the command is as good.
        """
        if kind.kind(self._app) != kind.AMQP:
            return {}
        return {"producer": ConfirmedProducer(self._own_connection(), self._confirmed), **_MANDATORY}

    def _confirmed(self, publish: Callable[[Any], T]) -> T:
        """Return what `publish` does on the channel. One that lay idle may be gone: then it is tried anew."""
        with self._lock:
            self._own_connection()
            was_open = self._channel is not None
            try:
                return self._tried(publish)
            except self._app.connection_for_write().connection_errors:
                if not was_open:
                    raise
                return self._tried(publish)

    def _tried(self, publish: Callable[[Any], T]) -> T:
        try:
            return publish(self._open())
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
        channel.basic_publish(
            prepared, exchange="", routing_key=message.queue, confirm_timeout=SECONDS, **_MANDATORY
        )

    def _open(self) -> Any:
        connection = self._own_connection()
        if self._channel is None:
            self._channel = connection.channel()
        return self._channel

    def _own_connection(self) -> Any:
        """Return this process's connection, which may not have connected yet."""
        if self._pid != os.getpid():
            # A fork inherits its parent's connection, which is not its own to use or to close.
            self._pid, self._connection, self._channel = os.getpid(), None, None
        if self._connection is None:
            options = {"confirm_publish": True, "read_timeout": SECONDS, "write_timeout": SECONDS}
            self._connection = self._app.connection_for_write(
                transport_options=options, connect_timeout=SECONDS
            )
        return self._connection

    def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _may_come(self, failure: Exception) -> bool:
        """Say whether another try may send what this one did not: not where the broker has no such queue."""
        return not isinstance(failure, self._app.connection_for_write().channel_errors)


class ConfirmedProducer:
    """What Celery needs of a producer; `confirmed` calls what publishes with a channel that waits for the
    broker's word.
    """

    def __init__(self, connection: Any, confirmed: Callable[[Callable[[Any], Any]], Any]) -> None:
        self.connection = connection
        self._confirmed = confirmed

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish once; return when the broker has it. Raises kombu's OperationalError."""
        options |= {"confirm_timeout": SECONDS, "retry": False}
        made = self.connection
        # A message that is refused is among those that can be recovered alone.
        errors = (*made.connection_errors, *made.channel_errors, *made.recoverable_connection_errors)
        try:
            return self._confirmed(lambda channel: self.connection.Producer(channel).publish(body, **options))
        except errors as error:
            raise OperationalError(str(error) or type(error).__name__) from error
