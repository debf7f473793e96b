"""The operator's commands against a real fleet: healthy, and in each kind of trouble."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.apps.service import Beat, beat, producer
from tests.e2e.operator import Operator
from tests.e2e.workers import Worker, wait_until
from tests.faults.proxy import FaultProxy
from tests.faults.route import Route
from tests.schemas import validated

pytestmark = pytest.mark.timeout(180)

SETTINGS = {
    "CELERY_PYMONGO_DEPLOYMENT": f"cli-{os.getpid()}",
    "CELERY_PYMONGO_INCLUDE": "tests.e2e.apps.attribution",
    "CELERY_PYMONGO_SCHEDULER": "plain",
    "CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "2",
    "CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS": "2",
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
}
PROCESSES = 3
COMMANDS = (
    ("status",),
    ("processes",),
    ("ping",),
    ("reconnect",),
    ("pause",),
    ("resume",),
    ("snapshot",),
    ("flight", "w1/0"),
    ("leaks",),
    ("dead", "list"),
)
"""Each with its least arguments."""

PATIENTLY = ("--timeout", "30")
"""Of a busy machine: a command ends as soon as it has its answers."""


@dataclass
class Fleet:
    """w1 is a prefork node of two processes; w2 has threads, one connection, and a way of its own."""

    mongo: LocalServer
    redis: LocalServer
    way: Route
    w1: Worker
    w2: Worker
    beat: Beat
    sender: Celery
    operator: Operator
    env: dict[str, str]

    def send(self, task: str, node: Worker, *args: Any) -> Any:
        """Send one of the tasks that hold or leave something to a node."""
        return self.sender.send_task(f"attribution.{task}", args, queue=node.name)

    def status(self) -> dict[str, Any]:
        """Return what `status` says, whatever its code."""
        done = self.operator.run("status", "--json")
        return validated(done.stdout)

    def wait_for(self, verdict: str, reason: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait for a status with this verdict and such a reason; "" is for none at all."""
        found: list[dict[str, Any]] = []

        def is_so() -> bool:
            found.append(self.status())
            reasons = found[-1]["reasons"]
            is_told = any(reason in one for one in reasons) if reason else not reasons
            return found[-1]["verdict"] == verdict and is_told

        try:
            wait_until(is_so, what=f"{verdict}: {reason}", seconds=seconds)
        except TimeoutError as error:
            raise AssertionError(f"{error}; last: {found[-1]['verdict']} {found[-1]['reasons']}") from None
        return found[-1]


