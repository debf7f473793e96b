"""`celery -A worker mongo load` and `dump` as a person runs them, against a real worker and real servers."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from bson import Decimal128, Int64, ObjectId, json_util

from ops.local.servers import LocalServer
from tests.e2e.workers import ROOT, Worker, wait_until

SECONDS = 90.0
ROWS = 8000


@dataclass
class Desk:
    """Where a person sits: a folder, an environment, and the database to look at."""

    folder: Path
    environment: Mapping[str, str]
    database: Any
    mongo: LocalServer
    redis: LocalServer

    @property
    def errors(self) -> Path:
        """What a load that was started says."""
        return self.folder / "errors"

    @property
    def state(self) -> Path:
        """Where loads keep their progress."""
        return self.folder / "state"

    def rows_done(self) -> int:
        """How far the load that runs has come, as its journal has it."""
        with suppress(ValueError):  # nothing was written yet
            journals = [json.loads(path.read_text()) for path in self.state.rglob("*.json")]
            return max((journal["number"] for journal in journals), default=0)
        return 0

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command of ours in the folder."""
        command = [sys.executable, "-m", "celery", "-A", "worker", "mongo", *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes)

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end."""
        process = self.start(*arguments, **options)
        return self.end(process)

    @staticmethod
    def end(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        """Wait for a command's end."""
        try:
            output, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            process.wait()
        assert "Traceback" not in f"{output}{errors}"
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def load(self, name: str, collection: str, *options: str) -> dict[str, Any]:
        """Load a file and return the summary; it must be complete."""
        done = self.run("load", name, "--into", collection, "--json", *options)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def wait_for_documents(self, collection: str, count: int = 1) -> None:
        """Wait until so many are there."""
        found = self.database[collection]
        wait_until(lambda: found.estimated_document_count() >= count, what="documents", seconds=SECONDS)

    def start_loading(self, collection: str) -> subprocess.Popen[str]:
        """Start to load `rows.jsonl`, and return when some of it is there."""
        with self.errors.open("w") as errors:
            process = self.start("load", "rows.jsonl", "--into", collection, "--json", stderr=errors)
        self.wait_for_documents(collection, 1000)
        return process

    def wait_to_be_told(self, words: str) -> None:
        """Wait until the load that was started says this."""
        wait_until(lambda: words in self.errors.read_text(), what=words, seconds=30)

    def must_arrive(self, process: subprocess.Popen[str], collection: str) -> None:
        """Wait for the load that was started: every row is accounted for, and there."""
        done = self.end(process)
        assert done.returncode == 0, self.errors.read_text()
        told = json.loads(done.stdout)
        assert told["read"] == told["written"] + told["unchanged"] == ROWS
        assert self.database[collection].count_documents({}) == ROWS

    def hold_writes(self, mode: str) -> None:
        """Have each write take a while (`alwaysOn`), until `off` or the server's end: a load is then still on
        its way when a test reaches for it.
        """
        data = {"failCommands": ["update"], "blockConnection": True, "blockTimeMS": 300}
        admin = self.database.client.admin
        admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    @contextmanager
    def slow_writes(self) -> Iterator[None]:
        """Hold writes for the time of a `with` block."""
        self.hold_writes("alwaysOn")
        try:
            yield
        finally:
            self.hold_writes("off")

    def write_rows(self, name: str, count: int = ROWS, *, broken_every: int = 0) -> Path:
        """Write a file of small rows, some of which are broken, and return it."""
        path = self.folder / name
        with path.open("w") as file:
            for number in range(1, count + 1):
                is_broken = broken_every and number % broken_every == 0
                file.write("{broken\n" if is_broken else f'{{"_id": {number}, "pad": "{"x" * 500}"}}\n')
        return path


@pytest.fixture(scope="module")
def desk_of(
    mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], Desk]]:
    """Run a worker, and give each test a desk of its own."""
    settings = {"MONGODB_URI": mongo.uri, "REDIS_URL": redis.uri, "CELERY_PYMONGO_DEPLOYMENT": "load"}
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    options = ("--without-mingle", "--without-gossip")
    with (
        Worker("worker", log, queues=("mongo.data",), env=settings, options=options) as worker,
        pymongo.MongoClient[dict[str, Any]](mongo.uri) as client,
    ):
        worker.wait_ready()

        def desk(folder: Path) -> Desk:
            state = {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT)}
            return Desk(folder, os.environ | settings | state, client.app, mongo, redis)

        yield desk


