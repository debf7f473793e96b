"""A replica set of three as the commands tell of it: who is connected to which member, and who is away."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ops.local import programs
from ops.local.replica_set import ReplicaSet
from ops.local.servers import LocalServer
from tests.e2e.operator import Operator
from tests.e2e.workers import Worker, wait_until
from tests.schemas import validated

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(programs.mongod() is None, reason="a replica set of three takes a mongod"),
]

SETTINGS = {
    "CELERY_PYMONGO_DEPLOYMENT": f"members-{os.getpid()}",
    "CELERY_PYMONGO_INCLUDE": "tests.e2e.apps.attribution",
    "CELERY_PYMONGO_SCHEDULER": "plain",
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
    "MONGODB_MAX_POOL_SIZE": "4",
}
PROCESSES = 3
PATIENTLY = ("--timeout", "30")
SECONDS = 60.0
NO_BEAT = "No beat has ticked in the last day."
"""This fleet has none."""


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("set"), election_timeout=2.0) as found:
        found.wait_for_members()
        yield found


@pytest.fixture(scope="module")
def operator(
    replica_set: ReplicaSet, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Of a fleet of two prefork processes and one with threads."""
    folder = Path(tmp_path_factory.mktemp("logs"))
    env = SETTINGS | {"MONGODB_URI": replica_set.uri, "REDIS_URL": redis.uri}
    alone = ("--without-mingle", "--without-gossip")
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                Worker("worker", folder / f"{name}.log", pool, size, (name,), env, alone, name)
            )
            for name, pool, size in (("w1", "prefork", 2), ("w2", "threads", 4))
        ]
        for node in nodes:
            node.wait_ready()
        found = Operator(env)
        wait_for(found, "ok", "")
        yield found


def told(operator: Operator, *command: str) -> dict[str, Any]:
    """Return the document of a command, whatever its code."""
    return validated(operator.run(*command, "--json", *PATIENTLY).stdout)


def wait_for(operator: Operator, verdict: str, reason: str) -> dict[str, Any]:
    """Wait for a status of the whole fleet with this verdict and such a reason; "" is for none at all."""
    found: list[dict[str, Any]] = []

    def is_so() -> bool:
        found.append(told(operator, "status"))
        reasons = [one for one in found[-1]["reasons"] if one != NO_BEAT]
        is_told = any(reason in one for one in reasons) if reason else not reasons
        seen = found[-1]["verdict"] if reasons else "ok"
        live = (found[-1]["coverage"] or {}).get("counts", {}).get("live")
        return seen == verdict and is_told and live == PROCESSES

    try:
        wait_until(is_so, what=f"{verdict}: {reason}", seconds=SECONDS)
    except TimeoutError as error:
        raise AssertionError(f"{error}; last: {found[-1]['verdict']} {found[-1]['reasons']}") from None
    return found[-1]


def sockets(replica_set: ReplicaSet) -> dict[str, Counter[str]]:
    """Each member's own count of the fleet's connections, by process: node/slot/pid."""
    found = {}
    prefix = f"celery-pymongo/{SETTINGS['CELERY_PYMONGO_DEPLOYMENT']}/"
    for host, member in zip(replica_set.hosts, replica_set.members, strict=True):
        with (
            replica_set.client(member) as client,
            client.admin.aggregate([{"$currentOp": {"allUsers": True, "idleConnections": True}}]) as rows,
        ):
            names = [str(row.get("appName")) for row in rows if "connectionId" in row]
            found[host] = Counter(
                name.removeprefix(prefix) for name in names if name.startswith(prefix + "w")
            )
    return found


# --- connections ---


