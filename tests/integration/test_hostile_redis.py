"""Whatever somebody puts into Redis: no command fails on it, and no verdict is better for it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import redis as redis_py
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from ops.cli import mongo as commands
from ops.frame import problem_of
from ops.local.servers import LocalServer
from tests.hostile.crafted import LETTER, TEXTS, newer
from tests.hostile.plants import HEALTH, NODE, PLANTS, others
from tests.schemas import validated
from tests.unit.doctor_facts import RECORD
from tests.unit.fleet_reports import report
from worker.board.process_identity import boot_id, born
from worker.broker.copies import Copies
from worker.delivery.attempts import Attempt, Attempts, Delivered
from worker.delivery.dead_letters import Letter
from worker.delivery.deliveries import Deliveries
from worker.delivery.stores import Stores
from worker.fleet.beat_pulse import BeatPulse
from worker.health.facts import View
from worker.health.watch import Watch
from worker.mongo.backoff import Backoff
from worker.process.process import Mongo, Place
from worker.process.publisher import Publisher
from worker.sentry import Ledger
from worker.sentry.crons.windows import Ended
from worker.settings.fields import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
PERMISSIONS = ROOT / "docs" / "guides" / "permissions.md"
EXITS = {0, 1, 2, 3, 64}


@dataclass
class Site:
    """A deployment with a fleet that is well, in one process: its app, its watch and its Redis."""

    app: Celery
    mongo: Any
    watch: Watch
    stores: Stores
    redis: Any
    key: Callable[..., str]

    def fill(self) -> None:
        """Put a record of each kind into an empty Redis, as processes do."""
        self.redis.flushdb()
        self.fill_as_processes()

    def fill_as_processes(self) -> None:
        """Likewise, into what is there."""
        stores, now = self.stores, time.time()
        for slot in range(2):
            self.publish(slot)
        stores.registry.introduce(NODE, json.dumps(RECORD))
        BeatPulse(self.redis, self.key).beat("Scheduler")
        stores.registry.bury(mortem(now))
        for name in ("paused", f"paused:{NODE}"):
            stores.registry.store(name, {"mongo.data": [False, now]})
        stores.history.append({"at": now, "totals": {"rate": {"checked_out": 1.0}}})
        self.mongo.deliveries.letters.put(letter(), json.dumps({"task": "shop.sell", "options": {}}))
        self.redis.set(
            self.key("outage"), json.dumps(OUTAGE | {"since": now, "last_down": now, "told_at": now})
        )
        shared = self.mongo.view.shared_queues()
        assert shared is not None
        shared.note("shop", ["elsewhere"], now=now)
        self.watch.check()

    def publish(self, slot: int, **changes: Any) -> None:
        own = {
            "host": boot_id(),
            "pid": os.getpid(),
            "born": born(os.getpid()),
            "slots": 2,
            "at": time.time(),
        }
        told = report(NODE, slot, **(own | changes))
        self.stores.registry.publish(f"{NODE}/{slot}", json.dumps(told, separators=(",", ":")).encode())

    def run(self, *arguments: str) -> Result:
        """Run a command; whatever it finds, it ends with an exit code of its own and no stack."""
        context = CLIContext(app=self.app, no_color=True, workdir=None)
        found = CliRunner().invoke(commands, arguments, obj=context)
        is_own = found.exception is None or isinstance(found.exception, SystemExit)
        assert is_own, (arguments, found.exception)
        assert found.exit_code in EXITS, (arguments, found.output)
        assert "Traceback" not in found.output
        return found


OUTAGE: dict[str, Any] = {"relapses": 0, "given_up": False, "is_over": True, "pending": None}


def mortem(now: float) -> dict[str, Any]:
    return {
        "member": f"{NODE}/0",
        "node": NODE,
        "slot": 0,
        "pid": 4,
        "started": now - 2000,
        "seen": now - 1200,
        "task": {"name": "shop.sell", "id": "7", "seconds": 1.0},
        "report": report(NODE, 0),
        "flight": [],
    }


def letter() -> Letter:
    return Letter(**LETTER)


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer) -> Iterator[Site]:
    settings: Settings = load_settings(
        {
            "MONGODB_URI": mongo.uri,
            "REDIS_URL": redis.uri,
            "CELERY_PYMONGO_DEPLOYMENT": f"t{uuid4().hex[:8]}",
            "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "1",
        },
        env_file=None,
    )
    made: Any = Mongo(settings)
    made.place = Place(NODE)
    app: Any = Celery("attacked", broker=redis.uri, set_as_current=False)
    app.mongo, stores = made, Stores.of(settings)
    made.view = View(app, made, stores)
    made.deliveries, made.copies = Deliveries.of(made, stores), Copies(app)
    close, made.close = made.close, lambda *_seconds: False
    with redis_py.Redis.from_url(redis.uri) as client:
        yield Site(app, made, Watch(made.view), stores, client, settings.key)
    close()
    app.close()


COMMANDS = (
    ("status", "--json"),
    ("processes", "--json"),
    ("doctor", "--json"),
    ("snapshot", "--json"),
    ("history", "--json"),
    ("size", "--json"),
    ("leaks", "--timeout", "0.2"),
    ("dead", "list", "--json"),
    ("flight", f"{NODE}/0", "--dead"),
    ("status",),
    ("doctor",),
    ("processes",),
    ("snapshot",),
    ("history",),
    ("size",),
    ("dead", "list"),
    ("dead", "show", "7", "--body"),
    ("dead", "requeue", "7"),
    ("ping", "--timeout", "0.2"),
    ("reconnect", "--timeout", "0.2"),
    ("pause", "--timeout", "0.2"),
    ("dead", "drop", "7", "--yes"),
)
"""Each command, as a program and as a person asks it; what changes something comes last."""


def test_a_fleet_that_is_well_is_ok(site: Site) -> None:
    site.fill()
    assert site.watch.check()["verdict"] == "ok"
    assert (status := validated(site.run("status", "--json").stdout))["verdict"] == "ok", status["reasons"]
    assert validated(site.run("doctor", "--json").stdout)["verdict"] != "unknown"


@pytest.mark.parametrize("kind", HEALTH)
def test_no_verdict_is_better_than_unknown_for_what_cannot_be_read(site: Site, kind: str) -> None:
    for plant in PLANTS[kind]:
        site.fill()
        plant(site.redis, site.key)
        told = validated(site.run("status", "--json").stdout)
        assert told["verdict"] in ("unknown", "degraded"), (plant, told)
        assert any("not readable" in reason for reason in told["reasons"]), told["reasons"]
        checked = site.watch.check()
        assert checked["verdict"] in ("unknown", "degraded"), checked
        assert "1 record in Redis is not readable: key" in checked["reasons"][-1]
        json.dumps(site.watch.snapshot())


@pytest.mark.parametrize("kind", PLANTS)
def test_no_command_fails_on_what_cannot_be_read_and_the_doctor_names_it(site: Site, kind: str) -> None:
    plants = PLANTS[kind]
    for number, command in enumerate(COMMANDS):
        site.fill()
        for plant in plants[number % len(plants) :][:1]:
            plant(site.redis, site.key)
        found = site.run(*command)
        if command[-1] == "--json" and found.stdout:
            told = validated(found.stdout)
            if command[0] == "doctor" and kind != "message":
                assert "records-unreadable" in [one["id"] for one in told["findings"]], (kind, number, told)


def test_a_letter_that_cannot_be_read_hides_no_other_and_can_be_dropped(site: Site) -> None:
    site.fill()
    letters = site.mongo.deliveries.letters
    other = letters.put(Letter(**(LETTER | {"id": "8", "task_id": "8"})), "{}")
    site.redis.hset(site.key("dead-letter", "7"), "letter", "x")
    listed = validated(site.run("dead", "list", "--json").stdout)
    assert [one["id"] for one in listed["letters"]] == [other.id]
    assert "1 record in Redis is not readable" in listed["unseen"]["dead letters"]
    shown = site.run("dead", "show", "7")
    assert (shown.exit_code, shown.output.count("\n")) == (3, 1)
    # What is put under its name does not take its place.
    assert letters.put(letter(), "{}").id != "7"
    assert site.run("dead", "drop", "7", "--yes").exit_code == 0
    assert not site.redis.exists(site.key("dead-letter", "7"))


def test_a_verdict_that_was_overwritten_is_found_again_and_not_forgotten(site: Site) -> None:
    """It said since when slots are missing: for a while nobody can say that all is well."""
    site.fill()
    for at in ("before", "after"):
        site.redis.set(site.key("document", "verdict"), "x") if at == "before" else None
        assert site.watch.check()["verdict"] == "unknown", at
    stood = json.loads(site.redis.get(site.key("document", "verdict")) or b"")
    assert stood["lasting"]["unread"]


def test_records_of_a_later_version_are_read(site: Site) -> None:
    """A rolling upgrade: each record has a field more. What is paused has queues for names."""
    site.fill()
    for name in site.redis.scan_iter(f"{site.key('x')[:-1]}*"):
        is_record = site.redis.type(name) == b"string" and b":paused" not in name
        if is_record and (text := site.redis.get(name))[:1] == b"{":
            site.redis.set(name, json.dumps(newer(json.loads(text))))
    site.redis.hset(site.key("dead-letter", "7"), "letter", json.dumps(newer(LETTER)))
    first, last, beat = next(iter(site.redis.hgetall(site.key("beats")).values())).split(b" ", 2)
    later = json.dumps(newer(json.loads(beat))).encode()
    site.redis.hset(site.key("beats"), "h:7", b" ".join([first, last, later]))
    assert site.watch.check()["verdict"] == "ok"
    assert [one["id"] for one in validated(site.run("doctor", "--json").stdout)["findings"]].count(
        "records-unreadable"
    ) == 0
    assert len(list(site.mongo.deliveries.letters.letters())) == 1


@pytest.fixture
def full(site: Site) -> Iterator[None]:
    """Redis has no memory left."""
    site.fill()
    site.redis.config_set("maxmemory", 1)
    yield
    site.redis.config_set("maxmemory", 0)


def test_a_full_redis_is_degraded_at_once_and_nobody_is_blamed_for_his_silence(
    site: Site, full: None, caplog: pytest.LogCaptureFixture
) -> None:
    # As if all had been silent for long, for nobody can report.
    site.redis.config_set("maxmemory", 0)
    site.redis.delete(site.key("post-mortems"))
    for name in (f"{NODE}/0", f"{NODE}/1"):
        site.redis.zincrby(site.key("members"), -300, name)
    tick = f'1 {time.time() - 300} {{"host": "h", "pid": 7, "scheduler": "S"}}'
    site.redis.hset(site.key("beats"), "h:7", tick)
    site.redis.config_set("maxmemory", 1)
    checked = site.watch.check()
    assert (checked["verdict"], checked["layers"]["redis"]) == ("degraded", "degraded")
    assert checked["reasons"] == ["Redis is full and refuses writes (OOM): nothing is sent or reported"]
    told = validated(site.run("status", "--json").stdout)
    said = ["Redis is full: it refuses whatever is written.", *checked["reasons"]]
    assert (told["verdict"], told["reasons"]) == ("degraded", said)
    found = validated(site.run("doctor", "--json").stdout)
    assert found["findings"][0]["id"] == "redis-full"
    blamed = {"process-silent", "process-lost", "node-lost", "beat-silent", "beat-absent", "redis-down"}
    assert not {one["id"] for one in found["findings"]} & blamed
    publisher = Publisher(site.stores.registry, Backoff(1, 2))
    assert publisher.publish(0.0, f"{NODE}/0", b'{"pid":1}') is None
    assert "Redis does not take this process's reports (OOM)" in caplog.text
    line = site.run("dead", "drop", "7", "--yes").output
    assert "does not answer" not in line
    with pytest.raises(OperationalError) as met:
        site.app.send_task("x", retry=False)
    problem = problem_of(site.app, met.value)
    assert problem is not None
    assert problem.message == "the broker is full and refuses writes (OOM)"


def test_the_rules_of_the_guide_are_enough(site: Site) -> None:
    """Keys, commands and channels; a worker, beat and remote control were tried by hand."""
    chapter = PERMISSIONS.read_text().partition("## Permissions in Redis")[2]
    block = chapter.partition("```text\n")[2]
    rules = block.partition("```")[0].replace("default:", f"{site.mongo.settings.deployment}:").split()
    site.redis.flushdb()
    site.redis.execute_command("ACL", "SETUSER", "shop", *[rule.replace("PASSWORD", "pw") for rule in rules])
    url = site.mongo.settings.redis_url.get_secret_value().replace("//", "//shop:pw@")
    stores = Stores.of(site.mongo.settings.model_copy(update={"redis_url": SecretStr(url)}))
    site.redis.execute_command("ACL", "LOG", "RESET")
    mine = replace(site, stores=stores, watch=Watch(View(site.app, site.mongo, stores)))
    mine.mongo = SimpleNamespace(
        deliveries=Deliveries.of(site.mongo, stores), view=View(site.app, site.mongo, stores)
    )
    mine.redis = stores.client
    mine.fill_as_processes()
    stores.windows.ended([Ended("nightly", 7, "ok")])
    stores.ledger.take("me")
    assert stores.registry.refusal() is None
    assert stores.registry.server()["save"] is not None
    channels = [rule[1:] for rule in rules if rule.startswith("&")]
    client: Any = stores.client
    with client.pubsub() as heard:
        for channel in channels:
            heard.psubscribe(channel)
            assert heard.get_message(timeout=2)
    assert site.redis.execute_command("ACL", "LOG") == []


def test_what_the_user_may_not_do_is_no_redis_that_is_away(site: Site) -> None:
    site.fill()
    commands = ["+@all", "-zrange"]
    site.redis.acl_setuser("poor", enabled=True, nopass=True, reset=True, keys=["*"], commands=commands)
    url = site.mongo.settings.redis_url.get_secret_value().replace("//", "//poor:x@")
    settings = site.mongo.settings.model_copy(update={"redis_url": SecretStr(url)})
    poor, rich = Stores.of(settings), site.mongo.view.stores
    site.mongo.view = View(site.app, site.mongo, poor)
    try:
        told = validated(site.run("status", "--json").stdout)
        assert told["verdict"] == "unknown"
        assert any("does not let this user do it (NOPERM)" in reason for reason in told["reasons"])
        line = site.run("processes").output
        assert "does not let this user do it (NOPERM)" in line
        assert "does not answer" not in line
        found = validated(site.run("doctor", "--json").stdout)
        assert "redis-refused" in [one["id"] for one in found["findings"]]
        assert "redis-down" not in [one["id"] for one in found["findings"]]
        assert Watch(site.mongo.view).check()["verdict"] == "unknown"
    finally:
        site.mongo.view = View(site.app, site.mongo, rich)


def test_a_run_that_cannot_be_read_counts_as_one_that_was_ended_by_force(site: Site) -> None:
    attempts = Attempts(site.redis, site.key, done_seconds=60)
    of, own = Delivered("7", "m"), Attempt(NODE, 0, 1, 1, "boot", time.time() + 60)
    name = site.key("attempts", "7", "m")
    for odd in TEXTS:
        site.redis.delete(name)
        site.redis.hset(name, b"\xff run", odd)
        assert attempts.begin(of, "r", own).unreadable == 1
    site.redis.delete(name)
    site.redis.hset(name, "run", json.dumps(newer(vars(own))))
    assert attempts.begin(of, "r", own).attempts == [own]
    for plant in others("attempts", "7", "m", but="hash"):
        plant(site.redis, site.key)
        assert attempts.begin(of, "r", own).unreadable == 1
        # It is noted all the same, for the next.
        assert attempts.begin(of, "s", own).attempts == [own]


def test_reports_and_ticks_go_on_over_what_somebody_put_in_their_way(site: Site) -> None:
    for plant in (*others("members", but="zset"), *others("report", f"{NODE}/0", but="string")):
        site.fill()
        plant(site.redis, site.key)
        for slot in range(2):
            site.publish(slot)
        assert site.watch.check()["verdict"] in ("ok", "unknown")
        assert {seen.member for seen in site.stores.registry.fleet().processes} == {f"{NODE}/0", f"{NODE}/1"}
    for plant in PLANTS["beat"]:
        site.fill()
        plant(site.redis, site.key)
        pulse = BeatPulse(site.redis, site.key)
        pulse.beat("Scheduler")
        assert [beat.pid for beat in pulse.read_all().found] == [os.getpid()]


def test_counts_of_an_outage_that_are_none_are_left_out(site: Site) -> None:
    ledger = Ledger(site.redis, site.key)
    ledger.add("7", requeued=2, errors={"shop.sell": 1})
    site.redis.hset(site.key("outage", "7", "counts"), mapping={b"error:\xff": "x", "error:a": "1e999"})
    ledger.touch("7", ["w1@h/0"])
    site.redis.sadd(site.key("outage", "7", "members"), b"\xff")
    told = ledger.counts("7")
    assert (told.requeued, told.errors) == (2, {"shop.sell": 1})
    assert "w1@h/0" in told.members
    for plant in (*others("outage", "7", "counts", but="hash"), *others("outage", "7", "members", but="set")):
        plant(site.redis, site.key)
        ledger.counts("7")


def test_what_waits_is_unknown_where_a_queue_is_none(site: Site) -> None:
    site.fill()
    site.redis.set("celery", "x")
    site.redis.set("unacked", "x")
    told = validated(site.run("status", "--json").stdout)
    assert (told["verdict"], told["layers"]["consuming"]) == ("unknown", "unknown")
    assert "celery" not in told["queues"]
    assert told["unacked"] is None
    site.redis.delete("celery", "unacked")
    site.redis.rpush("celery", json.dumps({"headers": {"celery_pymongo_sent_at": 1}})[:-2] + ".1.2.3}}")
    site.run("status")
