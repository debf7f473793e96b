"""What one process has of MongoDB: its client, its state, what it tells."""

import json
import logging
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient, _csot, errors, monitoring

from worker.board import file
from worker.board.board import Board
from worker.board.row import PrivateRow
from worker.errors import ClientClosedError, ClientInMainError, SettingsError, TwoCopiesError
from worker.events import Event
from worker.process import process
from worker.process.process import Mongo, Place
from worker.settings.fields import Settings, load_settings
from worker.tracking.guard import is_closed

REFUSED = errors.ServerSelectionTimeoutError("nobody")


def load(**environ: str) -> Settings:
    return load_settings(environ, env_file=None)


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process without a Mongo, guards, and an environment that names servers."""
    monkeypatch.setattr(process, "_current", None)
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)
    monkeypatch.setattr(MongoClient, "_clients", {})
    monkeypatch.setenv("MONGODB_URI", "mongodb://from-env:1")
    monkeypatch.chdir(tmp_path)  # no .env there
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")


@pytest.fixture
def mongo() -> Iterator[Mongo]:
    made = Mongo(load())
    yield made
    made.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event")]


def fake(*replies: Any) -> Any:
    """Return a client whose server answers `replies` or raises them."""
    left = list(replies)

    def command(_name: str) -> Any:
        reply = left.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    client: Any = MongoClient("mongodb://a:1", connect=False)
    vars(client)["admin"] = SimpleNamespace(command=command)
    return client


# -- the module's functions ------------------------------------------------------------------------


def test_the_first_use_makes_the_one_client_from_the_environment() -> None:
    client = process.get_client()
    assert client is process.get_client()
    assert str(client).count("from-env") == 1
    assert process.get_database().name == "app"
    assert process.get_database("other").name == "other"
    assert process.current().close()


def test_a_use_after_the_processs_own_closing_is_an_error() -> None:
    process.get_client()
    process.current().close()
    with pytest.raises(ClientClosedError):
        process.get_client()


def test_a_call_runs_the_operation_and_observes_its_errors() -> None:
    assert process.call(lambda: 42) == 42
    with pytest.raises(errors.DuplicateKeyError):
        process.call(lambda: (_ for _ in ()).throw(errors.DuplicateKeyError("x", 11000)))


def test_an_outage_that_the_very_first_operation_meets_is_the_new_links_to_settle() -> None:
    """The operation opens the client, and with it a link that was not there when the call began."""

    def operation() -> None:
        process.get_client()
        raise REFUSED

    with pytest.raises(errors.ServerSelectionTimeoutError):
        process.call(operation, attempts=1)
    assert process.current().link.wake.is_set()
    process.current().close()


def test_a_mongo_that_is_adopted_closes_the_one_before(mongo: Mongo) -> None:
    process.adopt(mongo)
    client = mongo.get_client()
    process.adopt(mongo)
    assert not is_closed(client)
    process.adopt(Mongo(load()))
    assert is_closed(client)


def test_two_copies_of_the_state_are_refused(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celery_pymongo.process.process", SimpleNamespace(_current=object()))
    with pytest.raises(
        TwoCopiesError, match=r"worker.process.process and celery_pymongo.process.process are two copies"
    ):
        process.adopt(mongo)
    monkeypatch.setitem(sys.modules, "celery_pymongo.process.process", SimpleNamespace(_current=None))
    process.adopt(mongo)


def test_only_a_mongo_that_says_so_is_shared_among_apps(mongo: Mongo) -> None:
    assert process.shared() is None
    process.adopt(mongo)
    assert process.shared() is None
    mongo.is_shared = True
    assert process.shared() is mongo


def test_a_slot_is_the_index_in_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    billiard = SimpleNamespace(current_process=lambda: SimpleNamespace(index=3))
    monkeypatch.setitem(sys.modules, "billiard", billiard)
    assert process.current_slot() == 3
    monkeypatch.setitem(sys.modules, "billiard", SimpleNamespace(current_process=SimpleNamespace))
    assert process.current_slot() == 0
    monkeypatch.delitem(sys.modules, "billiard")
    assert process.current_slot() == 0


# -- the row on the board --------------------------------------------------------------------------

MAIN, CHILD, OTHER = 100, 200, 300


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    """That of a node whose MAIN has the pid 100."""
    monkeypatch.setattr(os, "getpid", lambda: MAIN)
    monkeypatch.setattr(file, "make", lambda _name, size: (None, mmap.mmap(-1, size)))
    return Board.create(node="celery@host", deployment="default", slots=4)


def be(monkeypatch: pytest.MonkeyPatch, pid: int, *, parent: int, index: int | None) -> None:
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(os, "getppid", lambda: parent)
    monkeypatch.setattr(process, "_pool_index", lambda: index)


def pids(board: Board) -> list[int]:
    return [row.read().pid for row in board.rows]


@pytest.mark.parametrize("parent", [CHILD, MAIN], ids=["its parent lives", "it was left to MAIN"])
@pytest.mark.parametrize("index", [0, 1, 3], ids=["os.fork()", "a pool of its own", "beyond"])
def test_what_a_task_forks_has_no_row_of_its_nodes(
    mongo: Mongo, board: Board, monkeypatch: pytest.MonkeyPatch, parent: int, index: int
) -> None:
    """It has its parent's index, or one in a pool of its own, and a client of its own."""
    mongo.board = board
    mongo.enter_main("celery@host")
    be(monkeypatch, CHILD, parent=MAIN, index=0)
    child = mongo.get_client()
    be(monkeypatch, OTHER, parent=parent, index=index)
    mongo.holder.forget()
    assert mongo.get_client() is not child
    assert isinstance(mongo.row, PrivateRow)
    assert pids(board) == [CHILD, 0, 0, 0]


