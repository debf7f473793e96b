"""How long the doctor takes with a large fleet: `python -m tests.incidents.scale [PROCESSES]`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from ops.local.servers import mongo_server, redis_server
from tests.incidents.scene import Stage
from tests.unit.doctor_facts import RECORD
from tests.unit.fleet_reports import report

SLOTS, TIMES = 100, 5


def main(processes: int) -> None:
    """Put so many reports into a real Redis, as fresh as those of a fleet, and ask the doctor five times."""
    with tempfile.TemporaryDirectory(prefix="scale-") as path, ExitStack() as stack:
        folder = Path(path)
        mongo = stack.enter_context(mongo_server(folder / "mongo"))
        redis = stack.enter_context(redis_server(folder / "redis"))
        with Stage(mongo, redis, folder, stack).scene("scale") as scene:
            ward = scene.ward()
            registry = ward.app.mongo.view.stores.registry

            def publish() -> None:
                for number in range(processes):
                    node, slot = f"w{number // SLOTS}@h", number % SLOTS
                    told = report(node, slot, slots=SLOTS, at=time.time(), started=time.time() - 500)
                    registry.publish(f"{node}/{slot}", json.dumps(told).encode())
                    if slot == 0:
                        registry.introduce(node, json.dumps(RECORD))

            for _ in range(TIMES):
                publish()
                began = time.monotonic()
                told = ward.ask()
                seconds, seen = time.monotonic() - began, told["processes"]["seen"]
                found = ", ".join(one["id"] for one in told["findings"])
                print(f"{seen:,} processes: {seconds:.2f} s; {found}")  # noqa: T201 - it is a program


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
