"""Messages that expired while they waited are counted, and told ever less often."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.board import file
from worker.board.board import Board
from worker.node.expired import Expired

TASK = SimpleNamespace(name="shop.sell", waits_out_outages=True)
CHECK = SimpleNamespace(name="mongo.health.check", waits_out_outages=False)
FOREIGN = SimpleNamespace(name="theirs")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(file, "folders", lambda: iter([tmp_path]))
    return Board.create(node="w1", deployment="d", slots=1)


def test_they_are_counted_and_the_1st_2nd_and_4th_are_told(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    expired = Expired(lambda: board)
    for _ in range(5):
        expired.heard(TASK, has_expired=True)
    assert board.expired == 5
    assert re.findall(r"(\d) of this node's", caplog.text) == ["1", "2", "4"]
    assert "task.expired: shop.sell: its expires passed before it could run; 1 of this" in caplog.text


@pytest.mark.parametrize(("task", "has_expired"), [(TASK, False), (CHECK, True), (FOREIGN, True)])
def test_what_a_person_revoked_and_what_is_to_expire_are_not(
    board: Board, task: object, has_expired: bool
) -> None:
    Expired(lambda: board).heard(task, has_expired=has_expired)
    assert board.expired == 0


def test_a_node_without_a_board_counts_nothing() -> None:
    Expired(lambda: None).heard(TASK, has_expired=True)
