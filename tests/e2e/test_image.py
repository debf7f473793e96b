"""The image as docker-compose.yml runs it, by an unprivileged user, without Docker."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ops.local.servers import LocalServer
from tests.e2e.image import Container, Image, python_for_image, unprivileged
from tests.e2e.workers import ROOT, wait_until

OWN_TASKS = """
from celery import shared_task


@shared_task
def whoami():
    import os

    from own_helper import answer  # a task may import what lies beside it when it runs

    return [os.getuid(), answer]
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image, in a folder that its user may enter, with a module of somebody's own tasks in it."""
    python = python_for_image()
    if python is None:
        pytest.skip("no Python here that another user may run")
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    folder.chmod(0o755)
    try:
        made = Image(ROOT / "ops" / "compose" / "Dockerfile", context=ROOT, folder=folder, python=python)
        (made.cwd / "own_tasks.py").write_text(OWN_TASKS)
        (made.cwd / "own_helper.py").write_text("answer = 42\n")
        yield made
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def compose() -> Any:
    """The compose file, as YAML's own reader has it (check-jsonschema brings one)."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(ROOT / "docker-compose.yml")


@pytest.fixture
def env(image: Image, mongo: LocalServer, redis: LocalServer) -> dict[str, str]:
    """The services' environment: secrets by file, which the user of the image may read."""
    for name, uri in (("mongodb_uri", mongo.uri), ("redis_url", redis.uri)):
        (image.root / name).write_text(uri)
    return {
        "MONGODB_URI_FILE": str(image.root / "mongodb_uri"),
        "REDIS_URL_FILE": str(image.root / "redis_url"),
        "CELERY_PYMONGO_DEPLOYMENT": "compose",
        "CELERY_PYMONGO_INCLUDE": "own_tasks",
    }


@pytest.mark.full
def test_the_services_of_the_compose_file_start_in_the_image(
    image: Image, compose: Any, env: dict[str, str], tmp_path: Path
) -> None:
    """A worker, the health worker and a beat start, `mongo status` says ok, and a task of one's own runs."""
    with ExitStack() as stack:
        for name in ("worker", "worker-health", "beat"):
            command = compose["services"][name]["command"]
            node = [] if name == "beat" else ["--hostname", f"{name}@localhost"]
            container = Container(image, *command, *node, log=tmp_path / f"{name}.log", env=env)
            stack.enter_context(container)
            container.wait_for_log("beat: Starting" if name == "beat" else "ready")
        told: list[str] = []

        def is_ok() -> bool:
            done = image.run("mongo", "status", "--json", env=env)
            told[:] = [done.stdout, done.stderr]
            return done.returncode == 0

        wait_until(is_ok, what=f"a status of ok, but: {told}", seconds=40)
        assert json.loads(told[0])["coverage"]["seen"] == 6
        asked = image.run("call", "own_tasks.whoami", env=env)
        assert asked.returncode == 0, asked.stderr
        result = image.run("result", asked.stdout.strip(), env=env)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == [10001 if unprivileged() else image.root.stat().st_uid, 42]
