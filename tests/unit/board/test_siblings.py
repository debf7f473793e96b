"""Who of a node reaches MongoDB, as the board tells it."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from worker.board import row as board_row
from worker.board.row import Row
from worker.board.siblings import SILENT_SECONDS, Company, moved, reaches
from worker.connection.circuit import CircuitState

ME = os.getpid()
NOBODY = 2**22 + 1  # above what Linux gives to a process
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def empty() -> Row:
    return Row(memoryview(bytearray(board_row.SIZE)))


def row(circuit: CircuitState = CLOSED, *, pid: int = ME, report: bytes | None = b'{"ok": 1.0}') -> Row:
    made = empty()
    made.begin(pid)
    made.set_circuit(circuit)
    if report is not None:
        made.write_report(report)
    return made


def starting() -> Row:
    return row(report=None)


def untried() -> Row:
    return row(report=b'{"ok": null}')


def ended(circuit: CircuitState) -> Row:
    made = row(circuit)
    made.close()
    return made


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (lambda: [], None),
        (lambda: [empty()], None),
        (lambda: [starting()], None),
        (lambda: [untried()], None),
        (lambda: [row()], True),
        (lambda: [row(OPEN), row()], True),
        (lambda: [row(OPEN)], False),
        (lambda: [row(HALF_OPEN)], False),
        (lambda: [row(OPEN), empty(), starting(), untried()], False),
        (lambda: [row(OPEN), row(pid=NOBODY)], False),
        (lambda: [row(OPEN, pid=NOBODY)], None),
        (lambda: [ended(CLOSED), ended(OPEN)], None),
    ],
)
def test_only_living_processes_that_have_tried_tell(
    rows: Callable[[], list[Row]], expected: bool | None
) -> None:
    assert reaches([one.read() for one in rows()], now=time.monotonic()) is expected


@pytest.mark.parametrize("circuit", [CLOSED, OPEN])
def test_one_that_is_silent_tells_nothing(circuit: CircuitState) -> None:
    state = row(circuit).read()
    ticked_at = state.ticked_at or 0.0
    assert reaches([state], now=ticked_at + SILENT_SECONDS - 0.1) is (circuit is CLOSED)
    assert reaches([state], now=ticked_at + SILENT_SECONDS + 0.1) is None


def test_rows_are_read_until_one_reaches_mongodb() -> None:
    def rows() -> Any:
        yield row().read()
        pytest.fail("read on")

    assert reaches(rows(), now=time.monotonic())


@pytest.mark.parametrize(
    ("lower", "is_prober"),
    [
        (row, True),
        (lambda: row(OPEN), False),
        (lambda: row(OPEN, pid=NOBODY), True),
        (starting, True),
        (empty, True),
    ],
)
def test_the_lowest_living_process_that_is_cut_off_is_the_prober(
    lower: Callable[[], Row], is_prober: bool
) -> None:
    assert Company([lower(), row(OPEN), row(OPEN)], 1).is_prober() is is_prober
    assert not Company([lower(), row(OPEN), row(OPEN)], 2).is_prober()


def test_a_prober_that_fell_silent_is_followed_by_the_next() -> None:
    company = Company([row(OPEN), row(OPEN)], 1, clock=lambda: time.monotonic() + SILENT_SECONDS + 0.1)
    assert company.is_prober()


def test_the_return_of_another_is_told_once() -> None:
    other = row()
    company = Company([row(OPEN), other], 0)
    assert not company.has_returned()
    other.set_circuit(OPEN)
    assert not company.has_returned()
    other.set_circuit(CLOSED)
    assert [company.has_returned(), company.has_returned()] == [True, False]


def test_one_that_ended_has_not_returned() -> None:
    other = row(OPEN)
    company = Company([row(OPEN), other], 0)
    company.has_returned()
    other.close()
    assert not company.has_returned()


def test_the_process_itself_is_not_its_company() -> None:
    assert not Company([row()], 0).reaches()
    assert Company([row(OPEN), row()], 0).reaches()
    assert not Company([row(OPEN), untried()], 0).reaches()


def test_another_process_that_is_cut_off_is_told_of_while_it_reports() -> None:
    assert not Company([row(OPEN), row(), starting(), empty()], 0).is_cut_off()
    assert Company([row(), row(HALF_OPEN)], 0).is_cut_off()
    late = Company([row(), row(OPEN)], 0, clock=lambda: time.monotonic() + SILENT_SECONDS + 0.1)
    assert not late.is_cut_off()


@pytest.mark.parametrize(
    ("other", "speaks"),
    [
        (row, True),
        (empty, True),
        (lambda: row(OPEN), False),
        (lambda: row(HALF_OPEN), False),
        (lambda: row(OPEN, report=None), False),
        (lambda: row(OPEN, pid=NOBODY), True),
        (lambda: ended(OPEN), True),
    ],
)
@pytest.mark.parametrize("circuit", [OPEN, CLOSED])
def test_the_first_to_be_cut_off_and_the_last_to_return_speak_for_the_node(
    other: Callable[[], Row], speaks: bool, circuit: CircuitState
) -> None:
    """Whatever a lower or a higher slot has reported by then: at a worker's start nobody has."""
    own = row(OPEN if circuit is CLOSED else CLOSED)
    assert moved([own, other()], 0, lambda: own.set_circuit(circuit)) is speaks
    assert own.circuit is circuit
    assert moved([other(), own], 1, lambda: own.set_circuit(circuit)) is speaks


def test_the_lowest_that_reports_speaks_of_what_all_of_them_meet() -> None:
    rows = [starting(), row(), row()]
    assert [Company(rows, slot).leads() for slot in (1, 2)] == [True, False]
