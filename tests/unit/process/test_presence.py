"""What a process shows of itself at each tick, and whom it finds dead."""

import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymongo import errors

from worker.board import pauses, siblings
from worker.board.board import Board
from worker.board.process_identity import boot_id
from worker.board.row import Command
from worker.connection.circuit import Change, CircuitState
from worker.events import Event
from worker.fleet.registry import Published
from worker.process import presence as module
from worker.process.attribution import Attribution
from worker.process.presence import Presence
from worker.process.process import Mongo, Place
from worker.server import pings
from worker.server.pings import Ping, Verdict
from worker.settings.fields import load_settings

NODE = "w1@host"
# No process has it: the kernel's own limit is lower.
NOBODY = 2**22 + 1


class FakePublisher:
    """Takes what a process publishes; `previous` is what stood in the registry before its first report."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.buried: list[dict[str, Any]] = []
        self.gone: list[str] = []
        self.previous: bytes | None = None
        self.is_first_to_tell = True
        self.documents: dict[str, dict[str, Any]] = {}
        self.is_away = False
        self.asked: list[str] = []
        self.introduced: list[tuple[str, str]] = []
        self.counted: list[dict[str, Any]] = []

    def publish(self, _now: float, member: str, report: bytes) -> Published:
        self.reports.append(json.loads(report) | {"member": member})
        previous, self.previous = self.previous, None
        return Published(1.0, previous)

    def bury(self, post_mortem: dict[str, Any]) -> bool:
        self.buried.append(post_mortem)
        return self.is_first_to_tell

    def count(self, _node: str, counters: str) -> None:
        self.counted.append(json.loads(counters))

    def introduce(self, node: str, record: str) -> None:
        self.introduced.append((node, record))

    def doubts(self, name: str, *, is_broker: bool) -> list[str]:
        self.asked.append(name)
        return ["it forgets"]

    def amend(self, _kind: Any, name: str, change: Any) -> dict[str, Any] | None:
        changed = change(self.documents.get(name, {}))
        if self.is_away:
            return None
        self.documents[name] = json.loads(json.dumps(changed))
        return self.documents[name]

    def goodbye(self, member: str) -> None:
        self.gone.append(member)


class World:
    """A process in slot 0 of a node with three rows on its board."""

    def __init__(self) -> None:
        self.board = Board.create(node=NODE, deployment=f"presence-{os.getpid()}", slots=3)
        self.publisher = FakePublisher()
        self.mongo = Mongo(load_settings({}, env_file=None))
        self.mongo.board = self.board
        self.attribution = Attribution(lambda: self.mongo.suspicion)

    def enter(self) -> Presence:
        self.mongo.enter_process(Place(NODE, kind="prefork"))
        return Presence(self.mongo, self.attribution, cast("Any", self.publisher))

    def die(self, slot: int, *, task: str | None = None) -> None:
        """Leave a row as SIGKILL does."""
        row = self.board.rows[slot]
        row.begin(NOBODY)
        if task:
            row.set_work(task, "id-1")
        row.write_report(b'{"circuit": "closed", "pool": {"in_use": 1, "size": 2}}')


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    caplog.set_level(logging.INFO, logger="celery_pymongo")
    monkeypatch.setattr(module, "leftovers", lambda _deployment: [])
    made = World()
    yield made
    made.mongo.holder.close()
    made.board.unlink()


def lost(caplog: pytest.LogCaptureFixture) -> list[str]:
    events = [record for record in caplog.records if vars(record).get("event") == Event.PROCESS_LOST]
    return [record.getMessage() for record in events]


def test_a_tick_writes_the_same_report_to_the_board_and_to_the_registry(world: World) -> None:
    world.board.expected, world.board.queues = 3, '["mongo.data"]'
    world.enter().tick(10.0)
    (report,) = world.publisher.reports
    assert world.board.rows[0].read().report == {n: v for n, v in report.items() if n != "member"}
    told = {name: report[name] for name in ("member", "node", "slot", "pid", "kind", "slots", "queues")}
    assert told == {
        "member": f"{NODE}/0",
        "node": NODE,
        "slot": 0,
        "pid": os.getpid(),
        "kind": "prefork",
        "slots": 3,
        "queues": ["mongo.data"],
    }
    assert (report["circuit"], report["task"], report["busy"], report["ok"]) == ("closed", None, [], None)


def test_a_report_says_for_how_long_mongodb_hangs_and_when_an_outage_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence, link = world.enter(), world.mongo.link
    now = time.monotonic()
    link.circuit.fail(now, "hung", since=now - 4)
    monkeypatch.setattr(link, "hung_seconds", lambda at: at - now + 4)
    presence.tick(now + 3)
    monkeypatch.undo()
    link.circuit.succeed(now + 5, "ping")
    for moment in (now + 7, now + 136):
        presence.tick(moment)
    told = [(one["outage"], one.get("hung"), one.get("recovered")) for one in world.publisher.reports]
    assert told == [(7.0, 7.0, None), (0.0, None, 2.0), (0.0, None, None)]


def test_the_oldest_running_task_is_in_the_report(world: World) -> None:
    presence = world.enter()
    works = world.attribution.works
    first = works.begin("shop.reckon", "id-1")
    presence.tick(first.started_at + 2.5)
    works.end("id-1")
    assert world.publisher.reports[0]["task"] == {
        "name": "shop.reckon",
        "id": "id-1",
        "seconds": 2.5,
        "running": 1,
    }


def test_main_may_ask_a_process_to_count_anew(world: World) -> None:
    presence = world.enter()
    presence.tick(1.0)
    popped: list[str] = []
    vars(world.mongo)["pop_stats"] = lambda: popped.append("once")
    world.board.rows[0].request(Command.RESET)
    presence.tick(2.0)
    presence.tick(3.0)
    assert popped == ["once"]


def test_a_probe_or_a_new_client_that_was_asked_for_is_ordered_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = world.enter()
    ordered: list[bool] = []
    monkeypatch.setattr(world.mongo.link, "order", lambda *, replaces: ordered.append(replaces))
    for command in (Command.PROBE, Command.REPLACE, Command.RESET):
        world.board.rows[0].request(command)
        presence.tick(1.0)
        presence.tick(2.0)
    assert ordered == [False, True]


def test_a_ping_that_was_asked_for_is_in_the_very_next_report_and_for_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = world.enter()
    presence.tick(1.0)
    link = world.mongo.link
    monkeypatch.setattr(link, "ping", lambda: Ping(Verdict.OK, 0.4))
    monkeypatch.setattr("worker.connection.link.time.monotonic", lambda: 2.0)
    world.board.rows[0].request(Command.PING)
    for now in (2.0, 4.0, 61.0, 63.0):
        presence.tick(now)
    told = [report["done"] for report in world.publisher.reports]
    done = {"ping": {"n": 1, "ms": 0.4, "replaced": False, "error": None}}
    assert told == [{}, done, done, done, {}]


def paused(world: World) -> set[str] | None:
    return pauses.paused(pauses.Orders.read(world.board.orders), pauses.Known.read(world.board.paused))


def pause(world: World, queue: str, *, pause: bool) -> None:
    orders, known = pauses.Orders.read(world.board.orders), pauses.Known.read(world.board.paused)
    world.board.orders = pauses.add(orders, known, [queue], pause=pause).text()


def test_main_hears_at_the_first_tick_what_was_paused_before_its_start(world: World) -> None:
    assert paused(world) is None
    world.publisher.documents[f"paused:{NODE}"] = {"mongo.data": [True, 5.0], "bills": [False, 6.0]}
    world.enter().tick(1.0)
    assert paused(world) == {"mongo.data"}


def test_what_the_node_consumes_is_noted_once_it_is_known_when_it_changes_and_now_and_then(
    world: World,
) -> None:
    noted: list[tuple[list[str], float]] = []
    shared = SimpleNamespace(note=lambda _deployment, queues, *, now: noted.append((queues, now)))
    world.mongo.view = SimpleNamespace(shared_queues=lambda: shared)
    presence = world.enter()
    presence.tick(1.0)
    assert noted == []
    world.board.queues = '["shop"]'
    for now in (3.0, 5.0, 310.0):
        presence.tick(now)
    world.board.queues = '["mail","shop"]'
    presence.tick(312.0)
    assert [queues for queues, _ in noted] == [["shop"], ["shop"], ["mail", "shop"]]


def test_what_main_was_told_stands_in_redis_after_a_tick(world: World) -> None:
    presence = world.enter()
    pause(world, "mongo.data", pause=True)
    presence.tick(1.0)
    assert world.publisher.documents == {"paused": {}, f"paused:{NODE}": {"mongo.data": [True, 1.0]}}
    pause(world, "mongo.data", pause=False)
    presence.tick(2.0)
    assert world.publisher.documents[f"paused:{NODE}"] == {"mongo.data": [False, 1.0]}
    assert paused(world) == set()


def test_what_every_node_was_told_stands_for_nodes_of_any_name(world: World) -> None:
    presence = world.enter()
    orders = pauses.add(pauses.Orders(), None, ["mongo.data"], pause=True, everywhere=True)
    world.board.orders = orders.text()
    presence.tick(1.0)
    assert world.publisher.documents == {"paused": {"mongo.data": [True, 1.0]}, f"paused:{NODE}": {}}
    world.board.orders, world.board.paused = "", ""
    world.publisher.documents = {"paused": {"mongo.data": [True, 1.0]}, "paused:another@h": {}}
    presence.tick(2.0)
    assert paused(world) == {"mongo.data"}


def test_an_order_that_redis_did_not_take_is_carried_later_and_counts_meanwhile(world: World) -> None:
    presence = world.enter()
    presence.tick(1.0)
    pause(world, "mongo.data", pause=True)
    world.publisher.is_away = True
    presence.tick(2.0)
    assert world.publisher.documents == {"paused": {}, f"paused:{NODE}": {}}
    assert paused(world) == {"mongo.data"}
    world.publisher.is_away = False
    presence.tick(3.0)
    assert world.publisher.documents[f"paused:{NODE}"] == {"mongo.data": [True, 1.0]}


def test_only_the_first_living_process_carries_orders(world: World) -> None:
    presence = world.enter()
    presence._origin = replace(presence._origin, slot=1)
    world.board.rows[0].begin(os.getpid())
    world.board.rows[0].write_report(b"{}")
    presence.tick(world.board.rows[0].read().ticked_at or 0.0)
    assert world.publisher.documents == {}


def test_what_main_says_of_its_node_is_told_once_when_it_changes_and_now_and_then(world: World) -> None:
    presence, introduced = world.enter(), world.publisher.introduced
    presence.tick(10.0)
    assert introduced == []
    world.board.record = '{"v":1}'
    for now in (12.0, 14.0, 16.0):
        presence.tick(now)
    assert introduced == [(NODE, '{"v":1}')]
    world.board.record = '{"v":1,"before_fork":["x"]}'
    presence.tick(18.0)
    presence.tick(317.0)
    assert len(introduced) == 2
    presence.tick(319.0)
    assert len(introduced) == 3


def test_only_the_first_living_process_introduces_its_node(world: World) -> None:
    world.board.record = '{"v":1}'
    world.board.rows[1].begin(os.getpid())
    presence = world.enter()
    presence.tick(10.0)
    assert len(world.publisher.introduced) == 1


def test_a_report_says_why_a_process_is_cut_off_and_that_the_server_was_overloaded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = world.enter()
    presence.tick(10.0)
    assert not {"cause", "overload", "held", "leak", "foreign"} & set(world.publisher.reports[-1])
    overloaded = errors.OperationFailure("busy", 462)
    world.mongo.link.observe(overloaded)
    refused = pings.failed(errors.OperationFailure("bad auth", 18))
    monkeypatch.setattr(pings, "ping", lambda client, *, timeout_seconds: refused)
    world.mongo.link.ping()
    presence.tick(12.0)
    told = world.publisher.reports[-1]
    assert (told["cause"], told["count"]["overloads"]) == ("auth", 1)
    assert "overload" in told


def test_the_report_names_the_queues_that_are_left_alone(world: World) -> None:
    world.board.gate = {"mongo.data": ["outage", 5.0]}
    world.enter().tick(1.0)
    assert world.publisher.reports[0]["gate"] == {"mongo.data": "outage"}


def test_who_had_the_slot_and_died_in_it_gets_a_post_mortem(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.die(0, task="shop.reckon")
    presence = world.enter()
    presence.tick(1.0)
    presence.tick(2.0)
    (line,) = lost(caplog)
    assert f"slot 0 (pid {NOBODY}) ended without a goodbye, running shop.reckon[id-1]" in line
    assert "1 of 2 connections in use" in line
    (told,) = world.publisher.buried
    assert (told["member"], told["pid"]) == (f"{NODE}/0", NOBODY)


def test_a_death_that_another_has_told_is_not_told_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.die(0)
    world.publisher.is_first_to_tell = False
    world.enter().tick(1.0)
    assert len(world.publisher.buried) == 1
    assert lost(caplog) == []


def test_a_dead_sibling_without_a_successor_is_told_of_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    presence = world.enter()
    world.die(2)
    ticked_at = world.board.rows[2].read().ticked_at or 0.0
    presence.tick(ticked_at + 5.0)
    assert lost(caplog) == []
    for seconds in (7.0, 9.0):
        presence.tick(ticked_at + seconds)
    assert len(lost(caplog)) == 1


def test_a_sibling_that_lives_and_does_not_report_is_busy(world: World) -> None:
    presence = world.enter()
    row = world.board.rows[1]
    row.begin(os.getpid())
    row.write_report(b"{}")
    presence.tick((row.read().ticked_at or 0.0) + 7.0)
    assert world.publisher.reports[-1]["busy"] == [1]


def test_only_the_first_living_process_of_a_node_tells_of_the_dead(world: World) -> None:
    rows = world.board.rows
    rows[0].begin(os.getpid())
    rows[0].write_report(b"{}")
    world.die(2)
    now = (rows[0].read().ticked_at or 0.0) + 1.0
    assert siblings.look(rows, 0, now=now + 6.0).is_first
    seen = siblings.look(rows, 1, now=now)
    assert not seen.is_first


def test_a_process_that_has_not_reported_yet_is_neither_busy_nor_dead(world: World) -> None:
    world.board.rows[1].begin(NOBODY)
    seen = siblings.look(world.board.rows, 0, now=1e9)
    assert (seen.busy, seen.dead) == ([], [])


def test_what_a_process_of_another_host_left_in_the_registry_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    stood = {"node": NODE, "slot": 0, "pid": 7, "started": 1.0, "host": "elsewhere"}
    world.publisher.previous = json.dumps(stood).encode()
    world.enter().tick(1.0)
    (line,) = lost(caplog)
    assert "(pid 7)" in line


def test_what_one_of_this_host_left_there_is_its_boards_to_tell(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    stood = {"node": NODE, "slot": 0, "pid": 7, "started": 1.0, "host": boot_id()}
    world.publisher.previous = json.dumps(stood).encode()
    world.enter().tick(1.0)
    assert lost(caplog) == []


def test_the_processes_of_a_main_that_was_killed_are_told_by_its_successor(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.die(1, task="shop.reckon")
    old, world.board = world.board, Board.create(node=NODE, deployment=f"new-{os.getpid()}", slots=3)
    world.mongo.board = world.board
    monkeypatch.setattr(module, "leftovers", lambda _deployment: [old])
    world.enter().tick(1.0)
    (line,) = lost(caplog)
    assert f"slot 1 (pid {NOBODY})" in line
    assert old.path is not None
    assert not old.path.exists()


def test_an_outage_shows_the_flight_recorder(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    presence = world.enter()
    presence.tick(1.0)
    world.mongo.link.circuit.fail(2.0, "refused")
    presence.tick(3.0)
    assert "flight.dumped: an outage" in caplog.text


def test_the_row_knows_at_once_how_the_process_sees_mongodb(world: World) -> None:
    world.enter()
    world.mongo._circuit_changed(Change(CircuitState.CLOSED, CircuitState.OPEN, 0.0, "refused"))
    assert world.board.rows[0].read().circuit is CircuitState.OPEN


def test_a_goodbye_is_for_its_own_slot_and_shows_nothing_where_all_was_well(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.enter().goodbye(1.0)
    assert world.publisher.gone == [f"{NODE}/0"]
    assert "flight.dumped" not in caplog.text
