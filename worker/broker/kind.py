"""Which transport of kombu's an app's messages go by: what holds of one broker does not of another."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

REDIS = "redis"
AMQP = "amqp"
"""RabbitMQ, and whatever else speaks its protocol."""


def kind(app: "Celery") -> str:
    """Return the transport's driver type, as kombu calls it: `redis`, `amqp`, `filesystem`, `sql`, `memory`
    and more; no I/O.
    """
    return str(app.connection_for_read().get_transport_cls().driver_type)
