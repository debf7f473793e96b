"""Remote control: what the commands answer, from rows alone."""

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker.control import Panel
from kombu.pidbox import Mailbox

from worker.board import file, pauses
from worker.board.board import Board
from worker.board.row import Command
from worker.connection.circuit import CircuitState
from worker.health import node_view
from worker.health.node_view import Now
from worker.node import addressed, control
from worker.settings.types import GATED_QUEUES
from worker.tracking.flight import Kind

ME = os.getpid()
NOBODY = 2**22 + 1  # above what Linux gives to a process
INSPECT = ("mongo_pools", "mongo_health", "mongo_flight")
CONTROL = ("mongo_reset_stats", "mongo_ping", "mongo_pause", "mongo_resume", "mongo_reconnect")
COMMANDS = INSPECT + CONTROL
GATED = ("mongo.data", "bills")


@pytest.fixture
def board(tmp_path, monkeypatch) -> Any:
    monkeypatch.setattr(file, "folders", lambda: iter([tmp_path]))
    return Board.create(node="w1@host", deployment="test", slots=3)


def ask(board: Board | None, command: str, *, gated: tuple[str, ...] = GATED, **arguments: Any) -> Any:
    """Ask as Celery does, and hold the answer against JSON."""
    settings = SimpleNamespace(gated_queues=gated)
    state = SimpleNamespace(app=SimpleNamespace(mongo=SimpleNamespace(board=board, settings=settings)))
    answer = Panel.data[command](state, **arguments)
    assert json.loads(json.dumps(answer)) == answer
    return answer


def begin(board: Board, slot: int, pid: int = ME, **report: Any) -> None:
    board.rows[slot].begin(pid)
    told = {"kind": "prefork", "ok": 0.1, "circuit": "closed", "outage": 0.0} | report
    board.rows[slot].write_report(json.dumps(told).encode())


def now(board: Board, *, later: float = 0.0) -> Now:
    """Return the moment of slot 0's last report, or so many seconds later."""
    ticked_at = board.rows[0].read().ticked_at or board.created_at
    return Now(monotonic=ticked_at + later, unix=1_700_000_000.0 + later)


def health(board: Board, *, later: float = 0.0) -> dict[str, Any]:
    return node_view.health(board, now(board, later=later))


# -- the commands ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_worker_without_a_board_says_so(command):
    assert ask(None, command) == {"error": "this worker has no board"}


def test_each_command_is_there_for_the_command_line():
    kinds = {name: Panel.meta[name].type for name in COMMANDS}
    assert kinds == dict.fromkeys(INSPECT, "inspect") | dict.fromkeys(CONTROL, "control")
    assert all(Panel.meta[name].help for name in COMMANDS)


def test_each_command_answers_in_json(board):
    begin(board, 0)
    for command in COMMANDS:
        assert "error" not in ask(board, command)


def test_statistics_are_reset_by_the_processes_that_live(board):
    begin(board, 0)
    begin(board, 1, pid=NOBODY)
    assert ask(board, "mongo_reset_stats")["ok"].startswith("asked 1 process")
    assert [row.taken() for row in board.rows] == [[Command.RESET], [], []]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ({}, Command.PROBE),
        ({"replace": "replace=false"}, Command.PROBE),
        ({"replace": "true"}, Command.REPLACE),
        ({"replace": "replace=true"}, Command.REPLACE),
        ({"replace": True}, Command.REPLACE),
    ],
)
def test_a_reconnection_is_asked_of_the_processes_that_live(board, arguments, command):
    begin(board, 0)
    begin(board, 1, pid=NOBODY)
    assert ask(board, "mongo_reconnect", **arguments)["ok"].startswith("asked 1 process")
    assert [row.taken() for row in board.rows] == [[command], [], []]


