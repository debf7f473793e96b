"""Which of an app's Celery settings can lose work or do it twice with its broker, and what to set instead."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from ..broker.kind import AMQP, REDIS

# kombu's default for Redis, in seconds.
_VISIBILITY_TIMEOUT = 3600
# For so long `once` keeps its markers at least, in seconds.
_MARKED = 604_800
# Transports of kombu's for which a message that a worker has taken is nobody's but the worker's.
_FORGETTING = ("filesystem", "sql")
_NOT_KNOWN = "a finished task is known by its result alone, and runs again when its acknowledgement is lost; "


def advise(
    conf: Any, longest_time_limit: float | None, *, broker: str, prefetch: int | None = None
) -> list[str]:
    """Return a line per doubtful setting: what it is, what it risks, what to set. Nothing is changed.

    `longest_time_limit` is the longest hard time limit of any task in seconds, None where one has none.
    `broker` is its kind, see `broker.kind`; of those that are not named here little is said.
    `prefetch` is the worker's multiplier, where its command line may differ from `conf`; 0 is no limit.
    """
    multiplier = conf.worker_prefetch_multiplier if prefetch is None else prefetch
    transport = conf.broker_transport_options or {}
    if broker == AMQP:
        return [*_acknowledgement(conf), *_repetition(conf), *_results(conf), *_confirmation(transport)]
    if broker in _FORGETTING:
        return [*_keeping(broker)]
    if broker != REDIS:
        # What is in a process's own memory ends with it, whatever is set.
        return [*_acknowledgement(conf)] if broker != "memory" else []
    visibility = float(transport.get("visibility_timeout", _VISIBILITY_TIMEOUT))
    return [
        *_acknowledgement(conf),
        *_redelivery(visibility, longest_time_limit),
        *_repetition(conf),
        *_results(conf, redelivered_after=visibility),
        *_waiting(visibility, longest_time_limit, multiplier),
        *_publishing(transport),
    ]


def _acknowledgement(conf: Any) -> Iterator[str]:
    if not conf.task_acks_late:
        yield (
            "task_acks_late=False: a task that is no MongoTask is lost when its process dies; set it to True"
        )
    elif not conf.task_reject_on_worker_lost:
        yield (
            "task_reject_on_worker_lost=False: a task that is no MongoTask is lost when its process is "
            "killed; set it to True"
        )


_VISIBILITY = "broker_transport_options['visibility_timeout']"


def _redelivery(visibility: float, longest: float | None) -> Iterator[str]:
    """Redis gives a message away again that is not acknowledged for so long."""
    name = _VISIBILITY
    if longest is None:
        yield (
            f"task_time_limit is not set: a task that runs longer than {name} ({visibility:g} s) "
            "runs twice; set it"
        )
    elif longest >= visibility:
        yield (
            f"{name}={visibility:g}: a task may run for {longest:g} s and would run twice at the same time; "
            "set it above every time limit"
        )
    if visibility > _MARKED:
        yield (
            f"{name}={visibility:g}: a message may come back after `once` has forgotten that it ran; "
            f"set it to {_MARKED} or less"
        )


def _repetition(conf: Any) -> Iterator[str]:
    if conf.worker_cancel_long_running_tasks_on_connection_loss:
        yield (
            "worker_cancel_long_running_tasks_on_connection_loss=True: callers see TaskRevokedError "
            "for work that runs again; set it to False"
        )
    if not conf.worker_deduplicate_successful_tasks:
        yield (
            "worker_deduplicate_successful_tasks=False: a finished task runs again when its "
            "acknowledgement is lost with the connection; set it to True"
        )


def _results(conf: Any, *, redelivered_after: float = 0.0) -> Iterator[str]:
    """What deduplication goes by. An unacknowledged message comes again after that many seconds."""
    if not conf.worker_deduplicate_successful_tasks:
        return
    if not conf.result_backend:
        yield "result_backend is not set: " + _NOT_KNOWN + "set one"
    elif conf.task_ignore_result:
        yield "task_ignore_result=True: " + _NOT_KNOWN + "set it to False"
    elif (expires := _seconds(conf.result_expires)) is not None and expires <= redelivered_after:
        yield (
            f"result_expires={expires:g} s: a message that comes back after {redelivered_after:g} s is not "
            f"known as done; set it above {_VISIBILITY}"
        )


def _waiting(visibility: float, longest: float | None, prefetch: int) -> Iterator[str]:
    """A message that a worker holds back behind others is unacknowledged all the while."""
    if prefetch == 1 or longest is None or longest >= visibility:
        return
    if prefetch == 0 or prefetch * longest >= visibility:
        waits = f"up to {prefetch * longest:g} s" if prefetch else "without end"
        yield (
            f"worker_prefetch_multiplier={prefetch}: a message may wait {waits} in a worker, longer than the "
            f"visibility timeout ({visibility:g} s), and would run twice; set it to 1"
        )


def _publishing(transport: Mapping[str, Any]) -> Iterator[str]:
    if not transport.get("socket_timeout"):
        yield (
            "broker_transport_options['socket_timeout'] is not set: sending a task waits for ever on a hung "
            "Redis; set it to a few seconds"
        )


def _confirmation(transport: Mapping[str, Any]) -> Iterator[str]:
    if not transport.get("confirm_publish"):
        yield (
            "broker_transport_options['confirm_publish'] is not set: a message that RabbitMQ never got is "
            "lost without an error; set it to True"
        )


def _keeping(broker: str) -> Iterator[str]:
    yield (
        f"broker_url: kombu's transport {broker} keeps no message that a worker has taken: one that is "
        "killed loses it; use Redis or RabbitMQ"
    )


def _seconds(expires: timedelta | float | None) -> float | None:
    return expires.total_seconds() if isinstance(expires, timedelta) else expires or None