@pytest.fixture(scope="module")
def fleet(
    mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = Path(tmp_path_factory.mktemp("logs"))
    env = SETTINGS | {"MONGODB_URI": mongo.uri, "REDIS_URL": redis.uri}
    own = {"MONGODB_MAX_POOL_SIZE": "1", "MONGODB_WAIT_QUEUE_TIMEOUT_MS": "300"}
    alone = ("--without-mingle", "--without-gossip")
    with FaultProxy(seed=1) as proxy, ExitStack() as stack:
        way = proxy.route(mongo.uri)
        nodes = [
            Worker("worker", folder / f"{name}.log", pool, size, queues, settings, alone, name)
            for name, pool, size, queues, settings in (
                ("w1", "prefork", 2, ("w1", "mongo.health", "mongo.data"), env),
                (
                    "w2",
                    "threads",
                    4,
                    ("w2", "mongo.health", "mongo.data"),
                    env | own | {"MONGODB_URI": way.uri},
                ),
            )
        ]
        for node in nodes:
            stack.enter_context(node)
        sender = stack.enter_context(beat(env, folder))
        app = stack.enter_context(producer(env))
        for node in nodes:
            node.wait_ready()
        found = Fleet(mongo, redis, way, nodes[0], nodes[1], sender, app, Operator(env), env)
        wait_until(lambda: len(found.status()["circuits"] or {}) == 1, what="reports", seconds=30)
        wait_until(lambda: found.status()["coverage"]["counts"]["live"] == PROCESSES, what="all", seconds=30)
        yield found


# --- healthy ---


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_of_a_healthy_fleet_every_command_ends_with_0_and_its_document(
    fleet: Fleet, command: tuple[str, ...]
) -> None:
    told = fleet.operator.json(*command, *PATIENTLY)
    assert told["unseen"].keys() <= {"server connections"}
    if "processes" in told and command != ("leaks",):
        assert len(told["processes"]) == PROCESSES


def test_a_healthy_fleet_is_told_in_full(fleet: Fleet) -> None:
    told = fleet.wait_for("ok", "")
    assert told["coverage"]["counts"] == {"live": PROCESSES, "stale": 0, "busy": 0, "lost": 0, "missing": 0}
    assert told["mongodb"]["server"].startswith(("SecantusDB ", "MongoDB "))
    assert told["mongodb"]["topology"]["primary"] is not None
    assert told["mongodb"]["connections"]["current"] > PROCESSES
    assert (told["since"], told["beat"]["scheduler"]) != (None, None)
    assert {"w1", "mongo.health"} <= set(told["queues"])
    lines = fleet.operator.run("status").stdout.splitlines()
    assert lines[0].startswith(f"ok  deployment {SETTINGS['CELERY_PYMONGO_DEPLOYMENT']}  ")
    assert f"processes    {PROCESSES} of {PROCESSES} seen: {PROCESSES} live" in lines


def test_a_new_client_is_one_that_every_process_opened(fleet: Fleet) -> None:
    def replaced() -> int:
        return (fleet.w1.text + fleet.w2.text).count("client.replaced")

    before = replaced()
    told = fleet.operator.json("reconnect", "--replace", *PATIENTLY)
    assert all(row["reconnected"] and row["replaced"] for row in told["processes"])
    assert replaced() == before + PROCESSES


def test_a_ping_is_of_now_and_of_the_nodes_that_are_meant(fleet: Fleet) -> None:
    told = fleet.operator.json("ping", "--node", "w2*", *PATIENTLY)
    (row,) = told["processes"]
    assert (row["node"], row["error"]) == (fleet.w2.hostname, None)
    assert row["ms"] > 0
    nobody = fleet.operator.run("ping", "--node", "w3*")
    assert (nobody.returncode, nobody.stderr) == (3, "mongo: no process of a node w3* reports\n")


def test_a_paused_queue_waits_until_it_is_resumed(fleet: Fleet) -> None:
    operator = fleet.operator
    operator.json("pause", "mongo.data", *PATIENTLY)
    sent = fleet.sender.send_task("mongo.data.count", ("cli",), queue="mongo.data")
    queue = fleet.status()["queues"]["mongo.data"]
    assert (queue["depth"], queue["gate"]) == (1, "operator")
    told = operator.json("resume", *PATIENTLY)
    assert all(node["closed"] == {} for node in told["nodes"])
    wait_until(sent.ready, what="a message that was not left alone any longer")
    refused = operator.json("pause", "w1", code=3)
    assert "no gated queue" in refused["nodes"][0]["why"]


@pytest.mark.full
def test_processes_are_sorted_and_picked(fleet: Fleet) -> None:
    rows = fleet.operator.json("processes", "--node", "w1*", "--sort", "slot", "--reverse")["processes"]
    assert [row["slot"] for row in rows] == [1, 0]
    assert {row["pid"] for row in rows} == set(fleet.w1.children())
    assert all(row["memory"] > 1_000_000 for row in rows)
    told = fleet.operator.json("processes", "--limit", "1")
    assert (len(told["processes"]), told["matching"], told["total"]) == (1, PROCESSES, PROCESSES)


@pytest.mark.full
def test_a_flight_recorder_is_the_one_that_is_named(fleet: Fleet) -> None:
    told = fleet.operator.json("flight", "w1/1", "--limit", "3")
    assert told["process"] == f"{fleet.w1.hostname}/1"
    assert (told["died"], len(told["records"])) == (False, 3)
    wrong = fleet.operator.run("flight", "w9/0")
    assert wrong.returncode == 64
    assert wrong.stderr.startswith("mongo: there is no process w9/0; there are w1@")
    nobody = fleet.operator.run("flight", "w1/0", "--dead")
    assert (nobody.returncode, nobody.stdout) == (3, "")


# --- how it is shown ---


def test_a_watch_is_redrawn_and_leaves_the_terminal_as_it_was(fleet: Fleet) -> None:
    screen, code = fleet.operator.on_terminal("status", "--watch", until=lambda text: text.count("▁▁▁") > 2)
    assert code == 0
    assert "\x1b[?1049h" in screen  # another screen, and back
    after = screen.rpartition("\x1b[?1049l")[2]
    assert "deployment" in after  # what was seen last stays
    assert "Traceback" not in screen
    assert "\x1b[?25h" in screen.rpartition("\x1b[?25l")[2]  # the cursor is back


@pytest.mark.full
def test_colour_is_for_a_terminal_that_wants_it(fleet: Fleet) -> None:
    green = "\x1b[32mok"

    def shown(**env: str) -> str:
        operator = Operator(fleet.env | env)
        return operator.on_terminal("status", until=lambda _text: False)[0]

    assert green in shown()
    assert "\x1b[3" not in shown(NO_COLOR="1")
    assert "\x1b" not in shown(TERM="dumb")
    assert "\x1b" not in fleet.operator.run("status").stdout


def test_a_narrow_terminal_is_not_overrun(fleet: Fleet) -> None:
    operator = Operator(fleet.env | {"NO_COLOR": "1"})
    for command in ("status", "processes", "snapshot"):
        text, _ = operator.on_terminal(command, until=lambda _text: False, columns=80)
        assert max(map(len, text.splitlines())) <= 80
        assert "w1@localhost" in text


@pytest.mark.full
def test_a_watch_in_a_pipe_is_a_document_a_second(fleet: Fleet) -> None:
    with subprocess.Popen(
        fleet.operator._command("status", "--watch", "--json"),
        env=os.environ | fleet.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.stdout.close()
        # The reader has gone: it ends at its next line.
        assert process.wait(20) == 0
    assert all(line.startswith('{"schema": "status/1"') for line in lines)


@pytest.mark.full
def test_a_closed_pipe_changes_no_exit_code(fleet: Fleet) -> None:
    with open(os.devnull) as nobody:  # not for writing
        done = fleet.operator.run("status", stdout=nobody)
    assert (done.returncode, done.stderr) == (0, "mongo: standard output was closed before the result\n")


@pytest.mark.parametrize("arguments", [("status",), ("schema",), ("doctor", "--help"), ("status", "--watch")])
def test_a_result_that_cannot_be_written_is_an_error(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = fleet.operator.run(*arguments, stdout=full)
    assert done.returncode == os.EX_IOERR
    assert done.stderr == "mongo: cannot write to standard output: No space left on device\n"


def test_ctrl_c_ends_a_command_at_once_in_one_line(fleet: Fleet) -> None:
    def is_waiting(_text: str) -> bool:
        # Not before: what meets the import of Celery itself is not ours.
        for process in psutil.Process().children():
            with suppress(psutil.Error):
                peers = [getattr(one.raddr, "port", 0) for one in process.net_connections()]
                if "ping" in process.cmdline() and fleet.redis.port in peers:
                    return True
        return False

    text, code = fleet.operator.on_terminal("ping", "--node", "w1*", "--timeout", "60", until=is_waiting)
    assert "Traceback" not in text
    assert code in (0, 130)  # it may have been done by then
    assert ("mongo: interrupted" in text) is (code == 130)


# --- what a machine sees that does not reach everything ---


@pytest.mark.full
def test_a_machine_that_reaches_redis_alone_is_told_what_the_fleet_knows(fleet: Fleet) -> None:
    secret = "hunter2"  # noqa: S105 - which must not be shown
    far = Operator(fleet.env | {"MONGODB_URI": f"mongodb://ops:{secret}@127.0.0.1:1/"})
    told = far.json("status")
    assert (told["verdict"], told["mongodb"]["verdict"]) == ("ok", "down")
    assert told["unseen"]["MongoDB"].startswith("127.0.0.1:1: Connection refused")
    shown = far.run("status")
    assert f"not seen: MongoDB ({told['unseen']['MongoDB']})" in shown.stdout
    for command in (("processes",), ("snapshot",), ("flight", "w1/0"), ("leaks",), ("dead", "list")):
        done = far.run(*command)
        assert (done.returncode, secret in done.stdout + done.stderr) == (0, False), command


def test_settings_that_are_refused_are_a_line_and_78(fleet: Fleet) -> None:
    done = Operator(fleet.env | {"MONGODB_URI": "http://localhost"}).run("status")
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1
    assert "MONGODB_URI" in done.stderr


# --- in trouble ---


@pytest.mark.full
def test_what_a_task_left_open_is_told_with_its_name(fleet: Fleet) -> None:
    fleet.send("leave_session", fleet.w1).get(timeout=20)
    fleet.w1.wait_for_log("pool.leak")
    wait_until(lambda: fleet.operator.run("leaks").returncode == 1, what="a counted leak")
    told = fleet.operator.json("leaks", code=1)
    assert (told["totals"]["leaks"], len(told["processes"])) == (1, 1)
    (task,) = told["tasks"]
    assert (task["what"], task["task"]) == ("left open: a session", "attribution.leave_session")
    assert "attribution.leave_session" in fleet.operator.run("leaks").stdout


@pytest.mark.full
def test_an_exhausted_pool_degrades_and_is_named(fleet: Fleet) -> None:
    data = {"failCommands": ["distinct"], "blockConnection": True, "blockTimeMS": 1500}
    with MongoClient[dict[str, Any]](fleet.mongo.uri) as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    sent = [fleet.send("hold", fleet.w2) for _ in range(4)]
    told = fleet.wait_for(
        "degraded", f"operations got no connection in time, in the last minute, in 1 process: {W2}"
    )
    assert told["outliers"]["timeouts"][0]["process"] == W2
    assert fleet.operator.run("status").returncode == 1
    for result in sent:
        result.get(timeout=60, propagate=False)


W2 = "w2@localhost/0"


@pytest.mark.full
def test_a_node_that_is_cut_off_is_told_from_an_outage(fleet: Fleet) -> None:
    fleet.way.refuse()
    fleet.way.reset()
    told = fleet.wait_for("degraded", "1 of 3 processes is cut off from MongoDB")
    assert told["nodes"]["rows"][fleet.w2.hostname]["verdict"] == "down"
    assert told["nodes"]["rows"][fleet.w1.hostname]["verdict"] in ("ok", "degraded")
    (row,) = fleet.operator.json("processes", "--circuit", "open", "--circuit", "half-open")["processes"]
    assert row["node"] == fleet.w2.hostname
    pinged = fleet.operator.json("ping", *PATIENTLY, code=1)
    assert (pinged["answered"], pinged["heard"]) == (2, 3)
    assert "refused" in next(one["error"] for one in pinged["processes"] if one["error"])
    assert fleet.operator.json("reconnect", *PATIENTLY, code=1)["verdict"] == "degraded"
    fleet.way.clear()
    wait_until(lambda: fleet.status()["circuits"] == {"closed": 3}, what="its return", seconds=30)


def test_without_mongodb_it_is_down_and_every_command_still_answers(fleet: Fleet) -> None:
    fleet.beat.close()  # told of once it has been silent for half a minute, by a test below
    fleet.mongo.kill()
    told = fleet.wait_for("down", "3 of 3 processes are cut off from MongoDB")
    assert told["mongodb"]["verdict"] == "down"
    assert told["coverage"]["seen"] == PROCESSES
    assert fleet.operator.json("ping", *PATIENTLY, code=2)["answered"] == 0
    for command in (("processes",), ("snapshot",), ("dead", "list")):
        assert fleet.operator.json(*command)["schema"]
    records = fleet.operator.json("flight", "w1/0")["records"]
    assert "heartbeat.failed" in {record["kind"] for record in records}
    fleet.mongo.start()
    wait_until(lambda: fleet.status()["circuits"] == {"closed": 3}, what="its return", seconds=60)


@pytest.mark.full
def test_a_process_that_was_killed_is_told_by_its_post_mortem(fleet: Fleet) -> None:
    victim = next(
        row for row in fleet.operator.json("processes")["processes"] if row["node"] != "w2@localhost"
    )
    os.kill(victim["pid"], 9)
    fleet.w1.wait_for_log("process.lost")
    told = fleet.operator.json("flight", f"w1/{victim['slot']}", "--dead")
    assert (told["died"], told["pid"]) == (True, victim["pid"])
    assert "client.opened" in {record["kind"] for record in told["records"]}


@pytest.mark.full
def test_a_beat_that_died_is_told(fleet: Fleet) -> None:
    told = fleet.wait_for("degraded", "beat has not ticked for", seconds=50)
    assert told["beat"]["silence"] > 30
    assert told["layers"]["beat"] == "degraded"


@pytest.mark.full
def test_without_redis_nothing_is_known_and_every_command_says_so_in_a_line(fleet: Fleet) -> None:
    """The last test: the fleet loses its broker."""
    fleet.redis.kill()
    told = fleet.operator.json("status", code=2)
    assert (told["verdict"], told["mongodb"]["verdict"], told["coverage"]) == ("down", "ok", None)
    assert told["finding"]["id"] == "redis-down"
    assert told["unseen"]["Redis"] == "ConnectionError"
    assert fleet.operator.run("status").stdout.startswith("down  deployment")
    for command in COMMANDS[1:]:
        done = fleet.operator.run(*command, "--timeout", "3")
        assert (done.returncode, done.stdout) == (3, ""), command
        assert (
            done.stderr
            == f"mongo: Redis at 127.0.0.1:{fleet.redis.port}/0 does not answer (ConnectionError)\n"
        )
