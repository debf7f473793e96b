"""What a load decides without a server: identity, duplicates, batches, rejects, progress, the window."""

from __future__ import annotations

import fcntl
import io
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from ops.loading.bar import Bar
from ops.loading.batches import BATCH_BYTES, BATCH_ROWS, Batch, Refusal, Sorter
from ops.loading.codec import read_back
from ops.loading.flight import BatchFailed, Flight, Sent, Target, refuse_app
from ops.loading.identity import Identity, SeenKeys
from ops.loading.journal import Counts, Journal, Progress
from ops.loading.json_rows import JsonLines, JsonValues
from ops.loading.progress import Rate
from ops.loading.rejects import RejectsFile
from ops.loading.rows import Row
from ops.loading.tally import Tally
from ops.problems import AppProblem, BadRow, InputProblem, Problem, UnderWay

DIGEST = "a" * 64


@pytest.fixture
def seen() -> Iterator[SeenKeys]:
    with SeenKeys() as keys:
        yield keys


def batches(text: str, seen: SeenKeys, *, key: tuple[str, ...] = (), after: int = 0) -> list[Batch]:
    reader = JsonLines(io.BytesIO(text.encode()), {})
    return list(Sorter(reader, Identity(key, DIGEST), seen).batches(reader.rows(), after=after))


def lines(*documents: Any) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


# -- identity ----------------------------------------------------------------------------------------


def test_a_row_without_an_id_gets_one_of_the_content_and_its_number(seen: SeenKeys):
    (batch,) = batches("\n" + lines({"a": 1}, {"_id": 5}, {"a": 1}), seen)
    ids = [read_back(line)["_id"] for _, line in batch.sent]
    assert ids == ["a" * 24 + "-1", 5, "a" * 24 + "-3"]


def test_of_rows_with_one_key_the_first_is_sent_and_the_others_are_duplicates(seen: SeenKeys):
    rows = lines({"_id": 1}, {"_id": 2}, {"_id": 1.0}, {"_id": "1"}, {"_id": True}, {"_id": 2, "x": 1})
    (batch,) = batches(rows, seen)
    assert [row.line for row, _ in batch.sent] == [1, 2, 4, 5]
    assert [(r.row.line, r.reason, r.is_duplicate) for r in batch.refusals] == [
        (3, "the same key as line 1", True),
        (6, "the same key as line 2", True),
    ]


def test_a_key_of_several_fields_reaches_into_documents(seen: SeenKeys):
    rows = lines({"a": {"b": 1}, "c": 1}, {"a": {"b": 1}, "c": 2}, {"a": {"b": 1}, "c": 1}, {"a": 1, "c": 1})
    (batch,) = batches(rows, seen, key=("a.b", "c"))
    assert [(r.row.line, r.reason) for r in batch.refusals] == [
        (3, "the same key as line 1"),
        (4, "no single value in the key field a.b"),
    ]


@pytest.mark.parametrize("value", [None, [1]])
def test_a_key_without_a_single_value_rejects_the_row(value: object):
    with pytest.raises(BadRow, match="no single value in the key field k"):
        Identity(("k",), DIGEST).identified({"k": value}, Row(1, 1, 1, b""))


# -- batches -----------------------------------------------------------------------------------------


