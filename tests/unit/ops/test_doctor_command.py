"""What a person reads of the doctor and of the sizing: the document, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ops import output
from ops.commands import doctor, size
from ops.doctor.facts import Facts
from ops.doctor.judging import diagnose
from ops.doctor.report import Examined, unseen_of
from ops.sizing import Plan
from ops.sizing import size as size_of
from tests.schemas import validated
from tests.unit.doctor_facts import AWAY, facts, node, shared
from tests.unit.fleet_reports import NOW
from tests.unit.ops.test_doctor_checks import CASES


def document(known: Facts) -> dict[str, Any]:
    body = {
        "at": known.at,
        "deployment": known.deployment,
        "server": None,
        "processes": {"seen": len(known.present), "nodes": len(known.nodes or ())},
        **diagnose(known).to_dict(),
    }
    return validated(json.dumps(Examined(body, unseen_of(known)).to_dict()))


def shown(renderable: Any) -> str:
    return output.render(renderable, on_terminal=False, has_color=False)


@pytest.mark.parametrize("name", CASES)
def test_every_finding_is_shown_whole_and_as_the_schema_says(name: str) -> None:
    told = document(CASES[name][0])
    text = shown(doctor.render(told))
    for finding in told["findings"]:
        assert f"[{finding['id']}]" in text
        for line in (finding["title"], *finding["evidence"], finding["why"], *finding["fix"]):
            assert line in text
        assert all(one["title"] in text for one in finding["explains"])


def test_a_fleet_that_is_well_has_a_line() -> None:
    text = shown(doctor.render(document(facts())))
    assert text == f"ok  deployment shop, 4 processes of 2 nodes: no findings, {len(CASES)} checks"


def test_what_was_not_checked_is_named_by_its_reason() -> None:
    told = document(
        facts(server=None, unseen={"server": "no answer within 5 s", "limit": "no answer within 5 s"})
    )
    lines = shown(doctor.render(told)).splitlines()
    assert (
        "not checked: stray-connections, server-nearly-full, connection-budget, role-cluster-monitor "
        "(MongoDB: no answer within 5 s)" in lines
    )
    assert told["unseen"]["server connections"] == "no answer within 5 s"


def test_where_nearly_nothing_was_checked_the_number_of_checks_is_enough() -> None:
    told = document(facts(nodes=None, has_redis=False, unseen={"nodes": "no Redis is named"}))
    (line,) = (one for one in shown(doctor.render(told)).splitlines() if "(Redis:" in one)
    assert re.fullmatch(r"not checked: \d\d checks \(Redis: no Redis is named\); --json names them", line)


def test_what_one_silent_source_keeps_from_many_checks_is_one_line() -> None:
    sources = ("nodes", "post_mortems", "redis", "dead_letters", "beats")
    away = {"nodes": None, "redis": None, "post_mortems": None, "dead_letters": None, "beats": None}
    told = document(facts(**away, unseen=dict.fromkeys(sources, "ConnectionError")))
    lines = [line for line in shown(doctor.render(told)).splitlines() if line.startswith("not checked")]
    assert len(told["unchecked"]) > 40
    named = len(told["unchecked"])
    assert lines == [f"not checked: {named} checks (Redis: ConnectionError); --json names them"]


def test_a_server_that_does_not_answer_here_is_not_seen() -> None:
    assert unseen_of(facts(ping=AWAY))["MongoDB"] == AWAY["reasons"][0]


def test_a_limit_that_is_set_is_not_unseen() -> None:
    unseen = {"limit": "the server does not say"}
    assert unseen_of(facts(server={"current": 5}, unseen=unseen)) != {}
    assert unseen_of(facts(settings={"server_connections": 500}, unseen=unseen)) == {}


@pytest.mark.parametrize(
    ("known", "plan", "words"),
    [
        (
            facts(node(), shared("w2@h")),
            None,
            ["prefork", "threads", "MONGODB_MAX_POOL_SIZE=2", "it takes 1,000"],
        ),
        (
            Facts(at=NOW, deployment="shop"),
            Plan(200, 15, 8, 40),
            ["by the plan", "440 connections", "unknown"],
        ),
    ],
)
def test_a_size_is_shown_with_the_guides_beside_it(known: Facts, plan: Plan | None, words: list[str]) -> None:
    told = {"at": known.at, "deployment": known.deployment, **size_of(known, plan)}
    text = shown(size.render(told))
    assert [word for word in [*words, "1.5, from 10 to 100) gives 1"] if word not in text] == []


def test_a_size_says_nothing_of_other_fleets() -> None:
    known = Facts(at=NOW, deployment="shop")
    text = shown(size.render({"at": known.at, "deployment": known.deployment, **size_of(known, None)}))
    assert "unknown" in text
    assert "guide" not in text
