"""What a terminal obeys, or a forged line, comes out as escapes: in commands, in a log, in pictures."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from celery.utils.log import ColorFormatter
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ops import cli, output
from ops.bundle import search
from ops.commands import status
from ops.commands.dead import render_letter, render_list
from ops.frame import Answer
from ops.history import picture
from ops.loading.progress import Screen
from ops.problems import Problem
from worker import events
from worker.errors import SettingsError
from worker.integration.logs import JsonFormatter, PlainFormatter
from worker.log_text import Lines
from worker.settings.fields import load_settings
from worker.text import printable

EVIL = "a\x1b[2J\x1b]0;owned\x07\r\nok  forged\x9b31m\u202egnp\u2066\x00\ud800z\x7f\u2028"
SHOWN = printable(EVIL)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
"""Colours, which are ours."""


def is_clean(text: str) -> bool:
    """Whether a text has nothing but what is seen, line ends and our colours, and can be written."""
    text.encode()
    return all(line.isprintable() for line in ANSI.sub("", text).split("\n"))


# -- texts -------------------------------------------------------------------------------------------


@given(st.text(st.characters()))
def test_any_text_is_printable_and_what_was_stays_as_it_was(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()


@given(
    st.recursive(
        st.text(st.characters()) | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    )
)
def test_a_document_is_the_same_in_json_and_its_text_is_clean(document: Any) -> None:
    text = output.to_json(document)
    assert text.isprintable()
    assert json.loads(text) == document
    assert json.loads(output.to_json(document, indent=1)) == document
    assert is_clean(json.dumps(output.shown(document), ensure_ascii=False))


def test_a_document_without_end_of_levels_is_cut_for_people() -> None:
    document: Any = []
    for _ in range(5000):
        document = [document]
    assert "…" in str(output.shown(document))


@given(st.text(st.characters(), min_size=6))
def test_a_secret_is_found_in_whatever_form_it_was_written(secret: str) -> None:
    for text in (output.to_json({"a": secret}), printable(secret), json.dumps(secret), secret):
        assert list(search.found(text, {"X": {secret}})) == ["the secret of X"]


# -- commands ----------------------------------------------------------------------------------------


def answers() -> Iterator[Answer]:
    """Answers whose documents have such names, of keys and of values."""
    letter = dict.fromkeys(("id", "task", "reason", "node", "slot", "pid", "error"), EVIL) | {
        "forced": 0,
        "at": 0,
    }
    yield Answer("dead-list/1", {"letters": [letter]}, render_list, unseen={EVIL: EVIL})
    yield Answer("dead-show/1", {"letter": letter | {"body": {EVIL: [EVIL]}}}, render_letter)
    row = {"verdict": EVIL, "kind": EVIL, "not_closed": 0, "size": 0, "in_use": 0, "waiting": 0}
    yield Answer(
        "status/1", {"nodes": {"rows": {EVIL: row}, "count": 1}}, lambda told: status._nodes(told["nodes"])
    )
    queue = {"depth": 1, "age": 1.0, "gate": EVIL}
    yield Answer("status/1", {"queues": {EVIL: queue}}, lambda told: status._queues(told["queues"]))


@pytest.mark.parametrize("on_terminal", [True, False])
def test_what_a_person_reads_of_any_document_is_clean(on_terminal: bool) -> None:
    for answer in answers():
        for width in (30, 400):
            text = output.render(
                answer.renderable, on_terminal=on_terminal, has_color=on_terminal, width=width
            )
            assert is_clean(text), text
        assert output.to_json(answer.document).isprintable()
        assert "forged" in text


def test_problems_and_progress_are_clean_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Problem(f"{EVIL}: no such file").show()
    Screen().say(f"types: {EVIL}=int")
    told = capsys.readouterr().err
    assert told == f"mongo: {SHOWN}: no such file\ntypes: {SHOWN}=int\n"


def test_wrong_usage_is_told_in_clean_lines_and_shows_no_login() -> None:
    wrong = [[EVIL], ["status", EVIL], ["status", f"--{EVIL}"], ["status", "--timeout", EVIL]]
    wrong += [["load", "x", "--into", "y", "--format", EVIL], ["mongodb://u:s3cret@h"]]
    for arguments in wrong:
        done = CliRunner().invoke(cli.mongo, arguments)
        assert done.exit_code == 64, done.output
        assert is_clean(done.output), arguments
        assert "s3cret" not in done.output


def test_a_variables_name_is_told_in_a_clean_line() -> None:
    environ = {"CELERY_PYMONGO_STRICT": "true", f"CELERY_PYMONGO_{EVIL}": "1", f"MONGODB_URL{EVIL}": "1"}
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, env_file=None)
    assert caught.value.problems
    assert is_clean(str(caught.value))
    assert len(str(caught.value).splitlines()) == len(caught.value.problems)


def test_a_problem_shows_no_login(capsys: pytest.CaptureFixture[str]) -> None:
    Problem("mongodb://u:p/s3cret@h/db: no such file").show()
    assert capsys.readouterr().err == "mongo: mongodb://***@h/db: no such file\n"


WORDS = st.sampled_from(
    [*cli.COMMANDS, "list", "show", "compare", "--json", "--timeout", "--help", "--watch"]
)


@pytest.mark.timeout(60)
@given(st.lists(WORDS | st.text(st.characters(exclude_characters="\0"), max_size=20), max_size=5))
def test_any_command_line_ends_in_help_or_in_wrong_usage(arguments: list[str]) -> None:
    """Or would begin: the frame needs an app for that, and there is none here."""
    code, told = parsed(arguments)
    assert code in (0, 64)
    assert is_clean(told)


def parsed(arguments: list[str]) -> tuple[int, str]:
    """Parse a command line, and return the exit code and what is said of it."""
    try:
        with cli.mongo.make_context("mongo", list(arguments)) as context:
            first = vars(context).get("_protected_args") or vars(context).get("protected_args") or []
            given = [*first, *context.args]
            name, command, rest = cli.mongo.resolve_command(context, given)
            command.make_context(name, rest, parent=context)
    except click.exceptions.Exit as end:
        return end.exit_code, ""
    except click.UsageError as error:
        return error.exit_code, error.message
    return 0, ""


# -- logs --------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> tuple[logging.Logger, logging.StreamHandler[io.StringIO]]:
    """A logger of nobody else's, which prints to a text."""
    logger = logging.Logger("hostile", logging.INFO)  # noqa: LOG001 - one that pytest does not capture
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    return logger, handler