def test_batches_are_bounded_in_rows_and_in_size(seen: SeenKeys):
    by_rows = batches(lines(*({"a": n} for n in range(2 * BATCH_ROWS + 1))), seen)
    assert [batch.rows for batch in by_rows] == [BATCH_ROWS, BATCH_ROWS, 1]
    long = "x" * (BATCH_BYTES // 3)
    by_size = batches(lines(*({"a": long} for _ in range(5)), {"a": long * 6}, {"a": 1}), seen)
    assert [batch.rows for batch in by_size] == [2, 2, 1, 1, 1]
    assert all(len(batch.text) <= BATCH_BYTES or batch.rows == 1 for batch in by_size)


def test_what_cannot_be_sent_is_rejected_with_a_reason_that_quotes_nothing(seen: SeenKeys):
    word = "privy"
    rows = lines({"a": word * 1_800_000}, {"a": 2**70}, {"\x00": word}, {"a": "\ud800"}) + "{privy\n"
    reasons = [refusal.reason for batch in batches(rows, seen) for refusal in batch.refusals]
    assert reasons[0] == "too large for a message: more than 8388608 characters when encoded"
    assert reasons[1] == "a value or a key that BSON cannot hold (OverflowError)"
    assert len(reasons) == 5
    assert word not in " ".join(reasons)


def test_rows_that_are_done_are_read_for_their_keys_alone(seen: SeenKeys):
    rows = lines({"_id": 1}, {"_id": 2}, {"_id": 1}, {"_id": 3})
    (batch,) = batches(rows, seen, after=2)
    assert [row.number for row, _ in batch.sent] == [4]
    assert [refusal.reason for refusal in batch.refusals] == ["the same key as line 1"]


def test_the_rows_before_the_end_of_a_cut_file_are_a_batch(seen: SeenKeys):
    reader = JsonValues(io.BytesIO(b'[{"a":1},{"a"'), {})
    found = Sorter(reader, Identity((), DIGEST), seen).batches(reader.rows())
    assert next(found).rows == 1
    with pytest.raises(InputProblem):
        next(found)


# -- rejected rows -----------------------------------------------------------------------------------


def refusal(line: int) -> Refusal:
    return Refusal(Row(line, line, line, b"\xfftext"), "why")


def test_rejected_rows_go_to_a_file_of_the_owner_that_is_made_when_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    rejects = RejectsFile(None, "a.csv")
    assert list(tmp_path.iterdir()) == []
    rejects.write([refusal(7)])
    rejects.close()
    path = tmp_path / "a.csv.rejects.jsonl"
    assert rejects.path == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"line": 7, "row": 7, "reason": "why", "text": "\\xfftext"}


def test_no_other_file_is_written_over_not_even_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.rejects.jsonl").symlink_to(tmp_path / "elsewhere")
    rejects = RejectsFile(None, "a")
    rejects.write([refusal(1)])
    rejects.close()
    assert rejects.path == tmp_path / "a.rejects.2.jsonl"
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(Problem, match="exists and is not written over"):
        RejectsFile(tmp_path / "a.rejects.jsonl", "a").refuse_taken()


def test_a_resumed_load_goes_on_in_its_file_where_its_progress_says(tmp_path: Path):
    path = tmp_path / "rejects"
    first = RejectsFile(path, "a")
    first.write([refusal(1)])
    size = first.size
    first.write([refusal(2)])
    first.close()
    second = RejectsFile(path, "a")
    second.go_on(str(path), size)
    second.write([refusal(2), refusal(3)])
    second.close()
    assert [json.loads(line)["line"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_rejected_rows_that_cannot_be_written_end_the_load(tmp_path: Path):
    rejects = RejectsFile(tmp_path / "none" / "rejects", "a")
    with pytest.raises(Problem, match=r"cannot write rejected rows to .*: No such file"):
        rejects.write([refusal(1)])


# -- progress ----------------------------------------------------------------------------------------


def test_the_journal_remembers_a_load_until_it_is_complete(tmp_path: Path):
    load = {"content": DIGEST, "into": ["app", "a"]}
    progress = Progress(5, 100, Counts(read=5, inserted=3, rejected=2), "rejects", 70)
    with Journal(tmp_path / "new", load) as journal:
        journal.save(Progress(4, 90, rejects="a longer path"))
        journal.save(progress)
    with Journal(tmp_path / "new", load | {"into": ["app", "b"]}) as other:
        assert other.read() == Progress()
    with Journal(tmp_path / "new", load) as journal:
        assert journal.read() == progress
        journal.remove()
        assert journal.read() == Progress()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 2}', '{"version": 1, "counts": 5}']
)
def test_an_illegible_journal_is_no_journal(text: str, tmp_path: Path):
    with Journal(tmp_path, {}) as journal:
        journal.save(Progress(5))
        (path,) = tmp_path.iterdir()
        path.write_text(text)
        assert journal.read() == Progress()