@pytest.fixture
def desk(desk_of: Callable[[Path], Desk], tmp_path: Path) -> Desk:
    return desk_of(tmp_path)


# -- a public data set -------------------------------------------------------------------------------


def data_files() -> list[Path]:
    spec = find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        return []
    return sorted(path for path in (Path(spec.origin).parent / "_data").iterdir() if path.is_file())


def rows_of(path: Path, types: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows as the standard library reads them."""
    with path.open(newline="") as file:
        if path.suffix == ".json":
            return list(json.load(file))
        return [
            {name: value_of(text, types[name]) for name, text in row.items()} for row in csv.DictReader(file)
        ]


def value_of(text: str, kind: str) -> Any:
    """A cell's value, by other means than ours."""
    if kind == "string":
        return text
    if kind == "date":
        return datetime.fromisoformat(text.replace("/", "-"))
    return {"int": int, "double": float}[kind](text) if text else None


def by_number(document: Mapping[str, Any]) -> int:
    """Where in its file a document was that got its `_id` from there."""
    return int(document["_id"].partition("-")[2])


@pytest.mark.skipif(not data_files(), reason="vega_datasets is not installed here")
@pytest.mark.full
def test_every_file_of_a_public_data_set_arrives_as_it_is_and_is_dumped_as_it_is(desk: Desk):
    files = data_files()
    with ThreadPoolExecutor(3) as pool:
        loaded = dict(zip(files, pool.map(lambda path: desk.load(str(path), path.stem), files), strict=True))
    for path, told in loaded.items():
        found = sorted(desk.database[path.stem].find(), key=by_number)
        assert told["read"] == told["inserted"] == len(found), path
        rows = rows_of(path, told["types"])
        assert repr(found) == repr(
            [{"_id": document["_id"]} | row for document, row in zip(found, rows, strict=True)]
        )
        desk.database.all.insert_many(found)
    cars = next(path for path in loaded if path.stem == "cars")
    again = desk.load(str(cars), "cars")
    assert again["unchanged"] == again["read"] == loaded[cars]["read"]
    must_be_dumped_with_every_type(desk, "all")


def must_be_dumped_with_every_type(desk: Desk, collection: str) -> None:
    assert desk.run("dump", collection, "--output", "all.jsonl.gz").returncode == 0
    with gzip.open(desk.folder / "all.jsonl.gz") as lines:
        dumped = sorted(map(json_util.loads, lines), key=itemgetter("_id"))
    found = list(desk.database[collection].find(sort=[("_id", 1)]))
    assert list(map(bson.encode, dumped)) == list(map(bson.encode, found))


# -- what a person does wrong, or meets --------------------------------------------------------------


def test_rejected_rows_and_duplicates_are_in_a_file_with_line_and_reason(desk: Desk):
    path = desk.folder / "mixed.csv"
    path.write_bytes(
        b'\xef\xbb\xbfday,note,n\r\n2020-01-01,"a, ""b""\r\nc",1\r\n2020-01-02,d,x\r\n'
        b"2020-01-03,e\r\n2020-01-01,again,2\r\n,none,3\r\n"
    )
    done = desk.run("load", "mixed.csv", "--into", "mixed", "--key", "day", "--types", "n=int")
    assert done.returncode == 0
    assert "types: day=date,note=string,n=int" in done.stderr
    assert "app.mixed: made a unique index on day" in done.stderr
    assert "5 rows read = 1 written (1 new) + 0 unchanged + 1 duplicate + 3 rejected" in done.stdout
    rejects = desk.folder / "mixed.csv.rejects.jsonl"
    assert str(rejects) in done.stdout
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    told = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(row["line"], row["reason"]) for row in told] == [
        (4, "column n: its value is no int"),
        (5, "2 fields where the header has 3"),
        (6, "the same key as line 2"),
        (7, "no single value in the key field day"),
    ]
    (document,) = desk.database.mixed.find({}, {"_id": 0})
    assert document["note"] == 'a, "b"\r\nc'


