"""`mongo history`, `drill` and `bundle` on real workers and servers: well, each server away, interrupted."""

from __future__ import annotations

import json
import signal
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis as redis_py
from celery import Celery

from ops.local.servers import LocalServer
from tests.e2e.apps import service
from tests.e2e.operator import Operator
from tests.e2e.workers import wait_until
from tests.schemas import SCHEMAS, validated

DEPLOYMENT = "drilled"
Env = dict[str, str]
# Each drill as short as it can be and still say something.
SHORT = {
    "concurrency": ("--threads", "8", "--queries", "20", "--hold", "20"),
    "compare": (
        "--seconds",
        "3",
        "--rounds",
        "2",
        "--threads",
        "8",
        "--hold",
        "40",
        "--config",
        "maxPoolSize=2",
    ),
    "workload": ("--seconds", "2", "--threads", "8", "--hold", "10"),
    "exhaust": ("--seconds", "4", "--threads", "12", "--hold", "300", "--queue-timeout", "400"),
}


@pytest.fixture(scope="module")
def env(mongo: LocalServer, redis: LocalServer) -> Env:
    told = service.environment(
        mongo.uri,
        redis.uri,
        CELERY_PYMONGO_DEPLOYMENT=DEPLOYMENT,
        CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS="0.5",
        CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS="1",
        CELERY_PYMONGO_PING_TIMEOUT_SECONDS="0.5",
        MONGODB_HEARTBEAT_FREQUENCY_MS="500",
    )
    return {name: value for name, value in told.items() if value is not None}


