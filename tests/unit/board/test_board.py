"""The board: rows that are read whole whatever their writer does, and boards that outlive their MAIN."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.board import file, process_identity
from worker.board import row as board_row
from worker.board.board import RECORD_BYTES, Board, NoBoardError, leftovers
from worker.board.double_buffer import DoubleBuffer, size_of
from worker.board.row import Command, PrivateRow, Row
from worker.connection.circuit import CircuitState
from worker.tracking.flight import Kind

ROOT = Path(__file__).resolve().parents[3]
ME = os.getpid()
NOBODY = 2**22 + 1  # above what Linux gives to a process


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "folders", lambda: iter([tmp_path]))
    return tmp_path


@pytest.fixture
def board(folder) -> Any:
    return Board.create(node="w1@host", deployment="test", slots=3)


def run(code: str, *arguments: str) -> str:
    """Run code in a Python of its own: what forks or dies may not be the test's process."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


# -- rows -----------------------------------------------------------------------------------------------


def test_an_empty_row_says_so():
    row = PrivateRow()
    assert row.read().state == "empty"
    assert not row.read().is_alive
    assert row.read().work is None
    assert row.read().report is None


def test_a_row_tells_what_its_process_wrote():
    row = PrivateRow()
    assert row.begin(ME) is None
    row.set_work("tasks.add", "id-1")
    row.set_circuit(CircuitState.HALF_OPEN)
    assert row.write_report(b'{"ok": 2.5}')
    state = row.read()
    assert (state.state, state.pid, state.circuit) == ("open", ME, CircuitState.HALF_OPEN)
    assert state.is_alive
    assert state.work is not None
    assert (state.work.name, state.work.id) == ("tasks.add", "id-1")
    assert state.work.since <= time.monotonic()
    assert state.report == {"ok": 2.5}
    assert state.ticked_at is not None
    assert state.last_success == state.ticked_at - 2.5


def test_a_task_that_ended_is_no_longer_told():
    row = PrivateRow()
    row.begin(ME)
    row.set_work("tasks.add", "id-1")
    row.clear_work()
    assert row.read().work is None


@given(st.text(), st.text())
def test_names_of_any_length_and_kind_are_cut(name, task_id):
    row = PrivateRow()
    row.set_work(name, task_id)
    work = row.read().work
    assert work is not None
    shown = work.name if len(name.encode("utf-8", "replace")) <= 128 else work.name.removesuffix("…")
    assert name.rstrip("\0").startswith(shown)
    assert task_id.rstrip("\0").startswith(work.id)


@pytest.mark.parametrize("cut", range(1, board_row._WORK.size - 7))
def test_a_task_whose_writer_died_over_it_is_unknown_not_misread(cut):
    """What it had not yet written is zero, the second of the two counters at least."""
    buffer = bytearray(board_row.SIZE)
    row = Row(memoryview(buffer))
    row.set_work("n" * 128, "i" * 64)
    at, end = board_row._WORK_AT, board_row._WORK_AT + board_row._WORK.size
    buffer[at + cut : end] = bytes(end - at - cut)
    assert row.read().work is None


def test_a_report_that_is_too_long_or_no_json_is_not_told():
    row = PrivateRow()
    row.begin(ME)
    assert not row.write_report(b"x" * 1537)
    assert row.read().report is None
    assert row.read().ticked_at is not None
    for text in (b"{", b"[]", b"\xff"):
        assert row.write_report(text)
        assert row.read().report is None


def test_a_row_whose_process_died_is_handed_to_its_successor_and_wiped():
    row = PrivateRow()
    row.begin(NOBODY)
    row.set_work("tasks.add", "id-1")
    row.write_report(b'{"v": 1}')
    row.recorder.record(Kind.CIRCUIT, text="open")
    found = row.begin(ME)
    assert found is not None
    assert (found.row.pid, found.row.report) == (NOBODY, {"v": 1})
    assert found.row.work is not None
    assert [record["text"] for record in found.flight] == ["open"]
    state = row.read()
    assert (state.pid, state.work, state.report, state.ticked_at) == (ME, None, None, None)
    assert row.recorder.read() == []


