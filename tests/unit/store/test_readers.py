"""Files become rows and documents: formats, types, and what is wrong with a row or with a file."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from ops.loading import rows as rows_module
from ops.loading.codec import shown
from ops.loading.columns import Guess, converters, named_types
from ops.loading.json_rows import JsonValues
from ops.loading.readers import Opened, detect, open_rows
from ops.loading.rows import ROW_LIMIT, Row
from ops.loading.source import Source
from ops.problems import BadRow, InputProblem, NoInput, UsageProblem

Make = Callable[..., Opened]


@pytest.fixture
def source() -> Iterator[Callable[[Path], Source]]:
    """Open sources that the test's end closes."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(Source(str(path)))


@pytest.fixture
def opened(tmp_path: Path, source: Callable[[Path], Source]) -> Make:
    """Write a file and open its rows."""

    def make(name: str, content: str | bytes, *, format: str | None = None, **types: str) -> Opened:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        content_of = source(path)
        return open_rows(content_of, content_of.survey(), format=format, types=types)

    return make


def read(opened: Opened) -> list[Any]:
    """Every row's document, or why it has none."""
    return [_document(opened, row) for row in opened.reader.rows()]


def _document(opened: Opened, row: Row) -> Any:
    if row.problem:
        return row.problem
    try:
        return opened.reader.document(row)
    except BadRow as error:
        return str(error)


# -- CSV ---------------------------------------------------------------------------------------------


def test_csv_types_are_inferred_from_every_row_and_kept(opened: Make):
    rows = opened(
        "a.csv",
        'n,x,day,ok,zip,j,big\n1,1,2020/02/29,TRUE,00501,"{""k"": [1]}",9007199254740993\n'
        "-2,.5,2020-03-01T10:00:00.5+01:00,false,10001,[],1\n",
    )
    assert rows.types == {
        "n": "int", "x": "double", "day": "date", "ok": "bool", "zip": "string", "j": "json", "big": "long",
    }  # fmt: skip
    first, second = read(rows)
    assert first == {
        "n": 1, "x": 1.0, "day": datetime(2020, 2, 29, tzinfo=UTC), "ok": True, "zip": "00501",
        "j": {"k": [1]}, "big": 9007199254740993,
    }  # fmt: skip
    assert isinstance(first["x"], float)
    assert isinstance(first["big"], Int64)
    assert second["day"] == datetime(2020, 3, 1, 9, 0, 0, 500_000, tzinfo=UTC)


def test_a_column_of_mixed_types_is_strings_and_the_line_is_named(opened: Make):
    rows = opened("a.csv", "a\n1\n2\nx\n3\n")
    assert [row["a"] for row in read(rows)] == ["1", "2", "x", "3"]
    assert "line 4 has no int; --types a=int rejects" in rows.notes[0]


def test_named_types_win_and_what_does_not_fit_is_rejected(opened: Make):
    rows = opened("a.csv", "a,b,c\n1,31.12.99,7\nx,,\n", a="int", b="date(%d.%m.%y)", c="string")
    assert read(rows) == [
        {"a": 1, "b": datetime(1999, 12, 31, tzinfo=UTC), "c": "7"},
        "column a: its value is no int",
    ]


def test_an_empty_cell_is_null_but_in_a_column_of_strings(opened: Make):
    assert read(opened("a.csv", "n,s\n1,x\n,\n"))[1] == {"n": None, "s": ""}


def test_bom_crlf_quotes_and_line_ends_in_fields(opened: Make):
    rows = opened("a.csv", '\ufeffid,note\r\n1,"a, ""b""\r\nc"\r\n\r\n2,d\r\n')
    assert [row.line for row in rows.reader.rows()] == [2, 5]
    assert read(opened("a.csv", '\ufeffid,note\r\n1,"a, ""b""\r\nc"\r\n\r\n2,d\r\n')) == [
        {"id": 1, "note": 'a, "b"\r\nc'},
        {"id": 2, "note": "d"},
    ]


