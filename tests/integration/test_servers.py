"""The servers that tests and `ops/up` run on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
import redis as redis_py

from ops.local.child import Child
from ops.local.servers import LocalServer, ServerError, mongo_server, port_is_free, redis_server

ROOT = Path(__file__).resolve().parents[2]


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_mongo_says_which_server_it_is(mongo: LocalServer):
    assert mongo.label.startswith(("SecantusDB ", "mongod "))
    assert str(mongo.port) in mongo.uri


def test_redis_says_which_server_it_is(redis: LocalServer):
    assert redis.label.startswith(("Valkey", "Redis"))


def test_mongo_is_a_primary_that_takes_transactions(mongo: LocalServer):
    with pymongo.MongoClient[dict[str, Any]](mongo.uri, serverSelectionTimeoutMS=5000) as client:
        with client.start_session() as session, session.start_transaction():
            client.app.facts.insert_one({"_id": 1}, session=session)
        assert client.app.facts.count_documents({}) == 1
        assert client.topology_description.topology_type_name == "ReplicaSetWithPrimary"


def test_mongo_has_fail_points(mongo: LocalServer, mongo_client: pymongo.MongoClient[dict[str, Any]]):
    mongo_client.admin.command("configureFailPoint", "failCommand", mode="off")


def test_a_killed_mongo_comes_back_on_its_port_with_every_acknowledged_write(
    mongo: LocalServer, mongo_client: pymongo.MongoClient[dict[str, Any]]
):
    mongo_client.app.kept.insert_many([{"_id": n} for n in range(500)])
    before = mongo.pid, mongo.uri
    mongo.kill()
    assert not mongo.is_running
    mongo.start()
    assert mongo.pid != before[0]
    assert mongo.uri == before[1]
    assert mongo_client.app.kept.count_documents({}) == 500


def test_a_killed_redis_comes_back_with_every_acknowledged_write(redis: LocalServer):
    with redis_py.Redis.from_url(redis.uri, socket_timeout=5) as client:
        client.rpush("list", *range(500))
        redis.kill()
        redis.start()
        assert client.llen("list") == 500


def test_a_suspended_redis_answers_nothing_until_it_is_resumed(redis: LocalServer):
    with redis_py.Redis.from_url(redis.uri, socket_timeout=0.2, retry=None) as client:
        redis.suspend()
        assert psutil.Process(redis.pid).status() == psutil.STATUS_STOPPED
        with pytest.raises(redis_py.TimeoutError):
            client.ping()
        redis.resume()
    with redis_py.Redis.from_url(redis.uri, socket_timeout=5) as client:
        assert client.ping()


def test_start_and_stop_may_be_repeated(tmp_path: Path):
    server = redis_server(tmp_path)
    server.stop()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert gone(pid)


def test_a_suspended_mongo_stops_without_being_killed(tmp_path: Path):
    """SIGTERM may reach any of its threads."""
    with mongo_server(tmp_path) as server:
        server.suspend()
        assert {thread_state(server.pid, one.id) for one in psutil.Process(server.pid).threads()} == {"T"}
        assert server.stop()


def thread_state(pid: int, thread: int) -> str:
    """Its letter in /proc: T is stopped."""
    return Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(") ")[2][0]


def test_redis_options_reach_the_server(tmp_path: Path):
    with (
        redis_server(tmp_path, options=["--maxmemory", "64mb"]) as server,
        redis_py.Redis.from_url(server.uri, socket_timeout=5) as client,
    ):
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_an_occupied_port_is_one_clear_error(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert not port_is_free(port)
        with pytest.raises(ServerError, match=f"port {port} on 127.0.0.1 is used by another program"):
            redis_server(tmp_path, port=port).start()


def test_a_server_that_ends_at_once_names_its_log(tmp_path: Path):
    server = redis_server(tmp_path, options=["--no-such-option", "1"])
    with pytest.raises(ServerError, match=r"ended at its start, see .*redis\.log"):
        server.start()
    assert not server.is_running


PARENT = """
import sys, time, threading
from pathlib import Path
from ops.local.child import Child
child = Child("sleeper", ["sleep", "600"], log=Path(sys.argv[1]) / "log")
if sys.argv[2] == "main":
    child.start()
else:
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("thread", ["main", "other"])
def test_no_child_outlives_a_killed_parent(thread: str, tmp_path: Path):
    """Started from the main thread the kernel sees to it, from another one a guard does."""
    argv = [sys.executable, "-c", PARENT, str(tmp_path), thread]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert eventually(lambda: psutil.Process(child).name() == "sleep")
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    assert eventually(lambda: gone(child))


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path):
    """The kernel takes the end of the thread that started a child for the end of its parent."""
    child = Child("sleeper", ["sleep", "600"], log=tmp_path / "log")

    def start() -> None:
        child.start()
        eventually(lambda: psutil.Process(child.pid).name() == "sleep")

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    try:
        assert not child.wait(0.3)
    finally:
        child.kill()


def test_a_guard_leaves_with_its_child_however_that_ends(tmp_path: Path):
    child = Child("sleeper", ["sleep", "600"], log=tmp_path / "log")
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    assert eventually(lambda: len(psutil.Process(child.pid).children()) == 1)
    guard = psutil.Process(child.pid).children()[0].pid
    os.kill(child.pid, signal.SIGKILL)
    assert eventually(lambda: gone(guard))
    child.kill()


def test_a_childs_session_is_its_own(redis: LocalServer):
    """The terminal's Ctrl-C goes to a session's foreground group: it must not reach the servers."""
    if not redis.is_running:
        pytest.skip("redis is not the tests' own")
    assert os.getsid(redis.pid) == redis.pid
