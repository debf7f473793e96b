"""Records as they should be, and what somebody else may put in their place."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from tests.unit.doctor_facts import RECORD
from tests.unit.fleet_reports import NOW, report
from worker.store import records
from worker.store.records import RecordKind

REPORT: dict[str, Any] = report(
    task={"name": "shop.sell", "id": "7", "seconds": 1.0, "running": 1},
    busy=[1],
    gate={"mongo.data": "operator"},
    done={"ping": {"n": 1, "ms": 1.0, "replaced": False, "error": None}},
    error="h:27017: refused",
    server="MongoDB 8",
    at=NOW,
    version="1",
    cause="outage",
    hung=1.0,
    recovered=1.0,
    held={"n": 1, "seconds": 6.0, "task": "shop.sell"},
    leak={"what": "a cursor", "task": "shop.sell"},
    denied={"n": 1, "code": 13, "for": 1.0, "ago": 1.0, "tasks": {"shop.sell": "find on app.c"}},
    foreign="shop.py:7",
    overload=1.0,
    servers={"h:27017": [1, 0, 0]},
)

POST_MORTEM: dict[str, Any] = {
    "member": "w1@h/0",
    "node": "w1@h",
    "slot": 0,
    "pid": 7,
    "started": NOW - 500,
    "seen": NOW - 20,
    "task": {"name": "shop.sell", "id": "7", "seconds": 1.0},
    "report": REPORT,
    "flight": [{"at": NOW, "kind": "connection.ready", "number": 1.0, "text": "h:27017"}],
}

LETTER: dict[str, Any] = {
    "id": "7",
    "task": "shop.sell",
    "queue": "celery",
    "reason": "poison",
    "at": NOW,
    "node": "w1@h",
    "slot": 0,
    "pid": 7,
    "forced": 3,
    "killed": {"node": "w1@h", "slot": 1, "pid": 8},
    "error": None,
    "headers": {"retries": 1, "origin": "h"},
    "post_mortem": None,
    "task_id": "7",
    "message": "m",
}

MESSAGE: dict[str, Any] = {
    "v": 2,
    "is_text": True,
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "headers": {"id": "7", "task": "shop.sell"},
    "properties": {"priority": 0},
    "queue": "celery",
    "counts_returns": False,
    "is_redelivered": False,
    "exchange": "",
    "routing_key": "celery",
}

VERDICT: dict[str, Any] = {
    "verdict": "degraded",
    "since": NOW - 60,
    "judged_at": NOW - 5,
    "arrived_at": NOW - 5,
    "reasons": ["x"],
    "layers": {"beat": "ok"},
    "lasting": {"missing": {"w1@h/1": NOW - 60}, "counted": {"w1@h/0": 3.0}},
}

SAMPLES: dict[str, tuple[RecordKind[Any], Any]] = {
    "report": (records.REPORT, REPORT),
    "node": (records.NODE, RECORD),
    "counters": (
        records.COUNTERS,
        {
            "v": 1,
            "node": "w1@h",
            "pid": 7,
            "kind": "prefork",
            "began": NOW - 60,
            "at": NOW,
            "counts": {"created": 3.0, "wait.0": 2.0, "wait.sum": 0.01},
        },
    ),
    "post-mortem": (records.POST_MORTEM, POST_MORTEM),
    "verdict": (records.VERDICT, VERDICT),
    "paused": (records.PAUSED, {"mongo.data": [True, NOW]}),
    "beat": (records.BEAT, {"host": "h", "pid": 7, "scheduler": "Scheduler"}),
    "attempt": (
        records.ATTEMPT,
        {
            "node": "w1@h",
            "slot": 0,
            "pid": 7,
            "born": 7,
            "host": "boot",
            "until": NOW,
            "main_pid": None,
            "main_born": None,
        },
    ),
    "letter": (records.LETTER, LETTER),
    "message": (records.MESSAGE, MESSAGE),
    "outage": (
        records.OUTAGE,
        {
            "since": NOW - 60,
            "last_down": NOW,
            "told_at": NOW,
            "relapses": 0,
            "given_up": False,
            "is_over": False,
            "pending": {"kind": "opened", "by": "x"},
        },
    ),
    "consumer": (records.CONSUMER, ["shop", "celery"]),
    "window": (records.CRON_WINDOW, ["nightly", 7, 60, {"schedule": {"value": 1}}]),
    "snapshot": (records.ENTRY, {"at": NOW, "totals": {"pool": {"size": 1}}}),
}
"""By name: the kind, and a record of it as it is written."""

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    1e300,
    10**9,
    10**30,
    "",
    "x",
    "x" * 20_000,
    "\x1b[2J\x00",
    [],
    [[[]]],
    [1, "x", None],
    {},
    {"x": {"y": 1}},
    {"n": -5, "seconds": "x"},
)
"""Values that a field may be given."""

_DATA = ("servers", "gate", "versions", "options", "layers", "lasting", "tasks", "headers", "properties")
"""Objects whose names are not fields but data."""

TEXTS: tuple[bytes, ...] = (
    b"",
    b"x",
    b"null",
    b"true",
    b"7",
    b'"x"',
    b"[]",
    b"{}",
    b"\xff\xfe",
    b'{"pid": NaN}',
    b'{"pid": 1e999}',
    b'{"pid": ' + b"9" * 6000 + b"}",
    b'{"x": "\\ud800"}',
    b"[" * 100_000,
    b'{"x":' * 50_000,
    b'{"pid": 7',
    b"\x00" * 100,
)
"""What may stand in place of a record's JSON."""


def mutants(sample: Any) -> Iterator[Any]:
    """Yield the record with each of its values, at any depth, replaced by each odd one, and left out."""
    for path in _paths(sample):
        for odd in ODD:
            mutant = copy.deepcopy(sample)
            _parent(mutant, path)[path[-1]] = odd
            yield mutant
        mutant = copy.deepcopy(sample)
        del _parent(mutant, path)[path[-1]]
        yield mutant


def newer(sample: Any) -> Any:
    """Return the record as a later version may write it: each object with fields has one more."""
    if isinstance(sample, list):
        return [newer(item) for item in sample]
    if not isinstance(sample, dict):
        return sample
    told = {name: value if name in _DATA else newer(value) for name, value in sample.items()}
    return told | {"from_a_later_version": {"x": [1]}}


def text(record: Any) -> bytes:
    return json.dumps(record).encode()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = list(value)
    elif isinstance(value, list):
        inner = list(range(len(value)))
    for name in inner:
        yield (*path, name)
        yield from _paths(value[name], (*path, name))


def _parent(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path[:-1]:
        value = value[name]
    return value
