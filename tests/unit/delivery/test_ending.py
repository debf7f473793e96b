"""Whether an error ends its process, as that was told to, or its task alone."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest
from billiard import common, process
from celery.exceptions import WorkerShutdown, WorkerTerminate

from worker.delivery.ending import end_of_process, is_greenlet_exit

EXITS = [
    *(SystemExit(0), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()),
    *(WorkerShutdown(0), WorkerTerminate(1), ValueError("x")),
]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefork child in which billiard's handler of signals has run."""
    monkeypatch.setattr(common, "_should_have_exited", [True])


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What Celery's worker in this process knows of its own shutdown."""
    state = SimpleNamespace(should_stop=None, should_terminate=None)
    monkeypatch.setitem(sys.modules, "celery.worker.state", state)
    return state


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("error", EXITS, ids=repr)
def test_what_a_task_raises_by_itself_is_not_its_processs_end(error: BaseException) -> None:
    assert end_of_process(error) is None


@pytest.mark.usefixtures("told")
def test_a_child_that_got_a_signal_ends_with_the_exit_that_its_handler_raised() -> None:
    end = SystemExit(-241)
    assert end_of_process(end) is end
    assert end_of_process(ValueError("of another task, after one that swallowed the exit")) is None


@pytest.mark.usefixtures("told")
def test_a_clean_up_that_fails_does_not_make_it_the_tasks_failure() -> None:
    error, end = OSError("in a finally"), SystemExit(-241)
    error.__context__ = end
    assert end_of_process(error) is end


def test_main_ends_with_celerys_own_exceptions_once_it_was_told_to(
    state: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.should_terminate = 1
    assert isinstance(end_of_process(WorkerTerminate(1)), WorkerTerminate)
    assert end_of_process(SystemExit(1)) is None
    monkeypatch.setattr(process, "_current_process", SimpleNamespace(name="ForkPoolWorker-1"))
    assert end_of_process(WorkerTerminate(1)) is None


def test_a_greenlet_is_killed_by_its_own_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "greenlet", raising=False)
    assert not is_greenlet_exit(SystemExit())
    killed = type("GreenletExit", (BaseException,), {})
    monkeypatch.setitem(sys.modules, "greenlet", SimpleNamespace(GreenletExit=killed))
    assert is_greenlet_exit(killed())
    assert not is_greenlet_exit(SystemExit())
