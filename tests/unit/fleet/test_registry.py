"""What the registry refuses before it asks Redis, and how it reads what stands there."""

import json
from typing import Any

import pytest
import redis

from worker.board.report import MAX_BYTES
from worker.fleet.registry import POST_MORTEM_BYTES, Registry, TooLargeError, _read
from worker.store import records
from worker.store.records import Unreadable


def key(*parts: str | int) -> str:
    return ":".join(map(str, parts))


@pytest.fixture
def registry() -> Registry:
    """Its client would fail the test where it connected."""
    return Registry(redis.Redis(), key)


def test_a_report_that_is_too_large_is_refused_with_its_size(registry: Registry) -> None:
    with pytest.raises(TooLargeError, match=rf"^a report of {MAX_BYTES + 1} bytes; {MAX_BYTES} is the most$"):
        registry.publish("n/0", b"x" * (MAX_BYTES + 1))


def test_a_post_mortem_that_is_too_large_is_refused(registry: Registry) -> None:
    found = {"member": "n/0", "pid": 1, "started": 1.0, "flight": "x" * POST_MORTEM_BYTES}
    with pytest.raises(TooLargeError, match="post-mortem"):
        registry.bury(found)


@pytest.mark.parametrize("text", [None, b"", b"nonsense", b"\xff", b"[1]", b"3", b"null"])
def test_what_is_no_report_is_left_out(text: bytes | None) -> None:
    bad: list[Unreadable] = []
    assert _read(records.REPORT, text, bad, "cp:report:n/0") is None
    assert bad == ([] if text is None else [Unreadable("a process's report", "cp:report:n/0")])


def test_a_report_is_json() -> None:
    report: dict[str, Any] = {"v": 1, "node": "w1@höst", "pid": 7}
    assert _read(records.REPORT, json.dumps(report).encode(), [], "cp:report:n/0") == report