def test_a_ping_is_asked_of_the_processes_that_live(board):
    begin(board, 0)
    begin(board, 1, pid=NOBODY)
    assert ask(board, "mongo_ping") == {"ok": "asked 1 process; each obeys at its next tick"}
    assert [row.taken() for row in board.rows] == [[Command.PING], [], []]


def test_a_reconnection_of_neither_kind_is_an_error_and_asked_of_nobody(board):
    begin(board, 0)
    assert ask(board, "mongo_reconnect", replace="yes") == {"error": "replace is true or false"}
    assert board.rows[0].taken() == []


def paused(board: Board) -> set[str] | None:
    return pauses.paused(pauses.Orders.read(board.orders), pauses.Known.read(board.paused))


def test_a_pause_is_of_one_queue_or_of_all_that_are_gated(board):
    assert "paused bills" in ask(board, "mongo_pause", queue="bills")["ok"]
    assert paused(board) == {"bills"}
    assert "paused mongo.data, bills" in ask(board, "mongo_pause")["ok"]
    assert paused(board) == {"mongo.data", "bills"}
    assert "resumed bills" in ask(board, "mongo_resume", queue="bills")["ok"]
    assert paused(board) == {"mongo.data"}


@pytest.mark.parametrize(
    ("message", "arguments", "name", "where"),
    [
        ({"destination": None}, {}, "*bills", "on every node"),
        ({"destination": ["w1@h"]}, {}, "bills", "on this node"),
        ({"pattern": "w*", "matcher": "glob"}, {}, "bills", "on this node"),
        ({"destination": ["w1@h"]}, {"everywhere": True}, "*bills", "on every node"),
    ],
)
def test_a_command_that_names_no_node_is_for_those_that_start_later_too(
    board, message, arguments, name, where
):
    settings = SimpleNamespace(gated_queues=GATED)
    state = SimpleNamespace(app=SimpleNamespace(mongo=SimpleNamespace(board=board, settings=settings)))
    make: Any = addressed.NotingNode
    node = make("w1@h", state=state, handlers=Panel.data, mailbox=Mailbox("celery"))
    node.adjust_clock = lambda _clock: None
    command = {"method": "mongo_pause", "arguments": {"queue": "bills", **arguments}}
    told = node.handle_message(command | message)
    assert where in told["ok"]
    assert pauses.Orders.read(board.orders).wanted == {name: True}
    assert not addressed.is_addressed()


@pytest.mark.parametrize(("queue", "gated"), [("celery", GATED), (None, ())])
def test_a_queue_that_is_not_gated_cannot_be_paused(board, queue, gated):
    assert "no gated queue" in ask(board, "mongo_pause", queue=queue, gated=gated)["error"]
    assert paused(board) is None


def test_pauses_of_as_many_and_as_long_queues_as_the_settings_take_fit_on_the_board(board):
    names = tuple(f"{number:02}".ljust(64, "x") for number in range(GATED_QUEUES))
    ask(board, "mongo_pause", gated=names)
    assert paused(board) == set(names)
    orders, when = pauses.Orders.read(board.orders), 1_795_397_518.123456
    known = pauses.carry(orders, None, {}, now=when)
    board.paused = known.text()
    assert pauses.Known.read(board.paused) == known
    board.gate = {name: ["operator", round(when, 3)] for name in names}
    assert set(board.gate) == set(names)


# -- pools ----------------------------------------------------------------------------------------------


def test_there_is_a_row_for_each_slot_whatever_became_of_its_process(board):
    begin(board, 0)
    begin(board, 1, pid=NOBODY)
    begin(board, 2)
    board.rows[2].close()
    answer = ask(board, "mongo_pools")
    assert (answer["node"], answer["kind"]) == ("w1@host", "prefork")
    rows = [(row["slot"], row["pid"], row["state"], row["alive"]) for row in answer["slots"]]
    assert rows == [(0, ME, "open", True), (1, NOBODY, "open", False), (2, ME, "closed", False)]
    assert [row["report"] is None for row in answer["slots"]] == [False, False, True]


