"""Where a drill may run, which pools it compares, how it is interrupted, and what is made of its numbers."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect

from ops.commands import drill
from ops.drills import compare, pools, safety, site, tasks
from ops.drills.exhaust import Watched
from ops.drills.ground import Terms
from ops.drills.interrupts import Caller, Interrupts, Uninterrupted
from ops.drills.pools import DRIVER, GUIDE, Configuration
from ops.drills.refused import Refused, UnderWay, Unreachable
from ops.drills.screen import Ticker
from ops.drills.trial import Outcome
from ops.drills.work import Waits

# --- where it may run ---


@pytest.mark.parametrize(
    ("asked", "own", "name"),
    [(None, "app", "app_drill"), ("x_drill", "app", "x_drill"), (None, "a" * 63, "a" * 57 + "_drill")],
)
def test_a_drills_database_ends_in_drill(asked: str | None, own: str, name: str) -> None:
    assert safety.database(asked, own) == name


@pytest.mark.parametrize(
    "asked", ["app", "_drill", "app_drill2", "drill", "a b_drill", "a" * 60 + "_drill", "a.b_drill"]
)
def test_no_other_database_is_a_drills(asked: str) -> None:
    with pytest.raises(Refused):
        safety.database(asked, "app")


@given(st.text(st.characters(exclude_characters='/\\. "$\x00', exclude_categories=["Cs"]), min_size=1))
def test_whatever_the_apps_database_is_called_a_drills_name_is_short_enough(own: str) -> None:
    name = safety.database(None, own)
    assert name.endswith("_drill")
    assert len(name.encode()) <= 63


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "/run/mongodb-27017.sock", "db.localhost"]
)
def test_this_machine_is_no_production(host: str) -> None:
    assert safety.production([host], deployment="default", environment=None) == []


@pytest.mark.parametrize(
    ("hosts", "deployment", "environment", "mark"),
    [
        (["db1.example.com"], "default", None, "MongoDB is on another host (db1.example.com)"),
        (["127.0.0.1", "10.0.0.7", "b"], "default", None, "MongoDB is on another host (10.0.0.7 and 1 more)"),
        (["localhost"], "production", None, "CELERY_PYMONGO_DEPLOYMENT is production"),
        (["localhost"], "prod-eu", "staging", "CELERY_PYMONGO_DEPLOYMENT is prod-eu"),
        (["localhost"], "default", "Production", "SENTRY_ENVIRONMENT is Production"),
        (["localhost.example.com"], "default", None, "MongoDB is on another host (localhost.example.com)"),
        (["127.0.0.1.example.com"], "default", None, "MongoDB is on another host (127.0.0.1.example.com)"),
    ],
)
def test_another_host_or_a_name_marks_production_which_takes_a_yes(
    hosts: list[str], deployment: str, environment: str | None, mark: str
) -> None:
    marks = safety.production(hosts, deployment=deployment, environment=environment)
    assert marks == [mark]
    with pytest.raises(Refused, match="With --yes"):
        safety.permit(marks, yes=False)
    safety.permit(marks, yes=True)
    safety.permit([], yes=False)


# --- its database ---


class Database:
    """Collections in memory, as much of them as a drill's mark needs."""

    def __init__(self, **collections: Any) -> None:
        self.collections = collections
        self.error: Exception | None = None

    def __getitem__(self, name: str) -> Any:
        rows = self.collections
        return SimpleNamespace(
            find_one=lambda _query: rows[name],
            insert_one=lambda row: rows.setdefault(name, row),
            insert_many=lambda some: rows.setdefault(name, some),
        )

    def list_collection_names(self) -> list[str]:
        return list(self.collections)

    def create_collection(self, name: str, **_options: Any) -> None:
        self.collections[name] = {}

    def drop_collection(self, name: str) -> None:
        if self.error:
            raise self.error
        self.collections.pop(name, None)


def prepared(database: Database) -> Any:
    return site.prepared({"a_drill": database}, "a_drill", seconds=10)


def test_what_a_drill_makes_is_gone_afterwards_also_when_it_fails() -> None:
    database = Database()
    with prepared(database) as made:
        assert set(database.collections) == {"drill", "drill_read", "drill_held"}
    assert (database.collections, made.left, made.found) == ({}, None, False)
    with pytest.raises(KeyboardInterrupt), prepared(database):
        raise KeyboardInterrupt
    assert database.collections == {}


def test_a_database_with_anything_else_in_it_is_left_alone() -> None:
    database = Database(orders={"a": 1})
    with pytest.raises(Refused, match="no drill made it"), prepared(database):
        pytest.fail("it ran")
    assert database.collections == {"orders": {"a": 1}}