def test_a_row_that_was_closed_has_no_post_mortem():
    row = PrivateRow()
    row.begin(NOBODY)
    row.close()
    assert row.read().state == "closed"
    assert row.begin(ME) is None


def test_a_pid_that_is_used_again_is_another_process():
    row = PrivateRow()
    row.begin(ME)
    row._integers[board_row._BORN] -= 1
    assert not row.read().is_alive
    found = row.begin(ME)
    assert found is not None
    assert found.row.pid == ME


def test_a_process_that_opens_again_keeps_its_row():
    row = PrivateRow()
    row.begin(ME)
    row.recorder.record(Kind.CLIENT_CLOSED)
    row.close()
    assert row.begin(ME) is None
    assert row.read().state == "open"
    assert len(row.recorder.read()) == 1


def test_a_process_on_its_way_out_loses_the_row_to_its_successor_for_good():
    buffer = memoryview(bytearray(board_row.SIZE))
    old, new = Row(buffer), Row(buffer)
    parent = os.getppid()
    old.begin(parent)
    assert new.begin(ME) is None
    assert not old.write_report(b'{"v": 1}')
    old.set_circuit(CircuitState.OPEN)
    old.close()
    state = new.read()
    assert (state.state, state.pid, state.report, state.circuit) == ("open", ME, None, CircuitState.CLOSED)


def test_commands_reach_the_process_once_and_not_its_successor():
    buffer = memoryview(bytearray(board_row.SIZE))
    main, child = Row(buffer), Row(buffer)
    main.request(Command.PROBE)
    child.begin(ME)
    assert child.taken() == []
    main.request(Command.PING)
    main.request(Command.RESET)
    main.request(Command.RESET)
    assert child.taken() == [Command.RESET, Command.PING]
    assert child.taken() == []


# -- the double buffer ----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=6), st.binary(max_size=40), st.data())
def test_a_writer_that_dies_at_any_byte_leaves_the_last_complete_message(before, last, data):
    memory = bytearray(size_of(32))
    buffer = DoubleBuffer(memoryview(memory), 32)
    taken = [message for message in before if buffer.write(message)]
    assert taken == [message for message in before if len(message) <= 32]
    old = bytes(memory)
    buffer.write(last)
    changed = [place for place in range(8, len(memory)) if memory[place] != old[place]]
    done = data.draw(st.integers(0, len(changed)))
    # Killed when so many of its bytes were written; the sequence comes last.
    memory[:8] = old[:8]
    for place in changed[done:]:
        memory[place] = old[place]
    assert buffer.read() == (taken[-1] if taken else None)


def test_a_message_that_is_damaged_is_none():
    memory = bytearray(size_of(32))
    buffer = DoubleBuffer(memoryview(memory), 32)
    buffer.write(b"message")
    memory[memory.index(b"message")] ^= 1
    assert buffer.read() is None


def test_a_reader_that_is_overtaken_reads_again(monkeypatch):
    buffer = DoubleBuffer(memoryview(bytearray(size_of(32))), 32)
    buffer.write(b"one")
    half = buffer._half
    written: list[bool] = []

    def overtaken(sequence: int) -> bytes | None:
        if not written:
            written.append(buffer.write(b"two"))
        return half(sequence)

    monkeypatch.setattr(buffer, "_half", overtaken)
    assert buffer.read() == b"two"


# -- boards ---------------------------------------------------------------------------------------------


def test_a_board_that_is_attached_is_the_same_memory(board):
    board.rows[1].begin(ME)
    board.queues = '["mongo.data"]'
    board.expected = 2
    other = Board.attach(board.path)
    assert other.rows[1].read().pid == ME
    assert (other.main_pid, other.node, other.deployment) == (ME, "w1@host", "test")
    assert board.created_at == other.created_at <= time.monotonic()
    assert (other.queues, other.expected, len(other.rows)) == ('["mongo.data"]', 2, 3)
    other.rows[2].begin(ME)
    assert [row.read().state for row in board.rows] == ["empty", "open", "open"]


def test_rows_do_not_overlap(board):
    for number, row in enumerate(board.rows):
        row.begin(ME)
        row.write_report(json.dumps({"slot": number}).ljust(1536).encode())
        row.set_work("n" * 200, "i" * 200)
        for _ in range(201):
            row.recorder.record(Kind.ERROR, number, "t" * 64)
        row.request(Command.PING)
    for number, row in enumerate(board.rows):
        assert row.read().report == {"slot": number}
        assert row.taken() == [Command.PING]
        assert {record["number"] for record in row.recorder.read()} == {number}
    assert board.expected == 3
    assert board.queues == ""