def test_a_slot_without_a_process_is_a_row_of_nothing(board):
    (row, *_) = ask(board, "mongo_pools")["slots"]
    nothing = dict.fromkeys(("pid", "age", "circuit", "task", "report"))
    assert row == {"slot": 0, "state": "empty", "alive": False} | nothing


def test_slots_beyond_those_expected_are_told_where_somebody_lives_there(board):
    board.expected = 1
    begin(board, 2)
    assert [row["slot"] for row in ask(board, "mongo_pools")["slots"]] == [2]
    begin(board, 1, pid=NOBODY)
    assert [row["slot"] for row in ask(board, "mongo_pools")["slots"]] == [2]
    # That of the dead is told before one that never was anybody's.
    board.expected = 2
    assert [row["slot"] for row in ask(board, "mongo_pools")["slots"]] == [1, 2]


def test_the_task_and_the_circuit_are_those_of_now_not_of_the_report(board):
    begin(board, 0, task={"name": "old", "id": "0", "seconds": 1.0})
    board.rows[0].set_work("tasks.new", "id-1")
    board.rows[0].set_circuit(CircuitState.OPEN)
    (row, *_) = ask(board, "mongo_pools")["slots"]
    assert (row["task"]["name"], row["task"]["id"]) == ("tasks.new", "id-1")
    assert row["task"]["seconds"] >= 0
    assert row["circuit"] == row["report"]["circuit"] == "open"
    board.rows[0].clear_work()
    assert ask(board, "mongo_pools")["slots"][0]["task"] is None
    board.rows[0].set_work("tasks.new", "id-1")
    board.rows[0].close()
    assert ask(board, "mongo_pools")["slots"][0]["task"] is None


def test_of_many_tasks_at_a_time_the_report_names_the_longest(board):
    task = {"name": "tasks.add", "id": "1", "seconds": 1.0, "running": 8}
    begin(board, 0, kind="threads", task=task)
    assert ask(board, "mongo_pools")["slots"][0]["task"] == task


def test_the_age_of_a_row_is_that_of_its_last_report(board):
    begin(board, 0)
    (row, *_) = node_view.pools(board, now(board, later=2.5))["slots"]
    assert row["age"] == 2.5


# -- health ---------------------------------------------------------------------------------------------


def test_a_node_whose_processes_reach_mongodb_is_ok(board):
    for slot in range(3):
        begin(board, slot)
    found = health(board)
    assert (found["node"], found["verdict"], found["reasons"], found["since"]) == ("w1@host", "ok", [], None)
    assert found["slots"] == {"expected": 3, "live": 3, "stale": 0, "busy": 0, "lost": 0, "missing": 0}
    assert found["gate"] == {}


def test_the_queues_that_a_node_leaves_alone_are_told(board):
    board.gate = {"mongo.data": ["operator", 1_700_000_000.5]}
    assert ask(board, "mongo_health")["gate"] == {"mongo.data": {"why": "operator", "since": 1_700_000_000.5}}


def test_a_node_that_starts_is_unknown_until_a_process_reached_mongodb(board):
    assert health(board)["verdict"] == "unknown"
    board.rows[0].begin(ME)
    assert health(board)["verdict"] == "unknown"
    begin(board, 0, ok=None)
    assert health(board)["reasons"] == ["no process has reached MongoDB yet"]
    begin(board, 1)
    assert health(board)["verdict"] == "ok"


def test_a_process_that_was_killed_degrades_its_node_at_once(board):
    begin(board, 0)
    begin(board, 1, pid=NOBODY)
    found = health(board)
    assert (found["verdict"], found["slots"]["lost"]) == ("degraded", 1)
    assert found["reasons"] == ["1 of 3 processes is lost: w1@host/1"]
    assert found["since"] == pytest.approx(1_700_000_000.0, abs=5)


