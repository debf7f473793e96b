"""The events that the logs speak of: stable names for people's alerts, and what each means."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .log_text import shown


class Event(StrEnum):
    """Names of log events. A name never changes its meaning; each stands first in its line."""

    CLIENT_OPENED = "client.opened"
    CLIENT_WARM = "client.warm"
    CLIENT_CLOSED = "client.closed"
    CLIENT_CLOSE_SLOW = "client.close_slow"
    CLIENT_REPLACED = "client.replaced"
    CLIENT_FOREIGN = "client.foreign"
    CLIENT_BACKGROUND = "client.background"
    CLIENT_LACKING = "client.lacking"
    CIRCUIT_OPENED = "circuit.opened"
    CIRCUIT_CAUSE = "circuit.cause"
    CIRCUIT_CLOSED = "circuit.closed"
    SERVER_HUNG = "server.hung"
    RECONNECT_FAILED = "reconnect.failed"
    RECONNECT_GIVEN_UP = "reconnect.given_up"
    GATE_CLOSED = "gate.closed"
    GATE_OPENED = "gate.opened"
    HEALTH_CHANGED = "health.changed"
    TASK_RETRY = "task.retry"
    TASK_REQUEUED = "task.requeued"
    TASK_EXPIRED = "task.expired"
    TASK_DEAD = "task.dead"
    TASK_HOOK_FAILED = "task.hook_failed"
    POOL_EXHAUSTED = "pool.exhausted"
    POOL_LONG_HOLD = "pool.long_hold"
    POOL_LEAK = "pool.leak"
    POOL_RETURNED = "pool.returned"
    POOL_DRIFT = "pool.drift"
    FLIGHT_DUMPED = "flight.dumped"
    PROCESS_LOST = "process.lost"
    NODE_LOST = "node.lost"
    REGISTRY_NONE = "registry.none"
    REGISTRY_AWAY = "registry.away"
    REGISTRY_BACK = "registry.back"
    HISTORY_REFUSED = "history.refused"
    BOARD_PRIVATE = "board.private"
    REPORTER_ERROR = "reporter.error"
    SETTINGS_WARNING = "settings.warning"
    FIX_ACTIVE = "fix.active"
    REDIS_REFUSED = "redis.refused"
    REDIS_DOUBTFUL = "redis.doubtful"
    BEAT_LOCK_LOST = "beat.lock_lost"
    BEAT_WAITING = "beat.waiting"
    BEAT_RESUMED = "beat.resumed"


MEANINGS: dict[Event, str] = {
    Event.CLIENT_OPENED: "INFO. This process made its client. Nothing has connected yet.",
    Event.CLIENT_WARM: "INFO. The first ping came back: which server, in how many milliseconds.",
    Event.CLIENT_CLOSED: "INFO. The client was closed, with the pool's last counters.",
    Event.CLIENT_CLOSE_SLOW: "WARNING. A part of the shutdown did not end in its time; it is named.",
    Event.CLIENT_REPLACED: "WARNING (DEBUG in an outage, whose end tells of it). A new client took the "
    "place of one that could not come back, and why.",
    Event.CLIENT_FOREIGN: "WARNING. Another MongoClient is open: before a fork it is a hazard, beside ours "
    "it doubles the connections. The creating stack follows.",
    Event.CLIENT_BACKGROUND: "WARNING. What PyMongo's background threads met, as where a new connection is "
    "refused while the open ones work. Said once until it changes, and not while the circuit is open.",
    Event.CLIENT_LACKING: "WARNING. This version of PyMongo does not have what a part of the monitoring "
    "reads, and what is therefore not seen. Said where a process makes its client.",
    Event.CIRCUIT_OPENED: "ERROR by the first process of a node that cannot use MongoDB, and why; DEBUG by "
    "the others. Said once per outage.",
    Event.CIRCUIT_CAUSE: "ERROR. An outage turns out to be one that a person has to end: the login is "
    "refused, or TLS or the options do not fit the server. DEBUG by all but one process of a node.",
    Event.CIRCUIT_CLOSED: "INFO by the last process of a node that MongoDB answers again, and how long it "
    "did not; DEBUG by the others.",
    Event.SERVER_HUNG: "WARNING. A server neither answers nor refuses, and for how long; the operations that "
    "wait for it are interrupted. Said once per hang by one process of a node; DEBUG by the others, and "
    "where `circuit.opened` tells of it.",
    Event.RECONNECT_FAILED: "DEBUG. A reconnection attempt failed (told of the 1st, 2nd, 4th, 8th…); when "
    "the next one is due.",
    Event.RECONNECT_GIVEN_UP: "ERROR. MongoDB is away for longer than the settings allow. Said once per "
    "outage by one process of a node; trying goes on.",
    Event.GATE_CLOSED: "WARNING. The node leaves these queues alone, and why: outage, operator.",
    Event.GATE_OPENED: "INFO (DEBUG after an outage). The node consumes these queues again, after how long, "
    "and why it did not.",
    Event.HEALTH_CHANGED: "WARNING (INFO when ok, DEBUG where an outage explains it). The verdict on the "
    "fleet changed, and why; said once.",
    Event.TASK_RETRY: "WARNING. A task met a transient error and will run again: which, when, attempt n.",
    Event.TASK_REQUEUED: "DEBUG. A task went back to the broker since MongoDB is away; costs no retry.",
    Event.TASK_EXPIRED: "WARNING. Messages whose `expires` passed before they could run, and how many so far "
    "(told of the 1st, 2nd, 4th, 8th…).",
    Event.TASK_DEAD: "ERROR. A message went to the dead letters for a person to decide: it killed its "
    "process too often, or may have written and must not run twice.",
    Event.TASK_HOOK_FAILED: "ERROR. A hook of a task, as `on_success`, raised an error, which follows; the "
    "outcome of the task stands.",
    Event.POOL_EXHAUSTED: "WARNING. Operations got no connection in time: how many, and of which tasks. "
    "At most once a minute per process.",
    Event.POOL_LONG_HOLD: "WARNING. A task has held a connection for long: which, how long, and where in its "
    "code it is.",
    Event.POOL_LEAK: "WARNING. A task ended and left a session, a transaction, a cursor or a client open.",
    Event.POOL_RETURNED: "INFO. What was held for long, or left open, came back after all.",
    Event.POOL_DRIFT: "WARNING. The pool can no longer be asked for its gauges; events alone are counted.",
    Event.FLIGHT_DUMPED: "INFO (DEBUG in an outage). The flight recorder is worth a look, and why: `mongo "
    "flight` shows it. A JSON log has the records in this line.",
    Event.PROCESS_LOST: "ERROR. A process ended without a goodbye: its last task, report and records.",
    Event.NODE_LOST: "ERROR. All processes of a node fell silent: it was killed, or its host is gone.",
    Event.REGISTRY_NONE: "WARNING. No Redis is named: tasks run without the fleet's view. Said once by each "
    "worker, with the tasks that need one.",
    Event.REGISTRY_AWAY: "WARNING. Redis takes no reports; tasks are not affected. Said once by one process "
    "of a node; DEBUG by the others.",
    Event.REGISTRY_BACK: "INFO. Redis takes reports again, and how long it did not. DEBUG by all but one "
    "process of a node.",
    Event.HISTORY_REFUSED: "WARNING. MongoDB does not let us keep the history; Redis has the last days.",
    Event.BOARD_PRIVATE: "WARNING. No shared memory for the board, or no row left: remote control sees less.",
    Event.REPORTER_ERROR: "WARNING. The reporter thread met an error of its own and goes on.",
    Event.SETTINGS_WARNING: "WARNING. A setting is accepted but looks wrong.",
    Event.FIX_ACTIVE: "INFO. A defect of this Celery or kombu version is being worked around.",
    Event.BEAT_LOCK_LOST: "WARNING. Redis forgot the leader's lock: it was taken again, or another beat "
    "leads and this one stands by.",
    Event.BEAT_WAITING: "WARNING. Redis does not answer: beat sends nothing until it does. Said once.",
    Event.BEAT_RESUMED: "INFO. Redis answers again, and how long it did not: beat goes on.",
    Event.REDIS_DOUBTFUL: "WARNING. This Redis may lose messages, and why. Said once by each node.",
    Event.REDIS_REFUSED: "ERROR. The Redis server cannot be used, and why; the worker does not start.",
}


@dataclass(frozen=True)
class Said:
    """What is said once: the event, at which level, in which words, and the members of a JSON line."""

    event: Event
    level: int
    text: str
    fields: dict[str, Any]


Hearer = Callable[[Said], None]

# Beside the log, which may be set to hear less: nobody, or one.
_hearers: list[Hearer] = []


def tell(hearer: Hearer | None) -> None:
    """Let somebody hear all that is said, in the thread that says it, whatever the log's level; None: nobody.

    Whoever it is must not raise, and must not say anything meanwhile.
    """
    _hearers[:] = [] if hearer is None else [hearer]


def say(logger: logging.Logger, level: int, event: Event, message: str, *args: Any, **fields: Any) -> None:
    """Log one event: its name, then the message; `fields` become members of a JSON line."""
    template, args = f"{event}: {message}", shown(args)
    logger.log(level, template, *args, extra={"event": str(event), "fields": fields}, stacklevel=2)
    for hearer in _hearers:
        hearer(Said(event, level, message % args if args else message, fields))
