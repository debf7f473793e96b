"""What is made of the history's rows: gaps, outages, series, and charts of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ops.cli import mongo
from ops.history import chart, document, timeline
from ops.history.metrics import BY_NAME, METRICS, USUAL, Metric, fields
from ops.history.span import when
from ops.history.timeline import Grid, Span
from ops.output import render
from tests.schemas import SCHEMAS, validated
from tests.unit.fleet_reports import fleet, node
from worker.fleet.drill_notes import Noted
from worker.fleet.snapshot import aggregate, snapshot
from worker.fleet.timeline import Past, Row, Source

START = 1_000_000.0
CLOSED, OPEN, HALF = "circuits.closed", "circuits.open", "circuits.half-open"


def rows(*values: dict[str, float | None], step: float = 15.0) -> list[Row]:
    """One snapshot after the other."""
    return [Row(START + n * step, START + n * step, each) for n, each in enumerate(values)]


def value_rows(*values: float | None, step: float = 15.0) -> list[Row]:
    return rows(*({"x": value} for value in values), step=step)


def metric(**changes: Any) -> Metric:
    return Metric(**{"name": "x", "unit": "ms", "meaning": "", "paths": ("x",)} | changes)


# --- gaps and outages ---


def test_snapshots_a_little_late_have_no_gap_between_them() -> None:
    late = [Row(at, at, {}) for at in (0.0, 15.0, 31.0, 60.0, 97.5)]
    assert timeline.gaps(late, interval=15, until=100) == []


def test_a_gap_is_between_two_snapshots_or_goes_on_to_now() -> None:
    found = timeline.gaps([Row(0, 0, {}), Row(38, 40, {})], interval=15, until=100)
    assert found == [Span(0, 38, "gap"), Span(40, None, "gap")]


def test_before_the_first_snapshot_there_is_no_gap() -> None:
    assert timeline.gaps([], interval=15, until=100) == []
    assert timeline.gaps([Row(90, 90, {})], interval=15, until=100) == []


@pytest.mark.parametrize(
    ("circuits", "expected"),
    [
        ([{CLOSED: 4}, {CLOSED: 4}], []),
        ([{CLOSED: 4}, {CLOSED: 3, OPEN: 1}, {CLOSED: 4}], [(15, 30, "partial")]),
        ([{OPEN: 4}, {HALF: 1, OPEN: 3}, {CLOSED: 4}], [(0, 30, "outage")]),
        ([{CLOSED: 4}, {CLOSED: 1, OPEN: 3}, {OPEN: 4}, {CLOSED: 2, OPEN: 2}], [(15, None, "outage")]),
        ([{OPEN: 4}, {CLOSED: 4}, {CLOSED: 3, OPEN: 1}], [(0, 15, "outage"), (30, None, "partial")]),
        ([{}, {}], []),
    ],
)
def test_an_outage_lasts_from_the_first_circuit_that_is_open_to_the_first_moment_that_none_is(
    circuits: list[dict[str, float | None]], expected: list[tuple[float, float | None, str]]
) -> None:
    found = timeline.outages(rows(*circuits))
    assert found == [Span(START + a, None if b is None else START + b, kind) for a, b, kind in expected]


AWAY, ENDED = "outage.seconds", "outage.ended"


def test_an_outage_begins_and_ends_when_the_snapshots_say_that_it_did() -> None:
    told = rows({CLOSED: 4}, {OPEN: 4, AWAY: 9.0}, {OPEN: 4, AWAY: 24.0}, {CLOSED: 4, ENDED: 11.0})
    assert timeline.outages(told) == [Span(START + 6, START + 34, "outage")]
    # Nothing of a later blip: it had ended before the last snapshot that has it.
    told = rows({CLOSED: 3, OPEN: 1, AWAY: 1.0}, {CLOSED: 4, ENDED: 40.0})
    assert timeline.outages(told) == [Span(START - 1, START, "partial")]


def test_of_many_snapshots_in_one_row_it_is_not_known_of_which_the_outage_is_told() -> None:
    month = [Row(0, 60, {OPEN: 4, AWAY: 900.0}), Row(75, 135, {CLOSED: 4, ENDED: 30.0})]
    assert timeline.outages(month) == [Span(0, 75, "outage")]


# --- series ---


def test_of_several_snapshots_in_a_step_what_is_worst_counts_or_the_average() -> None:
    grid = Grid(START, START + 60, 2, 15)
    told = value_rows(1, 5, 2, 4)
    assert timeline.series(told, metric(), grid).values == [5, 4]
    assert timeline.series(told, metric(pick="min"), grid).values == [1, 2]
    assert timeline.series(told, metric(pick="avg"), grid).values == [3, 3]


def test_a_count_shows_its_increase_and_a_process_that_ended_takes_none_away() -> None:
    grid = Grid(START, START + 75, 5, 15)
    told = value_rows(10, 12, 3, 5, 5)
    assert timeline.series(told, metric(counts=True), grid).values == [None, 2, 0, 2, 0]


def test_a_step_between_two_snapshots_is_as_the_one_before_and_a_gap_is_unknown() -> None:
    told = [
        Row(START, START, {"x": 7}),
        Row(START + 20, START + 20, {"x": 8}),
        Row(START + 200, START + 200, {"x": 9}),
    ]
    values = timeline.series(told, metric(), Grid(START, START + 210, 21, 15)).values
    assert values[:5] == [7, 7, 8, 8, 8]
    assert values[6:20] == [None] * 14
    assert values[20] == 9


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    st.integers(1, 40),
)
def test_no_value_of_a_series_is_out_of_thin_air(values: list[float], points: int) -> None:
    told = value_rows(*values)
    grid = Grid(START, START + 15 * len(values), points, 15)
    shown = timeline.series(told, metric(), grid)
    assert set(shown.known) <= set(values)
    assert max(shown.known) == max(values)


def test_what_is_absent_is_zero_only_where_something_stands_beside_it() -> None:
    cut_off = BY_NAME["cut_off"]
    assert cut_off.value({CLOSED: 3}) == 0
    assert cut_off.value({OPEN: 2, HALF: 1}) == 3
    assert cut_off.value({}) is None


def test_every_metric_stands_in_a_snapshot_as_the_history_keeps_it() -> None:
    """But those of which a fleet at rest has nothing to say."""
    kept = aggregate(snapshot(fleet(*node(memory={"uss": 5, "server": 1})), deployment="d"))
    values = {path: _at(kept, path) for path in fields(METRICS)}
    unknown = {each.name for each in METRICS if each.value(values) is None}
    assert unknown == {"wait_avg", "wait_p99", "hold_avg", "server_connections", "requeued"}
    assert BY_NAME["processes"].most(values) == 4


def _at(part: Any, path: str) -> Any:
    for name in path.split("."):
        part = part.get(name) if isinstance(part, dict) else None
    return part


# --- times ---


@pytest.mark.parametrize(
    ("text", "ago"),
    [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172_800), ("1w", 604_800), ("now", 0)],
)
def test_a_time_is_so_long_ago(text: str, ago: float) -> None:
    assert when(text).at(1e9) == 1e9 - ago


@pytest.mark.parametrize("text", ["2026-01-02T03:04:05Z", "2026-01-02 03:04:05", "2026-01-02T04:04:05+01:00"])
def test_a_time_is_a_moment_in_utc_unless_it_says_otherwise(text: str) -> None:
    assert when(text).at(0.0) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def test_where_the_host_is_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert when("2026-01-02 03:04:05").at(0.0) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1y", "yesterday", "1h30m", "9999999d"])
def test_what_is_no_time_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write 90s"):
        when(text)


# --- the document and the chart ---


@dataclass
class Story:
    """An hour in which the fleet was idle, then busy, cut off, and unseen for a while."""

    now: float = START + 3600
    values: list[Row] = field(default_factory=list)

    def past(self) -> Past:
        for n in range(60, 240):
            at = START + 15 * n
            if 150 <= n < 170:
                continue
            circuits = {OPEN: 4.0} if 100 <= n < 110 else {CLOSED: 4.0}
            in_use = {"totals.pool.in_use": n % 7}
            self.values.append(Row(at, at, {**circuits, **in_use, "totals.rate.checked_out": 12.5}))
        return Past(self.now, START, self.now, self.values, [Source("redis", len(self.values))])


def build(past: Past, names: tuple[str, ...] = USUAL, points: int = 240) -> dict[str, Any]:
    metrics = [BY_NAME[name] for name in names]
    return document.build(past, metrics, deployment="d", interval=15.0, points=points)


def drawn(body: dict[str, Any], width: int) -> list[str]:
    return render(chart.Charts(body), on_terminal=False, has_color=False, width=width).splitlines()


def test_the_document_says_what_was_and_what_nobody_saw() -> None:
    body = build(Story().past())
    assert [(span["kind"], span["seconds"]) for span in body["spans"]] == [("outage", 150), ("gap", 315)]
    assert (body["begins"], body["step_seconds"], body["interval_seconds"]) == (START + 900, 15.0, 15.0)
    (in_use,) = [series for series in body["series"] if series["metric"] == "in_use"]
    assert (in_use["min"], in_use["max"], in_use["limit"]) == (0, 6, None)
    assert [value for _, value in in_use["points"][:61]] == [None] * 60 + [4]


def test_a_drill_is_marked_so_that_nobody_takes_it_for_trouble() -> None:
    story = Story().past()
    now = story.now
    story.drills = [Noted("exhaust", START + 2400, START + 2460), Noted("workload", now - 10, now + 50)]
    body = build(story)
    marks = [(span["kind"], span["seconds"], span.get("name")) for span in body["spans"]]
    assert ("drill", 60, "exhaust") in marks
    assert ("drill", 10, "workload") in marks
    lines = drawn(body, 80)
    assert any("▚" in line for line in lines)
    assert any(line.endswith("in these numbers (mongo drill exhaust)") for line in drawn(body, 200))
    assert validated(json.dumps({"schema": "history/1", **body, "unseen": {}}))


def test_a_metric_that_has_a_maximum_is_told_with_it() -> None:
    rows = [Row(START + n, START + n, {"coverage.seen": 3.0, "coverage.expected": 4.0}) for n in (0, 15)]
    past = Past(START + 16, START, START + 16, rows, [Source("redis", len(rows))])
    (processes,) = build(past, ("processes",))["series"]
    assert (processes["last"], processes["limit"]) == (3.0, 4.0)


@pytest.mark.parametrize("width", [40, 80, 120, 300])
def test_the_chart_marks_what_was_in_each_column_at_any_width(width: int) -> None:
    lines = drawn(build(Story().past()), width)
    assert max(map(len, lines)) <= width
    axes = [line.split("0 ", 1)[1] for line in lines if line.startswith("       0 ")]
    assert len(axes) == sum(series["last"] is not None for series in build(Story().past())["series"])
    (axis,) = set(axes)
    assert [part for part in ("·", "─", "█", "─", "░", "─") if part in axis] == ["·", "─", "█", "─", "░", "─"]
    shares = {sign: axis.count(sign) / len(axis) for sign in "·█░"}
    assert shares == pytest.approx({"·": 1 / 4, "█": 1 / 24, "░": 21 / 240}, abs=2 / len(axis))


def test_of_what_was_at_once_the_axis_shows_the_worst() -> None:
    spans = [
        {"kind": "outage", "since": 0.0, "until": 4.0},
        {"kind": "gap", "since": 2.0, "until": 6.0},
        {"kind": "partial", "since": 7.9, "until": 7.95},
    ]
    marks = ["outage"] * 4 + ["gap"] * 2 + ["", "partial", "", ""]
    for told in (spans, spans[::-1]):
        assert chart.axis(told, since=0.0, until=10.0, width=10) == marks


def test_what_all_is_zero_needs_no_room() -> None:
    lines = drawn(build(Story().past(), ("processes", "cut_off", "in_use")), 80)
    assert lines[0] == "processes  nothing is known of it"
    assert lines[1].startswith("cut_off  0 processes")
    assert lines[5].startswith("       0 ")


def test_a_chart_is_as_high_as_its_largest_value_and_shows_what_is_small() -> None:
    drawn_rows = chart.rows([None, 0.0, 0.001, 5.0, 10.0], top=10.0, height=2)
    assert drawn_rows == ["    █", "  ▁██"]


def test_nothing_at_all_is_said_in_words() -> None:
    lines = drawn(build(Past(START + 60, START, START + 60, [], [Source("redis")])), 80)
    assert "no snapshot in this time" in lines[-1]


def test_what_could_not_be_read_decides_the_exit_code() -> None:
    one, two = Source("redis"), Source("mongodb", problem="no answer (AutoReconnect)")
    row = [Row(START, START, {})]
    assert document.exit_code(Past(1, 0, 1, [], [one])) == 0
    assert document.exit_code(Past(1, 0, 1, row, [one, two])) == 1
    assert document.exit_code(Past(1, 0, 1, [], [Source("redis", problem="x"), two])) == 3
    assert document.unseen(Past(1, 0, 1, [], [one, two])) == {"Redis": None, "MongoDB": two.problem}


def test_the_schema_is_published() -> None:
    assert (SCHEMAS / "history-1.json").exists()


# --- the command line ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--since", "yesterday"), "'yesterday' is no time: write 90s"),
        (("--since", "1h", "--until", "2h"), "--since must be before --until"),
        (("--metric", "mood"), "'mood' is not one of 'operations'"),
        (("--points", "1"), "1 is not in the range 2<=x<=5000"),
    ],
)
def test_wrong_times_and_metrics_are_refused_with_what_would_do(
    arguments: tuple[str, ...], words: str
) -> None:
    app: Any = Celery("x", set_as_current=False)
    past = SimpleNamespace(past=lambda _fields, span, **_options: span(START))
    app.mongo = SimpleNamespace(view=past, settings=None)
    obj = CLIContext(app=app, no_color=True, workdir=None)
    done = CliRunner().invoke(mongo, ["history", *arguments], obj=obj)
    assert done.exit_code == 64
    assert words in done.output
