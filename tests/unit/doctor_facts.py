"""A healthy fleet as the doctor sees it, and how to break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ops.doctor.facts import Beat, Facts, Node, Process, Queue
from tests.unit.fleet_reports import NOW, report

RECORD: dict[str, Any] = {
    "v": 1,
    "kind": "prefork",
    "broker": "redis",
    "began": NOW - 600,
    "concurrency": 2,
    "prefetch": 1,
    "max_tasks_per_child": None,
    "init_handlers": [],
    "versions": {
        "python": "3.12.1",
        "celery": "5.7.0",
        "kombu": "5.7.0",
        "redis": "8.1.0",
        "pymongo": "4.20.0",
    },
    "options": {
        "maxPoolSize": 50,
        "minPoolSize": 1,
        "maxIdleTimeMS": 30_000,
        "waitQueueTimeoutMS": 5000,
        "connectTimeoutMS": 10_000,
        "socketTimeoutMS": 20_000,
        "serverSelectionTimeoutMS": 5000,
        "retryWrites": True,
        "retryReads": True,
        "readPreference": "primary",
        "w": "majority",
        "tls": False,
    },
    "mongodb": {"local": True, "login": False, "tls": False, "verified": None},
    "redis": {"local": True, "login": False, "tls": False, "verified": None},
    "result_backend": "redis",
    "longest_time_limit": 300.0,
    "shortest_time_limit": 300.0,
    "longest_tasks": ["shop.sell"],
    "visibility_timeout": 3600.0,
    "alive_timeout": 4.0,
    "nofile": 65_536,
    "before_fork": [],
    "risks": [],
}

PING: dict[str, Any] = {
    "verdict": "ok",
    "latency_ms": 1.0,
    "error_class": None,
    "reasons": [],
    "topology": {
        "type": "ReplicaSetWithPrimary",
        "primary": "m1:27017",
        "members": {"m1:27017": "RSPrimary"},
    },
    "server": "MongoDB 8.0.4",
}

AWAY: dict[str, Any] = PING | {
    "verdict": "down",
    "latency_ms": None,
    "error_class": "outage",
    "reasons": ["outage: ServerSelectionTimeoutError: m1:27017: refused"],
    "topology": {"type": "Unknown", "primary": None, "members": {"m1:27017": "Unknown"}},
}

REDIS: dict[str, Any] = {
    "product": "Valkey",
    "redis_version": "9.1.0",
    "role": "master",
    "connected_clients": 20,
    "maxclients": 10_000,
    "used_memory": 1 << 20,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "evicted_keys": 0,
    "aof_enabled": 1,
    "save": "",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with changes; members of sections that are dicts are changed one by one."""
    told = dict(base)
    for name, value in changes.items():
        is_section = isinstance(value, dict) and isinstance(told.get(name), dict)
        told[name] = told[name] | value if is_section else value
    return told


def node(
    name: str = "w1@h",
    slots: int = 2,
    *,
    record: dict[str, Any] | None = None,
    state: str = "live",
    **told: Any,
) -> Node:
    """A node of healthy processes; `record` changes what it says of itself, the rest what each reports."""
    kept = merged(RECORD, record or {})
    kind = {"kind": kept["kind"], "at": NOW - 0.5, "host": f"host-of-{name}"}
    silence = 0.5 if state == "live" else 40.0
    processes = tuple(
        Process(
            f"{name}/{slot}", name, state, silence, report(name, slot, slots=slots, **(kind | told)), kept
        )
        for slot in range(slots)
    )
    return Node(name, slots, processes, (), kept)


def shared(name: str = "w1@h", concurrency: int = 8, **told: Any) -> Node:
    """A node of one process that runs many tasks at a time."""
    record = {"kind": "threads", "concurrency": concurrency, **told.pop("record", {})}
    return node(name, 1, record=record, **told)


def facts(*nodes: Node, **changes: Any) -> Facts:
    """A healthy deployment, of two nodes where none are named."""
    present = nodes or (node("w1@h"), node("w2@h"))
    names = tuple(each.name for each in present)
    healthy = Facts(
        at=NOW,
        deployment="shop",
        settings={
            "long_hold_seconds": 5.0,
            "server_connections": None,
            "health_interval_seconds": 10.0,
        },
        check_arrived=NOW - 4,
        nodes=present,
        ping=PING,
        server={
            "current": 50,
            "limit": 1000,
            "source": "$currentOp",
            "others": 2,
            "counted": 12,
            "strays": 0,
        },
        indexes={"refused": [], "without_ttl": {}},
        queues={"celery": Queue(0, None, names), "mongo.health": Queue(0, None, names)},
        beats=(Beat(1.0, 500.0, "h", 10, "Scheduler"),),
        redis=REDIS,
        post_mortems=(),
        dead_letters=0,
        elsewhere={},
        last_counts={"current": 50, "available": 950, "others": 2, "at": NOW - 10, "member": "m1:27017"},
    )
    return replace(healthy, **changes)
