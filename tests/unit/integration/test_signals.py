"""From Celery's signals to the life of a client, on each kind of pool."""

import gc
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery import Celery, signals
from pymongo import MongoClient

from worker.board import file
from worker.errors import ClientInMainError
from worker.events import Event
from worker.integration import signals as module
from worker.integration.signals import Lifecycle
from worker.process import process
from worker.process.process import Mongo
from worker.settings import schedule
from worker.settings.fields import load_settings

NODE = "celery@host"


class FakeReporter:
    """Takes the place of the thread: what it is told, in order."""

    def __init__(self, story: list[str], *, ends: bool) -> None:
        self._story, self._ends = story, ends

    def start(self) -> None:
        self._story.append("reporter starts")

    def stop(self) -> None:
        self._story.append("reporter is told to stop")

    def join(self, _seconds: float) -> bool:
        self._story.append("reporter ends")
        return self._ends


class FakeRegistry:
    """Takes the place of Redis."""

    def __init__(self, story: list[str]) -> None:
        self._story = story

    def goodbye(self, member: str) -> None:
        self._story.append(f"{member} says goodbye")


class FakePulse:
    """Takes the place of beat's pulse."""

    def __init__(self, story: list[str]) -> None:
        self._story = story

    def attach(self, scheduler: str) -> None:
        self._story.append(f"{scheduler} has a pulse")


class FakeAgent:
    """Takes the place of Sentry."""

    def __init__(self, story: list[str]) -> None:
        self._story = story
        self.started: list[str] = []

    def start(self, node: str) -> None:
        self.started.append(node)

    def enter(self, node: str) -> None:
        self.entered = node

    def attach_beat(self, scheduler: str) -> None:
        self._story.append(f"{scheduler} shows in crons")

    def end(self) -> None:
        self._story.append("sentry flushes")