def test_each_member_counts_what_the_processes_report_to_it(
    operator: Operator, replica_set: ReplicaSet
) -> None:
    """And what status, snapshot and size say: by process, by member, and within the budget of each."""
    last: list[Any] = []

    def is_equal() -> bool:
        snapshot, status = told(operator, "snapshot"), told(operator, "status")
        counted = sockets(replica_set)
        last[:] = [counted, snapshot["servers"], status["servers"]]
        return all(
            document["servers"][host]["counted"]
            == document["servers"][host]["reported"]
            == counted[host].total()
            for document in (snapshot, status)
            for host in replica_set.hosts
        ) and all(row["counted"] == row["reported"] for row in snapshot["server"]["ours"].values())

    try:
        wait_until(is_equal, what="counts that agree", seconds=SECONDS)
    except TimeoutError:
        raise AssertionError(last) from None
    counted, servers, _ = last
    budget = told(operator, "size")["fleet"]
    assert {row["source"] for row in servers.values()} == {"$currentOp"}
    assert {row["strays"] for row in servers.values()} == {0}
    assert set(map(len, counted.values())) == {PROCESSES}
    # Prefork: a task's connection and the health check's, threads: maxPoolSize; and two to watch the member.
    assert budget["now"] == 2 * (2 + 2) + (4 + 2)
    assert max(by_process.total() for by_process in counted.values()) <= budget["now"]


def test_a_person_reads_of_each_member_what_it_counts(operator: Operator, replica_set: ReplicaSet) -> None:
    lines = operator.run("status", *PATIENTLY).stdout.splitlines()
    for host in replica_set.hosts:
        assert any(f"{host} " in line and " used, " in line and " available" in line for line in lines), lines
    assert any(
        "at most " in line and "12 to each member: 3 processes x maxPoolSize 4" in line for line in lines
    )
    table = operator.run("snapshot", *PATIENTLY).stdout
    assert "BY REPORTS" in table
    assert all(host in table for host in replica_set.hosts)


def test_a_full_pool_is_seen_full(operator: Operator) -> None:
    """Its maximum is one member's: of three it would be a third of what they may have together."""
    quick = ("--pool", "4", "--seconds", "5", "--threads", "8", "--hold", "300", "--queue-timeout", "400")
    done = operator.run("drill", "exhaust", *quick, "--json")
    found = validated(done.stdout)
    assert found["was_full"], done
    full = [sample for sample in found["samples"] if sample["usage"] == 1]
    assert {sample["max"] for sample in full} == {4}


# --- members that are away ---


def test_a_secondary_that_is_gone_degrades_in_status_and_for_the_doctor(
    operator: Operator, replica_set: ReplicaSet
) -> None:
    gone = replica_set.secondaries()[0]
    host = f"127.0.0.1:{gone.port}"
    gone.kill()
    try:
        status = wait_for(operator, "degraded", "1 of 3 members of the replica set cannot be used")
        assert (status["layers"]["members"], status["layers"]["reachability"]) == ("degraded", "ok")
        assert status["servers"][host]["why"] == "Connection refused"
        assert status["servers"][host]["current"] is None
        assert operator.run("status", *PATIENTLY).returncode == 1
        assert finding(operator, "member-away")["severity"] == "degraded"
    finally:
        gone.start()
        replica_set.wait_for_members()
    wait_for(operator, "ok", "")


def test_a_set_without_a_majority_is_down_though_processes_have_just_used_it(
    operator: Operator, replica_set: ReplicaSet
) -> None:
    gone = replica_set.secondaries()
    for member in gone:
        member.kill()
    try:
        # The primary steps down once it misses them, two seconds later or less.
        status = told(operator, "status")
        assert status["verdict"] in ("degraded", "down"), status["reasons"]
        replica_set.wait_without_primary()
        status = told(operator, "status")
        assert status["verdict"] in ("degraded", "down"), status["reasons"]
        assert "no primary" in str(status["reasons"])
        status = wait_for(operator, "down", "the replica set has no primary, nothing can be written")
        assert status["layers"]["members"] == "down"
        assert finding(operator, "no-primary")["severity"] == "down"
    finally:
        for member in gone:
            member.start()
        replica_set.primary()
        replica_set.wait_for_members()
    wait_for(operator, "ok", "")


def finding(operator: Operator, name: str) -> dict[str, Any]:
    """Return what the doctor finds by this name, himself or as the symptom of something else."""
    found = told(operator, "doctor")["findings"]
    named = [one for one in found if one["id"] == name]
    assert named, [one["id"] for one in found]
    return dict(named[0])
