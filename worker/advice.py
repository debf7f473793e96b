"""Which of an app's Celery settings can lose work or do it twice with Redis, and what to set instead."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

# kombu's default for Redis, in seconds.
_VISIBILITY_TIMEOUT = 3600
# For so long `once` keeps its markers at least, in seconds.
_MARKED = 604_800
_NOT_KNOWN = "a finished task is known by its result alone, and runs again when its acknowledgement is lost; "


def advise(conf: Any, longest_time_limit: float | None, *, prefetch: int | None = None) -> list[str]:
    """Return a line per doubtful setting: what it is, what it risks, what to set. Nothing is changed.

    `longest_time_limit` is the longest hard time limit of any task in seconds, None where one has none.
    `prefetch` is the worker's multiplier, where its command line may differ from `conf`; 0 is no limit.
    Brokers other than Redis keep their own promises: nothing is said of them.
    """
    multiplier = conf.worker_prefetch_multiplier if prefetch is None else prefetch
    broker = str(conf.broker_write_url or conf.broker_url or "")
    if not broker.startswith(("redis", "sentinel")):
        return []
    transport = conf.broker_transport_options or {}
    return [
        *_acknowledgement(conf),
        *_redelivery(conf, transport, longest_time_limit),
        *_waiting(transport, longest_time_limit, multiplier),
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


def _redelivery(conf: Any, transport: Mapping[str, Any], longest: float | None) -> Iterator[str]:
    visibility = float(transport.get("visibility_timeout", _VISIBILITY_TIMEOUT))
    name = "broker_transport_options['visibility_timeout']"
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
    elif not conf.result_backend:
        yield "result_backend is not set: " + _NOT_KNOWN + "set one"
    elif conf.task_ignore_result:
        yield "task_ignore_result=True: " + _NOT_KNOWN + "set it to False"
    elif (expires := _seconds(conf.result_expires)) is not None and expires <= visibility:
        yield (
            f"result_expires={expires:g} s: a message that comes back after {visibility:g} s is not known "
            f"as done; set it above {name}"
        )


def _waiting(transport: Mapping[str, Any], longest: float | None, prefetch: int) -> Iterator[str]:
    """A message that a worker holds back behind others is unacknowledged all the while."""
    visibility = float(transport.get("visibility_timeout", _VISIBILITY_TIMEOUT))
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


def _seconds(expires: timedelta | float | None) -> float | None:
    return expires.total_seconds() if isinstance(expires, timedelta) else expires or None