class World:
    """A lifecycle and the story of what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
        self.story: list[str] = []
        self.ends = True
        self.mongo = Mongo(load_settings(environ, env_file=None))
        self.app = Celery("x", broker="memory://", set_as_current=False)
        self.registry = cast("Any", FakeRegistry(self.story))
        self.pulse = cast("Any", FakePulse(self.story))
        self.agent = cast("Any", FakeAgent(self.story))
        follow = lambda _conf, _mongo: None  # noqa: E731 - a method of one line
        parts = SimpleNamespace(registry=self.registry, pulse=self.pulse, follow=follow)
        self.stores = cast("Any", parts)
        self.lifecycle = Lifecycle(self.app, self.mongo, self.stores, self.agent)
        monkeypatch.setattr(
            module, "Reporter", lambda _mongo, _presence, _agent: FakeReporter(self.story, ends=self.ends)
        )
        monkeypatch.setattr(gc, "freeze", lambda: self.story.append("freezes"))
        monkeypatch.setattr(gc, "collect", lambda: 0)
        close = self.mongo.close

        def told_close(budget: float = 2.0) -> bool:
            self.story.append("client closes")
            return close(budget)

        monkeypatch.setattr(self.mongo, "close", told_close)

    def worker(self, pool: str, concurrency: Any = 4, soft_time_limit: float = 10) -> Any:
        return SimpleNamespace(
            pool_cls=pool,
            hostname=NODE,
            concurrency=concurrency,
            time_limit=20,
            soft_time_limit=soft_time_limit,
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    monkeypatch.setattr(process, "_current", None)
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)
    monkeypatch.setattr(MongoClient, "_clients", {})
    made = World(monkeypatch)
    yield made
    made.mongo.holder.close()
    made.lifecycle._remove_board()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event")]


def open_client_of_a_library() -> Any:
    client: Any = MongoClient(connect=False)
    client._opened = True  # as its first operation does
    MongoClient._clients[client._topology._topology_id] = client
    return client


# -- pools -----------------------------------------------------------------------------------------


def test_a_prefork_main_never_has_a_client_and_its_children_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = world.lifecycle
    life.worker_init(sender=world.worker("prefork"))
    life.celeryd_after_setup()
    life.worker_before_create_process()
    assert world.mongo.holder.client is None
    assert world.mongo.place.node == NODE
    with pytest.raises(ClientInMainError):
        world.mongo.get_client()
    monkeypatch.setattr(os, "getpid", lambda: 4711)  # now in the child
    life.worker_process_init(sender=NODE)
    assert world.mongo.get_client() is world.mongo.holder.client
    life.worker_process_shutdown()
    assert world.mongo.holder.state == "closed"


def test_a_child_ends_in_order_and_the_client_waits_for_no_more_than_a_ping(world: World) -> None:
    """A hard time limit leaves a tenth of a second; the thread is given 0.03 s of it, and more afterwards."""
    world.lifecycle.worker_process_init(sender=NODE)
    world.lifecycle.worker_process_shutdown()
    assert world.story == [
        "reporter starts",
        "reporter is told to stop",
        "reporter ends",
        "client closes",
        "reporter ends",
        f"{NODE}/0 says goodbye",
        "sentry flushes",
    ]


def test_solo_has_one_client_and_one_reporter(world: World) -> None:
    life = world.lifecycle
    life.worker_init(sender=world.worker("solo"))
    assert world.mongo.holder.client is None
    life.worker_process_init(sender=NODE)
    life.celeryd_after_setup()
    assert world.story == ["reporter starts"]
    assert world.mongo.place.concurrency == 1
    life.worker_shutdown()
    assert world.mongo.holder.state == "closed"


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_a_pool_that_shares_its_process_opens_before_any_task(
    world: World, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Celery's gevent pool patches the process when it is imported.
    shared = SimpleNamespace(__mro__=(object,), __module__=f"celery.concurrency.{pool}")
    monkeypatch.setattr(module, "get_implementation", lambda _name: shared)
    life = world.lifecycle
    life.worker_init(sender=world.worker(pool, concurrency=20))
    assert world.mongo.place.concurrency == 20
    assert world.mongo.holder.client is None
    life.celeryd_after_setup()
    assert world.mongo.holder.client is not None
    assert world.story == ["reporter starts"]
    life.worker_shutdown()
    assert world.mongo.holder.state == "closed"


def test_celerys_pools_are_told_apart() -> None:
    assert [module._pool_kind(pool) for pool in ("prefork", "processes", "solo", "threads")] == [
        "prefork",
        "prefork",
        "solo",
        "shared",
    ]


def test_a_pool_class_that_extends_prefork_is_one() -> None:
    from celery.concurrency.prefork import TaskPool

    class Own(TaskPool):
        pass

    assert module._pool_kind(Own) == "prefork"


@pytest.mark.parametrize(("given", "used"), [(4, 4), (None, os.cpu_count()), ("auto", os.cpu_count())])
def test_a_concurrency_that_celery_has_not_resolved_is_the_number_of_cpus(given: Any, used: Any) -> None:
    assert module._concurrency(SimpleNamespace(concurrency=given)) == used


def test_main_ends_well_without_a_client(world: World) -> None:
    world.lifecycle.worker_init(sender=world.worker("prefork"))
    world.lifecycle.worker_shutdown()
    assert world.story == ["client closes", "sentry flushes"]


def test_a_reporter_that_does_not_end_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.ends = False
    world.lifecycle.worker_process_init(sender=NODE)
    world.lifecycle.worker_process_shutdown()
    assert said(caplog)[-1] == Event.CLIENT_CLOSE_SLOW
    assert "the reporter thread did not end" in caplog.text


def test_memory_is_frozen_once_and_before_the_first_fork(world: World) -> None:
    world.lifecycle.worker_init(sender=world.worker("prefork"))
    for _ in range(3):
        world.lifecycle.worker_before_create_process()
    assert world.story == ["freezes"]


# -- the board -------------------------------------------------------------------------------------


def test_main_makes_a_board_before_its_first_child_and_takes_it_away_at_its_end(world: World) -> None:
    life = world.lifecycle
    life.worker_init(sender=world.worker("prefork", concurrency=4))
    assert vars(world.mongo)["board"] is None
    life.worker_before_create_process()
    board: Any = vars(world.mongo)["board"]
    life.worker_before_create_process()
    assert vars(world.mongo)["board"] is board
    assert (board.node, len(board.rows), board.expected) == (NODE, 16, 4)
    assert board.path.exists()
    life.worker_shutdown()
    assert not board.path.exists()


def test_a_pool_that_may_grow_has_rows_for_its_most_processes(world: World) -> None:
    worker = world.worker("prefork", concurrency=2)
    worker.max_concurrency = 10
    assert module._rows(worker) == 28


def become_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on this is the first process of MAIN's pool."""
    main = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    monkeypatch.setattr(os, "getppid", lambda: main)
    monkeypatch.setattr(process, "_pool_index", lambda: 0)


