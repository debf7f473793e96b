"""What stands in the source, or in an argument, leaves the process as little as what stands in memory."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from pymongo.errors import WriteError

from tasks.documents import Refused
from tasks.expiry import expire_before
from tests.unit.sentry_events import sdk
from worker.integration import logs
from worker.sentry import hooks
from worker.sentry.scrub import Scrubber

SECRET = "-".join(["zq7", "planted"])
LEARNED = "-".join(["learned", "zq8"])

LINES = [
    f'URI = "mongodb://app:{SECRET}@db1,db2/shop"',
    f'CACHE = "redis://:{SECRET}@cache/0"; OTHER = "postgres://u:{SECRET}@pg/x"',
    f'API_KEY = "{SECRET}"; settings = dict(password="{SECRET}")',
    f'headers = "Authorization: Bearer {SECRET}"',
    f'users.insert_one({{"name": "{SECRET}"}})',
    f'plain = "{LEARNED}"',
    f'told = "{SECRET}, as the server quotes it"',
]


def source_of(place: str) -> str:
    """Return a module that fails beside such lines: before, at and after the line that raises."""
    quiet = [
        f"    {line}  # {place}" if "insert_one" not in line else f"    pass  # {line}" for line in LINES
    ]
    before = quiet[-4:] if place == "before" else []
    after = quiet[:4] if place == "after" else []
    at = f"    raise error  # {'; '.join(LINES)}" if place == "at" else "    raise error"
    return "\n".join(["def fail(error):", *before, at, *after, ""])


@pytest.fixture
def failing(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """The function of such a module, whose source the SDK finds in its file."""
    path = tmp_path / f"planted_{request.param}.py"
    path.write_text(source_of(request.param))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fail


@pytest.mark.parametrize("failing", ["before", "at", "after"], indirect=True)
@pytest.mark.parametrize(
    "error", [ValueError("why"), WriteError(f"{SECRET}, as the server quotes it", 9, {})]
)
def test_no_line_of_source_is_sent_with_its_secret(failing: Any, error: Exception) -> None:
    """Of an error, of what it was raised from, and of the stack of a message."""
    with sdk(attach_stacktrace=True, include_local_variables=True) as kept:
        scrubber = Scrubber()
        scrubber.learn([LEARNED])
        hooks.attach(sentry_sdk.get_client(), scrubber, Open())
        for raised in (error, RuntimeError("another")):
            try:
                try:
                    failing(error)
                except type(error) as behind:
                    raise raised from (behind if raised is not behind else None)
            except type(raised) as caught:
                sentry_sdk.capture_exception(caught)
        failing_quietly(failing, error)
    assert len(kept.events) == 3
    frames = [frame for event in kept.events for frame in frames_of(event)]
    assert any("raise error" in str(frame.get("context_line")) for frame in frames)
    planted = [frame for frame in frames if "planted_" in str(frame.get("filename"))]
    assert planted
    sent = "\n".join(map(str, planted))
    if isinstance(
        error, ValueError
    ):  # what no error quotes, and looks like nothing, is a word like any other
        sent = sent.replace(f"{SECRET}, as the server quotes it", "")
    assert SECRET not in sent
    assert LEARNED not in sent


def failing_quietly(failing: Any, error: Exception) -> None:
    """Send a message with the stack of here, in a frame of the module that fails."""
    try:
        failing(error)
    except type(error):
        sentry_sdk.capture_message("a message")


def frames_of(event: Any) -> Iterator[dict[str, Any]]:
    """Yield all frames of an event."""
    for part in ("exception", "threads"):
        for one in (event.get(part) or {}).get("values", ()):
            yield from (one.get("stacktrace") or {}).get("frames", ())


class Open:
    """A desk that lets everything pass."""

    def look(self, event: Any, _hint: Any) -> Any:
        return event

    def hold(self, event: Any, _hint: Any) -> Any:
        return event


def test_frames_of_odd_shapes_lose_nothing_but_secrets() -> None:
    frame = {
        "context_line": None,
        "pre_context": [None, f"password={SECRET}"],
        "lineno": 3,
        "vars": {"a": SECRET},
    }
    event = {"exception": {"values": [{"type": "E", "stacktrace": {"frames": [frame, None]}}]}}
    sent = Scrubber().event(event, {})
    (kept,) = sent["exception"]["values"][0]["stacktrace"]["frames"]
    assert kept == {"context_line": None, "pre_context": [None, "password=[withheld]"], "lineno": 3}


@pytest.mark.parametrize("before", [SECRET, "", 5, None, [SECRET], {"a": SECRET}, 1.5, True])
def test_a_date_that_is_none_is_refused_without_being_quoted(before: Any) -> None:
    with pytest.raises(Refused) as caught:
        expire_before(None, "c", "at", before=before)  # type: ignore[arg-type] # it gets no further
    assert str(caught.value) == "before must be an ISO 8601 date or time"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("limit", [0, 100_001, SECRET, None, 1.5, [SECRET], 10**5000], ids=lambda _: "limit")
def test_a_limit_that_is_none_is_refused_without_being_quoted(limit: Any) -> None:
    with pytest.raises(Refused) as caught:
        expire_before(None, "c", "at", before="2020-01-01", limit=limit)  # type: ignore[arg-type] # as above
    assert str(caught.value) == "limit must be a whole number from 1 to 100000"


def test_the_services_log_keeps_what_loggers_quote_at_debug() -> None:
    names = ("pymongo", "celery.pool")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        logs.keep_documents_out()
        assert all(logging.getLogger(name).getEffectiveLevel() == logging.INFO for name in names)
    finally:
        for name in names:
            logging.getLogger(name).setLevel(before[name])