def test_a_csv_row_with_a_fault_costs_itself_alone(opened: Make):
    rows = opened("a.csv", b'a,b\n1,2,3\n4\n\xff,5\n"x"y,6\n7,8\n9,"open\n10,11\n')
    assert read(rows) == [
        "3 fields where the header has 2",
        "1 fields where the header has 2",
        "not UTF-8 at byte 0 of line 4",
        "its quotes are not those of CSV: ',' expected after '\"'",
        {"a": 7, "b": 8},
        "a quote that opens in it is never closed (lines 7 to 8 are one row)",
    ]


def test_a_csv_row_that_is_too_long_is_passed_over_to_its_end(opened: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ops.loading.csv_rows.ROW_LIMIT", 100)
    text = 'a,b\n1,"' + "2,2\n" * 100 + '"\n3,' + "4" * 200 + "\n5,6\n"
    rows = read(opened("a.csv", text))
    assert rows == ["longer than 16 MiB; it ends in line 102", "longer than 16 MiB", {"a": 5, "b": 6}]


def test_a_column_without_a_name_gets_one_and_a_name_twice_is_refused(opened: Make):
    assert read(opened("a.csv", ",b\n0,1\n")) == [{"column_1": 0, "b": 1}]
    with pytest.raises(InputProblem, match=r"a\.csv: the header in line 1 names the column a twice"):
        opened("a.csv", "a,a\n1,2\n")


def test_a_header_alone_has_no_rows(opened: Make):
    assert read(opened("a.csv", "a,b\n")) == []


def test_tsv(opened: Make):
    assert read(opened("a.tsv", "a\tb\n1,5\tx\n")) == [{"a": "1,5", "b": "x"}]


def test_types_of_a_column_that_is_not_there_are_refused(opened: Make):
    with pytest.raises(UsageProblem, match=r"a\.csv: --types names the column c; it has a, b"):
        opened("a.csv", "a,b\n1,2\n", c="int")


@pytest.mark.parametrize("text", ["a", "a=", "a=whole", "a=int(%d)", "=int"])
def test_types_that_are_none_are_refused(text: str):
    with pytest.raises(UsageProblem, match="write COLUMN=TYPE"):
        named_types([text])


def test_types_may_hold_commas_in_a_date():
    assert named_types(["a=int,b=date(%d, %m %y)", "c=json"]) == {
        "a": "int", "b": "date(%d, %m %y)", "c": "json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "", "2"], "int"),
        (["1", "1.5"], "double"),
        (["1.5", "1"], "double"),
        (["9007199254740993", "1.5"], "string"),
        (["1", "9007199254740993"], "long"),
        (["9223372036854775808"], "string"),
        (["007"], "string"),
        (["1", "true"], "string"),
        (["2020/13/01"], "string"),
        (["-", "."], "string"),
        (["1e5", "-.5E-3"], "double"),
        (["nan"], "string"),
        (["0.1234567890123456789012345"], "string"),
        (["[deleted]"], "string"),
        (["", ""], None),
    ],
)
def test_the_narrowest_type_that_keeps_every_cell(cells: list[str], kind: str | None):
    guess = Guess()
    for line, cell in enumerate(cells, 2):
        guess.see(cell, line)
    assert guess.kind == kind


@given(st.lists(st.one_of(st.text(), st.integers().map(str), st.floats().map(str)), min_size=1))
def test_what_a_guess_says_every_cell_can_be_converted_to(cells: list[str]):
    guess = Guess()
    for cell in cells:
        guess.see(cell, 1)
    convert = converters({"a": guess.kind or "string"}).get("a", str)
    for cell in filter(None, cells):
        convert(cell)


# -- JSON --------------------------------------------------------------------------------------------

