"""Reports as processes send them, and what the registry reads of them."""

from __future__ import annotations

from typing import Any

from worker.fleet.fleet import Fleet, assess
from worker.fleet.registry import Reading, Seen
from worker.pool.histogram import BUCKETS

NOW = 1_000_000.0


def report(node: str = "w1@h", slot: int = 0, **changes: Any) -> dict[str, Any]:
    """A healthy report; `changes` replace sections, or members of sections that are dicts."""
    told: dict[str, Any] = {
        "v": 1,
        "node": node,
        "slot": slot,
        "pid": 100 + slot,
        "host": "boot-1",
        "born": 7,
        "started": NOW - 500,
        "kind": "prefork",
        "appname": f"cp/test/{node}/{slot}/{100 + slot}",
        "slots": 1,
        "queues": ["celery", "mongo.health"],
        "task": None,
        "circuit": "closed",
        "outage": 0.0,
        "ok": 1.0,
        "busy": [],
        "pool": {"size": 1, "in_use": 0, "idle": 1, "waiting": 0, "min": 1, "max": 100},
        "count": {"created": 1, "closed": 0, "checked_out": 50, "failed": 0, "timeouts": 0},
        "rate": {"created": 0.0, "closed": 0.0, "failed": 0.0, "checked_out": 1.5},
        "wait": {"n": 0, "avg": None, "p50": None, "p99": None, "max": None},
        "use": {"n": 0, "avg": None, "p50": None, "p99": None, "max": None},
        "rtt": {"n": 2, "avg": 0.5, "p50": 0.5, "p99": 0.6, "max": 0.6},
        "wait_buckets": [0] * BUCKETS,
        "memory": {"uss": None, "server": 1 << 20},
    }
    for name, value in changes.items():
        told[name] = told[name] | value if isinstance(value, dict) and told.get(name) else value
    pool = told["pool"]
    pool.setdefault("usage", pool["in_use"] / pool["max"] if pool["max"] else None)
    return told


def seen(told: dict[str, Any], *, silent: float = 0.5) -> Seen:
    return Seen(f"{told['node']}/{told['slot']}", NOW - silent, told)


def reading(*processes: Seen, silent_until: float = 0.0) -> Reading:
    return Reading(NOW, silent_until, list(processes))


def fleet(*processes: Seen, alive: bool | None = None, **options: Any) -> Fleet:
    """The fleet that these reports show, where `alive` is known of the silent ones."""
    return assess(reading(*processes), is_alive=lambda _seen: alive, **options)


def node(name: str = "w1@h", slots: int = 4, **changes: Any) -> list[Seen]:
    """All processes of a node, fresh."""
    return [seen(report(name, slot, slots=slots, **changes)) for slot in range(slots)]
