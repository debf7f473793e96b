"""Asking every process: who did it, who did not and why; and what is concluded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ops import flights, gating, output, rounds
from ops.commands import leaks, ping, reconnect
from ops.deadline import Deadline
from ops.frame import Call
from ops.problems import UsageProblem

PING = {"n": 1, "ms": 0.4, "replaced": False, "error": None}


def report(n: int | None, pid: int = 1, **told: Any) -> dict[str, Any]:
    return {"pid": pid, "done": {} if n is None else {"ping": PING | {"n": n} | told}}


@pytest.mark.parametrize(
    ("before", "after", "is_done"),
    [
        (report(None), report(1), True),
        (report(3), report(4), True),
        (report(3), report(3), False),
        (report(3), report(None), False),
        (report(3), report(1, pid=2), True),  # another process, which counts from one
        (report(3), report(None, pid=2), False),
        (report(3), None, False),
        ({"pid": 1}, {"pid": 1}, False),  # of a version that does not say
    ],
)
def test_a_process_did_it_once_it_counts_one_more(before: Any, after: Any, is_done: bool) -> None:
    members = {} if after is None else {"w1@h/0": after}
    found = rounds.row_of("w1@h/0", {"w1@h/0": before}, members, what="ping", why="no answer within 5 s")
    assert (found["done"] is not None) is is_done
    expected = "it ended meanwhile" if after is None else "no answer within 5 s"
    assert found["why"] == (None if is_done else expected)


class Fleet:
    """Two nodes of one process each; `silent` ones never answer, so that whoever asks waits for them."""

    def __init__(self, *silent: str) -> None:
        self.silent, self.now, self.n = silent, 0.0, 1

    def ask(self, _command: str, *, nodes: list[str], seconds: float, **_arguments: Any) -> dict[str, Any]:
        self.n += 1
        self.now += seconds if set(nodes) & set(self.silent) else 0.0
        return {node: {"ok": "asked"} for node in nodes if node not in self.silent}

    def look(self) -> None:
        """Nothing: `assess` tells all."""

    def assess(self, _sight: None, *, must_ask: bool) -> Any:
        assert not must_ask
        names = ("w1@h", "w2@h")
        present = [
            SimpleNamespace(member=f"{name}/0", report=report(1 if name in self.silent else self.n))
            for name in names
        ]
        return SimpleNamespace(nodes=names, present=present)


def test_a_silent_node_takes_nothing_from_what_the_others_report() -> None:
    fleet = Fleet("w2@h")
    app: Any = SimpleNamespace(mongo=SimpleNamespace(view=fleet))
    call = Call(app, Deadline(5.0, clock=lambda: fleet.now))
    first, second = rounds.ask_all(call, "mongo_ping", what="ping", node=None)
    assert (first["node"], first["why"], first["done"]["n"]) == ("w1@h", None, 2)
    assert (second["node"], second["why"]) == ("w2@h", "its node did not answer")
    assert call.deadline.left > 0


def pinged(*rows: tuple[float | None, str | None, str | None]) -> dict[str, Any]:
    made = [
        {"node": "w1@h", "slot": slot, "pid": 1, "ms": ms, "error": error, "why": why}
        for slot, (ms, error, why) in enumerate(rows)
    ]
    return ping.concluded(made)


ANSWER, REFUSED, SILENT = (0.4, None, None), (None, "refused", None), (None, None, "it ended meanwhile")


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([ANSWER, ANSWER], "ok"),
        ([ANSWER, REFUSED], "degraded"),
        ([ANSWER, SILENT], "degraded"),
        ([REFUSED, REFUSED], "down"),
        ([REFUSED, SILENT], "down"),
        ([SILENT, SILENT], "unknown"),
    ],
)
def test_the_verdict_of_a_ping(rows: Any, verdict: str) -> None:
    assert pinged(*rows)["verdict"] == verdict


def test_a_ping_is_summed_up_by_node_and_failures_are_named() -> None:
    told = pinged((0.4, None, None), (0.8, None, None), REFUSED)
    assert told["nodes"]["w1@h"] == {"asked": 3, "answered": 2, "min_ms": 0.4, "avg_ms": 0.6, "max_ms": 0.8}
    lines = output.render(ping.render(told), on_terminal=False, has_color=False).splitlines()
    assert lines[0] == "degraded  MongoDB answered 2 of 3 processes"
    assert lines[-1].split() == ["w1@h/2", "refused"]


@pytest.mark.parametrize(
    ("done", "replace", "reconnected", "error"),
    [
        (PING, False, True, None),
        (PING, True, False, "it kept its client"),
        (PING | {"replaced": True}, True, True, None),
        (PING | {"error": "refused"}, False, False, "refused"),
        (None, False, False, None),
    ],
)
def test_a_process_reconnected_where_mongodb_answers_the_client_that_was_asked_for(
    done: Any, replace: bool, reconnected: bool, error: str | None
) -> None:
    row = {"node": "w1@h", "slot": 0, "pid": 1, "done": done, "why": None if done else "late"}
    found = reconnect.row_of(row, replace=replace)
    assert (found["reconnected"], found["error"]) == (reconnected, error)
    expected = "ok" if reconnected else ("down" if done else "unknown")
    assert reconnect.verdict([found]) == expected
    assert reconnect.verdict([found, found | {"reconnected": True}]) == ("ok" if reconnected else "degraded")


# --- pause and resume ---

OPERATOR, OUTAGE = {"why": "operator", "since": 1.0}, {"why": "outage", "since": 1.0}
OK = {"ok": "paused a, b", "queues": ["a", "b"]}


@pytest.mark.parametrize(
    ("gate", "pause", "is_so"),
    [
        (None, True, False),
        ({}, True, False),
        ({"a": OPERATOR}, True, False),
        ({"a": OPERATOR, "b": OPERATOR}, True, True),
        ({"a": OPERATOR, "b": OUTAGE}, True, False),
        ({}, False, True),
        ({"a": OUTAGE}, False, True),
        ({"c": OPERATOR}, False, True),
        ({"a": OPERATOR}, False, False),
        (None, False, False),
    ],
)
def test_a_gate_is_as_it_was_asked_for(gate: Any, pause: bool, is_so: bool) -> None:
    assert gating.is_so(gate, ["a", "b"], pause=pause) is is_so


@pytest.mark.parametrize(
    ("reply", "gate", "why"),
    [
        (None, None, "it did not answer"),
        ({"error": "no gated queue of this node"}, {}, "no gated queue of this node"),
        (OK, None, "not seen paused: no answer within 5 s"),
        (OK, {"a": OPERATOR, "b": OPERATOR}, None),
    ],
)
def test_a_node_that_did_not_says_why(reply: Any, gate: Any, why: str | None) -> None:
    found = gating.row("w1@h", reply, gate, pause=True, late="no answer within 5 s")
    assert (found["why"], found["done"]) == (why, why is None)
    assert found["closed"] == dict.fromkeys(gate or {}, "operator")


def test_the_verdict_of_a_pause() -> None:
    done, not_done = {"done": True}, {"done": False}
    assert [gating.verdict(rows) for rows in ([done], [done, not_done], [not_done])] == [
        "ok",
        "degraded",
        "unknown",
    ]


# --- flight recorders ---

MEMBERS = ["w1@a/0", "w1@a/1", "w1@b/1", "w2@a/0"]


@pytest.mark.parametrize(
    ("name", "member"), [("w1@a/1", "w1@a/1"), ("w2/0", "w2@a/0"), ("w1/0", "w1@a/0"), ("w1@b/1", "w1@b/1")]
)
def test_a_process_is_found_by_its_name_with_or_without_its_host(name: str, member: str) -> None:
    assert flights.member_of(name, MEMBERS) == member


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("w1/1", "w1/1 may be w1@a/1, w1@b/1"),
        ("w3/0", "there is no process w3/0; there are w1@a/0, w1@a/1, w1@b/1, w2@a/0"),
        ("w1", "w1: write NODE/SLOT, as in w1@a/0"),
        ("w1/x", "w1/x: write NODE/SLOT, as in w1@a/0"),
        ("/0", "/0: write NODE/SLOT, as in w1@a/0"),
    ],
)
def test_a_name_that_is_none_or_several_is_told_what_there_is(name: str, words: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        flights.member_of(name, MEMBERS)
    assert caught.value.message == words


def test_where_nobody_is_known_an_example_stands_for_a_name() -> None:
    with pytest.raises(UsageProblem, match="there are none"):
        flights.member_of("w1/0", [])


RECORDS = [
    {"at": 5.0, "kind": "leak", "number": 2.0, "text": "a session (2 times): shop.sell"},
    {"at": 7.0, "kind": "leak", "number": 2.1, "text": "a session (2 times): shop.sell"},
    {"at": 8.0, "kind": "hold.long", "number": 9.5, "text": "shop.count"},
    {"at": 9.0, "kind": "returned", "number": 30.0, "text": "shop.count"},
    {"at": 9.5, "kind": "hold.long", "number": 6.0, "text": ""},
]


def test_leaks_are_told_by_task_the_open_ones_first() -> None:
    counted = {"w1@a/0": {"leaks": 4, "false_alarms": 1, "long_holds": 2}}
    told = leaks.concluded(counted, {"w1@a/0": RECORDS}) | {"processes_seen": 3}
    assert (told["verdict"], told["totals"]["leaks"]) == ("degraded", 4)
    session, *holds = told["tasks"]
    assert session == {
        "what": "left open: a session (2 times)",
        "task": "shop.sell",
        "times": 2,
        "longest": 2.1,
        "first": 5.0,
        "last": 7.0,
        "where": {"w1@a/0": 2},
    }
    assert [(hold["task"], hold["longest"]) for hold in holds] == [("shop.count", 9.5), ("", 6.0)]
    text = output.render(leaks.render(told), on_terminal=False, has_color=False)
    assert text.startswith("degraded  3 left open (4 in all, 1 came back), 2 long holds, in 3 processes\n")
    assert "shop.sell" in text
    assert "no task" in text


@pytest.mark.parametrize(("open_", "back", "verdict"), [(0, 0, "ok"), (2, 2, "ok"), (2, 1, "degraded")])
def test_what_came_back_is_no_leak(open_: int, back: int, verdict: str) -> None:
    counted = {"w1@a/0": {"leaks": open_, "false_alarms": back, "long_holds": 0}}
    assert leaks.concluded(counted, {})["verdict"] == verdict
