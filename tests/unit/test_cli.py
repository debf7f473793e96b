"""The command line's front: what it costs Celery's other commands, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from ops.cli import mongo

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"pymongo", "bson", "rich", "pydantic", "redis", "sqlite3", "sentry_sdk"}


def run(app: Celery, *arguments: str) -> Result:
    return CliRunner().invoke(mongo, arguments, obj=CLIContext(app=app, no_color=True, workdir=None))


@pytest.mark.parametrize("module", ["ops.cli", "celery_pymongo.ops.cli"])
def test_the_plug_in_costs_celery_nothing_that_is_heavy(module: str):
    if module.startswith("celery_pymongo"):
        pytest.importorskip("celery_pymongo", reason="the checkout is not installed in place")
    code = f"import celery.bin.base as _; a = set(sys.modules); import {module}; print(*set(sys.modules) - a)"
    command = [sys.executable, "-c", f"import sys, {code[7:]}"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert module in done.stdout.split()
    assert set(done.stdout.split()) & HEAVY == set()


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
    [("load",), ("load", "a.csv"), ("load", "a.csv", "--into", "a", "--in-flight", "0"), ("dump",)],
)
def test_wrong_usage_ends_with_64(arguments: tuple[str, ...]):
    assert run(Celery("shop", set_as_current=False), *arguments).exit_code == 64


def test_types_are_checked_before_the_file_is_looked_for():
    app: Any = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.task(upsert_many, name="mongo.data.upsert_many", shared=False)
    app.mongo = object()
    result = run(app, "load", "none.csv", "--into", "a", "--types", "a=whole")
    assert result.exit_code == 64
    assert result.output.startswith("mongo: --types a=whole: write COLUMN=TYPE, with one of string, int,")


def upsert_many() -> None:
    """Stands for the task; nothing runs it."""
