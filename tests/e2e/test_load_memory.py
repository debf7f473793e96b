"""Neither the loader nor Redis grows with the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis as redis_py

from ops.local.servers import LocalServer
from tests.e2e.workers import ROOT, Worker

MIB = 1024 * 1024
ROW = "x" * 4000


@dataclass(frozen=True)
class Peaks:
    """The most that was seen, in MiB: the loader's resident memory, and Redis's above its idle memory."""

    loader: float
    redis: float


@pytest.fixture
def settings(redis: LocalServer, tmp_path: Path) -> dict[str, str]:
    return {
        "REDIS_URL": redis.uri,
        "MONGODB_URI": "mongodb://127.0.0.1:1/",
        "CELERY_PYMONGO_DEPLOYMENT": "memory",
        "XDG_STATE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def swallowing(settings: dict[str, str], tmp_path: Path) -> Iterator[None]:
    options = ("--without-mingle", "--without-gossip")
    log = tmp_path / "worker.log"
    with Worker(
        "tests.e2e.apps.swallow", log, queues=("mongo.data",), env=settings, options=options
    ) as worker:
        worker.wait_ready()
        yield


def write(path: Path, *, mib: int, row: str = ROW) -> Path:
    """Write a file of so many MiB of rows, each with an _id of its own."""
    size = number = 0
    with path.open("w") as file:
        while size < mib * MIB:
            number += 1
            size += file.write(json.dumps({"_id": number, "pad": row}) + "\n")
    return path


def peaks_of(path: Path, settings: dict[str, str], server: LocalServer) -> Peaks:
    """Load a file and watch both processes."""
    command = [sys.executable, "-m", "celery", "-A", "worker", "mongo", "load", str(path), "--into", "a"]
    loader = redis_most = 0.0
    with redis_py.Redis.from_url(server.uri, socket_timeout=5) as client:
        idle = int(client.info("memory")["used_memory"])
        process = subprocess.Popen(
            command,
            cwd=path.parent,
            env=os.environ | settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                loader = max(loader, psutil.Process(process.pid).memory_info().rss)
            redis_most = max(redis_most, int(client.info("memory")["used_memory"]) - idle)
            time.sleep(0.01)
    assert process.returncode == 0
    return Peaks(loader / MIB, redis_most / MIB)


@pytest.mark.full
@pytest.mark.usefixtures("swallowing")
def test_neither_the_loader_nor_redis_grows_with_the_file(
    settings: dict[str, str], redis: LocalServer, tmp_path: Path
):
    small = peaks_of(write(tmp_path / "64.jsonl", mib=64), settings, redis)
    large = peaks_of(write(tmp_path / "256.jsonl", mib=256), settings, redis)
    assert abs(large.loader - small.loader) <= 10, (small, large)
    assert max(large.redis, small.redis) <= 64, (small, large)


@pytest.mark.usefixtures("swallowing")
def test_large_rows_fill_redis_no_more_than_small_ones(
    settings: dict[str, str], redis: LocalServer, tmp_path: Path
):
    peaks = peaks_of(write(tmp_path / "rows.jsonl", mib=128, row="x" * (5 * MIB)), settings, redis)
    assert peaks.redis <= 64, peaks