def test_a_load_of_which_every_row_is_rejected_ends_non_zero(desk: Desk):
    (desk.folder / "other.csv").write_text("name\na\nb\n")
    done = desk.run("load", "other.csv", "--into", "none", "--key", "number")
    assert done.returncode != 0
    (desk.folder / "blank.csv").write_text("number,name\n,a\n,b\n")
    done = desk.run("load", "blank.csv", "--into", "none", "--key", "number", "--types", "number=int")
    assert done.returncode == 1
    assert "mongo: every row was rejected: nothing was written\n" in done.stderr
    assert desk.database.none.count_documents({}) == 0


@pytest.mark.full
def test_more_rows_than_a_worker_names_are_rejected_each_with_its_line(desk: Desk):
    desk.database.unique.create_index("email", unique=True)
    desk.database.unique.insert_one({"_id": "theirs", "email": "taken"})
    rows = [{"_id": n, "email": "taken" if n % 2 else f"free{n}"} for n in range(600)]
    (desk.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = desk.load("rows.jsonl", "unique")
    assert (told["inserted"], told["unchanged"], told["rejected"]) == (300, 0, 300)
    lines = [json.loads(line)["line"] for line in Path(told["rejects"]).read_text().splitlines()]
    assert lines == [n + 1 for n in range(600) if n % 2]


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("empty.csv", b"", 0, "empty.csv is empty: there is nothing to load"),
        ("none.csv", None, 66, "mongo: none.csv: No such file or directory"),
        (".", None, 66, "mongo: .: a directory; name one file"),
        ("a.csv", b"a,a\n1,2\n", 65, "mongo: a.csv: the header in line 1 names the column a twice"),
        ("a.txt", b"hello\n", 64, "mongo: a.txt: cannot tell its format; say --format csv|tsv|json|jsonl"),
        ("a.gz", b"\x1f\x8b\x08\x00", 65, "mongo: a.gz: damaged or cut short"),
        ("a.json", b'[{"a":1}', 65, "before its array does: was it cut?; the rows before it are loaded"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_line(
    name: str, content: bytes | None, *, code: int, words: str, desk: Desk
):
    if content is not None:
        (desk.folder / name).write_bytes(content)
    done = desk.run("load", name, "--into", "wrong")
    assert done.returncode == code
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--into", "a$b"), "mongo: collection names must not contain '$': 'a$b'\n"),
        (("--into", "a", "--database", "a b"), "mongo: database names cannot contain the character ' '\n"),
        (("--into", "a", "--key", "n"), "mongo: --key n: the file has no such column; it has a, b\n"),
        (("--into", "a", "--key", "$a"), "mongo: --key '$a' names no field\n"),
        (("--into", "a", "--types", "n=int"), "mongo: a.csv: --types names the column n; it has a, b\n"),
    ],
)
def test_a_name_that_is_none_is_wrong_usage(options: tuple[str, ...], words: str, desk: Desk):
    (desk.folder / "a.csv").write_text("a,b\n1,2\n")
    done = desk.run("load", "a.csv", *options)
    assert (done.returncode, done.stderr) == (64, words)


def test_standard_input_is_loaded_as_a_file_is(desk: Desk):
    path = desk.write_rows("rows.jsonl", 50)
    with path.open() as file:
        told = json.loads(desk.run("load", "-", "--into", "stdin", "--json", stdin=file).stdout)
    assert told["inserted"] == 50


@pytest.mark.full
def test_nobody_reads_the_summary_and_the_load_is_done_all_the_same(desk: Desk):
    desk.write_rows("rows.jsonl", 50)
    with closed_pipe() as nobody:
        done = desk.run("load", "rows.jsonl", "--into", "unread", stdout=nobody)
        assert done.returncode == 0
        assert done.stderr == "mongo: standard output was closed before the result\n"
        assert desk.database.unread.count_documents({}) == 50
        assert desk.run("load", "rows.jsonl", "--into", "a", stdout=nobody, stderr=nobody).returncode == 0
        assert desk.run("load", "none.jsonl", "--into", "a", stdout=nobody, stderr=nobody).returncode == 66


