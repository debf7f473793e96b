"""What a ledger keeps of tasks, and what it makes of what it kept."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry
from celery.signals import task_failure, task_revoked

from tests.faults.ledger import Account, Entry, Happened, Ledger, accounts, entries


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    ledger = Ledger(tmp_path / "ledger")
    ledger.open()
    yield tmp_path / "ledger"
    ledger.close()


def some_task(body: Any) -> Any:
    app = Celery("ledger", set_as_current=False, broker="memory://", backend="cache+memory://")
    return app.task(body, name="some.task", bind=True, shared=False)


def run(body: Any) -> str:
    """Run a task as a worker does; return its id."""
    return str(some_task(body).apply(retries=2).id)


def say_of(path: Path, task_id: str) -> list[tuple[str, str]]:
    return [(entry.happened, entry.note) for entry in accounts(entries(path))[task_id].entries]


def succeed(_self: Any) -> None:
    pass


def fail(_self: Any) -> None:
    raise KeyError("a secret that a ledger does not need")


def retry(_self: Any) -> None:
    raise Retry("later", KeyError("once more"))


def requeue(_self: Any) -> None:
    raise Reject("not now", requeue=True)


def drop(_self: Any) -> None:
    raise Reject("never", requeue=False)


def ignore(_self: Any) -> None:
    raise Ignore


@pytest.mark.parametrize(
    ("body", "end", "note"),
    [
        (succeed, Happened.SUCCEEDED, "-"),
        (fail, Happened.FAILED, "KeyError"),
        (retry, Happened.RETRIED, "KeyError"),
        (requeue, Happened.REQUEUED, "-"),
        (drop, Happened.DROPPED, "-"),
        (ignore, Happened.IGNORED, "-"),
    ],
)
def test_a_run_is_its_start_and_its_end(path: Path, body: Any, end: Happened, note: str) -> None:
    assert say_of(path, run(body)) == [(Happened.STARTED, "-"), (end, note)]


def test_what_never_ran_has_an_end_alone(path: Path) -> None:
    """MAIN tells of these."""
    task = some_task(succeed)
    task_revoked.send(sender=task, request=SimpleNamespace(id="a"), expired=True)
    task_revoked.send(sender=task, request=SimpleNamespace(id="b"), expired=False)
    task_failure.send(sender=task, task_id="c", exception=OSError())
    assert say_of(path, "a") == [(Happened.EXPIRED, "-")]
    assert say_of(path, "b") == [(Happened.REVOKED, "-")]
    assert say_of(path, "c") == [(Happened.FAILED, "OSError")]


def test_an_entry_says_who_ran_what_when_for_the_how_manieth_time(path: Path) -> None:
    task_id = run(succeed)
    first, last = accounts(entries(path))[task_id].entries
    assert (first.name, first.pid, first.retries, first.is_redelivered) == (
        "some.task",
        os.getpid(),
        2,
        False,
    )
    assert 0 <= last.at - first.at < 5


def test_an_account_counts_runs_ends_and_retries(path: Path) -> None:
    def entry(happened: Happened, retries: int = 0) -> Entry:
        return Entry(0.0, happened, "a", "some.task", 1, retries, False)

    account = Account(
        [
            entry(Happened.STARTED),
            entry(Happened.REQUEUED),
            entry(Happened.STARTED),  # its process was killed
            entry(Happened.STARTED),
            entry(Happened.RETRIED),
            entry(Happened.STARTED, 1),
            entry(Happened.SUCCEEDED, 1),
        ]
    )
    ended = {Happened.REQUEUED: 1, Happened.RETRIED: 1, Happened.SUCCEEDED: 1}
    assert (account.started, account.ended, account.retries) == (4, ended, 1)


def test_a_line_that_is_half_written_is_none(path: Path) -> None:
    task_id = run(succeed)
    with path.open("a") as file:
        file.write("12.5 start")
    assert len(list(entries(path))) == len(say_of(path, task_id)) == 2


def test_a_ledger_that_nobody_has_written_in_is_empty(tmp_path: Path) -> None:
    assert accounts(entries(tmp_path / "none")) == {}