def test_the_file_is_its_owners_alone(board):
    assert stat.S_IMODE(board.path.stat().st_mode) == 0o600


def test_what_is_said_of_gated_queues_stands_apart_and_is_seen_by_all(board):
    assert (board.orders, board.gate, board.paused, board.record) == ("", {}, "", "")
    other = Board.attach(board.path)
    long = {"q" * 2000: ["outage", 1.5]}
    board.queues, board.orders, board.paused = "q" * 1024, "o" * 2048, "p" * 2048
    board.record = "r" * RECORD_BYTES
    board.gate = long
    assert (other.queues, other.orders, other.paused) == ("q" * 1024, "o" * 2048, "p" * 2048)
    assert other.record == "r" * RECORD_BYTES
    assert other.gate == long
    assert [row.read().state for row in other.rows] == ["empty"] * 3


def test_queues_that_are_too_long_are_not_taken(board):
    board.queues = "[]"
    board.queues = "x" * 1025
    assert board.queues == "[]"


@pytest.mark.parametrize(
    ("offset", "change"),
    [(0, b"X"), (8, b"\x09"), (12, b"\x04")],
    ids=["magic", "version", "slots"],
)
def test_what_is_no_board_of_this_version_is_refused(board, offset, change):
    content = bytearray(board.path.read_bytes())
    content[offset : offset + 1] = change
    board.path.write_bytes(content)
    with pytest.raises(NoBoardError):
        Board.attach(board.path)


@pytest.mark.parametrize("content", [b"", b"CPMBOARD", bytes(4096)])
def test_a_file_that_is_no_board_is_refused(folder, content):
    path = folder / "other"
    path.write_bytes(content)
    with pytest.raises(NoBoardError):
        Board.attach(path)


def test_a_link_is_not_followed(board, folder):
    (folder / "link").symlink_to(board.path)
    with pytest.raises(OSError, match="symbolic"):
        Board.attach(folder / "link")


def test_a_name_that_is_taken_already_is_nobodys_board(board, folder):
    again = Board.create(node="w1@host", deployment="test", slots=1)
    assert again.path is None
    assert len(board.rows) == 3


def test_a_folder_that_is_missing_or_full_is_passed_over(tmp_path, monkeypatch):
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    folders = [tmp_path / "missing", tmp_path]
    monkeypatch.setattr(file, "folders", lambda: iter(folders))
    found = Board.create(node="n", deployment="test", slots=1).path
    assert found is not None
    assert found.parent == tmp_path
    monkeypatch.setattr(os, "posix_fallocate", full)
    board = Board.create(node="m", deployment="test", slots=1)
    assert board.path is None
    board.rows[0].begin(ME)
    assert board.rows[0].read().pid == ME
    assert len(list(tmp_path.iterdir())) == 1
    board.unlink()


# A MAIN that makes boards and dies.
DEAD = """
import sys; from worker.board import board, file as board_file; from pathlib import Path
board_file.folders = lambda: iter([Path(sys.argv[1])])
for name in sys.argv[2:]:
    board.Board.create(node="dead", deployment=name, slots=1)
"""


def test_only_boards_of_a_dead_main_of_this_deployment_and_host_are_left_over(board, folder):
    run(DEAD, str(folder), "test", "test.eu")
    (folder / f"{file.prefix('test')}broken").write_bytes(b"")
    (found,) = leftovers("test")
    assert (found.node, found.is_main_alive) == ("dead", False)
    (europe,) = leftovers("test.eu")
    assert europe.path is not None
    europe.path.rename(folder / f"{file.prefix('test')}by-its-name-alone")
    assert [other.node for other in leftovers("test")] == ["dead"]
    assert found.path is not None
    content = bytearray(found.path.read_bytes())
    content[48:56] = b"elsewher"
    found.path.write_bytes(content)
    assert leftovers("test") == []