@contextmanager
def closed_pipe() -> Iterator[int]:
    """The end to write to, of a pipe whose reader has gone."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    yield write_end
    os.close(write_end)


@pytest.mark.full
def test_a_full_disk_ends_a_load_with_one_line_and_with_room_it_goes_on(desk: Desk):
    desk.write_rows("rows.jsonl", 100, broken_every=2)
    process = desk.start("load", "rows.jsonl", "--into", "full")
    fill_disk(process)
    done = desk.end(process)
    assert done.returncode == 1
    name = str(desk.folder / "rows.jsonl.rejects.jsonl")
    assert done.stderr == f"mongo: cannot write rejected rows to {name}: File too large\n"
    told = desk.load("rows.jsonl", "full")
    assert (told["read"], told["rejected"]) == (100, 50)
    assert desk.database.full.count_documents({}) == 50


def fill_disk(process: subprocess.Popen[str]) -> None:
    """Let a process write no file beyond a few bytes, as on a full disk."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))


# -- interruptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.full),
        pytest.param(signal.SIGKILL, marks=pytest.mark.full),
    ],
)
def test_an_interrupted_load_goes_on_where_it_was(number: signal.Signals, desk: Desk):
    collection = f"interrupted_{number.name}"
    desk.write_rows("rows.jsonl", broken_every=1000)
    with desk.slow_writes():
        process = desk.start("load", "rows.jsonl", "--into", collection, "--in-flight", "2")
        wait_until(lambda: desk.rows_done() > 0, what="progress", seconds=SECONDS)
        process.send_signal(number)
        stopped = desk.end(process)
    if number != signal.SIGKILL:
        assert stopped.returncode == 128 + number
        assert "the same command goes on from there" in stopped.stderr
    told = desk.load("rows.jsonl", collection)
    assert 0 < told["resumed_after"] < ROWS
    assert told["read"] == ROWS
    assert told["rejected"] == 8
    assert told["written"] + told["unchanged"] == ROWS - 8
    assert desk.database[collection].count_documents({}) == ROWS - 8
    lines = [json.loads(line)["line"] for line in Path(told["rejects"]).read_text().splitlines()]
    assert lines == list(range(1000, ROWS + 1, 1000))
    assert [path for path in desk.state.rglob("*") if path.is_file()] == []


@pytest.mark.full
def test_the_same_load_at_the_same_time_is_refused_until_the_first_has_ended(desk: Desk):
    desk.write_rows("rows.jsonl")
    with desk.slow_writes():
        first = desk.start("load", "rows.jsonl", "--into", "twice", "--in-flight", "1")
        wait_until(lambda: desk.rows_done() > 0, what="progress", seconds=SECONDS)
        first.send_signal(signal.SIGSTOP)
    second = desk.run("load", "rows.jsonl", "--into", "twice")
    first.kill()
    desk.end(first)
    assert (second.returncode, second.stderr) == (
        os.EX_TEMPFAIL,
        "mongo: the same load runs in another process; let it end, or stop it there\n",
    )
    assert desk.load("rows.jsonl", "twice")["resumed_after"] > 0


@pytest.mark.full
def test_a_load_into_a_collection_that_was_emptied_begins_again(desk: Desk):
    desk.write_rows("rows.jsonl")
    with desk.slow_writes():
        process = desk.start("load", "rows.jsonl", "--into", "emptied", "--in-flight", "1")
        wait_until(lambda: desk.rows_done() > 0, what="progress", seconds=SECONDS)
        process.send_signal(signal.SIGTERM)
        assert desk.end(process).returncode == 128 + signal.SIGTERM
    desk.database.emptied.drop()
    told = desk.load("rows.jsonl", "emptied")
    assert (told["resumed_after"], told["inserted"]) == (0, ROWS)
    assert desk.database.emptied.count_documents({}) == ROWS


