"""The events of the log: each has a name, a meaning, and somebody who says it."""

import ast
import logging
from functools import cache
from pathlib import Path

import pytest

from worker.events import MEANINGS, Event, say
from worker.integration import logs

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}


@cache
def says() -> list[tuple[Path, ast.Call]]:
    """Return every call of say() in the tree."""
    return [
        (path, node)
        for folder in ("worker", "tasks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        if ast.unparse(node.func) in ("say", "events.say")
    ]


def test_every_event_has_a_meaning_and_every_meaning_an_event() -> None:
    assert set(MEANINGS) == set(Event)


@pytest.mark.parametrize("event", Event)
def test_a_meaning_begins_with_the_level(event: Event) -> None:
    assert MEANINGS[event].split()[0].rstrip(".") in LEVELS
    assert MEANINGS[event].endswith(".")


def test_names_are_a_subject_and_what_happened() -> None:
    assert all(len(event.split(".")) == 2 and event.islower() for event in Event)


def test_every_event_that_is_said_is_one_of_them_at_a_level_that_its_meaning_names() -> None:
    levels: dict[str, set[str]] = {}
    for path, call in says():
        _, level, event = (ast.unparse(argument) for argument in call.args[:3])
        assert event.startswith("Event."), f"{path}:{call.lineno}"
        assert event.removeprefix("Event.") in Event.__members__, f"{path}:{call.lineno}"
        if level.startswith("logging."):
            levels.setdefault(event.removeprefix("Event."), set()).add(level.removeprefix("logging."))
    for name, said in levels.items():
        meaning = MEANINGS[Event[name]]
        assert all(level in meaning for level in said), f"{name}: {said} are said, the meaning is {meaning}"


def test_no_event_is_a_promise_that_nobody_keeps() -> None:
    text = "".join(path.read_text() for path in (ROOT / "worker").rglob("*.py") if path.name != "events.py")
    assert [event for event in Event if f"Event.{event.name}" not in text] == []


def test_messages_are_put_together_only_when_they_are_logged() -> None:
    for path, call in says():
        assert not isinstance(call.args[3], ast.JoinedStr), f"{path}:{call.lineno}"


def test_no_field_hides_a_part_of_the_json_line() -> None:
    own = {"time", "level", "logger", "message", "pid", "event", "task", "task_id"}
    for path, call in says():
        fields = {keyword.arg for keyword in call.keywords}
        assert fields & own == set(), f"{path}:{call.lineno}"


def test_an_event_is_a_line_that_begins_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    say(logging.getLogger("x"), logging.INFO, Event.CLIENT_WARM, "%s in %d ms", "8.0", 3, server="8.0")
    (record,) = caplog.records
    assert record.getMessage() == "client.warm: 8.0 in 3 ms"
    assert vars(record)["event"] == "client.warm"
    assert vars(record)["fields"] == {"server": "8.0"}
    assert record.filename == "test_events.py"


def test_the_documentation_has_every_event_in_its_own_words() -> None:
    text = "".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    assert [event for event in Event if f"`{event}`" not in text] == []


def test_the_json_lines_know_the_events() -> None:
    record = logging.LogRecord("x", logging.INFO, "p", 1, "m", None, None)
    record.event, record.fields = "client.warm", {"server": "8.0"}
    assert '"event": "client.warm", "server": "8.0"' in logs.JsonFormatter().format(record)
