"""The built wheel in a shop that owns worker.py, tasks.py and ops.py."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.servers import LocalServer

from ..schemas import validated
from .workers import ROOT, Worker

SHOP = Path(__file__).parent / "shop"
TREE = ["worker", "tasks", "ops", "pyproject.toml", "README.md", "LICENSE"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that the checkout stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(out.glob("celery_pymongo-*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel into a folder for PYTHONPATH: what an installer does with a pure wheel."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def shop(
    site: Path, mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """A running worker of the shop, with the wheel on its path and this checkout nowhere on it."""
    home = tmp_path_factory.mktemp("shop")
    shutil.copytree(SHOP, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    # No REDIS_URL: the fleet's view is kept in the Redis of the shop's own broker.
    env = {"PYTHONPATH": str(site), "MONGODB_URI": mongo.uri, "SHOP_REDIS": redis.uri}
    queues = ("orders", "celery", "mongo.health", "mongo.data", "mongo.ops")
    with Worker("worker", log=home / "worker.log", env=env, cwd=home, queues=queues) as worker:
        yield worker.wait_ready()


def ask(shop: Worker, expression: str) -> object:
    """Evaluate an expression in the shop's own folder and environment, and return it as JSON."""
    program = f"import json, tasks; from worker import app; print(json.dumps({expression}))"
    env = {**os.environ, **{name: str(value) for name, value in shop.env.items()}}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=shop.cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + shop.text
    return json.loads(done.stdout)


def test_the_wheel_claims_one_top_level_name(wheel: Path) -> None:
    """Nothing in it would shadow a module named worker, tasks or ops."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"celery_pymongo"}


def test_the_wheel_carries_no_embedded_server_and_no_benchmark(wheel: Path) -> None:
    """What is for development stays in the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert not [name for name in names if "/local/" in name or "benchmark" in name or "secantus" in name]
    assert "celery_pymongo/py.typed" in names


def test_the_shops_modules_and_ours_live_side_by_side(shop: Worker, site: Path) -> None:
    """worker, tasks and ops are the shop's; ours are nested."""
    found = ask(shop, "app.tasks['shop.modules'].delay().get(timeout=20)")
    assert isinstance(found, dict)
    for name in ("worker", "tasks", "ops"):
        assert Path(found[name]).parent == shop.cwd
    for name in ("celery_pymongo", "celery_pymongo.tasks"):
        assert Path(found[name]).is_relative_to(site)


def test_a_task_of_the_shop_has_the_client_of_its_process(shop: Worker) -> None:
    """`self.db` works, and the pid is a child's."""
    sold = ask(shop, "[tasks.sell.delay(n).get(timeout=20) for n in range(4)]")
    assert isinstance(sold, list)
    assert [row["orders"] for row in sold] == [1, 1, 1, 1]
    assert {row["pid"] for row in sold} <= set(shop.children())


def test_the_shop_gets_health_checks_and_keeps_its_own_entries_and_routes(shop: Worker) -> None:
    """Merged, not replaced."""
    report = ask(shop, "app.send_task('mongo.health.check').get(timeout=20)")
    assert isinstance(report, dict)
    assert report["verdict"] == "ok"
    entries = ask(shop, "sorted(app.conf.beat_schedule)")
    assert entries == ["mongo.health.check", "mongo.pool.snapshot", "mongo.reconnect.attempt", "shop.count"]
    assert ask(shop, "app.conf.task_routes['shop.*']") == {"queue": "orders"}
    assert ask(shop, "[app.conf.task_acks_late, app.conf.worker_prefetch_multiplier]") == [False, 4]


