"""The fault matrix: which cells it has, and what it makes of a ledger, letters and documents."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.test_faults import CELLS
from tests.faults import cell, chaos, ledger, table
from tests.faults.fates import Fate, fate
from tests.faults.ledger import Account, Entry, Happened
from tests.faults.load import KINDS
from tests.faults.matrix import FAULTS, every_cell
from tests.faults.rig import Look
from tests.faults.settings import POOLS


def account(*happened: Happened, retries: int = 0) -> Account:
    entries = [Entry(0.0, one, "a", "put", 1, retries, is_redelivered=False) for one in happened]
    return Account(entries)


RAN = account(Happened.STARTED, Happened.SUCCEEDED)
TWICE = account(Happened.STARTED, Happened.STARTED, Happened.SUCCEEDED)
FAILED = account(Happened.STARTED, Happened.FAILED)


@pytest.mark.parametrize(
    ("effects", "accounts", "dead", "expected"),
    [
        ({"a": 1}, {"a": RAN}, [], {}),
        ({}, {"a": RAN}, [], {"lost": 1}),  # acknowledged, and its write is gone
        ({}, {}, [], {"lost": 1}),  # never ran
        ({"a": 2}, {"a": RAN}, [], {"doubled": 1}),
        ({"a": 1}, {"a": TWICE}, [], {"again": 1}),
        ({}, {"a": FAILED}, [], {"failed": 1}),
        ({"a": 1}, {"a": FAILED}, [], {"failed": 1}),
        ({}, {"a": FAILED}, ["a"], {"unknown": 1}),
        ({"a": 1, "unsure": 2}, {"a": RAN}, [], {"doubled": 1}),
    ],
)
def test_a_task_has_one_fate(effects: Any, accounts: Any, dead: Any, expected: dict[str, int]) -> None:
    found = fate("put", {"a"}, effects, accounts=accounts, dead=dead)
    nothing = dict.fromkeys(("lost", "doubled", "unknown", "failed", "again"), 0)
    assert found == Fate(kind="put", accepted=1, **(nothing | expected))


def test_what_must_not_be_is_a_problem_and_an_unknown_outcome_is_none_of_a_task_that_must_not_run_twice() -> (
    None
):
    def problems(kind: str, **numbers: int) -> list[str]:
        nothing = dict.fromkeys(("accepted", "lost", "doubled", "unknown", "failed", "again"), 0)
        return Fate(kind=kind, **(nothing | {"accepted": 5} | numbers)).problems

    assert problems("put", again=3) == []
    assert problems("put", lost=1, doubled=2, failed=3) == ["1 put lost", "2 put doubled", "3 put failed"]
    assert problems("count", unknown=1) == ["1 count in the dead letters"]
    assert problems("add", unknown=1) == []
    assert problems("add", accepted=0) == ["no add was accepted"]


def test_the_cells_of_the_gate_are_of_the_matrix_and_on_several_pools() -> None:
    assert set(CELLS) <= set(every_cell(1))
    assert len({pool for _, pool in CELLS}) >= 3


def test_a_primary_that_steps_down_or_is_killed_is_tried_on_every_pool() -> None:
    faults = ("step-down", "primary-kill")
    assert {(fault, pool) for fault in faults for pool in POOLS} <= set(every_cell(3))


def test_a_seed_has_its_faults_and_another_seed_has_others() -> None:
    steps = chaos.plan(5, 60)
    assert steps == chaos.plan(5, 60) != chaos.plan(6, 60)
    lasting = sum(step.calm + step.lasts for step in steps)
    assert 60 <= lasting < 70
    for members in (1, 3):
        every = chaos.faults_of(members)
        first = [step.fault for step in chaos.plan(1, 3600, members=members)][: len(every)]
        assert sorted(first) == sorted(every)
    assert chaos.ELECTIONS.items() <= chaos.faults_of(3).items() - chaos.faults_of(1).items()


def outcome(**changes: Any) -> dict[str, Any]:
    fates = {kind: vars(Fate(kind, 10, 0, 0, 0, 0, 1)) for kind in KINDS}
    look = vars(Look("down", {"open": 4}, ("faults",)))
    labels = {"mongo": "SecantusDB 1 (not mongod)", "redis": "Valkey 9"}
    told = {"fault": "refuse", "pool": "prefork", "members": 1, "fates": fates, "retries": 0, "requeues": 2}
    told |= {"look": look, "elected": [0.1, 2.04], "resumed": [0.44, 0.2], "plain": []}
    return told | {"labels": labels, "problems": []} | changes


def test_a_row_gives_the_three_kinds_in_their_order() -> None:
    told = outcome()
    told["fates"]["add"]["doubled"] = 1
    cells = [
        "refuse",
        "prefork",
        "30",
        "0/0/0",
        "0/0/1",
        "0",
        "3",
        "2",
        "0",
        "down",
        "4 open",
        "closed",
        "2.0",
        "0.4",
        "-",
    ]
    assert table.row(told) == cells
    nobody = outcome(look=vars(Look()), resumed=[])
    assert table.row(nobody)[-6:] == ["-", "-", "-", "2.0", "-", "-"]


def test_the_page_says_which_server_answered_and_what_was_not_as_promised() -> None:
    page = page_of([outcome(), outcome(problems=["1 put lost"])])
    assert "SecantusDB 1 (not mongod)" in page
    assert page.count("| refuse | prefork | 30 |") == 2
    assert "Not as promised:\n\n- refuse on prefork: 1 put lost\n" in page
    assert all(fault.title in page for fault in FAULTS.values())
    assert "Not as promised" not in page_of([outcome()])


def test_a_run_on_other_members_leaves_what_the_page_says_of_these() -> None:
    one = page_of([outcome(fault="refuse")])
    three = outcome(fault="step-down", members=3, labels={"mongo": "mongod 6, three", "redis": "Valkey 9"})
    both = page_of([three], before=one)
    assert both.index("## One member") < both.index("| refuse |") < both.index("## A replica set of three")
    assert both.index("mongod 6, three") < both.index("| step-down | prefork |") < both.index("## The faults")
    assert page_of([outcome(fault="refuse")], before=both) == page_of([three], before=both) == both


def page_of(outcomes: list[dict[str, Any]], *, before: str = "") -> str:
    return table.page(outcomes, before=before, command="ops/test --full")


def test_the_time_to_the_next_task_is_that_of_all_cells_with_a_new_primary() -> None:
    lines = table.resumed([outcome(resumed=[0.5, 0.1]), outcome(resumed=[0.3], plain=[9.0])])
    assert list(lines) == [
        "From a new primary to the next task done: median 0.30 s, worst 0.50 s, of 3.",
        "From a new primary to a plain client's next write: median 9.00 s, worst 9.00 s, of 1.",
    ]
    assert list(table.resumed([outcome(elected=[])])) == []


def test_a_moment_that_the_next_one_overtook_says_nothing() -> None:
    done = [1.5, 5.0, 5.5]
    assert cell.delays([1.0, 2.0, 4.0], lambda moment: next(at for at in done if at > moment)) == [0.5, 1.0]
    assert cell.delays([1.0], lambda _: None) == []


def test_a_task_is_done_after_a_moment_if_it_wrote_after_it() -> None:
    wrote, done = Happened.WROTE, Happened.SUCCEEDED

    def entry(at: float, happened: Happened, task_id: str) -> Entry:
        return Entry(at, happened, task_id, "put", 1, 0, is_redelivered=False)

    found = [entry(1.0, wrote, "a"), entry(3.0, done, "a"), entry(4.0, wrote, "b"), entry(5.0, done, "b")]
    assert ledger.done_after(found, 0.5) == 3.0
    assert ledger.done_after(found, 2.0) == 5.0
    assert ledger.done_after(found, 4.5) is None