def test_a_journal_that_cannot_be_kept_is_said_and_stops_nothing(tmp_path: Path):
    (tmp_path / "file").touch()
    with Journal(tmp_path / "file", {}) as journal:
        journal.save(Progress(5))
        journal.remove()
    assert journal.problem is not None
    assert "cannot save the progress" in journal.problem


def test_the_same_load_twice_at_once_is_refused_and_another_is_not(tmp_path: Path):
    with Journal(tmp_path, {"content": "a"}) as first:
        with (
            pytest.raises(UnderWay, match="the same load runs in another process"),
            Journal(tmp_path, {"content": "a"}),
        ):
            pass
        with Journal(tmp_path, {"content": "b"}):
            pass
        first.save(Progress(5))
    with Journal(tmp_path, {"content": "a"}) as second:
        assert second.read() == Progress(5)


def test_a_journal_that_its_last_holder_removed_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lock = fcntl.flock
    removed: list[Path] = []

    def late(file: int, how: int) -> None:
        if not removed:
            removed.append(next(tmp_path.iterdir()))
            removed[0].unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with Journal(tmp_path, {}) as journal:
        journal.save(Progress(5))
        assert journal.read() == Progress(5)
        assert list(tmp_path.iterdir()) == removed


def test_the_rate_is_that_of_the_last_ten_seconds():
    rate = Rate()
    for second in range(31):
        rate.see(float(second), rows=10 * second**2, size=1000 * second)
    assert rate.rows == 10 * (30**2 - 20**2) / 10
    assert rate.seconds_left(40_000) == 10


def test_nothing_is_promised_while_nothing_moves():
    rate = Rate()
    for second in range(20):
        rate.see(float(second), rows=5, size=5)
    assert rate.rows == 0
    assert rate.seconds_left(100) is None


def test_the_bar_leaves_room_for_the_terminals_echo_of_an_interrupt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "40"), ("LINES", "30")):
        monkeypatch.setenv(name, value)
    with Bar(100) as bar:
        bar.show(50, "50 %: 1,000 rows, 1,000 rows/s, 0:01 left, and more")
        bar.refresh()
        drawn = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", capsys.readouterr().err)
    assert "50 %: 1,000 rows" in drawn
    assert max(map(len, re.split(r"[\r\n]", drawn))) <= 40 - len("^C^C")


# -- what became of the rows -------------------------------------------------------------------------


def landed(batch: Batch, *, rejected: list[int], named: int = 100, is_counted: bool = True) -> Sent:
    """A batch that a worker is done with: which of its rows it rejected, and how many of them it names."""
    errors = [{"index": index, "reason": "why"} for index in rejected[:named]]
    numbers = {"inserted": len(batch.sent) - len(rejected), "modified": 0, "unchanged": 0, "superseded": 0}
    return Sent(batch, is_counted, result={**numbers, "rejected": len(rejected), "errors": errors})


def test_a_batch_is_done_when_all_that_was_rejected_in_it_is_known(tmp_path: Path):
    rows = [Row(number, number, number, b"") for number in range(1, 251)]
    whole = Batch([(row, "x") for row in rows[:-1]], [Refusal(rows[-1], "here")], last=rows[-1])
    progress, rejects = Progress(), RejectsFile(tmp_path / "rejects", "a")
    tally = Tally(progress, rejects)
    parts = tally.take(landed(whole, rejected=list(range(249))))
    assert [part.rows for part in parts] == [100, 100, 50]
    for part in parts:
        assert progress == Progress()
        again = landed(part, rejected=list(range(len(part.sent))), is_counted=False)
        assert tally.take(again) == []
    rejects.close()
    assert (progress.number, progress.counts) == (250, Counts(read=250, rejected=250))
    lines = [json.loads(line)["line"] for line in (tmp_path / "rejects").read_text().splitlines()]
    assert lines == list(range(1, 251))


