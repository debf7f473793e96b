"""The command line's front: what it costs Celery's other commands, what it refuses, how it ends."""

from __future__ import annotations

import errno
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator
from kombu.exceptions import OperationalError
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError
from redis.exceptions import AuthenticationError

from ops import output, problems
from ops.cli import mongo
from ops.commands.schema import schemas
from ops.frame import Answer, Call, command
from ops.group import Group
from tests.schemas import SCHEMAS, validated
from tests.unit import told_errors

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {"pymongo", "bson", "rich", "pydantic", "redis", "sqlite3", "sentry_sdk"}


def app_with(mongo: object) -> Celery:
    app: Any = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.mongo = mongo
    return app


_IS_CLICK_8_1 = version("click").startswith("8.1.")
# click 8.1 shows the help, as it does for --help.
_NO_COMMAND: list[tuple[str, ...]] = [] if _IS_CLICK_8_1 else [(), ("dead",)]


def run(app: Celery, *arguments: str, group: click.Group = mongo, **context: Any) -> Result:
    told = {"no_color": True, "workdir": None} | context
    return CliRunner().invoke(group, arguments, obj=CLIContext(app=app, **told))


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Return every command there is, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from commands(found, *path, name)


EVERY = dict(commands(mongo))


# --- what it costs ---