def test_what_a_killed_drill_left_is_cleared_away_once_its_time_is_over() -> None:
    mark = {"pid": 7, "host": "h", "until": 0.0}
    database = Database(drill=mark, drill_read=[1])
    with prepared(database) as made:
        assert made.found
    assert database.collections == {}
    with pytest.raises(UnderWay, match=r"another drill has a_drill until .* \(pid 7 on h\)"):
        prepared(Database(drill=mark | {"until": 2e10})).__enter__()


def test_what_could_not_be_dropped_is_told() -> None:
    database = Database()
    with prepared(database) as made:
        database.error = AutoReconnect("gone")
    assert made.left == "a_drill could not be dropped (AutoReconnect); the next drill does it, or drop it"
    database = Database()
    with pytest.raises(KeyboardInterrupt) as interrupt, prepared(database):
        interrupted(database)
    assert interrupt.value.__notes__ == [made.left]


def interrupted(database: Database) -> None:
    database.error = AutoReconnect("gone")
    raise KeyboardInterrupt


# --- pools ---


def test_the_guides_configurations_stand_beside_the_drivers_and_the_apps_own() -> None:
    found = pools.chosen({"maxPoolSize": 7}, [])
    assert [each.name for each in found] == [
        "yours",
        "driver-default",
        "low-resource",
        "medium",
        "high-performance",
    ]
    guide = [(each.options["maxPoolSize"], each.options["minPoolSize"]) for each in GUIDE]
    assert guide == [(5, 1), (20, 5), (50, 10)]


def test_a_configuration_is_written_as_options_or_by_its_name() -> None:
    found = pools.parse("maxpoolsize=8, minPoolSize=2,waitQueueTimeoutMS=100")
    assert found.options == {"maxPoolSize": 8, "minPoolSize": 2, "waitQueueTimeoutMS": 100}
    assert pools.parse("maxPoolSize=8").options == {
        "maxPoolSize": 8,
        "minPoolSize": 0,
        "waitQueueTimeoutMS": None,
    }
    assert pools.parse("driver-default") is DRIVER
    assert [each.name for each in pools.chosen({}, ["medium"])] == ["yours", "medium"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8",
        "maxPoolSize",
        "maxPoolSize=x",
        "tls=1",
        "minPoolSize=2",
        "maxPoolSize=0",
        "maxPoolSize=2,minPoolSize=3",
    ],
)
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        pools.parse(text)


# --- comparing ---


def test_each_configuration_begins_a_round_and_all_have_as_many_turns() -> None:
    sides: Any = ["a", "b", "c"]
    assert "".join(compare.order(sides, 4)) == "abcbcacababc"  # type: ignore[arg-type] # letters stand for sides


def test_a_ratio_is_round_by_round_so_that_a_slow_minute_of_the_server_does_not_count() -> None:
    assert compare.ratio([50.0, 5.0, 500.0], [100.0, 10.0, 1000.0]) == {"median": 0.5, "min": 0.5, "max": 0.5}
    assert compare.ratio([1.0, 2.0], [0.0, 1.0]) == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert compare.ratio([1.0], [0.0]) is None


def test_turns_that_are_too_short_to_say_anything_are_refused_before_anything_is_done() -> None:
    sides = [Configuration("a", {}, "named")] * 5
    with pytest.raises(Refused, match=r"10 turns of 0\.3 s at least need --seconds 3$"):
        compare.run(None, Terms(1, 0, 2.0), None, configurations=sides, rounds=2)  # type: ignore[arg-type] # nobody asks it