# -- the window --------------------------------------------------------------------------------------


def upsert_many() -> None:
    """Stands for the task; nothing runs it."""


class Backend:
    """A result backend in memory, as far as it is asked."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}

    def get_key_for_task(self, task_id: str) -> str:
        return task_id

    def mget(self, keys: list[str]) -> list[Any]:
        return [self.results.get(key) for key in keys]

    def delete(self, key: str) -> None:
        self.results.pop(key, None)

    @staticmethod
    def decode(payload: Any) -> Any:
        return payload


class App(Celery):
    """An app whose results the test writes."""

    backend: Any = None  # Celery's own is a property


class Site:
    """An app on kombu's broker in memory, a backend whose results the test writes, and a clock."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.is_away = False
        self.sent: list[str] = []
        self.app = App("tests", broker="memory://", set_as_current=False)
        self.app.task(upsert_many, name="mongo.data.upsert_many", shared=False)
        self.app.finalize()
        self.backend = Backend()
        task = self.app.tasks["mongo.data.upsert_many"]
        task.apply_async = self._send
        self.app.backend = self.backend
        self.gates: dict[str, str] = {}
        self.app.mongo = SimpleNamespace(watch=SimpleNamespace(gates=lambda: self.gates))

    def flight(self, limit: int = 2) -> Flight:
        return Flight(self.app, Target("c", None, ("_id",)), limit=limit, now=lambda: self.seconds)

    def _send(self, args: Any, kwargs: Any, *, task_id: str) -> None:
        if self.is_away:
            raise OperationalError
        self.sent.append(task_id)

    def answer(self, task_id: str, status: str = "SUCCESS", **result: Any) -> None:
        counts = {"inserted": 1, "modified": 0, "unchanged": 0, "superseded": 0, "rejected": 0, "errors": []}
        told = counts | result if status == "SUCCESS" else result
        self.backend.results[task_id] = {"status": status, "result": told}


@pytest.fixture
def site() -> Site:
    return Site()


def batch(number: int, size: int = 10) -> Batch:
    row = Row(number, number, number, b"")
    return Batch(sent=[(row, "x")], size=size, last=row)


def test_batches_land_in_the_order_of_the_file_and_their_results_are_forgotten(site: Site):
    flight = site.flight()
    first, second = batch(1), batch(2)
    flight.put(first)
    assert not flight.is_full(second)
    flight.put(second)
    assert flight.is_full(batch(3))
    flight.step()
    site.answer(site.sent[1])
    flight.step()
    assert list(flight.landed()) == []
    site.answer(site.sent[0])
    flight.step()
    assert [sent.batch for sent in flight.landed()] == [first, second]
    assert site.backend.results == {}
    assert flight.batches == 0


def test_large_batches_fill_the_window_before_many_do_but_one_may_always_go(site: Site):
    flight = site.flight(limit=100)
    assert not flight.is_full(batch(1, size=20 * 1024 * 1024))
    flight.put(batch(1, size=9 * 1024 * 1024))
    assert flight.is_full(batch(2, size=9 * 1024 * 1024))


def test_a_batch_that_an_outage_outlasted_is_sent_again_later_under_its_id(site: Site):
    flight = site.flight()
    flight.put(batch(1))
    flight.step()
    for wait in (1, 2, 4):
        site.answer(site.sent[-1], "FAILURE", exc_type="ServerSelectionTimeoutError", exc_message=["no"])
        flight.step()
        site.seconds += wait - 0.1
        count = len(site.sent)
        flight.step()
        assert len(site.sent) == count
        site.seconds += 0.2
        flight.step()
        assert len(site.sent) == count + 1
    assert len(set(site.sent)) == 1
    assert flight.trouble == "the workers do not get through to MongoDB and try again; waiting"