VALUES = [
    {"a": 1, "b": [1.5, None, True], "c": {"d": 'e,]}\\" '}},
    {},
    {"u": "ü\u2028\\", "n": 2**62},
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk", [1, 2, 7, 4096])
def test_an_array_or_values_one_after_the_other_in_pieces_of_any_size(
    indent: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ops.loading.window.CHUNK", chunk)
    array = json.dumps(VALUES, indent=indent)
    for text in (array, "\n\n".join(json.dumps(value, indent=indent) for value in VALUES)):
        reader = JsonValues(io.BytesIO(text.encode()), {})
        assert [reader.document(row) for row in reader.rows()] == VALUES


JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=5), st.booleans())
def test_any_array_has_its_elements_as_rows(values: list[Any], is_ascii: bool):
    text = json.dumps(values, ensure_ascii=is_ascii).encode()
    rows = list(JsonValues(io.BytesIO(text), {}).rows())
    assert [json.loads(row.text) for row in rows if isinstance(row.text, bytes)] == values
    assert all(row.end <= len(text) for row in rows)


def test_a_broken_element_costs_itself_alone_and_lines_are_right(opened: Make):
    text = '[\n{"a":1},\n{"a": tru},\n{"a":\n3}, [4], "x",\n{"a": 5}]'
    rows = opened("a.json", text)
    assert [row.line for row in rows.reader.rows()] == [2, 3, 4, 5, 5, 6]
    assert read(opened("a.json", text)) == [
        {"a": 1},
        "not JSON at character 6 (Expecting value)",
        {"a": 3},
        "not a JSON object",
        "not a JSON object",
        {"a": 5},
    ]


@pytest.mark.parametrize("text", ['[{"a":1},{"a"', '[{"a":1}', '[{"a":1},{"a":"'])
def test_an_array_that_was_cut_gives_its_rows_and_then_says_so(text: str):
    rows = JsonValues(io.BytesIO(text.encode()), {}).rows()
    assert next(rows).text == b'{"a":1}'
    with pytest.raises(InputProblem, match="was it cut"):
        list(rows)


def test_an_element_that_is_too_long_is_never_held(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ops.loading.json_rows.ROW_LIMIT", 1000)
    monkeypatch.setattr("ops.loading.window.CHUNK", 100)
    text = b'[{"a":1},\n{"s":"' + b"\\\\x" * 5000 + b'"},\n{"a":2}]'
    rows = list(JsonValues(io.BytesIO(text), {}).rows())
    assert [(row.line, row.text, row.problem) for row in rows] == [
        (1, b'{"a":1}', None),
        (2, b"", "longer than 16 MiB"),
        (3, b'{"a":2}', None),
    ]


def test_json_lines_skip_blanks_and_a_fault_costs_its_line(opened: Make):
    text = b'{"a":1}\r\n\n{bad\n[1]\n{"a":"\xff"}\nnull\nAAAA\n{"a":' + b"[" * 100_000 + b'\n{"a":2}'
    rows = opened("a.jsonl", text)
    assert [row.line for row in rows.reader.rows()] == [1, 3, 4, 5, 6, 7, 8, 9]
    assert read(opened("a.jsonl", text)) == [
        {"a": 1},
        "not JSON at character 1 (Expecting property name enclosed in double quotes)",
        "not a JSON object",
        "not UTF-8 at byte 6",
        "not a JSON object",
        "not JSON at character 0 (Expecting value)",
        "nested too deeply",
        {"a": 2},
    ]


def test_a_line_that_is_too_long_is_passed_over(opened: Make):
    text = b'{"a":1}\n{"s":"' + b"x" * ROW_LIMIT + b'"}\n{"a":2}\n'
    rows = opened("a.jsonl", text)
    assert read(rows) == [{"a": 1}, rows_module.TOO_LONG, {"a": 2}]


def test_what_dump_writes_is_read_with_every_type(opened: Make):
    document = {
        "_id": ObjectId(), "i": 1, "l": Int64(1), "d": 1.0, "t": datetime(2020, 1, 1, tzinfo=UTC),
        "x": Decimal128("1.10"), "b": b"\x00", "u": Binary(b"\x00", 5), "n": {"k": [None, True]},
    }  # fmt: skip
    odd = {"_id": 1, "user": {"$date": "not a date"}}
    (back, odd_back) = read(opened("a.jsonl", f"{shown(document)}\n{shown(odd)}\n"))
    assert (back, odd_back) == (document, odd)
    assert {name: type(value) for name, value in back.items()} == {
        name: type(value) for name, value in document.items()
    }


def test_extended_json_that_is_none_is_rejected(opened: Make):
    (rejected,) = read(opened("a.jsonl", '{"a": {"$date": "x"}}\n'))
    # The driver's own error, which is another from version to version.
    assert re.fullmatch(r"not Extended JSON \(\w+Error\)", rejected)


def test_types_convert_the_strings_of_json_fields(opened: Make):
    rows = opened("a.jsonl", '{"day": "2020-01-01"}\n{"day": 5}\n', day="date")
    assert read(rows) == [{"day": datetime(2020, 1, 1, tzinfo=UTC)}, {"day": 5}]


# -- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head", "format"),
    [
        ("a.csv", b"", "csv"),
        ("A.CSV.GZ", b"", "csv"),
        ("a.ndjson.zst", b"", "jsonl"),
        ("a.json", b'\xef\xbb\xbf [{"a":1}', "json"),
        ("a.json", b'{"a":1}\n{"a":2}', "jsonl"),
        ("a.json", b'{\n"a":1}', "json"),
        ("-", b"a,b\n", "csv"),
        ("-", b'{"a":1}\n', "jsonl"),
        ("a.txt", b"[1]", "json"),
    ],
)
def test_the_format_is_that_of_the_name_or_of_the_first_bytes(name: str, head: bytes, format: str):
    assert detect(name, head) == format