@contextmanager
def away(server: LocalServer) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@pytest.mark.parametrize("loses_all", [True, pytest.param(False, marks=pytest.mark.full)])
def test_a_restart_of_redis_is_waited_out(loses_all: bool, desk: Desk):
    collection = f"redis_{loses_all}"
    desk.write_rows("rows.jsonl")
    with desk.slow_writes():
        process = desk.start_loading(collection)
        desk.redis.kill()
    with away(desk.redis):
        desk.wait_to_be_told("Redis is away")
        if loses_all:
            shutil.rmtree(desk.redis.log.parent / "appendonlydir")
    desk.must_arrive(process, collection)


def test_an_outage_of_mongodb_is_waited_out(desk: Desk):
    desk.write_rows("rows.jsonl")
    desk.hold_writes("alwaysOn")
    process = desk.start_loading("outage")
    with away(desk.mongo):
        desk.wait_to_be_told("do not get through")
    desk.must_arrive(process, "outage")


# -- dump --------------------------------------------------------------------------------------------


def test_a_dump_is_the_inverse_of_a_load(desk: Desk):
    documents: list[dict[str, Any]] = [
        {"_id": ObjectId(), "i": 1, "l": Int64(1), "d": 1.0, "x": Decimal128("1.10"), "n": {"a": [None]}},
        {"_id": {"a": 1, "b": 2}, "user": {"$date": "not a date"}, "bytes": b"\x00\xff"},
    ]
    desk.database.origin.insert_many(documents)
    done = desk.run("dump", "origin", "--output", "origin.jsonl.gz")
    assert done.returncode == 0
    assert done.stderr == "2 documents of origin\n"
    assert stat.S_IMODE((desk.folder / "origin.jsonl.gz").stat().st_mode) == 0o600
    assert desk.load("origin.jsonl.gz", "copy")["inserted"] == 2
    copies = list(desk.database.copy.find())
    assert copies == documents
    assert [type(value) for value in copies[0].values()] == [type(v) for v in documents[0].values()]
    again = desk.run("dump", "origin", "--output", "origin.jsonl.gz")
    assert (again.returncode, again.stderr) == (
        1,
        "mongo: origin.jsonl.gz exists and is not written over; choose another --output\n",
    )
    assert [path.name for path in desk.folder.iterdir() if path.is_file()] == ["origin.jsonl.gz"]


def test_a_dump_of_a_collection_that_is_not_there_ends_non_zero_and_leaves_no_file(desk: Desk):
    done = desk.run("dump", "misspelt", "--output", "misspelt.jsonl")
    assert (done.returncode, done.stderr) == (
        1,
        "mongo: there is no collection misspelt in the database app\n",
    )
    assert list(desk.folder.iterdir()) == []
    desk.database.create_collection("bare")
    assert desk.run("dump", "bare").returncode == 0


@pytest.mark.full
def test_a_reader_that_closes_the_pipe_ends_a_dump_with_one_line(desk: Desk):
    desk.database.long.insert_many({"_id": n, "pad": "x" * 1000} for n in range(2000))
    process = desk.start("dump", "long")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["_id"] == {"$numberInt": "0"}
    process.stdout.close()
    process.stdout = None
    done = desk.end(process)
    assert done.returncode == 1
    assert done.stderr.startswith("mongo: the reader closed the pipe after ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
@pytest.mark.full
def test_a_dump_onto_a_full_disk_ends_with_one_line_and_leaves_no_file(name: str, desk: Desk):
    desk.database.wide.drop()
    desk.database.wide.insert_many({"_id": n, "pad": os.urandom(100)} for n in range(500))
    process = desk.start("dump", "wide", "--output", name)
    fill_disk(process)
    done = desk.end(process)
    assert done.returncode == 1
    assert done.stderr.startswith("mongo: cannot write: File too large, after ")
    assert done.stderr.count("\n") == 1
    assert list(desk.folder.iterdir()) == []


@pytest.mark.full
def test_a_dump_whose_last_bytes_cannot_be_written_says_so(desk: Desk):
    desk.database.few.insert_one({"_id": 1})
    with Path("/dev/full").open("w") as full:
        done = desk.run("dump", "few", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith("mongo: cannot write: No space left on device, after ")
    assert done.stderr.count("\n") == 1
