"""Our queues, declared as the app declares its own, in every process of the app that may send to them.

A broker refuses a queue that is declared in two ways, and where `task_create_missing_queues` is off Celery
sends to no queue that it does not know. So they are in the table that Celery makes of `task_queues`, whenever
it does: a changed setting would come too early or too late, and would take the app's default queue away.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kombu.utils.imports import symbol_by_name

from ..settings import schedule

if TYPE_CHECKING:
    from celery import Celery

_QUORUM = {"x-queue-type": "quorum"}


@dataclass(frozen=True)
class WithOwnQueues:
    """Stands for an app's `amqp_cls`: makes what that makes, with our queues in its table. Can be pickled."""

    amqp_cls: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the app's `amqp`."""
        amqp = symbol_by_name(self.amqp_cls)(*args, **kwargs)
        _extend(amqp)
        return amqp


def declare(app: "Celery") -> None:
    """Have our queues among those that the app knows: now, or when it first asks for them."""
    amqp = vars(app).get("amqp")
    if amqp is None:
        app.amqp_cls = WithOwnQueues(app.amqp_cls)
    else:
        _extend(amqp)


def consume(app: "Celery") -> None:
    """Have a worker of the app consume our queues, unless its command line says otherwise."""
    queues = app.amqp.queues
    _add(queues, app.conf)
    for name in schedule.QUEUES:
        queues.select_add(queues[name])


def _extend(amqp: Any) -> None:
    if "queues" in vars(amqp):
        _add(amqp.queues, amqp.app.conf)
        return
    make = amqp.Queues

    def make_with_own(*args: Any, **kwargs: Any) -> Any:
        queues = make(*args, **kwargs)
        _add(queues, amqp.app.conf)
        return queues

    amqp.Queues = make_with_own


def _add(queues: Any, conf: Any) -> None:
    for name in schedule.QUEUES:
        if name not in queues and name not in queues.aliases:
            queues.add(_declaration(queues, conf, name))


def _declaration(queues: Any, conf: Any, name: str) -> Any:
    """Return the queue as Celery creates missing ones, of quorum type where the default queue is."""
    queue: Any = queues.new_missing(name)
    if conf.task_default_queue_type == "quorum":
        queue.queue_arguments = {**(queue.queue_arguments or {}), **_QUORUM}
    return queue
