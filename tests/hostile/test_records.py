"""Whatever stands in Redis: each record is read as it should be, or it is unreadable; nobody fails on it."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoPermissionError, ResponseError

from ops import gating, output, rounds
from ops.commands import processes, snapshot, status
from ops.doctor import gather
from ops.doctor.facts import Facts
from ops.doctor.judging import diagnose
from ops.sizing import size
from tests.hostile.crafted import (
    LETTER,
    ODD,
    POST_MORTEM,
    REPORT,
    SAMPLES,
    TEXTS,
    VERDICT,
    mutants,
    newer,
    text,
)
from tests.unit.doctor_facts import RECORD
from tests.unit.fleet_reports import NOW, node, reading
from tests.unit.fleet_reports import fleet as fleet_of
from worker.board.board import Board
from worker.board.post_mortem import PostMortem
from worker.board.report import Moment, Origin
from worker.delivery.attempts import Attempt
from worker.delivery.dead_letters import Letter
from worker.fleet import node_record
from worker.fleet.beat_pulse import Pulse
from worker.fleet.fleet import assess
from worker.fleet.registry import Seen
from worker.fleet.snapshot import aggregate
from worker.fleet.snapshot import snapshot as taken
from worker.health import overview, verdicts
from worker.health.overview import Found
from worker.node import control
from worker.pool import stats
from worker.pool.stats import Totals
from worker.process import presence
from worker.sentry.outages.state import Outage
from worker.store import record_shapes, records
from worker.store.records import Read, RecordKind, UnreadableError

ROOT = Path(__file__).resolve().parents[2]

KINDS = pytest.mark.parametrize("name", SAMPLES)


def read(kind: RecordKind[Any], written: bytes) -> Any:
    """Return the record, None where it is unreadable; anything else fails the test."""
    try:
        return kind.read(written, "cp:key")
    except UnreadableError:
        return None


@KINDS
def test_what_is_written_is_read_as_it_was(name: str) -> None:
    kind, sample = SAMPLES[name]
    found = json.loads(json.dumps(read(kind, text(sample))))
    assert found == ({key: sample[key] for key in found} if isinstance(sample, dict) else sample)


@pytest.mark.parametrize(
    "name", sorted(SAMPLES.keys() - {"counters", "paused", "window", "snapshot", "consumer"})
)
def test_a_record_of_a_later_version_is_read_without_what_is_new(name: str) -> None:
    kind, sample = SAMPLES[name]
    assert read(kind, text(newer(sample))) == read(kind, text(sample))


@pytest.mark.parametrize(
    ("shape", "written"),
    [
        (record_shapes.LetterShape, Letter),
        (record_shapes.AttemptShape, Attempt),
        (record_shapes.OutageShape, Outage),
        (record_shapes.PostMortemShape, PostMortem),
        (record_shapes.BeatShape, Pulse),
    ],
)
def test_no_field_that_we_write_is_forgotten_by_the_reader(shape: Any, written: Any) -> None:
    beside = {"member"} if written is PostMortem else set()
    own = {"silence", "age"} if written is Pulse else set()
    assert {field.name for field in fields(written)} - own == shape.__annotations__.keys() - beside


def test_what_a_report_and_a_nodes_record_say_is_not_forgotten_by_the_reader() -> None:
    shape = record_shapes.ReportShape.__annotations__.keys()
    of_moment = {field.name for field in fields(Moment)} - {"totals", "counts", "uss", "trouble"}
    said = {field.name for field in fields(Origin)} | of_moment | {field.name for field in fields(Totals)}
    trouble = _keys(presence.Presence._trouble)
    assert {"hung", "denied"} <= trouble
    assert said | trouble | {"v", "memory"} <= shape
    counted = _keys(presence.Presence._counts) | {*presence._FINDINGS, *stats._COUNTS}
    assert counted <= record_shapes.CountersShape.__annotations__.keys()
    assert set(stats._RATES) <= record_shapes.RatesShape.__annotations__.keys()
    of_node = _keys(node_record.build) - {"python"}
    assert of_node <= record_shapes.NodeShape.__annotations__.keys()


def _keys(function: Any) -> set[str]:
    """Return the names that a function gives to what it puts into a mapping."""
    return set(re.findall(r"""[{\s]"(\w+)":""", inspect.getsource(function)))


def test_what_is_asked_of_the_last_verdict_is_not_forgotten_by_the_reader() -> None:
    """What a check leaves for the next one: a field that the reader does not know would never arrive."""
    asked = set()
    for path in (
        "worker/health/watch.py",
        "worker/health/overview.py",
        "worker/health/verdicts.py",
        "ops/doctor/gather.py",
    ):
        written = (ROOT / path).read_text()
        asked |= set(re.findall(r"""(?:before|previous|\bone)(?: or \{\}\))?\.get\("(\w+)\"""", written))
    assert {"verdict", "since", "lasting", "arrived_at"} <= asked
    of_lasting = {"counted", "timeouts", "missing", "waiting", "full"}
    assert asked - of_lasting <= record_shapes.VerdictShape.__annotations__.keys()