def test_a_child_of_main_has_its_row_although_main_had_a_client_too_early(
    mongo: Mongo, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongo.board = board
    mongo.get_client()
    mongo.enter_main("celery@host")
    be(monkeypatch, CHILD, parent=MAIN, index=2)
    mongo.holder.forget()
    mongo.get_client()
    assert pids(board)[2] == CHILD


def test_what_main_forks_beside_its_pool_has_no_row(
    mongo: Mongo, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedded beat, say."""
    mongo.board = board
    mongo.enter_main("celery@host")
    be(monkeypatch, OTHER, parent=MAIN, index=None)
    mongo.get_client()
    assert pids(board) == [0, 0, 0, 0]


def test_where_main_runs_the_tasks_the_row_is_its_own_and_not_its_forks(
    mongo: Mongo, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongo.board = board
    mongo.enter_process(Place("celery@host", kind="solo"))
    be(monkeypatch, OTHER, parent=MAIN, index=None)
    mongo.holder.forget()
    mongo.get_client()
    assert pids(board) == [MAIN, 0, 0, 0]


# -- lifecycle -------------------------------------------------------------------------------------


def test_entering_a_process_opens_its_client_once_and_says_as_whom(
    mongo: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    mongo.enter_process(Place("celery@host", concurrency=4))
    client = mongo.get_client()
    mongo.enter_process(Place("celery@host", concurrency=4))
    assert mongo.get_client() is client
    assert said(caplog) == [Event.CLIENT_OPENED]
    assert f"opened as celery-pymongo/default/celery@host/0/{os.getpid()}" in caplog.text
    assert client.options.pool_options.min_pool_size == 4


@pytest.mark.parametrize(("idle", "seconds"), [("30000", 10.0), ("5000", 2.5)])
def test_a_worker_keeps_the_minimum_itself_and_not_the_driver(
    monkeypatch: pytest.MonkeyPatch, idle: str, seconds: float
) -> None:
    """More often than connections may be idle: the driver would open as many to every member."""
    kept: list[int] = []
    monkeypatch.setattr(process, "keep_open", lambda _client, number, **_options: kept.append(number))
    mongo = Mongo(load(MONGODB_MAX_IDLE_TIME_MS=idle))
    mongo.keeps_minimum = True
    assert (mongo.keep_open(), kept) == (seconds, [])
    mongo.enter_process(Place("celery@host", concurrency=4))
    assert mongo.get_client().options.pool_options.min_pool_size == 0
    assert (mongo.keep_open(), kept) == (seconds, [4])
    mongo.close()


def test_the_main_process_of_a_prefork_pool_has_no_client(mongo: Mongo) -> None:
    mongo.enter_main("celery@host")
    with pytest.raises(ClientInMainError, match="celery@host: the main process of a prefork worker holds no"):
        mongo.get_client()
    assert mongo.holder.client is None


def test_a_child_of_that_main_process_has_one(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    mongo.enter_main("celery@host")
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    assert mongo.get_client() is mongo.holder.client


def test_a_new_process_starts_its_story_anew(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fork copied, counters and an open circuit, is the parent's."""
    mongo.get_client()
    before = mongo.monitor
    mongo.link.circuit.fail(0.0, "heartbeat")
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    mongo.holder.forget()
    mongo.get_client()
    assert mongo.monitor is not before
    assert mongo.link.circuit.is_closed


def test_a_replaced_client_goes_on_with_the_story(mongo: Mongo) -> None:
    mongo.get_client()
    monitor, link = mongo.monitor, mongo.link
    mongo.holder.replace()
    assert (mongo.monitor, mongo.link) == (monitor, link)


def test_closing_says_the_last_counters_once(mongo: Mongo, caplog: pytest.LogCaptureFixture) -> None:
    mongo.get_client()
    assert mongo.close() is True
    assert mongo.close() is False
    assert said(caplog) == [Event.CLIENT_OPENED, Event.CLIENT_CLOSED]
    record: Any = caplog.records[-1]
    assert record.fields == {"counters": mongo.pool()["counters"], "pools": {}}


def test_a_close_that_takes_longer_than_its_budget_is_said(
    mongo: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    mongo.get_client()
    mongo.close(budget_seconds=0.0)
    assert said(caplog)[-1] == Event.CLIENT_CLOSE_SLOW


def test_a_server_that_hangs_is_waited_for_as_long_as_the_budget(mongo: Mongo) -> None:
    client: Any = mongo.get_client()
    limits: list[float | None] = []
    vars(client)["close"] = lambda: limits.append(_csot.remaining())
    mongo.close(budget_seconds=0.5)
    assert limits == [pytest.approx(0.5, abs=0.5)]
    del vars(client)["close"]
    client.close()


def test_a_close_that_fails_never_stops_the_shutdown(mongo: Mongo, caplog: pytest.LogCaptureFixture) -> None:
    client: Any = mongo.get_client()
    vars(client)["close"] = lambda: 1 / 0
    assert mongo.close() is False
    assert "could not close the client" in caplog.text
    del vars(client)["close"]
    client.close()


# -- credentials -----------------------------------------------------------------------------------


def renewed(*answers: Any) -> Mongo:
    left = list(answers)

    def reload() -> Settings:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return] # what is no error is settings

    return Mongo(load(MONGODB_URI="mongodb://u:old@h"), reload=reload)


def test_a_changed_uri_is_taken_into_use() -> None:
    mongo = renewed(load(MONGODB_URI="mongodb://u:new@h"))
    assert mongo._settings_changed()
    assert mongo.settings.mongodb_uri.get_secret_value() == "mongodb://u:new@h"


def test_an_unchanged_uri_makes_no_new_client() -> None:
    assert not renewed(load(MONGODB_URI="mongodb://u:old@h"))._settings_changed()


def test_settings_that_are_refused_are_said_and_the_old_ones_stay(caplog: pytest.LogCaptureFixture) -> None:
    mongo = renewed(SettingsError(["MONGODB_URI: '***' is not a URI"]))
    assert not mongo._settings_changed()
    assert mongo.settings.mongodb_uri.get_secret_value() == "mongodb://u:old@h"
    assert said(caplog) == [Event.SETTINGS_WARNING]


def test_settings_that_were_given_are_not_read_again(mongo: Mongo) -> None:
    assert not mongo._settings_changed()
    assert mongo.settings_warnings() == []


def test_warnings_are_about_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_MAX_POOLSIZE", "3")
    (warning,) = Mongo(load(), reload=load_settings).settings_warnings()
    assert "MONGODB_MAX_POOLSIZE" in warning


# -- reports ---------------------------------------------------------------------------------------


def test_reports_say_who_and_where_and_are_plain_json(mongo: Mongo) -> None:
    mongo.enter_process(Place("celery@host"))
    for report in (mongo.pool(), mongo.reconnect()):
        assert json.loads(json.dumps(report)) == report
        stamp = {name: report[name] for name in ("deployment", "node", "slot", "pid")}
        assert stamp == {"deployment": "default", "node": "celery@host", "slot": 0, "pid": os.getpid()}
        assert report["at"].endswith("+00:00")


def test_a_pool_is_read_without_opening_a_client(mongo: Mongo) -> None:
    report = mongo.pool()
    assert (report["servers"], report["circuit"]) == ({}, "closed")
    assert mongo.holder.client is None


def test_a_pool_is_unknown_where_pymongo_has_changed(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "read_gauges", lambda _client: None)
    mongo.get_client()
    assert mongo.pool()["servers"] is None


def test_a_check_asks_the_server(mongo: Mongo) -> None:
    with mongo.use_client(fake({"ok": 1}, {"version": "8.0"})):
        check = mongo.check()
    assert (check["verdict"], check["server"]) == ("ok", "MongoDB 8.0")
    assert json.loads(json.dumps(check)) == check


def test_statistics_are_by_server_and_by_task_and_begin_anew_when_popped(mongo: Mongo) -> None:
    mongo.get_client()
    events, *_ = mongo.monitor.listeners()
    events.connection_check_out_started(monitoring.ConnectionCheckOutStartedEvent(("a", 1)))
    events.connection_check_out_failed(monitoring.ConnectionCheckOutFailedEvent(("a", 1), "timeout", 5.0))
    stats = mongo.pop_stats()
    assert json.loads(json.dumps(stats)) == stats
    assert set(stats) >= {"node", "slot", "pid", "servers", "tasks", "slowest", "memory"}
    assert stats["servers"]["a:1"]["db.client.connection.timeouts"] == 1
    assert mongo.get_stats()["servers"]["a:1"]["db.client.connection.timeouts"] == 0


def test_a_reconnection_tells_its_attempt(mongo: Mongo) -> None:
    assert mongo.reconnect()["attempt"] is None
    with mongo.use_client(fake({"ok": 1})):
        report = mongo.reconnect(force=True)
    assert report["attempt"]["connected"] is True


# -- foreign clients -------------------------------------------------------------------------------


def test_a_second_client_is_warned_of_once_per_place(mongo: Mongo, caplog: pytest.LogCaptureFixture) -> None:
    mongo.guard.install()
    mongo.get_client()
    caplog.clear()
    for _ in range(3):
        MongoClient[Any](connect=False).close()
    assert said(caplog) == [Event.CLIENT_FOREIGN]
    assert "a second MongoClient doubles this process's connections; use get_client()" in caplog.text
    assert __file__ in caplog.text


def test_every_open_client_in_a_prefork_main_is_a_hazard(
    mongo: Mongo, caplog: pytest.LogCaptureFixture
) -> None:
    mongo.guard.install()
    mongo.enter_main("celery@host")
    assert mongo.warn_of_foreign() == []
    client: Any = MongoClient(connect=False)
    client._opened = True  # as its first operation does
    MongoClient._clients[client._topology._topology_id] = client
    assert len(mongo.warn_of_foreign()) == 1
    assert "from before the fork is copied into every child" in caplog.text
    client._opened = False
    client.close()


def test_a_test_may_name_the_database_too_and_what_was_before_comes_back() -> None:
    mongo = Mongo(load_settings({"MONGODB_DATABASE": "app"}, env_file=None))
    fakes = {"app": "a fake", "trial": "another", "named": "a third"}
    with mongo.use_client(fakes, database="trial"):
        assert mongo.get_database() == "another"
        assert mongo.get_database("named") == "a third"
        with mongo.use_client(fakes):
            assert mongo.get_database() == "another"
        with suppress(LookupError), mongo.use_client(fakes, database="named"):
            raise LookupError
        assert mongo.get_database() == "another"
    with mongo.use_client(fakes):
        assert mongo.get_database() == "a fake"


def test_a_database_is_made_once_for_each_client_and_name() -> None:
    """PyMongo makes a new object each time, at tens of microseconds in each task."""
    mongo = Mongo(load_settings({}, env_file=None))
    first = mongo.get_database()
    assert mongo.get_database() is first
    assert mongo.get_database("other") is not first
    with mongo.use_client({"app": "a fake"}):
        assert mongo.get_database() == "a fake"
    assert mongo.get_database() == first
    mongo.holder.replace()
    assert mongo.get_database() is not first
    assert mongo.get_database().client is mongo.get_client()
    mongo.close()
