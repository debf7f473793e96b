"""The pool's minimum: kept for the member that takes writes, and made once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from ops.local import programs
from ops.local.replica_set import ReplicaSet
from worker.pool.adapter import keep_open, read_gauges
from worker.pool.monitor import PoolMonitor

pytestmark = pytest.mark.skipif(programs.mongod() is None, reason="a replica set takes a mongod")

NUMBER, IDLE_SECONDS = 3, 2.0


def test_idle_connections_to_the_primary_stay_and_none_is_made_to_a_secondary(tmp_path: Path) -> None:
    monitor = PoolMonitor()
    idle = int(1000 * IDLE_SECONDS)
    with (
        ReplicaSet(tmp_path, members=2, election_timeout=2.0) as replica_set,
        MongoClient[dict[str, Any]](
            replica_set.uri, event_listeners=monitor.listeners(), maxIdleTimeMS=idle
        ) as client,
    ):
        client.admin.command("ping")
        ends_at = time.monotonic() + 3 * IDLE_SECONDS
        while time.monotonic() < ends_at:
            keep_open(client, NUMBER, timeout_seconds=10)
            # The pace is what is tried: more often than connections may be idle.
            time.sleep(IDLE_SECONDS / 4)
        primary = f"127.0.0.1:{replica_set.primary().port}"
        pools = read_gauges(client) or {}
        assert {name: pool.size for name, pool in pools.items()} == {
            name: NUMBER if name == primary else 0 for name in pools
        }
        assert len(pools) == 2
        assert monitor.totals(time.monotonic()).count["created"] == NUMBER