@KINDS
def test_what_is_no_record_is_unreadable(name: str) -> None:
    kind, _ = SAMPLES[name]
    for written in TEXTS:
        found = read(kind, written)
        may_be_empty = name in ("node", "paused", "snapshot")
        assert found is None or may_be_empty, written[:40]
    replies: tuple[Any, ...] = ([], {}, 7, None, ResponseError("WRONGTYPE Operation against a key"))
    for reply in replies:
        with pytest.raises(UnreadableError):
            kind.read(reply, "cp:key")


def test_what_redis_answers_otherwise_is_no_unreadable_record() -> None:
    with pytest.raises(NoPermissionError):
        records.REPORT.read(NoPermissionError("no permissions to run get"), "cp:key")


@KINDS
def test_each_odd_value_makes_a_record_unreadable_or_is_harmless(name: str) -> None:
    kind, sample = SAMPLES[name]
    tried = refused = 0
    for mutant in mutants(sample):
        tried += 1
        refused += read(kind, text(mutant)) is None
    assert tried >= 17
    assert refused or name == "snapshot"


@KINDS
@given(
    written=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    )
)
def test_any_json_is_read_or_unreadable(name: str, written: Any) -> None:
    read(SAMPLES[name][0], text(written))


@KINDS
@given(written=st.binary(max_size=200))
def test_any_bytes_are_read_or_unreadable(name: str, written: bytes) -> None:
    read(SAMPLES[name][0], written)


def test_a_number_has_a_bound() -> None:
    """A claim of a thousand million slots took all memory of the machine."""
    for odd in (10**9, 4097, -1, 1.5, True, "4", None):
        assert read(records.REPORT, text(REPORT | {"slots": odd})) is None
    for name in ("pid", "outage", "ok", "at", "started", "hung"):
        for odd in (-1, 10**17, 1e300):
            assert read(records.REPORT, text(REPORT | {name: odd})) is None, (name, odd)


def test_an_option_that_a_uri_wrote_as_a_text_is_a_number() -> None:
    options = {"waitQueueTimeoutMS": "5000.5", "socketTimeoutMS": 20_000, "maxIdleTimeMS": None}
    found = read(records.NODE, text(RECORD | {"options": options}))
    assert found["options"] == {
        "waitQueueTimeoutMS": 5000.5,
        "socketTimeoutMS": 20_000,
        "maxIdleTimeMS": None,
    }
    assert type(found["options"]["socketTimeoutMS"]) is int
    assert read(records.NODE, text(RECORD | {"options": {"socketTimeoutMS": "x"}})) is None


def test_half_a_character_is_replaced() -> None:
    found = read(records.LETTER, text(LETTER | {"task": "shop.\ud800"}))
    assert found["task"] == "shop.?"
    assert Letter(**found).to_dict()["task"] == "shop.?"


def test_a_key_is_shown_in_printable_characters() -> None:
    assert records.shown("cp:\x1b[2J", b"\xff\x00\n", "ä") == "cp:\\x1b[2J \\xff\\x00\\x0a \\xe4"
    assert len(records.shown("x" * 10_000)) < 200


def test_unreadable_records_are_counted_and_the_first_are_named() -> None:
    found = [records.LETTER.at(f"cp:dead-letter:{n}") for n in range(7)]
    assert records.words(found[:1]) == "1 record in Redis is not readable: key cp:dead-letter:0"
    assert records.words(found).startswith("7 records in Redis are not readable: keys cp:dead-letter:0, ")
    assert records.words(found).endswith("cp:dead-letter:4 and 2 more")


@pytest.mark.timeout(60)
def test_whatever_report_is_readable_can_be_judged_and_shown() -> None:
    """The reader is what all others rely on: what it lets through must be harmless in each of them."""
    shown = 0
    for mutant in mutants(REPORT):
        told = read(records.REPORT, text(mutant))
        if told is None:
            continue
        shown += 1
        look_at(told)
    assert shown > 100


@pytest.mark.timeout(60)
def test_whatever_node_says_of_itself_can_be_judged() -> None:
    whole = fleet_of(*node("w1@h", 2), *node("w2@h", 2, kind="threads"))
    for mutant in mutants(RECORD):
        told = read(records.NODE, text(mutant))
        if told is not None:
            diagnosed(gather._nodes(whole, Read({"w1@h": told, "w2@h": RECORD}), ()))


def test_whatever_post_mortem_is_readable_can_be_told() -> None:
    for mutant in mutants(POST_MORTEM):
        told = read(records.POST_MORTEM, text(mutant))
        if told is not None:
            gone = assess(reading(), is_alive=lambda _: None, buried=[told])
            diagnosed(gather._nodes(gone, None, ()), post_mortems=(told,))
            overview.survey(Found(deployment="shop", database="app", fleet=gone), now=NOW)


