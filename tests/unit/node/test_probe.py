"""What the probe says of a board, and what it costs to ask."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.board.board import Board
from worker.connection.circuit import CircuitState
from worker.node import probe

ROOT = Path(__file__).resolve().parents[3]
NAME = f"probe-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(node="w1@h", deployment=NAME, slots=2)
    yield board
    board.unlink()


def ask(question: str, *more: str) -> int:
    return probe.main([question, "--deployment", NAME, *more])


def serve(board: Board, *, ok: float | None = 0.1) -> None:
    row = board.rows[0]
    row.begin(os.getpid())
    row.write_report(json.dumps({"ok": ok}).encode())


def test_a_worker_that_serves_is_live_started_and_ready(
    board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(board)
    assert [ask(question) for question in ("live", "started", "ready")] == [0, 0, 0]
    assert capsys.readouterr().out.splitlines() == [
        f"live: the main process {os.getpid()} lives",
        "started: a process has reached MongoDB",
        "ready: 1 of 2 processes reach MongoDB",
    ]


def test_mongodb_away_is_not_ready_and_lives(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    serve(board)
    board.rows[0].set_circuit(CircuitState.OPEN)
    assert [ask(question) for question in ("live", "started", "ready")] == [0, 0, 1]
    assert capsys.readouterr().out.endswith("not ready: none of 1 processes reaches MongoDB\n")


def test_before_the_first_answer_nothing_has_started(board: Board) -> None:
    serve(board, ok=None)
    assert [ask(question) for question in ("live", "started")] == [0, 1]


def test_a_process_that_does_not_tick_does_not_serve(board: Board) -> None:
    serve(board)
    later = time.monotonic() + probe.FRESH_SECONDS + 1
    assert probe.ready(board, later) == (False, "no process of the node ticks")


def test_a_main_that_is_stopped_or_dead_is_not_live(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys, time; from worker.board.board import Board;"
        f"b = Board.create(node='w2@h', deployment={NAME!r}, slots=1);"
        "print(b.path, flush=True); time.sleep(60)"
    )
    main = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert main.stdout is not None
    path = Path(main.stdout.readline().strip())
    try:
        assert ask("live") == 0
        main.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, main.pid, os.WSTOPPED)
        assert ask("live") == 1
        assert capsys.readouterr().out.endswith(f"not live: the main process {main.pid} is stopped\n")
    finally:
        main.kill()
        main.wait()
        main.stdout.close()
    assert ask("ready") == 1
    assert capsys.readouterr().out == f"not ready: the main process {main.pid} has ended\n"
    path.unlink()


def test_no_worker_is_no_and_several_want_a_name(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["live", "--deployment", f"{NAME}-none"]) == 1
    assert "no worker of deployment" in capsys.readouterr().out
    other = Board.create(node="w2@h", deployment=NAME, slots=1)
    try:
        assert ask("live") == os.EX_USAGE
        assert "name one with --node: w1@h, w2@h" in capsys.readouterr().err
        assert ask("live", "--node", "w2@h") == 0
    finally:
        other.unlink()


def test_wrong_usage_is_64() -> None:
    with pytest.raises(SystemExit) as ended:
        probe.main(["lively"])
    assert ended.value.code == os.EX_USAGE


def test_it_imports_nothing_that_takes_long() -> None:
    code = "import sys, worker.node.probe; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    slow = {
        "celery",
        "kombu",
        "pymongo",
        "bson",
        "redis",
        "pydantic",
        "sentry_sdk",
        "click",
        "rich",
        "asyncio",
    }
    assert slow & set(done.stdout.split()) == set()
