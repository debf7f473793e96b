"""Words, numbers and tables: one voice in a terminal, in a pipe, and where there is little room."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import output, tables


def plain(renderable: object, width: int | None = None) -> str:
    return output.render(renderable, on_terminal=False, has_color=False, width=width)  # type: ignore[arg-type] # any renderable


@pytest.mark.parametrize(
    ("seconds", "words", "short"),
    [
        (0.04, "0.0 s", "0.0s"),
        (9.96, "10.0 s", "10.0s"),
        (42.4, "42 s", "42s"),
        (59.9, "60 s", "60s"),
        (60, "1 min", "1m00s"),
        (271, "4 min 31 s", "4m31s"),
        (7380, "2 h 3 min", "2h03m"),
        (352_800, "4 d 2 h", "4d02h"),
        (None, None, None),
    ],
)
def test_durations(seconds: float | None, words: str | None, short: str | None) -> None:
    assert (tables.duration(seconds), tables.short(seconds)) == (words, short)


@pytest.mark.parametrize(
    ("value", "words"), [(0.054, "0.05 ms"), (12.4, "12 ms"), (999, "999 ms"), (4200, "4.2 s"), (None, None)]
)
def test_milliseconds(value: float | None, words: str | None) -> None:
    assert tables.milliseconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(812, "812 B"), (20_012_345, "20.0 MB"), (4e14, "400.0 TB"), (None, None)]
)
def test_sizes(value: float | None, words: str | None) -> None:
    assert tables.size(value) == words


def test_moments_are_utc() -> None:
    assert tables.moment(0) == "1970-01-01 00:00:00Z"
    assert tables.since(100, 142) == "42 s, since 1970-01-01 00:01:40Z"


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], ""), ([0, 0], "▁▁"), ([1, None, 8], "▂ █"), ([0.0, 5.0, 10.0], "▁▅█"), ([None], " ")],
)
def test_a_sparkline_stands_on_zero_and_leaves_gaps(values: list[float | None], bars: str) -> None:
    assert tables.sparkline(values) == bars


def test_only_the_newest_values_fit() -> None:
    assert tables.sparkline([9] * 50 + [1, 1], width=2) == "██"


ROWS = [("w1@h", 1200, "ok", None), ("w2@h", 7, "down", 2.5)]


def test_in_a_pipe_a_row_is_a_line_without_codes_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a parent's readline has exported."""
    monkeypatch.setenv("COLUMNS", "20")
    made = tables.table(("NODE", "SIZE", "VERDICT", "X"), [*ROWS, ("n" * 200, 1, "ok", 1.0)])
    lines = plain(made).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["w1@h", "1,200", "ok", "-"]
    assert lines[3].split()[0] == "n" * 200
    assert all("\x1b" not in line and line == line.rstrip() for line in lines)


def test_numbers_stand_to_the_right() -> None:
    lines = plain(tables.table(("NODE", "SIZE"), [("a", 1200), ("b", 7)])).splitlines()
    assert lines == ["NODE   SIZE", "a     1,200", "b         7"]


def test_where_there_is_no_room_columns_go_and_are_named() -> None:
    made = tables.table(("NODE", "SIZE", "VERDICT", "X"), ROWS, spare=("X", "SIZE", "VERDICT"))
    lines = plain(made, width=20).splitlines()
    assert lines[0].split() == ["NODE", "SIZE", "VERDICT"]
    assert lines[3].startswith("not shown for want") or lines[-2:] == ["not shown for want", "of room: X"]
    assert plain(made, width=10).splitlines()[0].split() == ["NODE"]


def test_markup_in_data_is_data() -> None:
    assert plain(tables.table(("TASK",), [("[red]x[/red]",)])) == "TASK\n[red]x[/red]"


def test_colour_is_for_terminals_and_for_those_who_want_it() -> None:
    word = tables.word("down")
    assert "\x1b[1;31m" in output.render(word, on_terminal=True, has_color=True)
    assert output.render(word, on_terminal=True, has_color=False) == "down"
    assert output.render(word, on_terminal=False, has_color=True) == "down"


# --- whole words ---

WORDS = st.text("abcdefghijklmnopqrstuvwxyz.@/-_0123456789", min_size=1, max_size=44)
TEXTS = st.lists(WORDS, max_size=8).map(" ".join)
HEADS = ("NODE", "TASK", "REASON", "MS")


def words(renderable: Any, width: int) -> list[str]:
    text = plain(renderable, width)
    assert max(map(len, text.splitlines()), default=0) <= width
    return text.split()


@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS, st.integers(0, 10**9)), max_size=4))
@pytest.mark.parametrize("spare", [(), ("TASK", "REASON")])
def test_no_word_of_a_table_is_cut_at_60_columns(rows: list[Any], spare: tuple[str, ...]) -> None:
    made = tables.table(HEADS, rows, spare=spare)
    told = {word for row in rows for each in row for word in str(tables.cell(each)).split()}
    names = {word for head in HEADS for word in head.split()}
    note = {"not", "shown", "for", "want", "of", "room:", "TASK,", "WHY", "NOT"}
    found = words(made, 60)
    assert set(found) <= told | names | note
    if not spare:
        assert told <= set(found)


@given(st.dictionaries(WORDS.map(lambda name: name[:14]), TEXTS, max_size=6))
def test_no_word_of_a_fact_is_cut_at_60_columns(pairs: dict[str, str]) -> None:
    told = {word for name, text in pairs.items() for word in f"{name} {text}".split()}
    assert set(words(tables.facts(pairs), 60)) == told


def test_rows_that_do_not_fit_stand_below_each_other() -> None:
    rows = [("worker-1-7f9c@localhost", "shop.tasks.reckon_the_day", "x" * 20, ""), ("b", "c", "d", "e")]
    shown = plain(tables.table(("NODE", "TASK", "ID", "ERROR"), rows), 60)
    assert shown.splitlines() == [
        "NODE  worker-1-7f9c@localhost",
        "TASK  shop.tasks.reckon_the_day",
        f"ID    {'x' * 20}",
        "",
        "NODE   b",
        "TASK   c",
        "ID     d",
        "ERROR  e",
    ]


def test_the_room_that_is_left_goes_to_those_that_can_use_it() -> None:
    columns = {"a": tables.Width(5, 5, 5), "b": tables.Width(5, 24, 100), "c": tables.Width(5, 10, 10)}
    assert tables.fitted(columns, 60) == {"a": 5, "b": 41, "c": 10}
    assert tables.fitted(columns, 19) == {"a": 5, "b": 5, "c": 5}
