"""What the rig and its workers agree on, and the settings of ours that differ from their defaults."""

from collections.abc import Mapping

MODULE = "tests.faults.app"
QUEUE = "faults"
QUEUES = (QUEUE, "mongo.data", "mongo.health")

PAUSE = "RIG_PAUSE_SECONDS"
CROWD = "RIG_CROWD"
TRANSACTION = "RIG_TRANSACTION_SECONDS"
"""Environment variables that the app's module explains."""

POOLS = ("prefork", "spawn", "solo", "threads", "gevent")
PROCESSES_OF = ("prefork", "spawn")
"""The pools whose tasks run in processes of their own, not in MAIN."""

PAUSE_SECONDS = 0.05

ELECTION_SECONDS = 4.0
"""After how long members that miss a primary elect another; MongoDB's own default is 10."""


def concurrency(pool: str) -> int:
    """Return how many tasks a worker runs at a time."""
    return 1 if pool == "solo" else 4


SETTINGS: Mapping[str, str] = {
    "CELERY_PYMONGO_GATED_QUEUES": f"{QUEUE},mongo.data",
    # Faults of seconds have to be noticed in seconds. Everything else is as it comes.
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
    "MONGODB_CONNECT_TIMEOUT_MS": "1000",
    # Together below the soft limit, as the defaults are: else a deadline takes their place, under which the
    # driver retries for as long as it lasts.
    "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "1500",
    "MONGODB_WAIT_QUEUE_TIMEOUT_MS": "1000",
    "MONGODB_SOCKET_TIMEOUT_MS": "4000",
    "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "1",
    "REDIS_SOCKET_TIMEOUT_SECONDS": "1",
    "CELERY_PYMONGO_BACKOFF_CAP_SECONDS": "5",
    # A killed MAIN's messages come back after the visibility timeout, which has to be above the hard limit.
    "CELERY_PYMONGO_TASK_SOFT_TIME_LIMIT_SECONDS": "8",
    "CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS": "10",
    "CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS": "12",
}
