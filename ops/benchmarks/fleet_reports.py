"""Reports of processes that do not exist: as large and as varied as those of a busy fleet."""

import random
from collections.abc import Iterator
from typing import Any

from worker.board import report
from worker.board.report import Moment, Origin
from worker.pool.histogram import BUCKETS

SLOTS = 8
"""Processes of a node."""

_SIZES = range(1200, report.MAX_BYTES + 1)
_BEGAN = 1_780_000_000.0
_TASKS = [
    f"shop.backoffice.{noun}.tasks.{verb}"
    for noun in ("orders", "stock", "prices")
    for verb in ("import", "sync")
]


def reports(count: int) -> Iterator[tuple[Origin, bytes]]:
    """Yield each process and its report; the same ones each time."""
    source = random.Random(count)  # noqa: S311 - a benchmark repeats itself
    for number in range(count):
        origin = _origin(number)
        text = report.encode(report.build(origin, _moment(source)))
        assert len(text) in _SIZES, f"a simulated report of {len(text)} bytes is not like a real one"
        yield origin, text


def _origin(number: int) -> Origin:
    node, slot = f"importer@worker-{number // SLOTS:05}.eu-central.shop.example.net", number % SLOTS
    return Origin(
        node=node,
        slot=slot,
        pid=1000 + slot,
        host="4f2a90c1",
        born=81_234_567 + number,
        started=_BEGAN + number,
        version="0.1.0",
        kind="prefork",
        appname=f"celery-pymongo/production/{node}/{slot}/{1000 + slot}",
    )


def _moment(source: random.Random) -> Moment:
    task = {
        "name": source.choice(_TASKS),
        "id": f"{source.getrandbits(128):032x}",
        "seconds": 1.234,
        "running": 1,
    }
    return Moment(
        at=_BEGAN + 86_400,
        slots=SLOTS,
        queues=["mongo.data", "mongo.health", "mongo.ops", "shop.orders", "shop.stock"],
        task=task,
        circuit="closed",
        outage=0.0,
        ok=round(source.uniform(0, 2), 3),
        error=None,
        server="MongoDB 8.0.4",
        uss=source.randrange(24_000_000, 60_000_000),
        totals=_totals(source),
        counts={"leaks": 0, "long_holds": source.randrange(3), "false_alarms": 0},
    )


def _totals(source: random.Random) -> dict[str, Any]:
    in_use = source.randrange(10)
    counted = ("created", "closed", "checked_out", "failed", "timeouts", "cleared")
    return {
        "pool": {"size": 10, "in_use": in_use, "idle": 10 - in_use, "waiting": 0, "min": 1, "max": 50},
        "count": {name: source.randrange(10**5) for name in counted} | {"heartbeats_failed": 0, "drift": 0},
        "rate": {
            name: round(source.uniform(0, 90), 3) for name in ("created", "closed", "failed", "checked_out")
        },
        **{name: _times(source) for name in ("wait", "use", "rtt")},
        "wait_buckets": [source.randrange(1000) for _ in range(BUCKETS)],
    }


def _times(source: random.Random) -> dict[str, Any]:
    average = source.uniform(0.05, 3)
    found = {
        name: round(average * factor, 3)
        for name, factor in (("avg", 1), ("p50", 0.8), ("p99", 5), ("max", 9))
    }
    return {"n": source.randrange(1, 9999)} | found
