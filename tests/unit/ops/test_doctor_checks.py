"""Each check finds what it is for, names it with numbers, and finds nothing in a healthy deployment."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict, replace
from typing import Any

import pytest

from ops.doctor.checks import CHECKS
from ops.doctor.facts import Beat, Facts, Queue
from ops.doctor.finding import Check, Finding, Severity
from ops.doctor.judging import diagnose
from tests.unit.doctor_facts import AWAY, PING, REDIS, facts, node, shared
from tests.unit.fleet_reports import NOW
from worker.server.members import problems

OPEN: dict[str, Any] = {
    "circuit": "open",
    "outage": 12.0,
    "error": "heartbeat: AutoReconnect",
    "cause": "outage",
}
HUNG: dict[str, Any] = OPEN | {"error": "hung: no answer for 32 s", "hung": 32.0}
REFUSED: dict[str, Any] = OPEN | {"cause": "auth", "error": "OperationFailure: Authentication failed."}
SET_NAME: dict[str, Any] = OPEN | {
    "cause": "config",
    "error": "m1:27017: the replica set is named 'local', and the settings say 'orders'",
}
BUSY_TASK: dict[str, Any] = {"name": "shop.report", "id": "x", "seconds": 90.0, "running": 1}
WAITING: dict[str, Any] = {
    "wait": {"n": 100, "avg": 400.0, "p99": 900.0},
    "wait_buckets": [0] * 11 + [60, 40, 0, 0, 0],
    "pool": {"waiting": 5, "in_use": 2, "max": 2},
}


def with_redis(**changes: Any) -> Facts:
    return facts(redis=REDIS | changes)


def with_members(primary: str | None, **kinds: str) -> Facts:
    """What the rule finds that status goes by, too; who is Unknown has refused."""
    errors = {host: "refused" for host, kind in kinds.items() if kind == "Unknown"}
    kind = "ReplicaSetWithPrimary" if primary else "ReplicaSetNoPrimary"
    topology = {"type": kind, "primary": primary, "members": kinds, "errors": errors}
    found = problems(topology, seen_from="here", write_concern="majority", is_used_elsewhere=False)
    return facts(ping=PING | {"topology": topology}, members=tuple(map(asdict, found)))


def with_option(**options: Any) -> Facts:
    return facts(node(record={"options": options}))


OTHER_BEAT = Beat(1.0, 300.0, "h", 11, "PersistentScheduler")
MORTEM: dict[str, Any] = {"node": "w1@h", "slot": 0, "seen": NOW - 60, "task": {"name": "shop.report"}}

YOUNG: dict[str, Any] = {"node": "w1@h", "slot": 0, "task": None}

DENIED = {"n": 4, "code": 13, "for": 30.0, "ago": 1.0, "tasks": {"shop.write": "insert on shop.sales"}}

BEHIND = {"primary": "m1:27017", "behind": {"m2:27017": 25.0, "m3:27017": 1.0}, "majority": 25.0}
FULL = {"n": 4, "code": 14_031, "for": 30.0, "ago": 1.0, "tasks": {"shop.write": "OutOfDiskSpace"}}

# By check: what makes it find something, and a word of its evidence.
CASES: dict[str, tuple[Facts, str]] = {
    "nothing-reached": (facts(nodes=None, ping=AWAY, unseen={"nodes": "ConnectionError"}), "ConnectionError"),
    "no-redis": (facts(nodes=None, has_redis=False, broker="amqp"), "the broker is amqp"),
    "redis-refused": (
        facts(
            nodes=None,
            redis_refuses="does not let this user do it (NOPERM)",
            unseen={"nodes": "NoPermissionError"},
        ),
        "NoPermissionError",
    ),
    "records-unreadable": (
        facts(unreadable={"a dead letter": tuple(f"cp:dead-letter:{n}" for n in range(12))}),
        "a dead letter, 12 keys: cp:dead-letter:0, ",
    ),
    "redis-down": (facts(nodes=None, unseen={"nodes": "TimeoutError"}), "TimeoutError"),
    "nobody-reports": (facts(nodes=()), "0 reports"),
    "login-refused": (facts(node(**REFUSED), ping=AWAY), "2 of 2 processes"),
    "mongodb-hangs": (facts(node(**HUNG), ping=AWAY), "2 of 2 processes cut off, without an answer"),
    "replica-set-name": (
        facts(node(**SET_NAME), ping=AWAY),
        "m1:27017: the replica set is named 'local', and the settings say 'orders'",
    ),
    "configuration-refused": (
        facts(node(**OPEN), ping=AWAY | {"error_class": "config", "reasons": ["config: certificate"]}),
        "certificate",
    ),
    "majority-behind": (
        facts(replication=BEHIND),
        "a majority has nothing newer than the primary's writes of 25 s ago",
    ),
    "member-behind": (facts(replication=BEHIND | {"majority": 1.0}), "m2:27017: 25 s behind m1:27017"),
    "operations-refused": (facts(node(refused=FULL)), "8 operations of shop.write in 2 of 2 processes"),
    "operations-denied": (facts(node(denied=DENIED)), "shop.write: insert on shop.sales"),
    "no-primary": (
        with_members(None, m1="RSSecondary", m2="Unknown"),
        "1 of 2 members answers, none is primary: m1",
    ),
    "mongodb-down": (facts(node("w1@h", **OPEN), node("w2@h", **OPEN), ping=AWAY), "4 of 4 processes"),
    "node-cut-off": (facts(node("w1@h", **OPEN), node("w2@h")), "all 2 processes of w1@h"),
    "process-cut-off": (
        facts(replace(node(), processes=(*node(**OPEN).processes[:1], *node().processes[1:]))),
        "12 s: w1@h/0",
    ),
    "outage-over": (facts(node(recovered=20.0)), "2 of 2 processes reconnected 20 s to 20 s ago"),
    "member-away": (with_members("m1", m1="RSPrimary", m2="RSSecondary", m3="Unknown"), "m3 (refused)"),
    "node-lost": (facts(node("w1@h", state="lost"), node("w2@h")), "all 2 processes silent"),
    "process-lost": (
        facts(replace(node(), processes=(*node(state="lost").processes[:1], *node().processes[1:]))),
        "w1@h/0, silent for up to 40 s",
    ),
    "start-blocked": (
        facts(
            node(record={"init_handlers": ["shop.connect (/app/shop.py:3)"], "alive_timeout": 4.0}),
            post_mortems=tuple(YOUNG | {"seen": NOW - ago, "started": NOW - ago - 4.1} for ago in (3, 9)),
        ),
        "2 processes killed 4.1 s after the start at the latest, the last 3.0 s ago",
    ),
    "slots-missing": (
        facts(replace(node(), slots=3, missing=("w1@h/2",)), lasting={"missing": {"w1@h/2": NOW - 60}}),
        "w1@h/2, for up to 60 s; expected 3",
    ),
    "process-killed": (facts(post_mortems=(MORTEM,)), "1 without a goodbye"),
    "process-silent": (facts(node(state="busy", task=BUSY_TASK)), "silent for up to 40 s"),
    "stray-connections": (
        facts(server={"current": 90, "limit": 1000, "counted": 12, "strays": 40, "source": "x"}),
        "40 strays",
    ),
    "two-clusters": (
        facts(node("w1@h", cluster="rs/m1:1,m2:1"), node("w2@h", cluster="rs/n1:1")),
        "w2@h: rs/n1:1",
    ),
    "node-slow": (facts(node("w1@h", rtt={"p50": 800.0}), node("w2@h")), "w1@h 800.0 ms, w2@h 0.5 ms"),
    "registry-apart": (
        facts(is_redis_the_broker=False, redis_places={"registry": "a:6379/0", "broker": "b:6379/0"}),
        "messages (broker_url): b:6379/0",
    ),
    "client-per-call": (
        facts(node(made={"n": 20, "site": "/app/shop.py:7 in sell", "task": "shop.sell"})),
        "40 clients made there since the start of 2 of 2 processes",
    ),
    "client-before-fork": (facts(node(record={"before_fork": ["/app/db.py:3 in <module>"]})), "/app/db.py:3"),
    "second-client": (facts(node(foreign="/app/cache.py:9 in load")), "in 2 of 2 processes"),
    "mongodb-result-backend": (facts(node(record={"result_backend": "mongodb"})), "w1@h"),
    "overload": (facts(node(overload=3.0, count={"overloads": 7})), "14 operations answered"),
    "connections-refused": (
        facts(
            node(),
            ping=AWAY | {"reasons": ["outage: m1:27017: connection closed"]},
            last_counts={"current": 98, "available": 2, "others": 70, "at": NOW - 12, "member": "m1:27017"},
        ),
        "the last count, 12 s ago on m1:27017: 98 of 100 in use: 70 of others, 28 of this deployment",
    ),
    "server-nearly-full": (
        facts(server={"current": 950, "limit": 1000, "counted": 12, "strays": 0, "source": "x"}),
        "95% in use",
    ),
    "long-holds": (
        facts(shared(**WAITING, held={"n": 2, "seconds": 31.0, "task": "shop.report"})),
        "shop.report holds a connection for 31 s",
    ),
    "pool-held": (
        facts(shared(**WAITING, most_held={"task": "shop.report", "seconds": 90.0, "n": 45, "of": 100.0})),
        "shop.report: 90 s of 100 s held in the last minute in w1@h/0, 45 holds of 2.0 s on average",
    ),
    "pool-too-small": (
        facts(shared(record={"options": {"maxPoolSize": 2}}, **WAITING)),
        "maxPoolSize 2, concurrency 8",
    ),
    "pool-exhausted": (facts(shared(**WAITING)), "5 waiting now, 2 of 2"),
    "leak": (
        facts(node(count={"leaks": 3, "false_alarms": 1}, leak={"what": "a session", "task": "shop.sell"})),
        "shop.sell left a session",
    ),
    "drift": (facts(node(count={"drift": 12})), "24 in w1@h/0"),
    "connection-budget": (facts(settings={"server_connections": 10}), "sum 16 to each member, limit 10"),
    "file-descriptors": (facts(node(record={"nofile": 40})), "RLIMIT_NOFILE 40, needed up to 48"),
    "redis-clients": (with_redis(connected_clients=9500), "95% of maxclients"),
    "min-pool-size": (with_option(minPoolSize=10), "minPoolSize 10 where 1 task"),
    "pool-below-concurrency": (facts(shared(record={"options": {"maxPoolSize": 4}})), "nobody waits"),
    "process-churn": (
        facts(node(record={"max_tasks_per_child": 1}, started=NOW - 3)),
        "worker_max_tasks_per_child=1",
    ),
    "connection-churn": (
        facts(node(rate={"created": 2.0, "checked_out": 3.0})),
        "240 made and 360 checkouts",
    ),
    "redis-replica": (with_redis(role="slave", master_link_status="up"), "role slave"),
    "redis-write-failed": (with_redis(aof_last_write_status="err"), "aof_last_write_status: err"),
    "redis-persistence": (with_redis(aof_enabled=0), "appendonly no"),
    "redis-eviction": (with_redis(maxmemory=1 << 30, maxmemory_policy="allkeys-lru"), "1,073,741,824"),
    "redis-full": (facts(refusal="OOM"), "answered with OOM"),
    "redis-memory": (with_redis(maxmemory=1 << 20), "1,048,576 of 1,048,576"),
    "visibility-timeout": (facts(node(record={"visibility_timeout": 60.0})), "hard time limit 300 s"),
    "delivery-risk": (
        facts(node(record={"risks": ["task_acks_late=False: a task is lost; set it to True"]})),
        "w1@h",
    ),
    "dead-letters": (facts(dead_letters=3), "3 in Redis"),
    "slots-busy": (
        facts(node(task=BUSY_TASK), queues={"celery": Queue(9, 40.0, ("w1@h",))}),
        "9 messages in celery, the oldest for 40 s",
    ),
    "queue-unconsumed": (facts(queues={"reports": Queue(4, 300.0)}), "4 messages in reports"),
    "backlog": (facts(queues={"celery": Queue(4, 300.0, ("w1@h",))}), "the oldest for 5 min"),
    "queue-shared": (
        facts(elsewhere={"mongo.health": ("staging",), "own": ("x",)}),
        "same broker: mongo.health",
    ),
    "queue-paused": (facts(node(gate={"mongo.data": "operator"})), "is not known"),
    "beat-silent": (
        facts(beats=(Beat(95.0, 500.0, "h", 10, "Scheduler"),)),
        "95 s ago, by Scheduler on h, pid 10",
    ),
    "beat-doubled": (facts(beats=(Beat(1.0, 500.0, "h", 10, "Scheduler"), OTHER_BEAT)), "pid 11 on h"),
    "check-missing": (facts(check_arrived=NOW - 95), "the last one came 95 s ago"),
    "beat-absent": (facts(beats=()), "0 pulses"),
    "clock-skew": (facts(node(at=NOW + 30)), "+30.5 s"),
    "timeout-missing": (with_option(waitQueueTimeoutMS=0), "waitQueueTimeoutMS 0"),
    "timeout-above-limit": (
        facts(node(record={"shortest_time_limit": 4.0})),
        "the shortest hard time limit 4 s",
    ),
    "start-timeout": (facts(node(record={"init_handlers": ["shop.connect"]})), "shop.connect on w1@h"),
    "selection-timeout": (with_option(serverSelectionTimeoutMS=30_000), "30,000"),
    "idle-time": (with_option(maxIdleTimeMS=0), "maxIdleTimeMS 0"),
    "retries-off": (with_option(retryWrites=False), "retryWrites=false"),
    "tls-unverified": (facts(node(record={"mongodb": {"verified": False}})), "verification is off"),
    "no-login": (facts(node(record={"redis": {"local": False, "tls": True}})), "no user in the URI"),
    "no-tls": (facts(node(record={"mongodb": {"local": False, "login": True}})), "no TLS"),
    "write-concern": (with_option(w=1), "w=1"),
    "read-preference": (with_option(readPreference="secondaryPreferred"), "secondaryPreferred"),
    "version": (facts(node(record={"versions": {"pymongo": "4.15.4"}})), "pymongo 4.15.4"),
    "nodes-unequal": (
        facts(node("w1@h"), node("w2@h", record={"versions": {"celery": "5.7.1"}})),
        "celery: 5.7.0 on w1@h; 5.7.1 on w2@h",
    ),
    "tls-sessions": (
        facts(node(record={"options": {"tls": True}, "versions": {"python": "3.11.9"}})),
        "Python 3.11 and TLS",
    ),
    "role-cluster-monitor": (facts(server={"source": "not permitted", "current": None}), "code 13"),
    "history-refused": (facts(indexes={"refused": ["celery_pymongo"], "without_ttl": {}}), "celery_pymongo"),
    "index-missing": (facts(indexes={"refused": [], "without_ttl": {"app._once": "until"}}), "until"),
}


def test_every_check_has_a_case() -> None:
    assert set(CASES) == {check.id for check in CHECKS}


def test_a_healthy_deployment_has_no_finding_and_every_check_was_made() -> None:
    found = diagnose(facts())
    assert (found.verdict, found.findings, found.unchecked) == ("ok", (), {})
    assert set(found.checked) == set(CASES)


@pytest.mark.parametrize("concurrency", [1, 8, 200])
def test_a_healthy_node_of_threads_has_no_finding(concurrency: int) -> None:
    record = {"options": {"maxPoolSize": concurrency + 1}}
    assert diagnose(facts(shared(concurrency=concurrency, record=record))).findings == ()


def found_by(check: Check, known: Facts) -> list[Finding]:
    return list(check.find(known))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_finds_what_it_is_for_and_says_it_with_numbers(check: Check) -> None:
    broken, words = CASES[check.id]
    first, *_ = found_by(check, broken)
    assert first.id == check.id
    assert words in "\n".join(first.evidence)
    assert all((first.title, first.why, first.fix, all(first.fix), all(first.evidence)))
    assert found_by(check, facts()) == []


COMMAND = re.compile(r"celery -A|redis-cli|dmesg|MONGODB_\w+=|CELERY_PYMONGO_\w+=")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_command_or_a_setting_of_a_fix_is_a_line_to_paste(check: Check) -> None:
    """All of it, or what stands before a comment."""
    for found in found_by(check, CASES[check.id][0]):
        for line in found.fix:
            if COMMAND.search(line):
                assert COMMAND.match(line), line
                pasted = line.partition("  # ")[0]
                assert not re.search(r"[();]|, | or | and ", pasted), line
                assert shlex.split(pasted)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_what_is_found_is_told_by_the_diagnosis(check: Check) -> None:
    """Once, as a finding or folded under another."""
    found = diagnose(CASES[check.id][0]).findings
    folded = [one.id for finding in found for one in finding.explains]
    assert [*(finding.id for finding in found), *folded].count(check.id) == 1


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_without_its_facts_is_named_and_finds_nothing(check: Check) -> None:
    nothing = Facts(at=NOW, deployment="shop", unseen={"nodes": "no answer"})
    found = diagnose(nothing)
    assert (check.id in found.unchecked) == bool(check.needs)
    assert (check.id in found.checked) == (not check.needs)


def test_with_nothing_seen_nothing_is_held_against_the_fleet() -> None:
    found = diagnose(Facts(at=NOW, deployment="shop", unseen={"nodes": "no answer"}))
    assert [finding.id for finding in found.findings] == ["redis-down"]


# --- what tells one thing from another ---


def ids(known: Facts) -> list[str]:
    return [finding.id for finding in diagnose(known).findings]


def test_an_outage_that_this_machine_does_not_see_is_that_of_the_nodes() -> None:
    assert ids(facts(node("w1@h", **OPEN), node("w2@h", **OPEN)))[0] == "node-cut-off"


def test_a_machine_that_does_not_reach_mongodb_says_nothing_of_a_fleet_that_does() -> None:
    assert ids(facts(ping=AWAY)) == []


def test_a_server_that_hangs_is_down_once_nobody_vouches_for_it() -> None:
    (found,) = diagnose(facts(node(ok=25.0), ping=AWAY)).findings
    assert found.id == "mongodb-down"
    assert "none of 2 processes has used it for 26 s" in found.evidence
    assert diagnose(facts(node(ok=None), ping=AWAY)).findings[0].evidence[0].endswith("since its start")
    seldom = {"options": {"heartbeatFrequencyMS": 60_000}}
    assert ids(facts(node(ok=25.0, record=seldom), ping=AWAY)) == []


def test_a_server_that_hangs_is_first_and_explains_the_rest() -> None:
    topology = {"type": "ReplicaSetNoPrimary", "primary": None, "members": {"m2": "RSSecondary"}}
    problem = {"code": "no-primary", "verdict": "down", "sentence": "no primary", "evidence": "m2"}
    slots = {**HUNG, "overload": 3.0, "count": {"overloads": 2}}
    known = facts(node(**slots), ping=AWAY | {"topology": topology}, members=(problem,))
    (found,) = diagnose(known).findings
    assert (found.id, found.title) == ("mongodb-hangs", "MongoDB hangs: no answer for 32 s.")
    assert {one.id for one in found.explains} >= {"mongodb-down", "no-primary"}
    assert diagnose(known).verdict == "down"


def test_what_hangs_for_some_alone_does_not_hang() -> None:
    """It is the way to it; and what answers here does not hang, whatever was reported a moment ago."""
    assert "mongodb-hangs" not in ids(facts(node("w1@h", **HUNG), node("w2@h", **OPEN), ping=AWAY))
    assert ids(facts(node("w1@h", **HUNG), node("w2@h")))[0] == "node-cut-off"
    assert ids(facts(node(**HUNG)))[0] == "node-cut-off"


def test_nothing_of_a_hang_is_left_once_it_is_over() -> None:
    found = diagnose(facts(node(recovered=1.0, overload=2.0), ping=PING | {"latency_ms": 2.0}))
    assert (found.verdict, [one.id for one in found.findings]) == ("ok", ["outage-over"])


def test_mongodb_alone_is_judged_by_its_ping() -> None:
    assert ids(facts(nodes=None, ping=PING)) == ["redis-down"]
    assert ids(facts(nodes=(), ping=AWAY))[0] == "mongodb-down"


@pytest.mark.parametrize(
    "changes",
    [
        {"beats": (Beat(1.0, 20.0, "h", 10, "Scheduler"),)},
        {"beats": ()},
        {"nodes": (node(started=NOW - 20),)},
        {"settings": {"health_interval_seconds": 3600.0}, "check_arrived": NOW - 3700},
    ],
    ids=["beat is young", "no beat", "workers are young", "seldom"],
)
def test_a_health_check_is_missed_only_where_one_is_due(changes: dict[str, Any]) -> None:
    assert "check-missing" not in ids(facts(**{"check_arrived": None, **changes}))


def test_a_queue_that_nobody_consumes_is_why_no_health_check_arrives() -> None:
    queues = {"mongo.health": Queue(40, 300.0)}
    (found,) = diagnose(facts(queues=queues, check_arrived=None)).findings
    assert (found.id, [one.id for one in found.explains]) == ("queue-unconsumed", ["check-missing"])


WITHOUT_AOF = REDIS | {"aof_enabled": 0, "maxmemory": 1 << 20, "maxmemory_policy": "allkeys-lru"}


def test_a_redis_that_is_not_the_broker_is_not_called_one() -> None:
    gone = node("w2@h", state="lost", record={"broker": "amqp", "visibility_timeout": None})
    away = facts(nodes=None, is_redis_the_broker=False, unseen={"nodes": "ConnectionError"})
    assert diagnose(away).verdict == "degraded"
    silent = facts(node(record={"longest_time_limit": 7200.0, "visibility_timeout": None}), gone)
    for found in (away, replace(silent, is_redis_the_broker=False, redis=WITHOUT_AOF)):
        text = json.dumps(diagnose(found).to_dict()["findings"])
        assert text != "[]"
        assert not re.search("every message|visibility|its broker|acknowledged", text), text


def test_without_any_redis_one_finding_says_so() -> None:
    assert ids(facts(nodes=None, ping=AWAY, has_redis=False, broker="amqp")) == ["mongodb-down", "no-redis"]


def test_a_login_that_is_refused_here_is_no_outage_where_nobody_else_tells() -> None:
    refused = AWAY | {"error_class": "auth", "reasons": ["auth: OperationFailure: Authentication failed."]}
    unseen = {"nodes": "ConnectionError"}
    assert ids(facts(nodes=None, ping=refused, unseen=unseen)) == ["redis-down", "login-refused"]
    assert ids(facts(nodes=(), ping=refused))[0] == "login-refused"


LOGIN = {"user": "app", "source": "shop", "mechanism": "SCRAM"}
REFUSED_HERE = AWAY | {
    "error_class": "auth",
    "reasons": ["auth: login refused (Authentication failed, code 18)"],
}


def test_a_machine_whose_login_alone_is_refused_is_told_so_and_the_fleet_is_well() -> None:
    told = diagnose(facts(ping=REFUSED_HERE, login=LOGIN))
    (found,) = told.findings
    assert (told.verdict, found.id, found.severity) == ("ok", "login-refused", Severity.NOTE)
    assert "the login of this machine" in found.title
    assert found.evidence == (
        "0 of 4 processes of the fleet met it",
        "this machine: auth: login refused (Authentication failed, code 18); user app, authSource shop, "
        "mechanism SCRAM",
    )


def test_a_user_who_may_only_read_is_told_so_with_the_tasks_and_the_role() -> None:
    told = diagnose(facts(node(denied=DENIED), login=LOGIN))
    (found,) = told.findings
    assert (told.verdict, found.severity) == ("degraded", Severity.DEGRADED)
    assert found.title == "Writes are refused: the MongoDB user may not write (code 13)."
    assert found.evidence[1] == "8 times in 2 of 2 processes, for 30 s, the last 1.0 s ago"
    assert found.fix == (
        "db.getSiblingDB('shop').grantRolesToUser('app', [{role: 'readWrite', db: 'shop'}])",
    )


@pytest.mark.parametrize(
    ("what", "title"),
    [
        ("find on other.x", "the user lacks a role (code 13)"),
        ("", "the user lacks a role (code 13)"),
        ("find without a login", "MONGODB_URI has none"),
    ],
)
def test_what_is_denied_besides_writes_is_told_as_what_it_is(what: str, title: str) -> None:
    (found,) = diagnose(facts(node(denied=DENIED | {"tasks": {"shop.read": what}}))).findings
    assert title in found.title


EXPIRED = "db1:27017: certificate expired on 2026-01-01 00:00:00Z (certificate verify failed)"


@pytest.mark.parametrize(
    ("error", "title", "fix"),
    [
        (EXPIRED, "The server's certificate has expired", "openssl s_client -connect db1:27017 <"),
        (
            "db1:27017: client certificate expired on 2026",
            "The client certificate has expired",
            "put a new one",
        ),
        (
            "db1:27017: client certificate missing: x",
            "asks for a client certificate, and none",
            "KEY_FILE=FILE",
        ),
        (
            "db1:27017: client certificate not accepted, it seems",
            "closes the connection with ours",
            "openssl verify",
        ),
        ("db1:27017: certificate not valid before 2040", "is not valid yet", "date -u"),
        ("db1:27017: certificate is of another host (x)", "for another host name", "subjectAltName"),
        ("db1:27017: certificate not trusted (x)", "not signed by an authority", "MONGODB_TLS_CA_FILE=FILE"),
        ("db1:27017: the server speaks TLS and this client does not (x)", "TLS is off", "MONGODB_TLS=true"),
        ("db1:27017: this client speaks TLS and the server does not (x)", "speaks none", "MONGODB_TLS=false"),
        ("ConfigurationError: unknown", "settings do not fit", "openssl s_client -connect HOST:PORT"),
    ],
)
def test_each_mistake_of_tls_is_told_as_what_it_is_with_its_own_fix(error: str, title: str, fix: str) -> None:
    everywhere = diagnose(facts(node(**OPEN | {"cause": "config", "error": error})))
    here = diagnose(facts(ping=AWAY | {"error_class": "config", "reasons": [f"config: {error}"]}))
    for told, verdict in ((everywhere, "down"), (here, "ok")):
        (found,) = told.findings
        assert (told.verdict, found.id) == (verdict, "configuration-refused")
        assert title in found.title
        assert any(fix in line for line in found.fix)
        assert any(error in line for line in found.evidence)
    assert here.findings[0].title.endswith(", on this machine alone.")


def test_a_mistake_of_some_processes_degrades_and_is_theirs() -> None:
    broken = node("w1@h", **OPEN | {"cause": "config", "error": EXPIRED})
    (found,) = diagnose(facts(broken, node("w2@h"))).findings
    assert (found.id, found.severity) == ("configuration-refused", Severity.DEGRADED)
    assert found.where == broken.members
    assert [one.id for one in found.explains] == ["node-cut-off"]


def test_waits_are_put_down_to_long_holds_or_to_a_small_pool() -> None:
    small: dict[str, Any] = {"record": {"options": {"maxPoolSize": 2}}}
    held: dict[str, Any] = {"held": {"n": 2, "seconds": 31.0, "task": "shop.report"}}
    assert ids(facts(shared(**small, **WAITING)))[0] == "pool-too-small"
    assert ids(facts(shared(**small, **WAITING, **held)))[0] == "long-holds"
    assert ids(facts(shared(**WAITING)))[0] == "pool-exhausted"


def test_one_slow_checkout_among_few_is_no_trouble() -> None:
    assert ids(facts(shared(wait={"n": 5, "p99": 900.0}))) == []


def test_the_first_connections_of_a_pool_are_no_want_of_them() -> None:
    """Whoever comes first waits until a connection is made."""
    first = {"wait": {"n": 25, "p99": 180.0}, "wait_buckets": [0] * 8 + [20, 0, 5, 0, 0, 0, 0, 0]}
    made: dict[str, Any] = first | {"rate": {"created": 5 / 60}}
    assert ids(facts(shared(**made))) == []
    assert ids(facts(shared(**(made | {"rate": {"created": 1 / 60}})))) == ["pool-exhausted"]


def test_a_wait_that_was_interrupted_once_is_no_drift() -> None:
    assert ids(facts(node(count={"drift": 2}))) == []


def test_timeouts_of_long_ago_are_no_trouble_now() -> None:
    assert ids(facts(shared(count={"timeouts": 9}))) == []
    assert ids(facts(shared(count={"timeouts": 9}, rate={"failed": 0.1}))) == ["pool-exhausted"]


def test_a_slow_server_is_overloaded_where_most_of_the_fleet_sees_it() -> None:
    ping = PING | {"latency_ms": 900.0}
    slow: dict[str, Any] = {"rtt": {"avg": 900.0, "p50": 900.0}}
    assert ids(facts(node(**slow), ping=ping)) == ["overload"]
    assert ids(facts(node("w1@h", **slow), node("w2@h"), node("w3@h"), ping=ping)) == ["node-slow"]
    assert ids(facts(node(**slow))) == []


def test_a_leader_that_took_over_is_no_second_beat() -> None:
    before, after = Beat(12.0, 500.0, "h", 10, "Scheduler"), Beat(1.0, 4.0, "h2", 11, "Scheduler")
    assert ids(facts(beats=(before, after))) == []


def test_a_gated_queue_is_no_queue_that_nobody_consumes() -> None:
    gated = node(gate={"mongo.data": "outage"})
    assert "queue-unconsumed" not in ids(facts(gated, queues={"mongo.data": Queue(9, 300.0)}))


def test_a_node_that_does_not_know_its_queues_yet_hides_who_consumes_what() -> None:
    assert ids(facts(node(queues=[]), queues={"reports": Queue(4, 300.0)})) == []


def test_slots_are_busy_only_where_all_of_those_who_consume_are() -> None:
    queues = {"celery": Queue(9, 40.0, ("w1@h", "w2@h"))}
    assert ids(facts(node("w1@h", task=BUSY_TASK), node("w2@h"), queues=queues)) == []


def test_a_node_with_a_free_slot_is_not_busy() -> None:
    busy, free = node(task=BUSY_TASK).processes[0], node().processes[1]
    half = replace(node(), processes=(busy, free))
    assert ids(facts(half, queues={"celery": Queue(9, 40.0, ("w1@h",))})) == []


def test_a_tick_that_was_missed_is_no_silence() -> None:
    late = tuple(replace(process, state="stale", silence=9.0) for process in node().processes)
    assert ids(facts(replace(node(), processes=late))) == []


def test_who_was_killed_long_ago_is_no_news() -> None:
    assert ids(facts(post_mortems=(MORTEM | {"seen": NOW - 3600},))) == []


def test_a_node_that_has_just_started_has_young_processes() -> None:
    record = {"max_tasks_per_child": 1, "began": NOW - 5}
    assert ids(facts(node(record=record, started=NOW - 1))) == []
    assert ids(facts(node(record=record | {"began": NOW - 60}, started=NOW - 55))) == []


def test_a_process_makes_its_first_connections_in_its_first_minutes() -> None:
    assert ids(facts(node(rate={"created": 2.0, "checked_out": 3.0}, started=NOW - 30))) == []


def test_threads_are_busy_once_as_many_tasks_run_as_may() -> None:
    queues = {"celery": Queue(9, 40.0, ("w1@h",))}
    task = BUSY_TASK | {"running": 7}
    assert ids(facts(shared(task=task), queues=queues)) == []
    assert ids(facts(shared(task=task | {"running": 8}), queues=queues)) == ["slots-busy"]


@pytest.mark.parametrize(
    ("versions", "kind", "count"),
    [
        ({"pymongo": "4.15.4"}, "prefork", 1),
        ({"pymongo": "4.15.5"}, "prefork", 0),
        ({"pymongo": "4.18.3"}, "gevent", 1),
        ({"pymongo": "4.18.3"}, "prefork", 0),
        ({"pymongo": "4.16.0"}, "eventlet", 1),
        ({"pymongo": "4.20.0.dev1"}, "gevent", 0),
        ({"pymongo": None}, "gevent", 0),
        ({"celery": "5.5.3"}, "prefork", 1),
        ({"celery": "5.6.0"}, "prefork", 0),
        ({"redis": "5.1.1"}, "prefork", 1),
        ({"redis": "5.2.0"}, "prefork", 0),
    ],
)
def test_the_version_advisor(versions: dict[str, Any], kind: str, count: int) -> None:
    record = {"versions": versions, "kind": kind, "concurrency": 2}
    assert ids(facts(node(record=record))).count("version") == count


def test_nodes_are_compared_by_what_should_be_the_same() -> None:
    """A node of threads keeps more connections open than one of a single task: that is no difference."""
    prefork, threads = node("w1@h"), shared("w2@h", record={"options": {"minPoolSize": 8}})
    assert ids(facts(prefork, threads)) == []


def test_a_clock_is_judged_by_the_quickest_report_of_its_host() -> None:
    late, quick = node("w1@h").processes
    late = replace(late, report={**late.report, "at": NOW - 9})
    assert ids(facts(replace(node(), processes=(late, quick)))) == []


def test_a_weakness_of_the_way_counts_only_where_it_leads_over_a_network() -> None:
    assert ids(facts(node(record={"mongodb": {"local": True, "login": False, "tls": False}}))) == []


def test_a_machine_that_reaches_nothing_knows_nothing() -> None:
    found = diagnose(facts(nodes=None, ping=AWAY, beats=None, unseen={"nodes": "ConnectionError"}))
    assert (found.verdict, [one.id for one in found.findings]) == ("unknown", ["nothing-reached"])
    assert {one.id for one in found.findings[0].explains} == {"redis-down", "mongodb-down"}


def test_a_deployment_of_which_nothing_is_known_is_no_dead_beat() -> None:
    found = diagnose(facts(nodes=(), beats=()))
    assert (found.verdict, [one.id for one in found.findings]) == ("unknown", ["nobody-reports"])


# --- the order and the folding ---


def test_the_most_severe_is_first_and_a_note_spoils_nothing() -> None:
    known = facts(node("w1@h", **OPEN), node("w2@h", **OPEN), ping=AWAY, dead_letters=2)
    found = diagnose(known)
    assert [one.severity for one in found.findings] == [Severity.DOWN, Severity.NOTE]
    assert found.verdict == "down"
    assert diagnose(facts(dead_letters=2)).verdict == "ok"
    assert diagnose(facts(nodes=())).verdict == "unknown"


def test_what_an_outage_does_is_folded_under_it() -> None:
    """Timeouts in the queue, a backlog behind the gate: not five findings but one."""
    starved: dict[str, Any] = OPEN | {"count": {"timeouts": 40}, "rate": {"failed": 2.0}}
    known = facts(
        node("w1@h", **starved),
        node("w2@h", **starved),
        ping=AWAY,
        queues={"celery": Queue(40, 300.0, ("w1@h", "w2@h"))},
    )
    (found,) = diagnose(known).findings
    assert found.id == "mongodb-down"
    assert [one.id for one in found.explains] == ["backlog"]
    assert found.to_dict()["explains"][0]["evidence"] == ["40 messages in celery, the oldest for 5 min"]


def test_the_queues_of_a_lost_node_are_its_symptoms() -> None:
    """And those that nobody ever consumed are not."""
    known = facts(
        node("w1@h", state="lost", queues=["reports"]),
        node("w2@h"),
        queues={"reports": Queue(4, 300.0), "typo": Queue(2, 300.0)},
        post_mortems=(MORTEM,),
    )
    first, second = diagnose(known).findings
    assert (first.id, [one.id for one in first.explains]) == (
        "node-lost",
        ["process-killed", "queue-unconsumed"],
    )
    assert (second.id, second.where) == ("queue-unconsumed", frozenset({"typo"}))


def test_a_symptom_of_another_process_stands_for_itself() -> None:
    known = facts(node("w1@h", **OPEN), node("w2@h"), shared("w3@h", **WAITING))
    assert ids(known) == ["node-cut-off", "pool-exhausted"]


def test_a_refused_login_explains_the_outage_that_it_looks_like() -> None:
    (found,) = diagnose(facts(node("w1@h", **REFUSED), node("w2@h", **REFUSED), ping=AWAY)).findings
    assert found.id == "login-refused"
    assert [one.id for one in found.explains] == ["mongodb-down"]


def test_what_explains_what_has_no_circle_and_names_checks_that_there_are() -> None:
    explains = {check.id: set(check.explains) for check in CHECKS}
    assert set().union(*explains.values()) <= set(explains)

    def reach(start: str, seen: frozenset[str]) -> None:
        assert start not in seen, f"{start} explains itself"
        for following in explains.get(start, ()):
            reach(following, seen | {start})

    for check in CHECKS:
        reach(check.id, frozenset())


def test_what_is_so_of_hundreds_of_nodes_is_told_of_ten_and_counted() -> None:
    nodes = (node(f"w{n:03}@h", **(OPEN if n % 2 else {})) for n in range(200))
    known = facts(*nodes, settings={"server_connections": 5000})
    found = diagnose(known)
    assert [one.id for one in found.findings] == ["node-cut-off"] * 10
    assert found.left_out == {"node-cut-off": 90}


def test_a_finding_names_fifty_places_and_counts_all() -> None:
    (found,) = diagnose(facts(*(node(f"w{n:03}@h", foreign="/a.py:1 in f") for n in range(40)))).findings
    told = found.to_dict()
    assert (len(told["where"]), told["places"]) == (50, 80)


@pytest.mark.parametrize(
    ("site", "severity", "fix"),
    [
        ("/lib/celery/backends/mongodb.py:150 in _get_connection", Severity.NOTE, "leave it"),
        (
            "/lib/mongoengine/connection.py:300 in _create_connection",
            Severity.DEGRADED,
            "celery_pymongo.mongoengine import connect",
        ),
        ("/lib/pymodm/connection.py:90 in connect", Severity.DEGRADED, "leave it"),
        ("/app/cache.py:9 in load", Severity.DEGRADED, "use get_client()"),
    ],
)
def test_the_advice_on_a_second_client_fits_who_made_it(site: str, severity: Severity, fix: str) -> None:
    findings = diagnose(facts(node(foreign=site))).findings
    (found,) = [each for each in findings if each.id == "second-client"]
    assert found.severity is severity
    assert fix in found.fix[0]