def test_a_format_that_nothing_tells_is_asked_for():
    with pytest.raises(UsageProblem, match="say --format"):
        detect("a.txt", b"hello")


def test_the_same_content_has_the_same_digest_packed_or_not(tmp_path: Path, source: Callable[[Path], Source]):
    content = b'{"a":1}\n' * 1000
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    surveys = [source(path).survey() for path in (plain, packed)]
    assert surveys[0].digest == surveys[1].digest
    assert surveys[1].size == len(content)
    plain.write_bytes(content[:-1])
    assert source(plain).survey().digest != surveys[1].digest


def test_zstandard_is_read(tmp_path: Path, source: Callable[[Path], Source]):
    zstd = pytest.importorskip("backports.zstd")
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd.compress(b'{"a":1}\n'))
    packed = source(path)
    assert read(open_rows(packed, packed.survey(), format=None, types={})) == [{"a": 1}]
    path.write_bytes(zstd.compress(b'{"a":1}\n' * 1000)[:-5])
    with pytest.raises(InputProblem, match="damaged or cut short"):
        source(path).survey()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"a\n1\n" * 100, mtime=0)[:-9], "damaged or cut short"),
        (gzip.compress(b"a\n1\n" * 100, mtime=0)[:20] + b"x" * 30, "damaged or cut short"),
        ("a,b\n".encode("utf-16"), "UTF-16"),
        (b"a\x00b", "not text"),
    ],
)
def test_a_file_that_is_no_text_is_refused_before_anything_is_sent(
    content: bytes, words: str, tmp_path: Path, source: Callable[[Path], Source]
):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputProblem, match=words):
        source(path).survey()


def test_a_missing_file_and_a_directory_are_told_apart(tmp_path: Path):
    with pytest.raises(NoInput, match="No such file"):
        Source(str(tmp_path / "none"))
    with pytest.raises(NoInput, match="a directory"):
        Source(str(tmp_path))


def test_a_file_that_somebody_writes_to_is_noticed(tmp_path: Path, source: Callable[[Path], Source]):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    read_once = source(path)
    assert not read_once.is_changed
    with path.open("a") as file:
        file.write("2\n")
    assert read_once.is_changed
