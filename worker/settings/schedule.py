"""What runs on schedule, and which queue carries what."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fields import Settings

HEALTH_QUEUE = "mongo.health"
DATA_QUEUE = "mongo.data"
OPS_QUEUE = "mongo.ops"
QUEUES = (HEALTH_QUEUE, DATA_QUEUE, OPS_QUEUE)

# A message that was not picked up before its successor is sent tells nothing any more; a tenth of the
# interval is left for the clocks of two machines to differ.
_EXPIRES_AFTER = 0.9


def routes() -> dict[str, dict[str, str]]:
    """Return the queue of each of our tasks, by the pattern of its name."""
    return {
        "mongo.health.*": {"queue": HEALTH_QUEUE},
        "mongo.pool.*": {"queue": HEALTH_QUEUE},
        "mongo.reconnect.*": {"queue": HEALTH_QUEUE},
        "mongo.data.*": {"queue": DATA_QUEUE},
        "mongo.ops.*": {"queue": OPS_QUEUE},
    }


def entries(settings: "Settings") -> dict[str, dict[str, Any]]:
    """Return the beat entries; each message expires before its successor, so none pile up."""
    intervals = {
        "mongo.health.check": settings.health_interval_seconds,
        "mongo.pool.snapshot": settings.snapshot_interval_seconds,
        "mongo.reconnect.attempt": settings.reconnect_interval_seconds,
    }
    return {name: _entry(name, seconds) for name, seconds in intervals.items()}


def expiries(settings: "Settings") -> dict[str, float]:
    """Return by task the seconds after which a message of it tells nothing any more.

    The tasks carry it themselves: a scheduler that keeps its entries elsewhere may send them without.
    """
    return {name: entry["options"]["expires"] for name, entry in entries(settings).items()}


def _entry(task: str, seconds: float) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": float(seconds),
        "options": {"expires": round(seconds * _EXPIRES_AFTER, 3), "queue": HEALTH_QUEUE},
    }
