"""How many messages wait in queues of RabbitMQ: how old they are it does not say, nor what is in flight."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .queues import Queue, Waiting

if TYPE_CHECKING:
    from celery import Celery

SECONDS = 2.0
"""How long the broker may take to connect, and to say of one queue how long it is."""


class AmqpQueues:
    """The queues of an AMQP broker, asked over a connection that lives as long as the question."""

    def __init__(self, app: "Celery") -> None:
        self._app = app

    def read(self, names: Collection[str]) -> Waiting:
        """Return what waits in those of these queues that are there and that this user may see.

        Raises what kombu's transport raises where the broker does not answer.
        """
        with self._connected() as connection:
            found = {name: self._depth(connection, name) for name in names}
        return Waiting({name: Queue(depth, None) for name, depth in found.items() if depth is not None}, None)

    def bound(self) -> list[str]:
        """Return no names: AMQP does not say which queues there are."""
        return []

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        limits = {"read_timeout": SECONDS, "write_timeout": SECONDS}
        with self._app.connection_for_read(connect_timeout=SECONDS, transport_options=limits) as connection:
            # Each host of several once, and none waited for.
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=SECONDS)
            yield connection

    @staticmethod
    def _depth(connection: Any, name: str) -> int | None:
        # A queue that is not there, or not for this user, ends the channel; py-amqp opens it again.
        try:
            depth: int = connection.default_channel.queue_declare(name, passive=True).message_count
        except connection.channel_errors:
            return None
        return depth
