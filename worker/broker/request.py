"""MAIN's side of a MongoTask's message: it tells the process that runs the task how the message came."""

from collections.abc import Mapping
from typing import Any

from celery import bootsteps
from celery.worker.request import Request

from . import original


class MongoRequest(Request):
    """Celery's request, with the message as it came among its properties."""

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        told = original.tell(message, _queue_of(message, self._app.mongo.consumer))
        properties = self._request_dict["properties"]
        self._request_dict["properties"] = {**properties, original.KEY: told}
        # kombu's transports for files, databases and memory say only there that they deliver it again.
        raw = getattr(message, "_raw", None)
        if isinstance(raw, Mapping) and raw.get("redelivered"):
            self._delivery_info["redelivered"] = True


class KnowConsumer(bootsteps.StartStopStep):
    """Lets requests ask which queue a message came from: AMQP names its consumer's tag alone."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        """With each connection to the broker."""
        c.app.mongo.consumer = c


def _queue_of(message: Any, consumer: Any) -> Any:
    """Return kombu's queue that the message came from; None where the transport does not say."""
    tag = message.delivery_info.get("consumer_tag")
    tasks = getattr(consumer, "task_consumer", None)
    if tag is None or tasks is None:
        return None
    tags = tasks._active_tags
    return next((queue for queue in tasks.queues if tags.get(queue.name) == tag), None)
