"""What Redis may do to its deployments."""

from __future__ import annotations

from tests.e2e.workers import wait_until
from tests.incidents.incident import Happen, Incident, Steps
from tests.incidents.scene import Scene


def _configured(name: str, wrong: str, right: str) -> Happen:
    def happen(scene: Scene) -> Steps:
        server = scene.redis_server()
        ward = scene.ward(redis=server.uri)
        scene.fleet(ward)
        client = scene.redis_client(server.uri)
        client.config_set("maxmemory", "100mb")
        client.config_set(name, wrong)
        yield ward
        client.config_set(name, right)

    return happen


def away(scene: Scene) -> Steps:
    """Kill Redis, and start it again with its data."""
    server = scene.redis_server()
    ward = scene.ward(redis=server.uri)
    scene.fleet(ward)
    server.kill()
    yield ward
    server.start()


def full(scene: Scene) -> Steps:
    """Leave Redis no memory, with a policy that evicts nothing."""
    server = scene.redis_server()
    ward = scene.ward(redis=server.uri)
    scene.fleet(ward)
    client = scene.redis_client(server.uri)
    client.config_set("maxmemory", "1")
    yield ward
    client.config_set("maxmemory", "0")


def unreadable(scene: Scene) -> Steps:
    """Write what is no record where a process's report stands."""
    ward = scene.ward()
    scene.fleet(ward)
    client = scene.redis_client()
    key = f"celery-pymongo:{ward.env['CELERY_PYMONGO_DEPLOYMENT']}:node:w1@localhost"
    wait_until(lambda: client.exists(key), what="the node's record")
    kept = client.get(key)
    client.set(key, "no record")
    yield ward
    client.set(key, kept or "")


def nobody_reports(scene: Scene) -> Steps:
    """Look at a deployment whose name is misspelt."""
    ward = scene.ward()
    scene.fleet(ward)
    yield scene.ward(name="misspelt")
    yield ward


INCIDENTS = [
    Incident(
        "redis-without-persistence",
        "redis-persistence",
        ("appendonly no",),
        _configured("appendonly", "no", "yes"),
    ),
    Incident(
        "redis-evicts",
        "redis-eviction",
        ("allkeys-lru",),
        _configured("maxmemory-policy", "allkeys-lru", "noeviction"),
    ),
    Incident("record-unreadable", "records-unreadable", ("node",), unreadable, verdict="unknown"),
    Incident("redis-full", "redis-full", ("OOM",), full),
    Incident("redis-killed", "redis-down", ("127.0.0.1:",), away, verdict="down", is_cheap=True),
    Incident("deployment-misspelt", "nobody-reports", ("misspelt",), nobody_reports, verdict="unknown"),
]