def speak(logger: logging.Logger) -> None:
    """Log names in each of the ways that Celery and we do."""
    logger.info("Task %(name)s[%(id)s] %(n)d", {"name": EVIL, "id": EVIL, "n": 1})
    logger.error("Received unregistered task of type %s.\nIt is ignored.", KeyError(EVIL))
    logger.info("%r %.2f %s", EVIL, 1.5, [EVIL])
    logger.info(f"made before: {EVIL}")  # noqa: G004 - as others do
    try:
        int(EVIL, 2)
    except ValueError as error:
        logger.exception("failed", exc_info=ValueError(EVIL).with_traceback(error.__traceback__))
    events.say(
        logger, logging.INFO, events.Event.TASK_DEAD, "task %s%s", EVIL, Lines(f"\n  {EVIL[:1]}"), task=EVIL
    )


def test_lines_of_a_log_are_clean_and_none_is_forged(
    log: tuple[logging.Logger, logging.StreamHandler[io.StringIO]],
) -> None:
    logger, handler = log
    handler.setFormatter(PlainFormatter(ColorFormatter("[%(levelname)s] %(message)s", use_color=True)))
    speak(logger)
    text = handler.stream.getvalue()
    assert is_clean(text)
    assert not [line for line in text.splitlines() if line.startswith("ok  forged")][2:]
    assert f"task.dead: task {SHOWN}\n  a" in text


def test_an_event_is_clean_whatever_the_apps_own_format_is(
    log: tuple[logging.Logger, logging.StreamHandler[io.StringIO]],
) -> None:
    logger, handler = log
    events.say(logger, logging.INFO, events.Event.TASK_DEAD, "task %s", EVIL)
    assert handler.stream.getvalue() == f"task.dead: task {SHOWN}\n"


def test_json_lines_are_one_line_each_and_hold_what_was_said(
    log: tuple[logging.Logger, logging.StreamHandler[io.StringIO]],
) -> None:
    logger, handler = log
    handler.setFormatter(JsonFormatter())
    speak(logger)
    lines = handler.stream.getvalue().splitlines()
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    assert json.loads(lines[-1])["task"] == EVIL


# -- pictures ----------------------------------------------------------------------------------------


# The oldest matplotlib calls the newest pyparsing by its old names.
@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", [EVIL, "$x_{", "$\\frac{1}{0}$"])
def test_a_picture_is_drawn_whatever_the_names_are(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    series = {"metric": name, "unit": name, "points": [[0, 1], [60, 2]], "last": 2, "limit": None, "max": 2}
    document = {"deployment": name, "since": 0, "until": 60, "series": [series], "spans": []}
    picture.draw(document, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