@pytest.mark.parametrize("module", ["ops.cli", "celery_pymongo.ops.cli"])
def test_the_plug_in_costs_celery_nothing_that_is_heavy(module: str):
    if module.startswith("celery_pymongo"):
        pytest.importorskip("celery_pymongo", reason="the checkout is not installed in place")
    code = f"import celery.bin.base as _; a = set(sys.modules); import {module}; print(*set(sys.modules) - a)"
    command = [sys.executable, "-c", f"import sys, {code[7:]}"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    package = module.rpartition(".")[0]
    of_celery = {"click_didyoumean", "difflib"}  # which its command line imports itself
    assert loaded - of_celery - {"celery_pymongo"} <= {package, module, f"{package}.group"}
    assert module in loaded


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_no_command_is_heavy_before_it_runs(words: tuple[str, ...]):
    """The help of all commands imports them all."""
    code = f"import sys; from importlib import import_module as i; i('ops.commands.{words[0]}')"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(done.stdout.split()) & HEAVY == set()


# --- what it refuses ---


def test_without_an_app_it_says_which_one_to_name():
    result = run(Celery("default", set_as_current=False), "load", "a.csv", "--into", "a")
    assert (result.exit_code, result.output) == (78, "mongo: which app? write celery -A APP mongo …\n")


@pytest.mark.parametrize("command", [("load", "a.csv", "--into", "a"), ("dump", "a")])
def test_an_app_without_mongodb_is_told_what_to_call(command: tuple[str, ...]):
    result = run(Celery("shop", set_as_current=False), *command)
    assert result.exit_code == 78
    assert result.output == "mongo: the app shop has no MongoDB client: call install(app) where it is made\n"


@pytest.mark.parametrize(
    "arguments",
    [
        *_NO_COMMAND,
        ("nothing",),
        ("--nothing",),
        ("dead", "nothing"),
        ("load",),
        ("load", "a.csv"),
        ("load", "a.csv", "--into", "a", "--in-flight", "0"),
        ("dump",),
        ("dead", "list", "--timeout", "0"),
        ("dead", "list", "--timeout", "nan"),
        ("schema", "nothing"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_64(arguments: tuple[str, ...]):
    assert run(Celery("shop", set_as_current=False), *arguments).exit_code == 64


def test_types_are_checked_before_the_file_is_looked_for():
    app: Any = app_with(object())
    app.task(upsert_many, name="mongo.data.upsert_many", shared=False)
    result = run(app, "load", "none.csv", "--into", "a", "--types", "a=whole")
    assert result.exit_code == 64
    assert result.output.startswith("mongo: --types a=whole: write COLUMN=TYPE, with one of string, int,")


def upsert_many() -> None:
    """Stands for the task; nothing runs it."""


def test_a_dump_and_its_document_do_not_share_standard_output():
    result = run(app_with(object()), "dump", "a", "--json")
    assert (result.exit_code, result.output.split(":")[1]) == (64, " --json takes standard output")


# --- how it ends ---


@click.group(cls=Group)
def toys() -> None:
    """Commands of these tests."""


@command(group=toys)
@click.option("--verdict", default="ok")
def say(call: Call, verdict: str) -> Answer:
    """Say a verdict."""
    unseen = {"Redis": None, "MongoDB": call.deadline.words}
    return Answer("say/1", {"verdict": verdict, "word": "[bold]é"}, lambda d: d["word"], unseen=unseen)


ERRORS: dict[str, BaseException] = {
    "redis": AuthenticationError("invalid username-password pair for app:secret@host"),
    "broker": OperationalError("redis://:secret@host"),
    "mongodb": ServerSelectionTimeoutError("h:27017: [Errno 111] Connection refused, Timeout: 2s"),
    "refused": OperationFailure("duplicate {secret: 1}", 13),
    "interrupt": KeyboardInterrupt(),
    "bug": ValueError("a bug"),
}


@command(group=toys)
@click.argument("what")
def fail(call: Call, what: str) -> Answer:
    """Fail."""
    raise ERRORS[what]


def test_ctrl_c_while_a_command_is_imported_ends_with_130(monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_args: Any, **_kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Group, "get_command", interrupted)
    done = run(app_with(object()), "status")
    assert (done.exit_code, done.output) == (130, "mongo: interrupted\n")


@command(group=toys)
def quick(call: Call) -> Answer:
    """Say whether garbage is collected."""
    return Answer("say/1", {"collects": gc.isenabled()}, lambda told: str(told["collects"]))


@command(group=toys, seconds=None)
def slow(call: Call) -> Answer:
    """Likewise, and take as long as it takes."""
    return Answer("say/1", {"collects": gc.isenabled()}, lambda told: str(told["collects"]))


@pytest.mark.parametrize(("name", "collects"), [("quick", "False"), ("slow", "True")])
def test_garbage_is_collected_by_commands_that_may_take_long(name: str, collects: str):
    app = app_with(SimpleNamespace())
    assert run(app, name, group=toys).stdout.strip() == collects
    assert gc.isenabled()


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("degraded", 1), ("down", 2), ("unknown", 3)])
def test_the_exit_code_is_the_verdicts(verdict: str, code: int):
    for options in ((), ("--json",)):
        assert run(app_with(object()), "say", "--verdict", verdict, *options, group=toys).exit_code == code


def test_a_person_and_a_program_are_told_the_same():
    app = app_with(object())
    told = json.loads(run(app, "say", "--json", "--timeout", "3", group=toys).output)
    assert told == {
        "schema": "say/1",
        "verdict": "ok",
        "word": "[bold]é",
        "unseen": {"MongoDB": "no answer within 3 s"},
    }
    shown = run(app, "say", "--timeout", "3", group=toys).output
    assert shown == "[bold]é\nnot seen: MongoDB (no answer within 3 s)\n"


@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        ("redis", 3, "mongo: Redis at h:6379/0 refuses the login (AuthenticationError)\n"),
        ("broker", 3, "mongo: the broker does not answer (OperationalError)\n"),
        ("mongodb", 3, "mongo: MongoDB does not answer: h:27017: Connection refused\n"),
        ("refused", 3, "mongo: MongoDB refuses it (OperationFailure, code 13)\n"),
        ("interrupt", 130, "mongo: interrupted\n"),
    ],
)
def test_what_a_server_does_is_one_line_without_its_data(what: str, code: int, line: str):
    mongo = told_errors.mongo()
    result = run(app_with(mongo), "fail", what, group=toys)
    assert (result.exit_code, result.output) == (code, line)


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (errno.ENOSPC, os.EX_IOERR, "mongo: cannot write to standard output: No space left on device\n"),
        (errno.EIO, os.EX_IOERR, "mongo: cannot write to standard output: Input/output error\n"),
        (errno.EPIPE, 1, "mongo: standard output was closed before the result\n"),
    ],
)
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_result_that_cannot_be_written_is_an_error_and_one_that_nobody_reads_is_none(
    monkeypatch: pytest.MonkeyPatch, number: int, code: int, line: str, as_json: tuple[str, ...]
):
    def echo(text: str, **options: Any) -> None:
        if not options.get("err"):
            raise OSError(number, os.strerror(number))
        sys.stderr.write(f"{text}\n")

    group = Group("mongo")
    told = Answer("x/1", {"verdict": "degraded"}, lambda _told: "text")
    command(group=group, name="tell")(lambda _call: told)
    monkeypatch.setattr(click, "echo", echo)
    for module in (problems, output):
        monkeypatch.setattr(module, "discard", lambda _descriptor: None)
    done = run(app_with(SimpleNamespace()), "tell", *as_json, group=group)
    assert (done.exit_code, done.output) == (code, line)