def test_whatever_was_found_before_is_no_obstacle() -> None:
    whole = fleet_of(*node("w1@h", 2))
    for mutant in mutants(VERDICT):
        before = read(records.VERDICT, text(mutant))
        if before is not None:
            since = verdicts.since(whole, before.get("lasting", {}))
            judged = verdicts.judge(verdicts.Facts(own="w2@h/0", ping=None, fleet=whole, since=since))
            assert verdicts.settle(before, judged.verdict, NOW) <= NOW
            assert all(at <= NOW for what in since.values() for at in what.values())


def look_at(told: dict[str, Any]) -> None:
    """Do with a report all that is done with reports."""
    fleet = assess(
        reading(Seen("w1@h/0", NOW - 20, told), Seen("w1@h/1", NOW, told)), is_alive=lambda _: True
    )
    since = verdicts.since(fleet, {})
    json.dumps(verdicts.judge(verdicts.Facts(own="w2@h/0", ping=None, fleet=fleet, since=since)).to_dict())
    document = taken(fleet, deployment="shop")
    json.dumps(aggregate(document))
    shown(snapshot.render(document | {"process": None}))
    found = overview.survey(Found(deployment="shop", database="app", fleet=fleet), now=NOW)
    shown(status.render(json.loads(json.dumps(found))))
    rows = [processes.row_of(process, fleet.at) for process in fleet.processes]
    for column in ("node", "memory", "wait_p99_ms", "task", "task_seconds"):
        processes.ordered(rows, column, reverse=False)
    shown(processes.render({"processes": rows, "total": len(rows), "matching": len(rows)}))
    diagnosed(gather._nodes(fleet, None, ()), lasting=since)


def diagnosed(nodes: Any, **known: Any) -> None:
    """Have the doctor judge, with a fleet that others see, and size the pools."""
    server = {"limit": 100, "counted": 10, "current": 95, "strays": 30}
    told = Facts(at=NOW, deployment="shop", nodes=nodes, server=server, **known)
    json.dumps(diagnose(told).to_dict())
    json.dumps(size(told, None, ()))


def shown(renderable: Any) -> str:
    return output.render(renderable, on_terminal=False, has_color=False)


# --- remote control ---


ANSWERS: dict[str, Any] = {
    "mongo_pools": {"slots": [{"slot": 0, "pid": 7, "alive": True}]},
    "mongo_flight": {"slots": [{"slot": 0, "pid": 7, "records": POST_MORTEM["flight"]}]},
    "mongo_health": {"gate": {"mongo.data": {"why": "operator", "since": NOW}}},
    "mongo_pause": {"ok": "paused", "queues": ["mongo.data"]},
    "active_queues": [{"name": "celery"}],
}


@pytest.mark.parametrize("command", ANSWERS)
def test_an_answer_is_as_it_should_be_or_says_that_it_is_not(command: str) -> None:
    assert records.answer(command, ANSWERS[command]) == ANSWERS[command]
    assert records.answer(command, newer(ANSWERS[command])) is not None
    for mutant in [*mutants(ANSWERS[command]), *ODD]:
        told = records.answer(command, mutant)
        if isinstance(told, list):
            assert all(isinstance(queue["name"], str) for queue in told)
            continue
        assert told.get("error", "") is not None
        replies = {"w1@h": told}
        gating.row("w1@h", told, (told or {}).get("gate"), pause=True, late="late")
        rounds._refusal(told)
        assert all({"slot", "records"} <= one.keys() for one in told.get("slots", ()) if "records" in one)
        gather._with({}, replies)


@pytest.mark.parametrize("odd", ODD)
def test_what_a_command_of_remote_control_is_given_ends_it_with_one_line(odd: Any) -> None:
    board = Board.create(node="w1@h", deployment=f"hostile-{os.getpid()}", slots=2)
    settings = SimpleNamespace(gated_queues=("mongo.data",))
    state = SimpleNamespace(app=SimpleNamespace(mongo=SimpleNamespace(board=board, settings=settings)))
    try:
        for told in (
            control.mongo_flight(state, slot=odd),
            control.mongo_pause(state, queue=odd),
            control.mongo_resume(state, queue=odd),
            control.mongo_reconnect(state, replace=odd),
        ):
            assert "\n" not in str(told.get("error", ""))
            json.dumps(told)
    finally:
        board.unlink()


def test_a_slot_that_is_no_number_is_refused_in_one_line() -> None:
    with pytest.raises(click.UsageError, match="slot is a whole number, not 'x'"):
        control._number("x")


HOG = """
import resource, sys
from tests.unit.fleet_reports import report, seen
from worker.fleet.fleet import MOST_MISSING, assess
from worker.fleet.registry import Reading
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
told = [seen(report(f"w{number}@h", 0, slots=4096)) for number in range(1000)]
fleet = assess(Reading(1_000_000.0, 0.0, told), is_alive=lambda _seen: None)
print(len(fleet.missing) == MOST_MISSING, fleet.nodes["w1@h"].slots)
"""


@pytest.mark.timeout(60)
def test_a_fleet_that_claims_millions_of_slots_takes_bounded_memory() -> None:
    done = subprocess.run([sys.executable, "-c", HOG], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True 4096\n"), done.stderr