@pytest.fixture(scope="module", autouse=True)
def fleet(env: Env, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A worker of two processes, and the beat that has their history kept."""
    folder = tmp_path_factory.mktemp("fleet")
    with (
        service.service(env, folder, pool="prefork", concurrency=2) as worker,
        service.beat(env, folder) as beat,
    ):
        worker.wait_ready()
        beat.wait_for_sent("mongo.pool.snapshot", count=8)
        yield


@pytest.fixture(scope="module")
def client(mongo: LocalServer) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](mongo.uri, serverSelectionTimeoutMS=20_000) as found:
        yield found


@pytest.fixture(scope="module")
def plain(redis: LocalServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis.uri) as found:
        yield found


@contextmanager
def away(server: LocalServer) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


def drills_of(client: pymongo.MongoClient[dict[str, Any]]) -> list[str]:
    return [name for name in client.list_database_names() if name.endswith("_drill")]


def members(plain: redis_py.Redis) -> set[str]:
    found: Any = plain.zrange(f"celery-pymongo:{DEPLOYMENT}:members", 0, -1)
    return {member.decode() for member in found}


def stand_ins(plain: redis_py.Redis) -> set[str]:
    return {member for member in members(plain) if member.startswith("drill-")}


# --- history ---


def test_the_history_of_a_fleet_that_is_well(env: Env) -> None:
    told = Operator(env).json("history", "--since", "30s", "--metric", "all")
    by_name = {series["metric"]: series for series in told["series"]}
    assert (by_name["processes"]["last"], by_name["processes"]["limit"]) == (2, 2)
    assert by_name["cut_off"]["max"] == 0
    assert by_name["operations"]["max"] > 0
    assert told["sources"][0]["rows"] >= 5
    assert told["unseen"] == {}


def test_its_charts_have_an_end_in_a_pipe_too(env: Env) -> None:
    done = Operator(env).run("history", "--since", "30s")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 130
    assert lines[0].startswith("operations  ")
    assert any("rows from redis" in line for line in lines)


@pytest.mark.full
def test_a_picture_is_a_new_file(env: Env, tmp_path: Path) -> None:
    file = tmp_path / "incident.png"
    assert Operator(env).run("history", "--since", "30s", "--png", str(file)).returncode == 0
    assert file.read_bytes().startswith(b"\x89PNG\r\n")
    size = file.stat().st_size
    again = Operator(env).run("history", "--since", "30s", "--png", str(file))
    assert (again.returncode, again.stdout) == (73, "")
    assert again.stderr == f"mongo: {file} is there already; name a new file\n"
    assert file.stat().st_size == size


def test_without_matplotlib_one_line_says_what_to_install(env: Env, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    done = Operator(env | {"PYTHONPATH": str(tmp_path)}).run("history", "--png", str(tmp_path / "a.png"))
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "mongo: --png needs matplotlib: pip install 'celery-pymongo[plot]'\n"


def test_while_mongodb_is_down_the_history_says_since_when(
    env: Env, mongo: LocalServer, plain: redis_py.Redis
) -> None:
    stream = f"celery-pymongo:{DEPLOYMENT}:history"
    with away(mongo):
        wait_until(lambda: "closed" not in circuits(plain, stream), what="both cut off", seconds=30)
        done = Operator(env).run("history", "--since", "5m", "--timeout", "1")
    assert done.returncode == 1
    axis = [line for line in done.stdout.splitlines() if line.startswith("       0 ")][-1]
    assert "█" in axis
    assert "no process could reach MongoDB" in done.stdout
    assert "not seen: MongoDB (no answer (127.0.0.1:" in done.stdout


def circuits(plain: redis_py.Redis, stream: str) -> dict[str, int]:
    """What the newest snapshot says of the processes' circuits."""
    newest: Any = plain.xrevrange(stream, count=1)
    found: dict[str, int] = json.loads(newest[0][1][b"snapshot"])["circuits"]
    return found


@pytest.mark.full
def test_while_redis_is_down_the_history_comes_from_mongodb(
    env: Env, redis: LocalServer, client: pymongo.MongoClient[dict[str, Any]]
) -> None:
    kept = client["celery_pymongo"][f"history_{DEPLOYMENT}"]
    wait_until(lambda: kept.estimated_document_count() >= 5, what="a history in MongoDB", seconds=20)
    with away(redis):
        told = Operator(env).json("history", "--since", "10m", "--timeout", "2", code=1)
    assert set(told["unseen"]) == {"Redis"}
    assert {source["name"]: source["rows"] > 0 for source in told["sources"]} == {
        "redis": False,
        "mongodb": True,
    }


@pytest.mark.full
def test_with_neither_server_nothing_is_known(env: Env) -> None:
    nowhere = {"MONGODB_URI": "mongodb://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}
    told = Operator(env | nowhere).json("history", "--timeout", "1", code=3)
    assert set(told["unseen"]) == {"MongoDB", "Redis"}
    assert {series["last"] for series in told["series"]} == {None}


# --- drills ---


def test_concurrency_is_what_it_says(env: Env, client: pymongo.MongoClient[dict[str, Any]]) -> None:
    told = Operator(env).json("drill", "concurrency", *SHORT["concurrency"])
    assert (told["asked"], told["done"], told["errors"]) == (160, 160, {})
    # Each is held for 20 ms: one after the other they would have taken 3.2 s.
    assert told["in_flight"] > 4
    assert told["connections"]["most_in_use"] > 4
    assert told["database"]["dropped"]
    assert drills_of(client) == []


@pytest.mark.full
def test_compare_tells_a_pool_that_is_too_small(
    env: Env, client: pymongo.MongoClient[dict[str, Any]]
) -> None:
    told = Operator(env).json("drill", "compare", *SHORT["compare"])
    own, small = told["configurations"]
    assert (own["name"], small["options"]["maxPoolSize"]) == ("yours", 2)
    # Two of eight at a time: a quarter of the rate, and three quarters of the time in the queue.
    assert small["ratio"]["median"] < 0.6
    assert small["connections"]["most_in_use"] == 2
    assert small["connections"]["created"] == 2
    assert small["wait_ms"]["p99"] > own["wait_ms"]["p99"]
    assert drills_of(client) == []


@pytest.mark.full
def test_workload_shows_each_second(env: Env) -> None:
    done = Operator(env).run("drill", "workload", *SHORT["workload"])
    assert done.returncode == 0, done.stderr
    head, *seconds = done.stderr.splitlines()
    assert head.split()[:2] == ["S", "OPS/S"]
    assert seconds
    assert max(map(len, [head, *seconds])) <= 80
    assert "app_drill is dropped" in done.stdout
    assert "SecantusDB" in done.stdout or "MongoDB" in done.stdout


@pytest.mark.full
def test_exhaust_is_seen_by_the_fleet_and_gone_afterwards(
    env: Env, plain: redis_py.Redis, client: pymongo.MongoClient[dict[str, Any]]
) -> None:
    told = Operator(env).json("drill", "exhaust", *SHORT["exhaust"])
    assert (told["was_full"], told["was_judged"], told["is_gone"]) == (True, True, True)
    assert told["judged"]["verdict"] == "degraded"
    assert told["most_waiting"] >= 5
    assert told["samples"][-1]["timeouts"] > 0
    assert {sample["circuit"] for sample in told["samples"]} <= {"closed", None}
    assert stand_ins(plain) == set()
    assert plain.zcard(f"celery-pymongo:{DEPLOYMENT}:post-mortems") == 0
    assert drills_of(client) == []
    spans = Operator(env).json("history")["spans"]
    (mark,) = [span for span in spans if span.get("name") == "exhaust"]
    assert mark["kind"] == "drill"
    assert mark["until"] < time.time() + 1


@pytest.mark.full
def test_production_takes_a_yes(env: Env, client: pymongo.MongoClient[dict[str, Any]]) -> None:
    live = env | {"SENTRY_ENVIRONMENT": "production"}
    refused = Operator(live).run("drill", "concurrency")
    assert (refused.returncode, refused.stdout) == (64, "")
    assert refused.stderr == (
        "mongo: this looks like production: SENTRY_ENVIRONMENT is production. "
        "With --yes the drill runs all the same\n"
    )
    told = Operator(live).json("drill", "concurrency", "--yes", "--queries", "1")
    assert told["production"] == ["SENTRY_ENVIRONMENT is production"]
    assert drills_of(client) == []


@pytest.mark.full
def test_a_database_of_somebody_elses_is_left_alone(
    env: Env, client: pymongo.MongoClient[dict[str, Any]]
) -> None:
    client["mine_drill"]["orders"].insert_one({"_id": 1})
    done = Operator(env).run("drill", "concurrency", "--database", "mine_drill")
    assert (done.returncode, done.stdout) == (64, "")
    assert client["mine_drill"].list_collection_names() == ["orders"]
    client["mine_drill"]["orders"].drop()


@pytest.mark.parametrize(
    ("drill", "number"),
    [
        ("workload", signal.SIGINT),
        ("exhaust", signal.SIGTERM),
        *(
            pytest.param(drill, signal.SIGINT, marks=pytest.mark.full)
            for drill in sorted(set(SHORT) - {"workload"})
        ),
    ],
)
def test_interrupted_in_the_middle_a_drill_leaves_nothing(
    env: Env,
    client: pymongo.MongoClient[dict[str, Any]],
    plain: redis_py.Redis,
    drill: str,
    number: signal.Signals,
) -> None:
    long = ("--queries", "100000") if drill == "concurrency" else ()
    with Operator(env).start("drill", drill, *long, "--seconds", "60", "--hold", "200") as process:
        try:
            begun = stand_ins if drill == "exhaust" else lambda _plain: drills_of(client)
            wait_until(lambda: begun(plain), what="its beginning", seconds=30)
            process.send_signal(number)
            # An impatient person's second one changes nothing.
            time.sleep(0.05)
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == "mongo: interrupted; nothing is left behind"
    assert (drills_of(client), stand_ins(plain)) == ([], set())


@pytest.mark.full
def test_what_a_killed_drill_leaves_ends_by_itself_or_with_the_next_one(
    env: Env, client: pymongo.MongoClient[dict[str, Any]], plain: redis_py.Redis
) -> None:
    with Operator(env).start("drill", "exhaust", "--seconds", "60") as process:
        try:
            wait_until(lambda: stand_ins(plain), what="its process in the fleet", seconds=30)
        finally:
            process.kill()
    # Its process hears that nobody is there any more, and takes its leave.
    wait_until(lambda: not stand_ins(plain), what="a goodbye", seconds=20)
    busy = Operator(env).run("drill", "concurrency")
    assert busy.returncode == 75
    assert busy.stderr.startswith("mongo: another drill has app_drill until ")
    client["app_drill"]["drill"].update_one({}, {"$set": {"until": 0}})
    told = Operator(env).json("drill", "concurrency", "--queries", "1")
    assert told["database"] == {"name": "app_drill", "cleared_before": True, "dropped": True, "why": None}
    assert drills_of(client) == []


@pytest.mark.full
def test_without_a_server_a_drill_says_so_in_one_line(env: Env) -> None:
    nowhere = Operator(env | {"MONGODB_URI": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500"}).run(
        "drill", "compare"
    )
    assert (nowhere.returncode, nowhere.stdout) == (3, "")
    assert nowhere.stderr.startswith("mongo: MongoDB does not answer: ")
    assert len(nowhere.stderr.splitlines()) == 1
    alone = env | {"REDIS_URL": "redis://127.0.0.1:1"}
    done = Operator(alone).run("drill", "exhaust")
    line = "mongo: Redis at 127.0.0.1:1/0 does not answer (ConnectionError)\n"
    assert (done.returncode, done.stderr) == (3, line)
    assert Operator(alone).json("drill", "concurrency", "--queries", "1")["done"] == 10


@pytest.mark.parametrize(
    ("name", "schema", "options"),
    [
        (
            "compare",
            "drill-compare-1",
            {"configurations": ["maxPoolSize=2"], "rounds": 1, "seconds": 2, "threads": 4},
        ),
        ("exhaust", "drill-exhaust-1", {"seconds": 3, "hold_ms": 200}),
    ],
)
@pytest.mark.full
def test_a_worker_runs_the_drills_as_tasks(
    env: Env, client: pymongo.MongoClient[dict[str, Any]], name: str, schema: str, options: Any
) -> None:
    with service.producer(env) as app:
        told = call(app, name, options)
    required = set(json.loads((SCHEMAS / f"{schema}.json").read_text())["required"]) - {"schema", "unseen"}
    assert required <= set(told)
    assert told["database"]["dropped"]
    assert told.get("is_gone", True)
    assert drills_of(client) == []


def call(app: Celery, name: str, options: Any) -> dict[str, Any]:
    found: dict[str, Any] = service.call(app, f"mongo.ops.{name}", seconds=60, kwargs=options)
    return found


# --- bundle ---


def opened(file: Path) -> dict[str, str]:
    """The files of an archive by their names."""
    with tarfile.open(file) as archive:
        found = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive}
        return {name: content.read().decode() for name, content in found.items() if content}


def test_a_bundle_has_what_is_known_and_says_what_is_not(env: Env, tmp_path: Path) -> None:
    file = tmp_path / "incident.tar.gz"
    told = Operator(env).json("bundle", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    files = opened(file)
    index = json.loads(files["index.json"])
    assert index["parts"] == told["parts"]
    assert {part["name"]: part["why_not"] for part in index["parts"] if part["why_not"]} == {}
    for name in ("status", "doctor", "processes", "size", "snapshot", "leaks", "dead-list", "history"):
        assert validated(files[f"{name}.json"])
        assert files[f"{name}.txt"].strip()
    flights = json.loads(files["flights.json"])
    assert (flights["asked"], flights["silent"]) == (2, [])
    assert all(flights["flights"].values())
    assert json.loads(files["settings.json"])["settings"]["deployment"] == DEPLOYMENT
    again = Operator(env).run("bundle", str(file))
    assert (again.returncode, again.stdout) == (73, "")


def test_a_bundle_is_made_while_both_servers_are_down_and_holds_no_secret(env: Env, tmp_path: Path) -> None:
    file = tmp_path / "incident.tar.gz"
    secrets = {
        "MONGODB_URI": "mongodb://user:hidden-1@127.0.0.1:1/?serverSelectionTimeoutMS=500",
        "REDIS_URL": "redis://:hidden-2@127.0.0.1:1/0",
        "SENTRY_DSN": "http://hidden3@127.0.0.1:1/1",
    }
    told = Operator(env | secrets).json("bundle", str(file), "--timeout", "8", code=1)
    assert told["searched"]["secrets"] >= 3
    why = {part["name"]: part["why_not"] for part in told["parts"]}
    assert why["settings"] is why["versions"] is None
    assert why["flights"] == "ConnectionError"
    whole = "".join(opened(file).values())
    assert "hidden" not in whole
    assert "127.0.0.1:1" in whole


@pytest.mark.full
def test_a_bundle_that_would_hold_a_secret_is_not_written(env: Env, tmp_path: Path) -> None:
    """A password that is a queue's name: the settings' own lists would show it."""
    file = tmp_path / "incident.tar.gz"
    secret = {"MONGODB_URI": "mongodb://user:mongo.data@127.0.0.1:1/?serverSelectionTimeoutMS=500"}
    done = Operator(env | secret).run("bundle", str(file), "--timeout", "8")
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith("mongo: nothing was written: ")
    assert "settings.json holds the secret of MONGODB_URI" in done.stderr
    assert not file.exists()
