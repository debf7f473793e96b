"""Files that are small and would take for ever, or all memory: `mongo load` reads each in seconds."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from ops.loading import load as load_module
from ops.loading import window
from ops.loading.csv_rows import CsvRows
from ops.loading.json_rows import JsonLines, JsonValues
from ops.loading.load import load
from ops.loading.outcome import LoadOptions
from ops.loading.progress import Screen
from ops.loading.rows import ROW_LIMIT, TOO_LONG
from ops.loading.source import CHUNK
from ops.problems import InputProblem

ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = 1024
CPU_SECONDS = 15
SIZE = 8 * 1024 * 1024
BEYOND = ROW_LIMIT + SIZE
CUT = "was it cut?"
LEVELS = "has more than 10,000 levels"

# What repeats, what stands before and behind it, how many bytes of it, and what is said of rows or file.
BOMBS: dict[str, tuple[bytes, bytes, bytes, int, str]] = {
    "arrays in arrays.json": (b"[", b"", b"", SIZE, LEVELS),
    "arrays in an array.json": (b"[", b"[1,", b"", SIZE, LEVELS),
    "objects in objects.json": (b'{"a":', b"", b"", SIZE, LEVELS),
    "arrays without a suffix": (b"[", b"", b"", SIZE, LEVELS),
    "empty arrays.json": (b"[]", b"", b"", SIZE, ""),
    "space.json": (b" ", b"", b"", SIZE, ""),
    "commas.json": (b",", b"[", b"", SIZE, CUT),
    "siblings.json": (b"[],", b'[{"a":[', b"1]}]", BEYOND, TOO_LONG),
    "nested siblings.json": (b"[[[[]]]],", b'[{"a":[', b"1]}]", SIZE // 2, ""),
    "a string of escapes.json": (b'\\"', b'["', b'"]', BEYOND, TOO_LONG),
    "a string without an end.json": (b"\\", b'["', b"", BEYOND, CUT),
    "a number.json": (b"1", b"", b"", BEYOND, TOO_LONG),
    "blank lines.jsonl": (b"\n", b"", b"", SIZE, ""),
    "one line.jsonl": (b"[", b"", b"", BEYOND, TOO_LONG),
    "five hundred levels a row.jsonl": (b'{"a":' * 500 + b"1" + b"}" * 500 + b"\n", b"", b"", SIZE, ""),
    "small values.jsonl": (b"[],", b'{"a":[', b"1]}", SIZE // 2, "too large for a message"),
    "blank lines.csv": (b"\n", b"a,b\n1,2\n", b"", SIZE, ""),
    "blank lines of Windows.csv": (b"\r\n", b"a,b\n1,2\n", b"", SIZE, ""),
    "a quote that stays open.csv": (b"\n", b'a,b\n"', b"", BEYOND, TOO_LONG),
    "quotes.csv": (b'"', b"a,b\n", b"", BEYOND, TOO_LONG),
    "rows of many lines.csv": (b'"' + b"\n" * 65_000 + b'"\n', b"a,b\n", b"", SIZE, "1 fields where"),
    "carriage returns.csv": (b"\r", b"a,b\n", b"", BEYOND, TOO_LONG),
    "commas.csv": (b",", b"a,b\n", b"", BEYOND, TOO_LONG),
    "rows of a million cells.csv": (b"," * 999_999 + b"\n", b"a,b\n", b"", 4 * SIZE, "1000000 fields where"),
    "a header without an end.csv": (b",", b"", b"", BEYOND, TOO_LONG),
    "a header of a million columns.csv": (b",", b"a", b"b\n", 1_000_000, "more than 250,000 columns"),
    "zeros.csv": (b"\x00", b"", b"", SIZE, "not text"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_read_in_seconds_and_in_little_memory(name: str, tmp_path: Path) -> None:
    """And whoever waits hears of it at least once for each MiB, also where no row comes."""
    unit, head, tail, size, words = BOMBS[name]
    path = tmp_path / name
    with gzip.open(path := path.with_name(f"{name}.gz"), "wb", compresslevel=1) as file:
        file.write(head + unit * (size // len(unit)) + tail)
    told = read(path)
    assert words in str(told), told
    if "problem" not in told:
        assert told["reads"] >= 2 * size // CHUNK


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "head", "tail", "words"),
    [
        ("small values.jsonl", b'{"a":[', b"1]}\n" + b'{"a":1}', "its values take more memory than there is"),
        ("small values.csv", b'a\n"[', b'1]"', "too large for a message"),
    ],
)
def test_a_row_that_takes_more_memory_than_there_is_costs_itself_alone(
    name: str, head: bytes, tail: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(head + b"[]," * 5_000_000 + tail)
    rows = read(path, megabytes=320)["rows"]
    assert any(words in reason for reason in rows), rows


@pytest.mark.timeout(60)
def test_two_hundred_thousand_columns_are_columns(tmp_path: Path) -> None:
    """In time that grows with them, not with their square."""
    path = tmp_path / "wide.csv"
    columns = 200_000
    path.write_text(",".join(f"c{n}" for n in range(columns)) + "\n" + ",".join("1" * columns) + "\n")
    assert read(path)["rows"] == {"documents": 1}


@pytest.mark.timeout(60)
def test_what_only_looks_like_a_file_is_one_line(tmp_path: Path) -> None:
    """What cannot be read, has no end, or is a hole of a terabyte."""
    hole = tmp_path / "hole.csv"
    with hole.open("wb") as file:
        file.truncate(1 << 40)
    wanted = {"/proc/self/mem": "cannot be read (", "/dev/zero": "not text", str(hole): "not text"}
    for name, words in wanted.items():
        told = read(Path(name))
        assert (told["code"], words in str(told["problem"])) == (os.EX_DATAERR, True), told


def read(path: Path, megabytes: int = MEGABYTES) -> dict[str, Any]:
    """Read a file in a process with little memory and little time."""
    command = ["prlimit", f"--cpu={CPU_SECONDS}", sys.executable, "-m", "tests.hostile.reading"]
    done = subprocess.run(
        [*command, str(path), str(megabytes)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    told: dict[str, Any] = json.loads(done.stdout)
    return told


PIECES = [
    b"a",
    b"1",
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b'"',
    b'""',
    b" ",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"\\",
    b'\\"',
]
PIECES += [
    b'"a"',
    b'{"a":1}',
    b"[1,2]",
    b"\xff",
    b"null",
    b'"q\nz"',
    b'{"k":"v\\n"}',
    b"[]",
    b"[ ]",
    b"AAAAAAAA",
]
READERS: list[Callable[[io.BytesIO], Any]] = [
    CsvRows,
    lambda stream: JsonLines(stream, {}),
    lambda stream: JsonValues(stream, {}),
]


def rows_of(content: bytes, make: Callable[[io.BytesIO], Any], chunk: int) -> list[Any]:
    """Return the rows of a content that is read in pieces of this size, and what is wrong with the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "CHUNK", chunk)
        found: list[Any] = []
        try:
            found.extend(make(io.BytesIO(content)).rows())
        except InputProblem as problem:
            found.append(problem.message)
        return found


