"""The services of `ops/up`: servers where no setting names one, a worker, and beat."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from signal import SIGQUIT, SIGTERM

from worker.settings.fields import Settings

from . import programs
from .child import Child
from .servers import LocalServer, mongo_server, redis_server
from .supervisor import Service

WORKER_STOP_SECONDS = 20.0


def install_servers(settings: Settings) -> None:
    """Have the programs of the servers that no setting names, and say what they are.

    Raises:
        SetupError: an environment cannot be made.
    """
    named = settings.model_fields_set
    if "mongodb_uri" not in named and (line := programs.install_mongodb()):
        print(line, flush=True)
    if "redis_url" not in named:
        programs.install_redis()


def server_services(settings: Settings, folder: Path, options: argparse.Namespace) -> list[Service]:
    """Servers for what no setting names; the worker and beat find them in the environment.

    Raises:
        ServerError: there is no program to start.
    """
    servers = []
    if "mongodb_uri" not in settings.model_fields_set:
        servers.append(mongo_server(folder / "mongo", port=options.mongo_port))
        os.environ["MONGODB_URI"] = servers[-1].uri
    if "redis_url" not in settings.model_fields_set:
        servers.append(redis_server(folder / "redis", port=options.redis_port))
        os.environ["REDIS_URL"] = servers[-1].uri
    return [_service(server) for server in servers]


def celery_services(folder: Path, options: argparse.Namespace) -> list[Service]:
    """One worker for every queue, and beat."""
    logs = folder / "logs"
    celery = [sys.executable, "-m", "celery", "-A", "worker"]
    pool = ["-P", options.pool, "-c", str(options.concurrency)]
    naming = ["-n", "demo@%h", "-l", "INFO"]
    worker = Child("worker", [*celery, "worker", *pool, *naming], log=logs / "worker.log")
    schedule = ["--schedule", str(folder / "beat-schedule"), "--pidfile="]
    beat = Child("beat", [*celery, "beat", *schedule, "-l", "INFO"], log=logs / "beat.log")
    # Under other pools SIGQUIT loses or fails the running tasks.
    words = [SIGTERM, SIGQUIT] if options.pool == "prefork" else [SIGTERM]
    return [
        Service(
            worker,
            worker.start,
            ready=lambda: b" ready." in worker.log.read_bytes(),
            stop_seconds=WORKER_STOP_SECONDS,
            last_words=words,
        ),
        # A beat that has lost its lock ends by itself; that is no reason to give up.
        Service(beat, beat.start, stop_seconds=5.0, must_start=False),
    ]


def _service(server: LocalServer) -> Service:
    def describe() -> str:
        return f"{server.label} on 127.0.0.1:{server.port}"

    return Service(server.child, server.launch, ready=server.answers, describe=describe)
