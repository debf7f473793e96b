"""The ring of events: what goes in comes out, oldest first, whatever happened to its writer."""

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.tracking.flight import SIZE, FlightRecorder, Kind

RECORD = SIZE // 200


def texts(recorder: FlightRecorder) -> list[str]:
    return [record["text"] for record in recorder.read()]


def test_a_record_comes_back_with_its_time_kind_number_and_text(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1700000000.1239)
    recorder = FlightRecorder(bytearray(SIZE))
    recorder.record(Kind.CONNECTION_CLOSED, 2, "db:27017 idle")
    assert recorder.read() == [
        {"at": 1700000000.124, "kind": "connection.closed", "number": 2.0, "text": "db:27017 idle"}
    ]


@given(written=st.integers(0, 25), newest=st.none() | st.integers(0, 12))
def test_the_newest_records_are_kept_oldest_first(written, newest):
    recorder = FlightRecorder(bytearray(SIZE), records=10)
    for number in range(written):
        recorder.record(Kind.DRIFT, number)
    wanted = min(10 if newest is None else newest, 10)
    expected = list(range(written))[-wanted:] if wanted else []
    assert [record["number"] for record in recorder.read(newest)] == expected


@given(st.text())
def test_any_text_is_shortened_to_what_fits_and_stays_text(text):
    recorder = FlightRecorder(bytearray(SIZE))
    recorder.record(Kind.ERROR, text=text)
    (record,) = recorder.read()
    fits = len(text.encode()) <= 64
    shown = record["text"] if fits else record["text"].removesuffix("…")
    assert text.rstrip("\0").startswith(shown)
    assert len(record["text"].encode()) <= 64
    assert shown == text.rstrip("\0") if fits else record["text"].endswith("…")
    json.dumps(record)


@pytest.mark.parametrize("number", [None, "many", 1 << 2000])
def test_what_cannot_be_recorded_disturbs_nobody(number):
    recorder = FlightRecorder(bytearray(SIZE))
    recorder.record(Kind.ERROR, number, "text")
    recorder.record(Kind.ERROR, 1.0, "\ud800")
    assert texts(recorder) == ["?"]


@pytest.mark.parametrize("cut", range(RECORD))
def test_a_record_whose_writer_died_in_it_is_left_out(cut):
    buffer = bytearray(SIZE)
    recorder = FlightRecorder(buffer)
    for text in ("one", "two"):
        recorder.record(Kind.ERROR, text=text)
    torn, complete = buffer[RECORD : RECORD + cut], buffer[RECORD : 2 * RECORD]
    buffer[RECORD : 2 * RECORD] = torn.ljust(RECORD, b"\0")
    # All but the last zero bytes of the check word is all of the record.
    whole = buffer[RECORD : 2 * RECORD] == complete
    assert texts(recorder) == ["one", "two"] if whole else texts(recorder) == ["one"]


def test_a_record_that_is_written_while_it_is_read_is_left_out():
    class Changing:
        """What is read of a buffer while another process writes to it."""

        def __init__(self, *copies: bytearray) -> None:
            self._copies = iter(copies)

        def __bytes__(self) -> bytes:
            return bytes(next(self._copies))

    buffer = bytearray(SIZE)
    recorder = FlightRecorder(buffer)
    recorder.record(Kind.ERROR, text="one")
    recorder.record(Kind.ERROR, text="two")
    torn = buffer.copy()
    torn[RECORD + 25 : RECORD + 28] = b"x\0\0"
    recorder._buffer = Changing(torn, buffer)  # type: ignore[assignment]  # all that read() asks of it
    assert texts(recorder) == ["one"]


def test_a_second_recorder_goes_on_where_the_ring_ends():
    buffer = bytearray(SIZE)
    FlightRecorder(buffer).record(Kind.ERROR, text="one")
    FlightRecorder(buffer).record(Kind.ERROR, text="two")
    assert texts(FlightRecorder(buffer)) == ["one", "two"]


def test_threads_do_not_write_over_each_others_records():
    recorder = FlightRecorder(bytearray(SIZE))

    def write() -> None:
        for _ in range(25):
            recorder.record(Kind.ERROR)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recorder.read()) == 200


def test_an_unknown_kind_of_another_version_is_told_by_its_number():
    recorder = FlightRecorder(bytearray(SIZE))
    recorder.record(200)  # type: ignore[arg-type]  # what a later version may write
    assert recorder.read()[0]["kind"] == "kind 200"


def test_numbers_of_kinds_are_for_ever():
    """Another version reads what this one wrote."""
    assert [int(kind) for kind in Kind] == list(range(1, 20))
    assert (int(Kind.CLIENT_OPENED), int(Kind.CIRCUIT), int(Kind.ERROR)) == (1, 13, 19)
    assert len({kind.label for kind in Kind}) == len(Kind)