def test_a_child_says_on_its_row_that_it_lives_and_that_it_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lifecycle.worker_init(sender=world.worker("prefork"))
    world.lifecycle.worker_before_create_process()
    board: Any = world.mongo.board
    become_child(monkeypatch)
    world.lifecycle.worker_process_init(sender=NODE)
    assert (board.rows[0].read().state, board.rows[0].read().pid) == ("open", 4711)
    world.lifecycle.worker_process_shutdown()
    assert board.rows[0].read().state == "closed"
    world.lifecycle.worker_shutdown()
    assert board.path.exists()  # a child leaves it to MAIN
    monkeypatch.undo()
    board.unlink()


def test_a_spawned_child_finds_the_board_by_its_path(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.lifecycle.worker_init(sender=world.worker("prefork"))
    world.lifecycle.worker_before_create_process()
    made: Any = world.mongo.board
    world.mongo.board = None
    monkeypatch.setenv("FORKED_BY_MULTIPROCESSING", "1")
    become_child(monkeypatch)
    world.lifecycle.worker_process_init(sender=NODE)
    found: Any = world.mongo.board
    assert found.path == made.path
    assert made.rows[0].read().pid == 4711
    monkeypatch.undo()
    made.unlink()


def test_a_spawned_child_that_finds_none_has_its_client_all_the_same(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORKED_BY_MULTIPROCESSING", "1")
    monkeypatch.setenv("_CELERY_PYMONGO_BOARD", "/nowhere/board")
    world.lifecycle.worker_process_init(sender=NODE)
    assert said(caplog) == [Event.BOARD_PRIVATE, Event.CLIENT_OPENED]


def test_a_board_without_a_file_is_warned_of(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "folders", lambda: iter([Path("/nowhere")]))
    world.lifecycle.worker_init(sender=world.worker("solo"))
    world.lifecycle.worker_process_init(sender=NODE)
    world.lifecycle.celeryd_after_setup()
    assert Event.BOARD_PRIVATE in said(caplog)


# -- warnings --------------------------------------------------------------------------------------


def test_a_client_before_the_fork_is_warned_of_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    client = open_client_of_a_library()
    life = world.lifecycle
    life.worker_init(sender=world.worker("prefork"))
    life.celeryd_after_setup()
    for _ in range(4):
        life.worker_before_create_process()
    assert said(caplog) == [Event.CLIENT_FOREIGN]
    client._opened = False
    client.close()


def test_strict_does_not_start_with_a_client_before_the_fork(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client_of_a_library()
    strict = World(monkeypatch, CELERY_PYMONGO_STRICT="true")
    strict.lifecycle.worker_init(sender=strict.worker("prefork"))
    with pytest.raises(SystemExit) as ended:
        strict.lifecycle.celeryd_after_setup()
    assert ended.value.code == 78
    client._opened = False
    client.close()


def test_strict_starts_where_there_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = World(monkeypatch, CELERY_PYMONGO_STRICT="true")
    strict.lifecycle.worker_init(sender=strict.worker("prefork"))
    strict.lifecycle.celeryd_after_setup()


def test_settings_that_look_wrong_are_said_at_the_start(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.mongo, "settings_warnings", lambda: ["MONGODB_URL: did you mean MONGODB_URI?"])
    world.lifecycle.worker_init(sender=world.worker("prefork"))
    world.lifecycle.celeryd_after_setup()
    assert said(caplog) == [Event.SETTINGS_WARNING]
    assert "did you mean MONGODB_URI?" in caplog.text


# -- queues and Sentry -----------------------------------------------------------------------------


def test_a_worker_listens_to_our_queues_beside_its_own(world: World) -> None:
    instance = SimpleNamespace(app=world.app)
    world.lifecycle.celeryd_init(sender=NODE, instance=instance)
    world.lifecycle.celeryd_init(sender=NODE, instance=instance)
    assert set(world.app.amqp.queues) == {"celery", *schedule.QUEUES}
    assert set(world.app.amqp.queues.consume_from) == {"celery", *schedule.QUEUES}


def test_sentry_starts_before_celery_builds_its_tracers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = world.agent.started
    world.lifecycle.celeryd_init(sender=NODE, instance=SimpleNamespace(app=world.app))
    world.lifecycle.beat_init(sender=SimpleNamespace(scheduler="redbeat"))
    world.lifecycle.import_modules()
    assert nodes == [NODE, "beat"]
    monkeypatch.setenv("FORKED_BY_MULTIPROCESSING", "1")
    world.lifecycle.import_modules()
    assert len(nodes) == 3


def test_sentry_learns_its_node_in_each_process(world: World) -> None:
    world.lifecycle.worker_process_init(sender=NODE)
    assert world.agent.entered == NODE


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_an_sdk_that_the_app_set_up_late_is_found_once_the_worker_is(world: World, pool: str) -> None:
    world.lifecycle.worker_init(sender=world.worker(pool))
    world.lifecycle.celeryd_after_setup()
    assert world.agent.entered == NODE


def test_beat_has_a_pulse_whether_it_is_a_program_of_its_own_or_a_workers(world: World) -> None:
    world.lifecycle.beat_init(sender=SimpleNamespace(scheduler="redbeat"))
    world.lifecycle.beat_embedded_init(sender=SimpleNamespace(scheduler="plain"))
    assert world.story == [
        "redbeat has a pulse",
        "redbeat shows in crons",
        "plain has a pulse",
        "plain shows in crons",
    ]


def test_the_newest_lifecycle_hears_each_signal_once(world: World) -> None:
    names = [name for name in vars(Lifecycle) if not name.startswith("_") and name != "connect"]
    before = {name: list(getattr(signals, name).receivers or []) for name in names}
    try:
        Lifecycle(world.app, world.mongo, world.stores, world.agent).connect()
        world.lifecycle.connect()
        signals.worker_process_init.send(sender=NODE)
        assert world.story == ["reporter starts"]
        signals.worker_process_shutdown.send(sender=None, pid=1, exitcode=0)
        assert "client closes" in world.story
    finally:
        for name, receivers in before.items():
            signal = getattr(signals, name)
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()


def test_every_pool_learns_the_time_limits_of_its_node(world: World) -> None:
    """They may come from the command line, which the app's configuration does not know."""
    world.lifecycle.worker_init(sender=world.worker("threads"))
    assert world.mongo.time_limits == (20, 10)


def test_a_hard_limit_below_the_soft_one_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Celery counts the hard limit from the soft one on, so it would come far too late."""
    world.app.conf.task_soft_time_limit = 270
    worker = world.worker("prefork", soft_time_limit=270)
    world.app.task(do_nothing, name="x.inverted", time_limit=60, shared=False)
    world.app.task(do_nothing, name="x.fine", time_limit=60, soft_time_limit=50, shared=False)
    world.lifecycle.worker_init(sender=worker)
    world.lifecycle.celeryd_after_setup()
    said = [record.getMessage() for record in caplog.records]
    (line,) = [line for line in said if "task x." in line and "its time limit" in line]
    assert line.startswith(
        "settings.warning: task x.inverted: its time limit of 60 s is not above its soft one of 270 s"
    )


def do_nothing() -> None:
    """Do nothing."""


# -- what the node says of itself ------------------------------------------------------------------


def record(world: World) -> dict[str, Any]:
    board = world.mongo.board
    assert board is not None
    told: dict[str, Any] = json.loads(board.record)
    return told


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_every_pool_has_its_nodes_record_on_the_board_before_the_first_task(world: World, pool: str) -> None:
    life = world.lifecycle
    world.app.task(do_nothing, name="x.long", time_limit=500, shared=False)
    world.app.task(do_nothing, name="x.usual", shared=False)
    life.worker_init(sender=world.worker(pool))
    life.celeryd_after_setup()
    if pool == "prefork":
        life.worker_before_create_process()
    told = record(world)
    assert (told["node"], told["kind"], told["concurrency"]) == (NODE, pool, 4)
    assert (told["longest_time_limit"], told["shortest_time_limit"]) == (500, 20)
    assert told["before_fork"] == []


def test_a_client_that_is_open_before_a_fork_is_in_the_record_by_its_line(world: World) -> None:
    life = world.lifecycle
    life.worker_init(sender=world.worker("prefork"))
    life.celeryd_after_setup()
    life.worker_before_create_process()
    assert record(world)["before_fork"] == []
    client = open_client_of_a_library()
    life.worker_before_create_process()
    client.close()
    assert record(world)["before_fork"] == ["a line that ran before install(app)"]


def test_what_a_host_app_does_at_a_childs_start_is_in_the_record(world: World) -> None:
    def connects(**_kwargs: Any) -> None: ...

    signals.worker_process_init.connect(connects, weak=True)
    try:
        world.lifecycle.worker_init(sender=world.worker("solo"))
        world.lifecycle.celeryd_after_setup()
        (told,) = record(world)["init_handlers"]
        assert told.startswith(f"{__name__}.{connects.__qualname__} (")
        assert told.endswith(f"test_signals.py:{connects.__code__.co_firstlineno})")
    finally:
        signals.worker_process_init.disconnect(connects)
