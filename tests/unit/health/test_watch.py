"""Checks and snapshots of the fleet: what is read, kept and said, and what happens when Redis is away."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.errors import OperationFailure
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TOPOLOGY_TYPE
from redis import ConnectionError as RedisAway

from tests.unit.fleet_reports import NOW, node, reading, report, seen
from worker.delivery.stores import Stores
from worker.fleet.beat_pulse import Pulse
from worker.fleet.registry import Seen
from worker.health.facts import View
from worker.health.watch import Watch, _say_change
from worker.settings.fields import load_settings
from worker.store.records import Read

REFUSED = OperationFailure("not allowed", 13)
WHOLE = {"type": "Single", "primary": "a:1", "members": {"a:1": "Standalone"}, "errors": {}}
OK = {"verdict": "ok", "reasons": [], "latency_ms": 1.0, "topology": WHOLE, "circuit": "closed"}
DOWN = {
    "verdict": "down",
    "reasons": ["outage: AutoReconnect: refused"],
    "latency_ms": None,
    "circuit": "open",
}


class World:
    """Everything that a Watch touches: Redis with the fleet, MongoDB, beat. `calls` names what was done."""

    def __init__(self) -> None:
        self.processes: list[Seen] = node(slots=2)
        self.documents: dict[str, Any] = {}
        self.leases: dict[str, float] = {}
        self.kept: list[Any] = []
        self.calls: list[str] = []
        self.ping: dict[str, Any] = OK
        self.pulse: Pulse | None = None
        self.now = NOW
        self.is_away = False
        settings = load_settings({"CELERY_PYMONGO_DEPLOYMENT": "test"}, env_file=None)
        self.mongo: Any = SimpleNamespace(
            settings=settings,
            check=lambda: self._did("ping", self._stamp() | self.ping),
            pool=lambda: self._stamp() | {"servers": {}},
            get_client=Client,
            appname="celery-pymongo/test/w1@h/0/100",
        )

    def watch(self) -> Watch:
        app: Any = SimpleNamespace(
            conf=SimpleNamespace(broker_read_url="memory://", broker_transport_options={}),
            amqp=SimpleNamespace(queues={}),
        )
        parts: Any = (self,) * 8
        return Watch(View(app, self.mongo, Stores(*parts)), clock=lambda: self.now)

    def _stamp(self) -> dict[str, Any]:
        return {
            "deployment": "test",
            "node": "w1@h",
            "slot": 0,
            "pid": 100,
            "at": "2026-01-01T00:00:00+00:00",
        }

    def _did(self, what: str, result: Any = None) -> Any:
        self.calls.append(what)
        return result

    # The registry, the history and the pulse; each fails while Redis is away.

    def _redis(self, what: str, result: Any = None) -> Any:
        self.calls.append(what)
        if self.is_away:
            raise RedisAway("away")
        return result

    def fleet(self) -> Any:
        return self._redis("fleet", reading(*self.processes))

    def postmortems(self) -> Any:
        return Read([])

    def refusal(self) -> str | None:
        return None

    def load(self, _kind: Any, name: str) -> Any:
        return json.loads(json.dumps(self._redis("load", self.documents.get(name))))

    def store(self, name: str, document: Any) -> None:
        self._redis("store")
        self.documents[name] = json.loads(json.dumps(document))

    def lead(self, name: str, seconds: float) -> bool:
        self._redis("lead")
        is_free = self.leases.get(name, 0.0) <= self.now
        if is_free:
            self.leases[name] = self.now + seconds
        return is_free

    def hold(self, name: str, seconds: float) -> None:
        self._redis("hold")
        self.leases[name] = self.now + seconds

    def bury(self, _mortem: Any) -> bool:
        return bool(self._redis("bury", True))

    def append(self, document: Any) -> None:
        self._redis("append")
        self.kept.append(document)

    def backfill(self, _collection: Any) -> int:
        return int(self._redis("backfill", 0))

    def read_all(self) -> Any:
        return Read(self._redis("pulse", [] if self.pulse is None else [self.pulse]))


class Client:
    """A MongoDB client whose user may ask nothing."""

    topology_description = SimpleNamespace(
        topology_type=TOPOLOGY_TYPE.Single,
        topology_type_name="Single",
        server_descriptions=lambda: {("a", 1): ServerDescription(("a", 1))},
    )

    def __init__(self) -> None:
        self.admin = self

    def __getitem__(self, _name: str) -> Client:
        return self

    def get_database(self, _name: str, **_options: Any) -> Client:
        return self

    def command(self, *_command: Any, **_options: Any) -> Any:
        raise REFUSED

    aggregate = command


@pytest.fixture
def world() -> World:
    return World()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if hasattr(record, "event")]


# --- the check ---


def test_a_check_tells_the_fleets_verdict_and_keeps_what_the_process_found(world: World) -> None:
    world.pulse = Pulse(2.0, "h", 1, "Scheduler")
    found = world.watch().check()
    assert json.loads(json.dumps(found)) == found
    assert (found["verdict"], found["reasons"], found["since"]) == ("ok", [], NOW)
    assert (found["latency_ms"], found["node"], found["pid"]) == (1.0, "w1@h", 100)
    assert found["unknown"] == ["consuming"]
    assert found["layers"]["beat"] == "ok"
    assert found["nodes"]["rows"] == {"w1@h": {"verdict": "ok", "reasons": []}}
    assert found["fleet"]["counts"]["live"] == 2
    assert world.documents["verdict"]["verdict"] == "ok"


def test_a_verdict_is_kept_since_it_changed(world: World) -> None:
    world.documents["verdict"] = {"verdict": "ok", "since": 5.0}
    assert world.watch().check()["since"] == 5.0
    world.processes.append(seen(report("w2@h", circuit="open")))
    assert world.watch().check()["since"] == NOW


def test_what_lasts_is_carried_from_check_to_check(world: World) -> None:
    world.documents["verdict"] = {"verdict": "ok", "since": 5.0, "lasting": {"missing": {"w1@h/2": NOW - 20}}}
    world.processes = node(slots=3)[:2]
    assert world.watch().check()["reasons"] == ["1 of 3 processes is missing: w1@h/2"]
    assert world.documents["verdict"]["lasting"]["missing"] == {"w1@h/2": NOW - 20}


def test_a_change_is_said_once_however_many_find_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="celery_pymongo.health")
    world.documents["verdict"] = before = {"verdict": "ok", "since": 5.0}
    world.processes.append(seen(report("w2@h", circuit="open", outage=4.0)))
    first, second = world.watch(), world.watch()
    first.check()
    world.documents["verdict"] = before
    second.check()
    first.check()
    assert said(caplog) == [
        "health.changed: ok -> degraded (1 of 3 processes is cut off from MongoDB, for 4 s: w2@h/0)"
    ]


DOWN_AND_CUT_OFF = {"verdict": "down", "cut_off": True, "layers": {"reachability": "down", "pool": "ok"}}
WELL = {"verdict": "ok", "layers": {"reachability": "ok", "pool": "ok"}, "reasons": []}
FULL = {"verdict": "degraded", "layers": {"reachability": "ok", "pool": "degraded"}, "reasons": []}


@pytest.mark.parametrize(
    ("before", "found", "level"),
    [
        (WELL, DOWN_AND_CUT_OFF, "DEBUG"),
        (DOWN_AND_CUT_OFF, WELL, "DEBUG"),
        (DOWN_AND_CUT_OFF, FULL, "WARNING"),
        (FULL, DOWN_AND_CUT_OFF, "WARNING"),
        (WELL, FULL, "WARNING"),
        (FULL, WELL, "INFO"),
        ({}, WELL, "INFO"),
        # A ping that fails where no circuit is open: nobody has told of it.
        (WELL, DOWN_AND_CUT_OFF | {"cut_off": False}, "WARNING"),
    ],
)
def test_what_an_outage_explains_its_own_lines_tell(
    caplog: pytest.LogCaptureFixture, before: Any, found: Any, level: str
) -> None:
    caplog.set_level("DEBUG", logger="celery_pymongo")
    _say_change({"reasons": []} | found, before)
    assert [record.levelname for record in caplog.records] == [level]


def test_a_first_verdict_that_is_ok_is_said_at_info(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="celery_pymongo")
    world.watch().check()
    assert said(caplog) == ["health.changed: unknown -> ok (all well)"]
    assert caplog.records[0].levelname == "INFO"


def test_without_redis_a_check_is_right_of_what_the_process_itself_sees(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="celery_pymongo.health")
    world.is_away = True
    watch = world.watch()
    found = watch.check()
    assert (found["verdict"], found["fleet"]) == ("ok", None)
    assert found["unknown"] == ["liveness", "permissions", "pool", "consuming", "beat"]
    world.ping = DOWN
    down = watch.check()
    assert (down["verdict"], down["reasons"]) == (
        "down",
        ["w1@h/0 cannot use MongoDB: outage: AutoReconnect: refused"],
    )
    assert watch.check()["since"] == down["since"]
    assert len(said(caplog)) == 2
    assert "ok -> down" in said(caplog)[1]


def test_a_redis_that_is_away_is_asked_once_per_check(world: World) -> None:
    """Each question may take a second."""
    world.is_away = True
    world.watch().check()
    assert world.calls == ["ping", "fleet"]


# --- when nobody checks ---


def test_a_verdict_that_nobody_renewed_for_two_intervals_is_renewed_by_one(world: World) -> None:
    """All slots may be busy with long tasks, or no beat run."""
    world.watch().check()
    world.now += 19
    assert not world.watch().run_if_stale()
    world.now += 2
    assert [world.watch().run_if_stale() for _ in range(3)] == [True, False, False]
    assert world.calls.count("ping") == 2


def test_redis_is_asked_at_most_once_per_interval_and_process(world: World) -> None:
    watch = world.watch()
    world.leases["checked"] = NOW + 300
    for _ in range(50):
        world.now += 2
        watch.run_if_stale()
    assert 5 <= world.calls.count("lead") <= 10


def test_looking_for_a_stale_verdict_never_raises(world: World) -> None:
    world.is_away = True
    assert not world.watch().run_if_stale()


# --- the snapshot ---


def test_a_snapshot_is_of_the_fleet_and_is_kept_without_what_grows_with_it(world: World) -> None:
    found = world.watch().snapshot()
    assert json.loads(json.dumps(found)) == found
    assert found["coverage"]["seen"] == 2
    assert found["server"]["source"] == "not permitted"
    assert found["process"]["servers"] == {}
    assert len(world.kept) == 1
    assert set(world.kept[0]) == {"at", "circuits", "outage", "totals", "coverage", "server"}
    assert set(world.kept[0]["coverage"]) == {"seen", "expected", "counts"}
    assert len(json.dumps(world.kept[0])) < 2048


def test_two_snapshots_at_once_are_one_entry_in_the_history(world: World) -> None:
    for _ in range(2):
        world.watch().snapshot()
    assert (len(world.kept), world.calls.count("backfill")) == (1, 2)


def test_a_snapshot_tells_of_the_lost(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.processes.append(seen(report("w2@h", host="elsewhere"), silent=61))
    found = world.watch().snapshot()
    assert found["coverage"]["lost"] == ["w2@h/0"]
    assert world.calls.count("bury") == 1
    assert [line.split(":")[0] for line in said(caplog)] == ["node.lost", "process.lost"]


def test_without_redis_a_snapshot_is_of_this_process(world: World) -> None:
    world.is_away = True
    found = world.watch().snapshot()
    assert (found["coverage"], found["process"]["pid"]) == (None, 100)


def test_it_is_kept_when_a_check_last_came_as_a_message() -> None:
    """A process that judges since nobody else does is no sign of beat."""
    world = World()
    watch = world.watch()
    watch.check()
    assert world.documents["verdict"]["arrived_at"] is None
    watch.check(is_sent=True)
    arrived = world.documents["verdict"]["arrived_at"]
    world.now += 60
    watch.check()
    assert world.documents["verdict"]["arrived_at"] == arrived == NOW
