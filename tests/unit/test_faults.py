"""The fault matrix: which cells it has, and what it makes of a ledger, letters and documents."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e import faults
from tests.faults import chaos, table
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


def test_the_gate_runs_every_fault_on_prefork_and_one_on_each_other_pool() -> None:
    tested = [*faults.MONGO, *faults.NETWORK, *faults.PROCESSES, *faults.BROKER]
    assert sorted(tested) == sorted(FAULTS)
    assert {pool for _, pool in faults.ELSEWHERE} == set(POOLS) - {"prefork"}
    assert set(faults.ELSEWHERE) <= set(every_cell())


def test_a_seed_has_its_faults_and_another_seed_has_others() -> None:
    steps = chaos.plan(5, 60)
    assert steps == chaos.plan(5, 60) != chaos.plan(6, 60)
    lasting = sum(step.calm + step.lasts for step in steps)
    assert 60 <= lasting < 70
    first = [step.fault for step in chaos.plan(1, 3600)][: len(chaos.FAULTS)]
    assert sorted(first) == sorted(chaos.FAULTS)


def outcome(**changes: Any) -> dict[str, Any]:
    fates = {kind: vars(Fate(kind, 10, 0, 0, 0, 0, 1)) for kind in KINDS}
    look = vars(Look("down", {"open": 4}, ("faults",)))
    labels = {"mongo": "SecantusDB 1 (not mongod)", "redis": "Valkey 9"}
    told = {"fault": "refuse", "pool": "prefork", "fates": fates, "retries": 0, "requeues": 2, "look": look}
    return told | {"resumed": 0.44, "labels": labels, "problems": []} | changes


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
        "0.4",
    ]
    assert table.row(told) == cells
    nobody = outcome(look=vars(Look()), resumed=None)
    assert table.row(nobody)[-4:] == ["-", "-", "-", "-"]


def test_the_page_says_which_server_answered_and_what_was_not_as_promised() -> None:
    page = table.page([outcome(), outcome(problems=["1 put lost"])], command="ops/test --full")
    assert "SecantusDB 1 (not mongod)" in page
    assert page.count("| refuse | prefork | 30 |") == 2
    assert page.endswith("- refuse on prefork: 1 put lost\n")
    assert all(fault.title in page for fault in FAULTS.values())
    assert "What was not as promised" not in table.page([outcome()], command="ops/test --full")
