"""Of whatever fleet that is well no rule says anything: evidence that is none would be a bug of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ops.commands.status import agreed
from ops.doctor.facts import Facts, Node, Queue
from ops.doctor.judging import diagnose
from tests.unit.doctor_facts import PING, facts, node
from tests.unit.fleet_reports import NOW

TASKS = st.sampled_from(["shop.sell", "shop.report", "shop.mail"])


@st.composite
def reports(draw: st.DrawFn, trip: float, cluster: str | None) -> dict[str, Any]:
    """What processes tell that work: at times busy, at times just back, with a past of their own."""
    most = draw(st.integers(9, 100))
    in_use = draw(st.integers(0, most))
    told: dict[str, Any] = {
        "started": NOW - draw(st.floats(70, 1e6)),
        "cluster": cluster,
        "pool": {"size": most, "in_use": in_use, "idle": most - in_use, "waiting": 0, "min": 1, "max": most},
        "wait": {"n": draw(st.integers(0, 10_000)), "avg": 1.0, "p99": draw(st.floats(0, 90)), "max": 5000.0},
        "use": {"n": 100, "avg": 5.0, "p99": 300.0, "max": draw(st.floats(0, 60_000))},
        "rtt": {"n": 10, "avg": 300.0, "p50": trip * draw(st.floats(0.5, 2.0)), "p99": 2000.0, "max": 2000.0},
        "count": {"timeouts": draw(st.integers(0, 50)), "overloads": draw(st.integers(0, 9))},
        "task": draw(st.none() | st.builds(_task, TASKS, st.floats(0, 3000))),
        "most_held": draw(st.none() | st.builds(_held, TASKS, st.floats(1, 60), st.integers(1, 50))),
    }
    if draw(st.booleans()):
        # A document that does not pass, and answers of minutes ago.
        told["refused"] = {"n": 1, "code": 121, "for": 0.0, "ago": 5.0, "tasks": {"shop.sell": ""}}
        told["overload"] = draw(st.floats(121, 1e5))
    return {name: value for name, value in told.items() if value is not None}


def _task(name: str, seconds: float) -> dict[str, Any]:
    return {"name": name, "id": "x", "seconds": seconds, "running": 1}


def _held(task: str, seconds: float, number: int) -> dict[str, Any]:
    return {"task": task, "seconds": seconds, "n": number, "of": seconds}


@st.composite
def healthy(draw: st.DrawFn) -> Facts:
    """A deployment that is well: of one to four nodes, on a server that is near or far."""
    trip, cluster = draw(st.floats(0.1, 200)), draw(st.none() | st.just("rs/m1:27017,m2:27017"))
    kinds = st.sampled_from([("prefork", None), ("threads", 8), ("gevent", 8)])
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 4))):
        kind, concurrency = draw(kinds)
        record = {"kind": kind, "concurrency": concurrency or 2, "init_handlers": draw(HANDLERS)}
        record["options"] = {"serverSelectionTimeoutMS": 3000, "maxPoolSize": None}
        slots = draw(st.integers(1, 4)) if kind == "prefork" else 1
        nodes.append(node(f"w{number}@h", slots, record=record, **draw(reports(trip, cluster))))
    names = tuple(each.name for each in nodes)
    found = facts(*nodes)
    used = draw(st.integers(1, 700))
    # Messages that wait while each slot has a task are a finding.
    waits = 0 if any(process.task for process in found.present) else 500
    return replace(
        found,
        ping=PING | {"latency_ms": trip * draw(st.floats(0.5, 2.0))},
        queues={
            name: Queue(draw(st.integers(0, waits)), draw(st.none() | st.floats(0, 20)), names)
            for name in ("celery", "mongo.health")
        },
        server={
            "current": used,
            "limit": 1000,
            "source": "$currentOp",
            "others": 2,
            "counted": 12,
            "strays": 0,
        },
        replication=draw(
            st.none()
            | st.builds(
                lambda late, most: {"primary": "m1:27017", "behind": {"m2:27017": late}, "majority": most},
                st.floats(0, 10),
                st.floats(0, 10),
            )
        ),
        # Full once, and everybody is connected now; a kill of an hour ago.
        last_counts={"current": draw(st.integers(0, 1000)), "available": 1, "others": 5, "at": NOW - 30},
        post_mortems=tuple(
            {"node": names[0], "slot": 0, "seen": NOW - ago, "started": NOW - ago - 4, "task": None}
            for ago in draw(st.lists(st.floats(601, 5000), max_size=5))
        ),
        lasting={"waiting": {}, "full": {}, "missing": {}},
        health={"verdict": "ok", "reasons": []},
    )


HANDLERS = st.sampled_from([[], ["shop.connect (/app/shop.py:3)"]])


@given(healthy())
def test_nothing_is_said_of_a_fleet_that_is_well(known: Facts) -> None:
    found = diagnose(known)
    assert [(one.id, one.evidence) for one in found.findings] == []
    told = agreed({"verdict": "ok", "reasons": [], "since": None}, found.verdict, found.findings)
    assert (told["verdict"], told["reasons"], told["finding"]) == ("ok", [], None)