def test_a_batch_that_no_retry_mends_ends_the_load(site: Site):
    flight = site.flight()
    flight.put(batch(7))
    flight.step()
    site.answer(site.sent[0], "FAILURE", exc_type="OperationFailure", exc_message=["not authorized"])
    with pytest.raises(
        BatchFailed, match="a worker failed with line 7: OperationFailure: not authorized; once"
    ):
        flight.step()


def test_an_accident_is_forgiven_a_few_times_only(site: Site):
    flight = site.flight()
    flight.put(batch(1))

    def fail() -> None:
        flight.step()
        site.answer(site.sent[-1], "FAILURE", exc_type="WorkerLostError", exc_message=["SIGKILL"])
        flight.step()
        site.seconds += 60

    for _ in range(4):
        fail()
    with pytest.raises(BatchFailed, match="WorkerLostError: SIGKILL"):
        fail()


def test_redis_away_is_said_and_waited_out(site: Site):
    flight = site.flight()
    flight.put(batch(1))
    site.is_away = True
    flight.step()
    assert flight.trouble == "Redis is away (OperationalError); waiting for it"
    site.is_away = False
    flight.step()
    assert flight.trouble is None
    assert len(site.sent) == 1


def test_what_is_overdue_is_sent_again_only_when_its_queue_is_empty(site: Site):
    flight = site.flight()
    flight.put(batch(1))
    flight.step()
    with site.app.connection_for_write() as connection, connection.channel() as channel:
        queue = site.app.amqp.queues[flight.queue](channel)
        queue.declare()
        channel.basic_publish(channel.prepare_message("waits"), "", flight.queue)
        site.seconds += 1000
        flight.step()
        assert len(site.sent) == 1
        channel.queue_purge(flight.queue)
    flight.step()
    assert len(site.sent) == 2
    assert len(set(site.sent)) == 1
    site.seconds += 100  # its patience has doubled
    flight.step()
    assert len(site.sent) == 2


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("outage", "the workers do not get through to MongoDB and try again; waiting"),
        ("operator", "an operator paused the queue celery; waiting"),
    ],
)
def test_batches_that_wait_behind_a_gate_are_no_riddle(site: Site, why: str, words: str):
    flight = site.flight()
    flight.put(batch(1))
    flight.step()
    site.gates = {flight.queue: why}
    assert flight.trouble is None
    site.seconds += 3
    flight.step()
    assert flight.trouble == words
    site.answer(site.sent[0])
    flight.step()
    assert list(flight.landed())
    flight.step()
    assert flight.trouble is None


def test_a_silent_queue_is_asked_about(site: Site):
    flight = site.flight()
    site.seconds += 100
    flight.put(batch(1))
    assert flight.trouble is None
    flight.step()
    site.seconds += 16
    assert flight.trouble == f"no result for 16 s: does a worker consume the queue {flight.queue}?"


def test_a_batch_whose_rows_were_all_refused_here_lands_without_being_sent(site: Site):
    flight = site.flight()
    flight.put(Batch(refusals=[refusal(1)]))
    flight.step()
    assert [sent.batch.rows for sent in flight.landed()] == [1]
    assert site.sent == []


def test_an_app_that_cannot_say_what_was_written_is_refused():
    app = Celery("shop", broker="memory://", set_as_current=False)
    with pytest.raises(AppProblem, match="the app shop has no task"):
        refuse_app(app)
    app.task(upsert_many, name="mongo.data.upsert_many", shared=False)
    app.finalize()
    with pytest.raises(AppProblem, match="stores no results"):
        refuse_app(app)


def test_counts_are_of_every_row():
    counts = Counts(read=10, inserted=1, modified=2, unchanged=3, duplicates=1, rejected=3)
    assert counts.accounted == counts.read
    assert counts.written == 3