@given(st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join), st.sampled_from(READERS))
def test_no_piece_of_a_file_is_read_otherwise_for_where_it_is_cut(content: bytes, make: Any) -> None:
    whole = rows_of(content, make, 1 << 20)
    assert all(rows_of(content, make, chunk) == whole for chunk in (1, 2, 7))


class Watched(Screen):
    """A person who waits until something is shown, and then wants it to end."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.shown = 0

    def show(self, *_what: object) -> None:
        """Press Ctrl-C, so to speak."""
        self.shown += 1
        if self.shown == 1:
            signal.raise_signal(signal.SIGTERM)


def upsert_many() -> None:
    """Stands for the task; nothing runs it."""


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app as far as a load that sends nothing asks it."""
    app = Celery("bombs", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.task(upsert_many, name="mongo.data.upsert_many", shared=False)
    app.finalize()
    uri = SimpleNamespace(get_secret_value=lambda: "mongodb://nowhere")
    settings = SimpleNamespace(mongodb_database="app", mongodb_uri=uri)
    app.mongo = SimpleNamespace(settings=settings, get_database=lambda _name: {"c": None})
    yield app
    app.close()


@pytest.mark.parametrize("name", ["blank lines.jsonl", "blank lines.csv", "space.json", "siblings.json"])
def test_a_signal_is_heard_where_no_row_comes(
    name: str, app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how far it is is shown there, too."""
    monkeypatch.setattr(load_module, "_TURN_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    unit, head, _, _, _ = BOMBS[name]
    path = tmp_path / name
    path.write_bytes(head + unit * (SIZE // len(unit)))
    screen = Watched()
    outcome = load(app, LoadOptions(str(path), "c", state=tmp_path / "state"), screen)
    assert (outcome.exit_code, outcome.counts.read) == (128 + signal.SIGTERM, 0)
    assert screen.shown == 1
