"""The fault matrix: which fault strikes which pools, for how long, and with which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults import elections, strikes
from tests.faults.rig import Rig
from tests.faults.settings import POOLS, PROCESSES_OF, TRANSACTION


@dataclass(frozen=True)
class Fault:
    """A fault of the matrix.

    `evidence` is a pattern of what the workers or MongoDB log from the strike on: else nothing was hurt.
    `is_outage`: no process, or not this one, reaches a primary, and no task may spend a retry on that.
    `members` are the sizes of MongoDB's replica set that it strikes; `is_secured`: its members ask for logins
    and TLS.
    """

    title: str
    strike: Callable[[Rig, float], None]
    seconds: float
    evidence: str
    is_outage: bool = False
    pools: Sequence[str] = POOLS
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    members: Sequence[int] = (1,)
    is_secured: bool = False


_AWAY = r"circuit\.opened: "
_ELECTED = r"Transition to primary complete"
_STARTED = r"\S+@\S+ ready\."

_BOTH, _THREE = (1, 3), (3,)

# For what takes longer than this matrix' short limits, as a write that waits for its majority does.
_PATIENT = {
    "CELERY_PYMONGO_TASK_SOFT_TIME_LIMIT_SECONDS": "60",
    "CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS": "70",
    "CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS": "80",
}
MEMBERS = _BOTH

FAULTS: Mapping[str, Fault] = {
    "mongo-kill": Fault(
        "MongoDB SIGKILL, restart (of all members)",
        strikes.kill_mongo,
        6,
        _AWAY,
        is_outage=True,
        members=_BOTH,
    ),
    "mongo-term": Fault("MongoDB SIGTERM, restart", strikes.terminate_mongo, 6, _AWAY, is_outage=True),
    "mongo-stop": Fault("MongoDB SIGSTOP", strikes.suspend_mongo, 20, _AWAY, is_outage=True),
    "refuse": Fault("connections refused", strikes.refuse, 60, _AWAY, is_outage=True),
    "blackhole": Fault("blackhole", strikes.blackhole, 10, _AWAY, is_outage=True, members=_BOTH),
    "half-open": Fault(
        "half-open: requests pass, replies do not", strikes.half_open, 10, _AWAY, is_outage=True
    ),
    "reset-storm": Fault("reset storm", strikes.reset_storm, 8, _AWAY, is_outage=True),
    "not-primary": Fault("not-primary errors", strikes.not_primary, 4, r"task\.retry: .* met failover"),
    "password": Fault(
        "login refused, then the secret rotated",
        strikes.rotate_password,
        6,
        r"client\.replaced: .*auth",
        is_outage=True,
        is_secured=True,
    ),
    "full-pool": Fault(
        "full pool",
        strikes.fill_pool,
        6,
        r"task\.retry: .* met exhausted pool",
        settings={"MONGODB_MAX_POOL_SIZE": "2", "MONGODB_WAIT_QUEUE_TIMEOUT_MS": "300"},
    ),
    "redis-kill": Fault(
        "Redis SIGKILL, restart with AOF",
        strikes.kill_redis,
        3,
        r"registry\.away: |Connection to broker lost",
    ),
    "child-kill": Fault(
        "child SIGKILL, 5 times", strikes.kill_children, 5, r"exited with 'signal 9", pools=PROCESSES_OF
    ),
    "main-kill": Fault("MAIN SIGKILL, another worker", strikes.kill_main, 1, _STARTED),
    "recycle": Fault(
        "child recycled after each 5 tasks",
        strikes.recycle,
        8,
        r"client\.closed: ",
        pools=PROCESSES_OF,
        options=["--max-tasks-per-child=5"],
    ),
    "worker-term": Fault("worker SIGTERM in mid-task", strikes.terminate_worker, 1, r"Warm shutdown"),
    "cold-shutdown": Fault(
        "cold shutdown in mid-task", strikes.quit_worker, 1, r"Cold shutdown", pools=PROCESSES_OF
    ),
    "cut-off": Fault(
        "one process of the node cut off",
        strikes.cut_off_process,
        8,
        _AWAY,
        is_outage=True,
        pools=PROCESSES_OF,
    ),
    "time-limit": Fault(
        "time limits while waiting",
        strikes.suspend_mongo,
        10,
        _AWAY,
        is_outage=True,
        settings={
            "CELERY_PYMONGO_TASK_SOFT_TIME_LIMIT_SECONDS": "2",
            "CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS": "3",
            # Longer than the limits: it is they that end the waits, on a queue that no gate keeps.
            "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "20000",
            "MONGODB_SOCKET_TIMEOUT_MS": "20000",
            "CELERY_PYMONGO_GATED_QUEUES": "none",
        },
    ),
    "redis-stop": Fault(
        "Redis SIGSTOP, then SIGTERM to the worker",
        strikes.suspend_redis_and_terminate,
        12,
        r"Warm shutdown",
        # A finished task waits for Redis to store its result.
        settings=_PATIENT,
    ),
    "beats-kill": Fault("both beats killed, and MongoDB too", strikes.kill_beats, 6, _AWAY, is_outage=True),
    "step-down": Fault(
        "three primaries step down in turn", elections.step_down, 12, _ELECTED, is_outage=True, members=_THREE
    ),
    "primary-kill": Fault(
        "primary SIGKILL, its return", elections.kill_primary, 3.5, _ELECTED, is_outage=True, members=_THREE
    ),
    "primary-stop": Fault(
        "primary SIGSTOP", elections.suspend_primary, 10, _ELECTED, is_outage=True, members=_THREE
    ),
    "majority-lost": Fault(
        "both secondaries SIGKILL, restart", elections.lose_majority, 4, _AWAY, is_outage=True, members=_THREE
    ),
    "partition": Fault(
        "primary and secondaries cut off",
        elections.partition,
        6,
        _ELECTED,
        is_outage=True,
        members=_THREE,
        settings=_PATIENT,
    ),
    "partition-silent": Fault(
        "the same, their packets dropped",
        elections.partition_silently,
        10,
        _ELECTED,
        is_outage=True,
        members=_THREE,
        settings=_PATIENT,
    ),
    "secondary-kill": Fault(
        "one secondary SIGKILL, restart",
        elections.lose_secondary,
        6,
        r"Member is now in state DOWN",
        is_outage=True,
        members=_THREE,
    ),
    "transaction": Fault(
        "three primaries step down in the middle of transactions",
        elections.step_down,
        12,
        r"transaction runs again|task\.(requeued|retry): .*count",
        is_outage=True,
        pools=[pool for pool in POOLS if pool != "solo"],  # one slot is seldom in one just then
        members=_THREE,
        settings={TRANSACTION: "0.2"},
    ),
    "secured": Fault(
        "primary SIGKILL, its return; with keyFile, SCRAM and TLS",
        elections.kill_primary,
        3.5,
        _ELECTED,
        is_outage=True,
        members=_THREE,
        is_secured=True,
    ),
}


def every_cell(members: int) -> list[tuple[str, str]]:
    """Every fault of a replica set of so many members, and every pool that it can strike."""
    return [
        (name, pool) for name, fault in FAULTS.items() if members in fault.members for pool in fault.pools
    ]
