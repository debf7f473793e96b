"""A tiny Celery app that knows nothing of MongoDB: Celery, Redis and, by FIXES, the fixes under test."""

import os
import time

from celery import Celery, Task

from worker.integration.fixes import install

URL = os.environ["FIXES_REDIS"]

app = Celery("fixes_app", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True,
    task_default_queue="fixes",
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_deduplicate_successful_tasks=True,
    broker_connection_retry_on_startup=True,
    result_backend_always_retry=True,
    redis_socket_timeout=2,
    broker_transport_options={
        "socket_timeout": float(os.environ.get("FIXES_SOCKET_TIMEOUT", "2")),
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
    },
    worker_max_tasks_per_child=int(os.environ.get("FIXES_RECYCLE", "0")) or None,
)
if visible := os.environ.get("FIXES_VISIBILITY_TIMEOUT"):
    app.conf.broker_transport_options |= {
        "visibility_timeout": float(visible),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
if method := os.environ.get("FIXES_START_METHOD"):
    app.conf.worker_pool_start_method = method
if os.environ.get("FIXES", "on") == "on":
    install(app)


@app.task
def noop() -> int:
    """Return the process that ran it."""
    return os.getpid()


@app.task(bind=True)
def slow(self: Task, seconds: float, journal: str) -> str:
    """Append one line to `journal` when it starts and one when it ends: a record that outlives Redis."""
    _write(journal, f"start {self.request.id}")
    time.sleep(seconds)
    _write(journal, f"end {self.request.id}")
    return str(self.request.id)


@app.task
def count(key: str) -> int:
    """Count itself in Redis."""
    return int(app.backend.client.incr(key))


@app.task(bind=True, ignore_result=True)
def mark(self: Task) -> None:
    """Note in Redis that this message's task ran."""
    app.backend.client.sadd("done", self.request.id)


def _write(path: str, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