def test_the_shops_operator_gets_the_pools_by_remote_control(shop: Worker) -> None:
    """A row per child, and the fleet's snapshot, under the shop's own names."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "worker",
        "inspect",
        "-j",
        "-d",
        shop.hostname,
        "mongo_pools",
    ]
    env = {**os.environ, **{name: str(value) for name, value in shop.env.items()}}
    done = subprocess.run(command, cwd=shop.cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert {row["pid"] for row in told[shop.hostname]["slots"]} == set(shop.children())
    snapshot = ask(shop, "app.send_task('mongo.pool.snapshot').get(timeout=20)")
    assert isinstance(snapshot, dict)
    assert (snapshot["coverage"]["seen"], snapshot["coverage"]["missing"]) == (2, [])


def test_the_shops_operator_has_the_command_line_and_its_schemas(shop: Worker) -> None:
    """The plug-in, its commands and what describes their documents are in the wheel."""
    env = {**os.environ, **{name: str(value) for name, value in shop.env.items()}}

    def mongo(*arguments: str) -> str:
        command = [sys.executable, "-m", "celery", "-A", "worker", "mongo", *arguments]
        done = subprocess.run(command, cwd=shop.cwd, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = validated(mongo("processes", "--json"))
    assert {row["pid"] for row in told["processes"]} == set(shop.children())
    assert json.loads(mongo("schema", "processes"))["properties"]["schema"] == {"const": "processes/1"}


def test_the_wheel_is_a_service_of_its_own(site: Path, tmp_path: Path) -> None:
    """As in the image: -A celery_pymongo, in a folder with nothing in it, with every task and command."""
    env = {**os.environ, "PYTHONPATH": str(site), "MONGODB_URI": "mongodb://h", "REDIS_URL": "redis://h"}
    program = "from celery_pymongo.celery import app; app.loader.import_default_modules(); print(*app.tasks)"
    modules = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert modules.returncode == 0, modules.stderr
    assert {"mongo.health.check", "mongo.ops.doctor", "mongo.ops.exhaust"} <= set(modules.stdout.split())
    command = [sys.executable, "-m", "celery", "-A", "celery_pymongo", "mongo", "schema", "status"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_else_of_the_configuration_changes(shop: Worker) -> None:
    """The whole of it, before and after install(app)."""
    program = """
from celery import Celery
from celery_pymongo import install

def whole(app):
    ours = ("beat_schedule", "task_routes")
    return {name: repr(app.conf[name]) for name in sorted(app.conf.keys()) if name not in ours}

app = Celery("shop", broker="redis://localhost")
app.conf.task_routes = [{"a.*": {"queue": "a"}}]
before = whole(app)
install(app)
assert whole(app) == before, set(whole(app).items()) ^ set(before.items())
assert app.conf.task_routes[-1] == {"a.*": {"queue": "a"}}
assert install(app) is app.mongo
print("same", len(before))
"""
    env = {**os.environ, **{name: str(value) for name, value in shop.env.items()}}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=shop.cwd.parent, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, count = done.stdout.split()
    assert name == "same"
    assert int(count) > 100


def test_settings_that_can_lose_or_double_work_are_named_once_with_what_to_set(shop: Worker) -> None:
    """Celery's defaults are such settings; they are reported, not changed."""
    lines = [line for line in shop.text.splitlines() if "settings.warning: " in line]
    told = [line.split("settings.warning: ")[1].split(":")[0] for line in lines]
    assert told == [
        "task_acks_late=False",
        "task_time_limit is not set",
        "worker_deduplicate_successful_tasks=False",
        "broker_transport_options['socket_timeout'] is not set",
    ]


def test_strict_mode_refuses_them(shop: Worker) -> None:
    """Exit code 78, and no child was ever started."""
    env = {**shop.env, "CELERY_PYMONGO_STRICT": "true"}
    with Worker("worker", log=shop.cwd / "strict.log", env=env, cwd=shop.cwd, name="strict") as strict:
        assert strict.wait() == os.EX_CONFIG
        assert "ForkPoolWorker" not in strict.text
        assert "not starting with settings that can lose or double work" in strict.text


@pytest.mark.parametrize("command", [("worker",), ("mongo", "status"), ("beat",)])
def test_a_bad_setting_is_a_line_and_78_in_every_command_of_the_shop(
    shop: Worker, command: tuple[str, ...]
) -> None:
    """Celery's command line would make a stack and exit code 2 of it, which a probe reads as down."""
    env = {**os.environ, **{name: str(value) for name, value in shop.env.items()}}
    env |= {"CELERY_PYMONGO_POISON_LIMIT": "0", "MONGODB_URI": "postgres://secret@h"}
    argv = [sys.executable, "-m", "celery", "-A", "worker", *command]
    done = subprocess.run(argv, cwd=shop.cwd, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "MONGODB_URI",
        "CELERY_PYMONGO_POISON_LIMIT",
    ]
    assert "secret" not in done.stderr


def test_both_names_in_one_process_are_refused(site: Path, mongo: LocalServer) -> None:
    """Two copies of the state would be two clients."""
    program = "import worker, celery_pymongo; worker.get_client(); celery_pymongo.get_client()"
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "MONGODB_URI": mongo.uri}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=site, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "two copies of celery-pymongo in one process" in done.stderr.splitlines()[-1]