def test_a_bug_is_shown_as_one():
    app = app_with(told_errors.mongo())
    assert isinstance(run(app, "fail", "bug", group=toys).exception, ValueError)


def test_the_client_that_a_command_opened_is_closed_however_it_ends():
    closed: list[float] = []
    app = app_with(told_errors.mongo(close=closed.append))
    for arguments in (("say",), ("fail", "redis"), ("fail", "interrupt")):
        run(app, *arguments, group=toys)
    assert len(closed) == 3
    assert all(0 < seconds <= 0.5 for seconds in closed)


# --- what it says of itself ---


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("celery -A worker mongo sta", ["status"]),
        ("celery -A worker mongo dead re", ["requeue"]),
        ("celery -A worker mongo processes --sort wait_", ["wait_p99_ms"]),
        ("celery mongo schema dead-l", ["dead-list/1"]),
    ],
)
def test_a_shell_completes_commands_options_and_names(words: str, found: list[str]):
    """As the README says: by what `_CELERY_COMPLETE=bash_source celery` prints."""
    pytest.importorskip("celery_pymongo", reason="the checkout is not installed in place")
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_CELERY_COMPLETE": "bash_complete"}
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'celery'; from celery.bin.celery import main; main()",
    ]
    done = subprocess.run(
        command,
        env=os.environ | asked,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert [line.removeprefix("plain,") for line in done.stdout.splitlines()] == found, done.stderr


@pytest.mark.parametrize("words", [(), *EVERY], ids=" ".join)
def test_help_ends_with_an_example_of_the_command_itself(words: tuple[str, ...]):
    told = " ".join(run(Celery("shop", set_as_current=False), *words, "--help").output.split())
    text = (EVERY[words] if words else mongo).help or ""
    example = " ".join(text.split("\n\n")[-1].split())
    assert example.startswith(" ".join(("Example: celery -A worker mongo", *words)))
    assert example in told


@pytest.mark.parametrize("words", [words for words in EVERY if len(words) == 1], ids=" ".join)
def test_the_list_of_commands_has_whole_sentences(words: tuple[str, ...]):
    """In what is left of 80 columns."""
    assert not EVERY[words].get_short_help_str(limit=65).endswith("...")


@pytest.mark.parametrize(
    "words", [w for w, c in EVERY.items() if not isinstance(c, click.Group)], ids=" ".join
)
def test_every_command_prints_json_and_its_schema_is_published(words: tuple[str, ...]):
    if words in (("schema",), ("exporter",)):
        return  # one prints nothing else, the other serves
    assert "--json" in {option for param in EVERY[words].params for option in param.opts}
    name = "-".join(words)
    assert name in {published.rpartition("/")[0] for published in schemas()}


@pytest.mark.parametrize("name", schemas())
def test_every_schema_is_one_and_says_its_name(name: str):
    shown = run(Celery("default", set_as_current=False), "schema", name)
    told = json.loads(shown.output)
    Draft202012Validator.check_schema(told)
    assert told["properties"]["schema"] == {"const": name}
    assert {"schema", "unseen"} <= set(told["required"])


def test_a_schema_without_its_version_is_the_newest():
    app = Celery("default", set_as_current=False)
    assert run(app, "schema", "dead-list").output == run(app, "schema", "dead-list/1").output
    assert run(app, "schema").output.split() == schemas()


def test_a_document_that_is_not_as_its_schema_says_is_found():
    with pytest.raises(AssertionError, match=r"\$\.letters"):
        validated('{"schema": "dead-list/1", "letters": 1, "unseen": {}}')
    assert len(list(SCHEMAS.iterdir())) == len(schemas())