def test_a_board_that_nobody_collected_goes_when_the_next_is_made(folder, monkeypatch):
    run(DEAD, str(folder), "test")
    later, now = 0.0, time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + later)
    Board.create(node="a", deployment="test", slots=1)
    (left,) = leftovers("test")
    left.rows[0].begin(NOBODY)
    later = 1800.0
    left.rows[0].write_report(b"{}")
    later = 3700.0
    Board.create(node="b", deployment="test", slots=1)
    assert [board.node for board in leftovers("test")] == ["dead"]
    later = 5500.0
    Board.create(node="c", deployment="test", slots=1)
    assert leftovers("test") == []
    assert len(list(folder.iterdir())) == 3


def test_a_board_that_is_unlinked_goes_on_and_is_not_found(board):
    board.unlink()
    board.unlink()
    board.rows[0].begin(ME)
    assert board.rows[0].read().pid == ME
    assert not board.path.exists()


def test_long_names_of_deployments_stay_apart():
    names = {file.prefix(name) for name in ("a" * 41, "a" * 42, "a/b", "a.b", "a")}
    assert len(names) == 5
    assert all("/" not in name for name in names)


# -- a writer that is killed ----------------------------------------------------------------------------

# Forks a writer that rewrites its row as fast as it can, kills it, and reads; many times.
KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from worker.board import file as board_file
from worker.board.board import Board
from worker.tracking.flight import Kind

board_file.folders = lambda: iter([Path(sys.argv[1])])
row = Board.create(node="n", deployment="test", slots=2).rows[1]
reports = [b'{"n": %d, "x": "%s"}' % (n, b"%d" % n * random.randrange(1400)) for n in range(7)]

def write():
    row.begin(os.getpid())
    row.write_report(b'{"n": -1}')
    while True:
        for n, report in enumerate(reports):
            row.set_work("name" * n, "id" * n)
            row.write_report(report)
            row.recorder.record(Kind.ERROR, n, "t" * n)
            row.clear_work()

works = 0
for _ in range(50):
    child = os.fork()
    if not child:
        write()
    while (state := row.read()).pid != child or state.report is None:
        pass
    time.sleep(random.random() / 1000)
    os.kill(child, signal.SIGKILL)
    for state in (row.read(), os.waitpid(child, 0) and row.read()):
        n = state.report["n"]
        assert n == -1 or state.report == json.loads(reports[n])
        if state.work:
            works += 1
            assert len(state.work.name) == 2 * len(state.work.id)
    assert (state.state, state.pid, state.is_alive) == ("open", child, False)
    ring = row.recorder.read()
    assert all(record["text"] == "t" * int(record["number"]) for record in ring)
    numbers = [int(record["number"]) for record in ring]
    assert all((a + 1) % 7 == b for a, b in zip(numbers, numbers[1:]))
print(works)
"""


def test_a_row_can_be_read_whole_after_its_writer_was_killed_at_any_moment(tmp_path):
    assert int(run(KILLED, str(tmp_path))) > 0


# -- process identity -----------------------------------------------------------------------------------


def test_this_process_lives_and_its_start_is_known():
    started = process_identity.born(ME)
    assert started is not None
    assert process_identity.is_alive(ME, started)
    assert process_identity.is_alive(ME, None)
    assert not process_identity.is_alive(ME, started + 1)


def test_a_process_that_is_gone_or_only_waited_for_is_dead():
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process_identity.born(child.pid) is None
        assert not process_identity.is_alive(child.pid, None)
    assert not process_identity.is_alive(NOBODY, None)


def test_the_boot_is_named_by_eight_characters():
    assert len(process_identity.boot_id()) == 8
    assert process_identity.boot_id() == run(
        "from worker.board import process_identity as p; print(p.boot_id(), end='')"
    )


# -- turns ------------------------------------------------------------------------------------------------


def test_one_process_at_a_time_has_its_turn(board: Board) -> None:
    with board.turn(), pytest.raises(BlockingIOError), file.locked(board.path, seconds=0):
        pytest.fail("two at a time")
    with file.locked(board.path, seconds=0):
        pass


def test_a_board_without_a_file_makes_nobody_wait(board: Board) -> None:
    board.unlink()
    with board.turn():
        pass
    with pytest.raises(FileNotFoundError), file.locked(None, seconds=0):
        pass