@pytest.mark.parametrize(("errors", "ends"), [({"outage": 3}, True), ({"overload": 3}, False), ({}, False)])
def test_where_mongodb_is_gone_no_turn_waits_for_it_but_the_first(
    errors: dict[str, int], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []

    def run(*, seconds: float) -> Outcome:
        turns.append(seconds)
        return Outcome(errors=Counter(errors), seconds=seconds)

    load = SimpleNamespace(run=run, to_dict=dict)
    ground = SimpleNamespace(loaded=lambda _options: nullcontext(load), to_dict=dict)
    monkeypatch.setattr(compare, "ground", lambda *_asked, **_named: nullcontext(ground))
    sides = [Configuration("a", {}, "settings"), Configuration("b", {}, "named")]
    with pytest.raises(Unreachable, match="stopped answering") if ends else nullcontext():
        compare.run(None, Terms(1, 0, 4.0), Caller(), configurations=sides, rounds=2)
    assert turns == [1.0] * (1 if ends else 4)


def test_waits_are_counted_by_the_drivers_events() -> None:
    waits: Any = Waits()
    waits.connection_created(None)
    waits.connection_checked_out(SimpleNamespace(duration=0.5))
    waits.connection_check_out_failed(SimpleNamespace(reason="timeout"))
    waits.connection_check_out_failed(SimpleNamespace(reason="connectionError"))
    assert (waits.created, waits.timeouts, list(waits.take()), list(waits.take())) == (1, 1, [0.5], [])


# --- what the fleet saw ---


def test_what_the_fleet_saw_is_told_of_the_process_alone() -> None:
    watched = Watched(None, "drill-1@h/0")
    sample = {
        "max": 5,
        "in_use": 8,
        "usage": 1.0,
        "waiting": 3,
        "verdict": "degraded",
        "reasons": ["x in 1 process: drill-1@h/0"],
    }
    watched.samples = [sample, sample | {"usage": None, "waiting": None, "reasons": []}]
    told = watched.to_dict()
    assert (told["was_full"], told["most_waiting"], told["was_judged"]) == (True, 3, True)
    assert told["judged"] == {"verdict": "degraded", "reasons": sample["reasons"]}
    watched.samples = [sample | {"usage": 0.8, "reasons": ["x in 1 process: w1@h/0"]}]
    assert (watched.to_dict()["was_full"], watched.to_dict()["judged"]) == (False, None)


# --- Ctrl-C ---


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """Keep what a test does to the signals from the others."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heard_at_once_where_it_may_be_and_waits_elsewhere(number: int) -> None:
    done: list[str] = []

    def run() -> None:
        with Interrupts() as interrupts:
            try:
                with interrupts.allowed():
                    os.kill(os.getpid(), number)
                    signal.sigpending()
                    done.append("went on")
            finally:
                os.kill(os.getpid(), number)
                done.append("cleared away")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == ["cleared away"]
    # The program ends: a third one would meet Python's own end, and print a traceback.
    assert signal.getsignal(number) == signal.SIG_IGN


@pytest.mark.usefixtures("_own_signals")
def test_a_signal_that_came_while_something_was_made_ends_it_before_it_is_used() -> None:
    done: list[str] = []

    def run() -> None:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            done.append("made")
            with interrupts.allowed():
                done.append("used")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == ["made"]


@pytest.mark.usefixtures("_own_signals")
def test_a_signal_that_came_in_the_end_is_not_forgotten() -> None:
    def run() -> None:
        with Interrupts():
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run()


def test_a_task_leaves_its_workers_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Uninterrupted() as interrupts, interrupts.allowed():
        assert signal.getsignal(signal.SIGTERM) == before


# --- as tasks, and on the screen ---


def task(left: float | None = None) -> Any:
    mongo = SimpleNamespace(drills=SimpleNamespace(own_pool=lambda _threads: {}))
    return SimpleNamespace(mongo=mongo, seconds_left=lambda: left)


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (lambda: tasks.compare(task(), threads=0), "threads must be 1 to 200, not 0"),
        (lambda: tasks.compare(task(), ["x"]), "'x' is no configuration"),
        (lambda: tasks.compare(task(), rounds=0), "rounds must be 1 to 20, not 0"),
        (lambda: tasks.workload(task(), seconds=301), "seconds must be 1 to 300, not 301"),
        (lambda: tasks.workload(task(), writes=101), "writes must be 0 to 100, not 101"),
        (lambda: tasks.workload(task(), thread=3), "a drill knows no thread; it takes database, hold_ms,"),
        (lambda: tasks.exhaust(task(), pool=0), "pool must be 1 to 100, not 0"),
        (
            lambda: tasks.exhaust(task(30.0), seconds=20),
            "the task's time limit leaves 30 s, and this takes up to 40 s",
        ),
    ],
)
def test_a_task_refuses_what_it_cannot_do_before_it_does_anything(
    run: Callable[[], Any], sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        run()
    assert str(refused.value).startswith(sentence)


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    sample = dict.fromkeys(("p50_ms", "p99_ms", "wait_p99_ms", "in_use", "max"), None)
    sample |= dict.fromkeys(("seconds", "per_second", "size", "waiting", "timeouts", "errors"), 0)
    for is_quiet in (True, False):
        Ticker(quiet=is_quiet).second(sample)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_connections_in_use_are_those_of_the_fullest_pool(capsys: pytest.CaptureFixture[str]) -> None:
    """Three members: four connections to one of them, and four to the others."""
    sample = dict.fromkeys(("p50_ms", "p99_ms", "wait_p99_ms"), None)
    sample |= dict.fromkeys(("seconds", "per_second", "size", "waiting", "timeouts", "errors"), 0)
    Ticker(quiet=False).second(sample | {"in_use": 8, "max": 5, "usage": 0.8})
    assert " 4/5 " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"errors": {"overload": 1}}, 1),
        ({"database": {"dropped": False}}, 1),
        ({"configurations": [{"errors": {}}, {"errors": {"outage": 2}}]}, 1),
        ({"is_gone": False}, 1),
    ],
)
def test_errors_and_what_is_left_behind_are_an_exit_code(changes: dict[str, Any], code: int) -> None:
    body = {"database": {"dropped": True}, "errors": {}} | changes
    assert drill._answer("x/1", body, str).code == code