def test_a_slot_may_be_empty_for_a_moment_but_not_for_long(board):
    begin(board, 0)
    begin(board, 1)
    begin(board, 2)
    board.rows[2].close()
    assert health(board, later=5)["verdict"] == "ok"
    found = health(board, later=16)
    assert (found["verdict"], found["slots"]["missing"]) == ("degraded", 1)
    assert found["reasons"] == ["1 of 3 processes is missing: w1@host/2"]


def test_slots_that_never_had_a_process_are_missing_after_a_while(board):
    begin(board, 0)
    assert health(board, later=14)["verdict"] == "ok"
    found = health(board, later=16)
    assert (found["verdict"], found["slots"]["missing"]) == ("degraded", 2)
    assert found["reasons"] == ["2 of 3 processes are missing: w1@host/1, w1@host/2"]


def test_a_process_that_does_not_report_but_lives_is_busy_and_no_reason(board):
    for slot in range(3):
        begin(board, slot)
    states = {later: health(board, later=later)["slots"] for later in (2, 10, 100)}
    found = {later: next(s for s in ("live", "stale", "busy") if states[later][s]) for later in states}
    assert found == {2: "live", 10: "stale", 100: "busy"}
    assert health(board, later=100)["verdict"] == "ok"


def test_an_open_circuit_counts_before_the_report_tells_of_it(board):
    for slot in range(3):
        begin(board, slot)
    board.rows[1].set_circuit(CircuitState.OPEN)
    found = health(board)
    assert found["verdict"] == "degraded"
    assert found["reasons"] == ["1 of 3 processes is cut off from MongoDB, for 0 s: w1@host/1"]


def test_a_node_that_is_cut_off_is_down_since_the_outage_began(board):
    for slot, outage in enumerate((30.0, 20.0, 10.0)):
        begin(board, slot, outage=outage)
        board.rows[slot].set_circuit(CircuitState.OPEN)
    found = health(board, later=2)
    assert found["verdict"] == "down"
    assert found["since"] == pytest.approx(1_700_000_000.0 - 30.0, abs=1)


# -- flight recorders -----------------------------------------------------------------------------------


def test_without_a_slot_the_newest_events_of_each_are_told(board):
    for slot, row in enumerate(board.rows):
        row.begin(ME)
        for number in range(60):
            row.recorder.record(Kind.DRIFT, number, f"slot {slot}")
    for slot, told in enumerate(ask(board, "mongo_flight")["slots"]):
        assert (told["slot"], told["pid"]) == (slot, ME)
        assert [record["number"] for record in told["records"]] == list(range(10, 60))
        assert told["records"][0]["text"] == f"slot {slot}"


def test_of_one_slot_every_event_is_told(board):
    for number in range(250):
        board.rows[1].recorder.record(Kind.DRIFT, number)
    (told,) = ask(board, "mongo_flight", slot=1)["slots"]
    assert [record["number"] for record in told["records"]] == list(range(50, 250))


@pytest.mark.parametrize("slot", [-1, 3])
def test_a_slot_that_is_not_there_is_an_error(board, slot):
    assert ask(board, "mongo_flight", slot=slot) == {
        "error": f"there is no slot {slot}: this node has 0 to 2"
    }


def test_replies_of_a_large_node_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "folders", lambda: iter([tmp_path]))
    board = Board.create(node="w1@host", deployment="test", slots=64)
    report = json.dumps({"kind": "prefork", "ok": 1.0, "x": "x" * 1490}).encode()
    for row in board.rows:
        row.begin(ME)
        assert row.write_report(report)
        for _ in range(200):
            row.recorder.record(Kind.CONNECTION_CLOSED, 1234.5678, "h" * 64)
    for command in COMMANDS:
        assert len(json.dumps(ask(board, command))) < 256 * 1024


def test_the_module_keeps_its_commands_names():
    """The command line and people's scripts call them by these."""
    assert {name for name in vars(control) if name.startswith("mongo_")} == set(COMMANDS)
