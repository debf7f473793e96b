"""MongoTask in a Flask app with a context task: contexts hold, a clash stops the start."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from celery import Celery

from ops.local.servers import LocalServer
from tests.e2e.workers import ROOT, Worker

APP = "tests.e2e.apps.flask_shop"
TASKS = ("save", "shared", "first", "last")


@pytest.fixture
def worker(mongo: LocalServer, redis: LocalServer, tmp_path: Path) -> Worker:
    name = f"d{uuid.uuid4().hex[:8]}"
    env = {
        "MONGODB_URI": mongo.uri,
        "MONGODB_DATABASE": name,
        "REDIS_URL": redis.uri,
        "CELERY_PYMONGO_DEPLOYMENT": name,
        "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
    }
    return Worker(APP, tmp_path / "w1.log", env=env)


def test_tasks_have_flasks_context_and_wait_an_outage_out(
    worker: Worker, mongo: LocalServer, redis: LocalServer
) -> None:
    sender = Celery("sender", broker=redis.uri, backend=redis.uri, set_as_current=False)
    with worker, sender:
        worker.wait_ready()
        before = [sender.send_task(f"{APP}.{name}", (name,), queue="shop") for name in (*TASKS, "plain")]
        saved = [result.get(timeout=20) for result in before]
        mongo.kill()
        try:
            during = [sender.send_task(f"{APP}.{name}", (name,), queue="shop") for name in TASKS]
            worker.wait_for_log(rf"task\.requeued: .*{during[0].id}|gate\.closed")
        finally:
            mongo.start()
        again = [result.get(timeout=30) for result in during]
        assert worker.terminate() == 0
    assert saved == ["the shop", "the shop", ["first", "the shop"], ["last", "the shop"], "the shop"]
    assert again == saved[:-1]
    assert worker.text.count("settings.warning: the logging configuration has disabled loggers") == 1
    assert "client.opened: " in worker.text


def test_what_cannot_be_both_is_one_line_at_the_start(worker: Worker) -> None:
    environment = {**worker.environment(), "FLASK_SHOP_HIDING": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "celery", "-A", APP, "worker", "-P", "solo"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 78, run.stderr
    assert run.stderr == (
        f"hidden: __call__ of {APP}.Hiding hides that of the app's task class {APP}.FlaskTask: end it with "
        "`return super().__call__(*args, **kwargs)` in the place of `self.run(...)`, or set "
        "`with_app_class = False` there to do without the app's\n"
    )
