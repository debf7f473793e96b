"""The registry on a real Redis: one that restarts, forgets, hangs and refuses."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from ops.local.servers import LocalServer, redis_server
from tests.e2e.workers import wait_until
from worker.fleet.registry import KEPT_SECONDS, Registry
from worker.mongo.backoff import Backoff
from worker.process.publisher import Publisher
from worker.settings.fields import Settings, load_settings
from worker.store import records
from worker.store.redis_client import HASTY_SECONDS, connect

logger = logging.getLogger(__name__)

PREFIX = "celery-pymongo:default"


def settings_of(uri: str) -> Settings:
    return load_settings({"REDIS_URL": uri}, env_file=None)


def open_registry(uri: str) -> Registry:
    settings = settings_of(uri)
    hasty = connect(settings, seconds=HASTY_SECONDS)
    return Registry(connect(settings), settings.key, hasty=hasty)


@pytest.fixture
def registry(redis: LocalServer, redis_client: redis_py.Redis) -> Registry:
    """A registry on an empty Redis."""
    return open_registry(redis.uri)


def report(pid: int = 7, started: float = 1000.5, **more: Any) -> bytes:
    return json.dumps({"v": 1, "pid": pid, "started": started, **more}).encode()


def post_mortem(member: str = "w1@h/0", pid: int = 7, started: float = 1000.5, **more: Any) -> dict[str, Any]:
    node, _, slot = member.rpartition("/")
    return {"member": member, "node": node, "slot": int(slot), "pid": pid, "started": started, **more}


def members(registry: Registry) -> list[str]:
    reading = registry.fleet()
    return sorted({*(seen.member for seen in reading.processes), *reading.unread})


def calls(client: redis_py.Redis, command: str) -> int:
    stats: Any = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


# --- reports ---


def test_what_nodes_say_of_themselves_is_kept_for_a_day(
    registry: Registry, redis_client: redis_py.Redis
) -> None:
    registry.introduce("w1@h", '{"kind":"solo"}')
    registry.introduce("w2@h", "no json")
    assert registry.nodes(["w1@h", "w2@h", "w3@h"]).found == {"w1@h": {"kind": "solo"}}
    assert registry.nodes([]).found == {}
    ttl: Any = redis_client.ttl(f"{PREFIX}:node:w1@h")
    assert KEPT_SECONDS - 5 < ttl <= KEPT_SECONDS


def test_what_is_published_is_seen_with_redis_own_time(
    registry: Registry, redis_client: redis_py.Redis
) -> None:
    published = registry.publish("w1@höst/0", report(node="w1@höst"))
    reading = registry.fleet()
    (seen,) = reading.processes
    assert (seen.member, seen.report["node"]) == ("w1@höst/0", "w1@höst")
    assert seen.at == pytest.approx(published.now, abs=1e-6)
    assert 0 <= reading.now - seen.at < 5
    seconds, micros = redis_client.time()
    assert reading.now == pytest.approx(seconds + micros / 1e6, abs=5)


def test_a_process_has_one_report_the_last(registry: Registry) -> None:
    first = registry.publish("w1@h/0", report(slots=1))
    second = registry.publish("w1@h/0", report(slots=2))
    (seen,) = registry.fleet().processes
    assert seen.report["slots"] == 2
    assert seen.at == pytest.approx(second.now, abs=1e-6)
    assert second.now > first.now


def test_only_the_first_report_tells_what_stood_there(redis: LocalServer, registry: Registry) -> None:
    assert registry.publish("w1@h/0", report(pid=1)).previous is None
    assert registry.publish("w1@h/0", report(pid=1, slots=2)).previous is None
    successor = open_registry(redis.uri)
    assert successor.publish("w1@h/0", report(pid=2)).previous == report(pid=1, slots=2)
    assert successor.publish("w1@h/0", report(pid=2)).previous is None


def test_a_report_is_one_round_trip_also_after_the_scripts_were_flushed(
    registry: Registry, redis_client: redis_py.Redis
) -> None:
    registry.publish("w1@h/0", report())
    redis_client.config_resetstat()
    before = calls(redis_client, "info")
    for _ in range(5):
        registry.publish("w1@h/0", report())
    stats: Any = redis_client.info("commandstats")
    asked = {name for name, told in stats.items() if told["calls"]} - {"cmdstat_info"}
    assert calls(redis_client, "evalsha") == 5
    assert before == 0
    # All else was called by the script.
    by_script = {"time", "zrange", "set", "zadd", "zremrangebyscore", "expire"}
    assert asked == {f"cmdstat_{name}" for name in by_script | {"evalsha", "config|resetstat"}}
    redis_client.script_flush()
    registry.publish("w1@h/0", report())
    registry.publish("w1@h/0", report())
    assert calls(redis_client, "script|load") == 1
    assert members(registry) == ["w1@h/0"]


def test_a_report_outlives_its_process_by_a_day_and_a_fleet_its_last_report(
    registry: Registry, redis_client: redis_py.Redis
) -> None:
    registry.publish("w1@h/0", report())
    redis_client.zadd(f"{PREFIX}:members", {"old@h/0": time.time() - KEPT_SECONDS - 60})
    registry.publish("w1@h/1", report())
    assert members(registry) == ["w1@h/0", "w1@h/1"]
    keys = list(redis_client.scan_iter("*"))
    assert len(keys) == 4
    for key in keys:
        assert KEPT_SECONDS - 60 < redis_client.ttl(key) <= KEPT_SECONDS


def test_a_large_fleet_is_read_whole_and_without_what_is_unreadable(
    registry: Registry, redis_client: redis_py.Redis
) -> None:
    with redis_client.pipeline(transaction=False) as pipe:
        for number in range(1201):
            pipe.set(f"{PREFIX}:report:n/{number}", report(pid=number))
            pipe.zadd(f"{PREFIX}:members", {f"n/{number}": time.time()})
        pipe.set(f"{PREFIX}:report:n/3", "nonsense")
        pipe.delete(f"{PREFIX}:report:n/4")
        pipe.execute()
    found = {seen.member: seen.report["pid"] for seen in registry.fleet().processes}
    assert found == {f"n/{number}": number for number in range(1201) if number not in (3, 4)}


# --- gaps ---


def age(client: redis_py.Redis, seconds: float) -> None:
    """Make every report this much older."""
    members: Any = client.zrange(f"{PREFIX}:members", 0, -1)
    for member in members:
        client.zincrby(f"{PREFIX}:members", -seconds, member)


def test_the_first_report_after_a_silence_of_all_marks_its_end(
    registry: Registry, redis_client: redis_py.Redis
) -> None:
    first = registry.publish("w1@h/0", report())
    registry.publish("w1@h/1", report())
    assert registry.fleet().silent_until == pytest.approx(first.now, abs=1e-6)
    age(redis_client, 20)
    back = registry.publish("w1@h/0", report())
    registry.publish("w1@h/0", report())
    assert registry.fleet().silent_until == pytest.approx(back.now, abs=1e-6)


def test_while_anybody_reports_the_silence_of_others_is_no_gap(
    registry: Registry, redis_client: redis_py.Redis
) -> None:
    first = registry.publish("w1@h/0", report())
    age(redis_client, 4)
    for _ in range(3):
        registry.publish("w1@h/1", report())
        age(redis_client, 4)
    reading = registry.fleet()
    silent = {seen.member: reading.now - seen.at for seen in reading.processes}
    assert silent["w1@h/0"] > 15
    assert reading.silent_until == pytest.approx(first.now, abs=1e-6)


# --- goodbye and post-mortems ---


def test_a_goodbye_leaves_nothing_behind(registry: Registry, redis_client: redis_py.Redis) -> None:
    registry.publish("w1@h/0", report())
    registry.publish("w1@h/1", report())
    registry.goodbye("w1@h/0")
    assert members(registry) == ["w1@h/1"]
    assert not redis_client.exists(f"{PREFIX}:report:w1@h/0")


def test_a_process_is_buried_once_and_is_gone_from_the_fleet(
    redis: LocalServer, registry: Registry, redis_client: redis_py.Redis
) -> None:
    registry.publish("w1@h/0", report())
    registry.publish("w1@h/1", report(pid=8))
    assert registry.bury(post_mortem(task={"name": "probe.nap"}))
    assert not open_registry(redis.uri).bury(post_mortem(task="another witness"))
    assert members(registry) == ["w1@h/1"]
    assert registry.postmortems().found == [post_mortem(task={"name": "probe.nap"})]
    assert all(redis_client.ttl(key) > 0 for key in redis_client.scan_iter("*"))


@pytest.mark.parametrize("successor", [{"pid": 8}, {"started": 2000.5}, {"started": None}, {"pid": None}])
def test_a_successor_in_the_slot_stays(registry: Registry, successor: dict[str, Any]) -> None:
    registry.publish("w1@h/0", report(**successor))
    assert registry.bury(post_mortem())
    assert members(registry) == ["w1@h/0"]


def test_the_same_slot_can_be_buried_again_with_its_next_process(registry: Registry) -> None:
    assert registry.bury(post_mortem(pid=1))
    assert registry.bury(post_mortem(pid=2))
    assert registry.bury(post_mortem(pid=2, started=2000.5))
    found = registry.postmortems().found
    assert [(mortem["pid"], mortem["started"]) for mortem in found] == [(2, 2000.5), (2, 1000.5), (1, 1000.5)]
    assert registry.postmortems(1).found == found[:1]


def test_of_many_witnesses_one_buries(redis: LocalServer, registry: Registry) -> None:
    witnesses = [open_registry(redis.uri) for _ in range(8)]
    together = threading.Barrier(len(witnesses))
    won: list[bool] = []

    def bury(witness: Registry, number: int) -> None:
        together.wait(5)
        won.append(witness.bury(post_mortem(witness=number)))

    threads = [threading.Thread(target=bury, args=pair) for pair in zip(witnesses, range(8), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(won) == [False] * 7 + [True]
    assert len(registry.postmortems().found) == 1


def test_a_loop_of_deaths_does_not_fill_redis(registry: Registry) -> None:
    for pid in range(205):
        registry.bury(post_mortem(pid=pid))
    assert [mortem["pid"] for mortem in registry.postmortems(1000).found] == list(range(204, 4, -1))


# --- leases and documents ---


def test_a_lease_has_one_holder_until_it_ends(redis: LocalServer, registry: Registry) -> None:
    other = open_registry(redis.uri)
    assert registry.lead("snapshot", 0.2)
    assert not other.lead("snapshot", 0.2)
    assert other.lead("verdict", 0.2)
    wait_until(lambda: other.lead("snapshot", 5), what="the end of a lease", seconds=5)


def test_a_document_is_read_as_it_was_stored(registry: Registry) -> None:
    assert registry.load(records.VERDICT, "verdict") is None
    verdict = {"verdict": "ok", "since": 1000.5, "reasons": ["ä"]}
    registry.store("verdict", verdict)
    assert registry.load(records.VERDICT, "verdict") == verdict


# --- a Redis that fails ---


def test_a_redis_that_forgot_everything_is_told_everything_again(tmp_path: Path) -> None:
    with redis_server(tmp_path, options=["--appendonly", "no"]) as server:
        reporters = [(open_registry(server.uri), f"w1@h/{slot}") for slot in range(3)]
        for registry, member in reporters:
            registry.publish(member, report())
        server.kill()
        server.start()
        assert members(reporters[0][0]) == []
        for registry, member in reporters:
            assert registry.publish(member, report()).previous is None
        reading = reporters[0][0].fleet()
        assert len(reading.processes) == 3
        assert reading.silent_until == pytest.approx(min(seen.at for seen in reading.processes), abs=1e-6)


def test_a_restart_of_redis_between_two_reports_is_not_noticed(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        reporter = Publisher(open_registry(server.uri), Backoff())
        assert reporter.publish(0.0, "w1@h/0", report())
        server.kill()
        server.start()
        assert reporter.publish(2.0, "w1@h/0", report())


def test_a_redis_that_is_away_costs_a_report_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="celery_pymongo.registry")
    with redis_server(tmp_path) as server:
        reporter = Publisher(open_registry(server.uri), Backoff())
        assert reporter.publish(0.0, "w1@h/0", report())
        server.kill()
        assert reporter.publish(2.0, "w1@h/0", report()) is None
        assert reporter.publish(40.0, "w1@h/0", report()) is None
        server.start()
        assert reporter.publish(80.0, "w1@h/0", report())
    names = [record.__dict__["event"] for record in caplog.records]
    assert names == ["registry.away", "registry.back"]
    assert "127.0.0.1" not in caplog.text
    assert "after 78.0 s" in caplog.text


def test_a_redis_that_hangs_costs_a_second_and_a_goodbye_a_fraction_of_it(redis: LocalServer) -> None:
    registry = open_registry(redis.uri)
    reporter = Publisher(registry, Backoff())
    assert reporter.publish(0.0, "w1@h/0", report())
    redis.suspend()
    try:
        started = time.monotonic()
        assert not reporter.goodbye("w1@h/0")
        parting = time.monotonic() - started
        assert reporter.publish(2.0, "w1@h/0", report()) is None
        reporting = time.monotonic() - started - parting
    finally:
        redis.resume()
    logger.info("a hung Redis cost a goodbye %.3f s and a report %.3f s", parting, reporting)
    assert parting < 0.1
    assert reporting < 1.2
    assert reporter.publish(40.0, "w1@h/0", report())


# --- forks and rights ---


def test_a_forked_child_has_a_connection_of_its_own(
    redis: LocalServer, registry: Registry, redis_client: redis_py.Redis
) -> None:
    registry.publish("w1@h/0", report())
    pid = os.fork()
    if pid == 0:
        try:
            registry.publish("w1@h/1", report())
            # What its parent has said is not what it has said itself.
            os._exit(0 if registry.publish("w1@h/0", report()).previous == report() else 2)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    registry.publish("w1@h/0", report())
    assert members(registry) == ["w1@h/0", "w1@h/1"]


def rights() -> list[list[str]]:
    """Return the two lists of ACL rules that the module's docstring promises to be enough."""
    from worker.fleet import registry

    words = [part.split() for part in str(registry.__doc__).replace("\n", " ").split("`")]
    return [
        [word for word in part if word.startswith("+")] for part in words if any("+get" in w for w in part)
    ]


def with_rights(client: Any, server: LocalServer, rules: list[str]) -> Registry:
    client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", f"~{PREFIX}:*", *rules)
    return open_registry(f"redis://app:secret@127.0.0.1:{server.port}/1")


def test_the_rights_that_are_named_are_enough(redis: LocalServer, redis_client: redis_py.Redis) -> None:
    redis_client.flushall()
    writing, reading = rights()
    registry = with_rights(redis_client, redis, writing)
    registry.publish("w1@h/0", report())
    registry.publish("w1@h/1", report())
    registry.bury(post_mortem())
    registry.goodbye("w1@h/1")
    registry.lead("snapshot", 5)
    registry.store("verdict", {"verdict": "ok"})
    registry.publish("w1@h/1", report())
    reader = with_rights(redis_client, redis, reading)
    assert members(reader) == ["w1@h/1"]
    assert reader.load(records.VERDICT, "verdict") == {"verdict": "ok"}
    assert len(reader.postmortems().found) == 1
    with pytest.raises(redis_py.exceptions.NoPermissionError):
        reader.publish("w1@h/0", report())
