"""How processes begin and end: a handler that blocks the start, a kill now, a kill that is old news."""

from __future__ import annotations

import os
import signal

from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene

_FOUR_SECONDS = {"CLINIC_CONF": '{"worker_proc_alive_timeout": 4.0}'}
"""Celery's own; ours are 30."""


def blocked(scene: Scene) -> Steps:
    """Have a handler of `worker_process_init` take 6 s from now on: replacements are killed for ever."""
    ward, flag = scene.ward(), scene.folder / "slow"
    node = scene.fleet(
        ward, pool="prefork", concurrency=2, env=_FOUR_SECONDS | {"CLINIC_BLOCKS_START": str(flag)}
    )
    node.wait_for_log("client.warm", count=2)
    flag.touch()
    os.kill(node.children()[0], signal.SIGTERM)
    yield ward
    flag.unlink()


def killed(scene: Scene) -> Steps:
    """Kill a child; Celery replaces it."""
    ward = scene.ward()
    node = scene.fleet(ward, pool="prefork", concurrency=2)
    node.wait_for_log("client.warm", count=2)
    os.kill(node.children()[0], signal.SIGKILL)
    yield ward


INCIDENTS = [
    Incident(
        "start-blocked",
        "start-blocked",
        ("warm_caches", "clinic.py:", "4 s"),
        blocked,
        seconds=60,
    ),
    Incident("process-killed", "process-killed", ("1 without a goodbye",), killed, lasts=True),
]
