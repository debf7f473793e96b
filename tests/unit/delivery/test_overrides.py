"""What MongoTask does holds whatever a task's classes override."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import celery
import pytest
from celery import Celery, Task
from celery.app.trace import build_tracer
from celery.exceptions import Reject
from celery.worker.request import Request
from pymongo import MongoClient, errors

from worker.broker.request import MongoRequest
from worker.delivery import recovery
from worker.delivery.overrides import REQUEST
from worker.delivery.task import MongoTask
from worker.integration import versions
from worker.integration.install import install
from worker.process import process
from worker.settings.fields import load_settings
from worker.tracking.work import current_work

NOBODY = errors.ServerSelectionTimeoutError("nobody")


class Returns(MongoTask):
    """As web frameworks' guides have it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class CallsSuper(MongoTask):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class Mixin(Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class MixinFirst(Mixin, MongoTask):
    pass


class MixinLast(MongoTask, Mixin):
    pass


class Deep(Returns):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class Static(Returns):
    @staticmethod
    def before_start(_task_id: str, _args: Any, _kwargs: Any) -> None:
        pass


BASES = [MongoTask, Returns, CallsSuper, MixinFirst, MixinLast, Deep, Static]


class NoRedis:
    """First deliveries of idempotent tasks: nothing is asked."""

    def begin(self, task: Any) -> None:
        """It may run."""

    def give_back(self, task: Any) -> None:
        """Noted."""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    monkeypatch.setattr(process, "_current", None)
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)  # restores what install() wraps
    monkeypatch.setattr(recovery, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    app = Celery("shop", backend="cache+memory://", set_as_current=False)
    mongo = install(app, load_settings({}, env_file=None))
    mongo.deliveries = NoRedis()
    # Where a task has failed, its process asks for MongoDB: here it answers.
    monkeypatch.setattr(mongo.link, "answers", lambda *_args, **_options: True)
    monkeypatch.setattr(app.amqp, "send_task_message", lambda *_args, **_options: None)
    with mongo.use_client({"app": "the database"}):
        yield app
    mongo.close()


def make(app: Celery, base: Any, body: Any, **options: Any) -> Any:
    body.__name__ = "body"  # Celery refuses a lambda's
    return app.task(base=base, bind=True, name="shop.task", shared=False, **options)(body)


def trace(task: Any, **request: Any) -> Any:
    """Return what Celery's own tracer makes of a delivery: a state and a value."""
    told = {"id": "some-id", "retries": 0, "delivery_info": {}, "ignore_result": True}
    traced = build_tracer(task.name, task, app=task.app)("some-id", (), {}, told | request)
    return (traced.info.state, traced.info.retval) if traced.info else ("SUCCESS", traced.retval)


def lose(app: Celery) -> None:
    """Open the circuit."""
    app.mongo.link.circuit.fail(0.0, "heartbeat")


@pytest.mark.parametrize("base", BASES)
def test_whatever_overrides_the_call_the_body_runs_once(app: Celery, base: Any) -> None:
    seen: list[str] = []

    def body(self: Any) -> str:
        seen.append(self.request.id)
        return "done"

    assert trace(make(app, base, body)) == ("SUCCESS", "done")
    assert seen == ["some-id"]


@pytest.mark.parametrize("base", BASES)
def test_whatever_overrides_the_call_a_task_waits_an_outage_out(app: Celery, base: Any) -> None:
    lose(app)
    seen: list[int] = []
    state, reason = trace(make(app, base, lambda self: seen.append(1)))
    assert (state, reason.requeue, seen) == ("REJECTED", True, [])


@pytest.mark.parametrize("base", BASES)
def test_whatever_overrides_the_call_a_transient_error_is_retried(app: Celery, base: Any) -> None:
    def body(self: Any) -> None:
        raise errors.NotPrimaryError("not primary")

    assert trace(make(app, base, body))[0] == "RETRY"


def test_a_body_that_calls_its_own_task_is_still_one_run(app: Celery) -> None:
    depth: list[int] = []

    def body(self: Any) -> int:
        depth.append(len(depth))
        return 1 + self() if len(depth) < 3 else 1

    assert trace(make(app, Returns, body)) == ("SUCCESS", 3)


class Begins(MongoTask):
    """Says in MongoDB that it begins, where that can be reached."""

    errors: list[Exception]

    def before_start(self, task_id: str, _args: Any, _kwargs: Any) -> None:
        assert (task_id, self.request.id) == ("some-id", "some-id")
        if self.errors:
            raise self.errors.pop()


def test_what_comes_before_the_body_waits_an_outage_out_too(app: Celery) -> None:
    lose(app)
    left: list[Exception] = [AssertionError("it was called")]
    assert trace(make(app, Begins, lambda self: "done", errors=left))[0] == "REJECTED"
    assert len(left) == 1


def test_what_comes_before_the_body_fails_as_the_body_does(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make(app, Begins, lambda self: "done", errors=[NOBODY, errors.NotPrimaryError("not primary")])
    assert trace(task)[0] == "RETRY"
    monkeypatch.setattr(app.mongo.link, "answers", lambda *_args, **_options: False)
    assert trace(task)[0] == "REJECTED"
    assert trace(task) == ("SUCCESS", "done")


def test_a_run_begins_once(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(app.mongo.deliveries, "begin", lambda task: begun.append(task.name))
    trace(make(app, Begins, lambda self: "done", errors=[]))
    assert begun == ["shop.task"]


def test_an_annotation_is_protected_too(app: Celery) -> None:
    def before_start(_task: Any, *_args: Any) -> None:
        raise AssertionError("MongoDB is away")

    app.conf.task_annotations = {"shop.task": {"before_start": before_start}}
    lose(app)
    assert trace(make(app, MongoTask, lambda self: None))[0] == "REJECTED"


class OwnRequest(Request):
    """Hears of a time limit, as Celery's guide has it."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Nothing more."""


@pytest.mark.parametrize("chosen", [OwnRequest, f"{__name__}:OwnRequest"])
def test_a_request_of_the_apps_own_tells_how_its_message_came(app: Celery, chosen: Any) -> None:
    """Else dead letters and copies would not have its bytes."""
    task = make(app, MongoTask, lambda self: None, Request=chosen)
    assert issubclass(task.Request, MongoRequest)
    assert task.Request.on_timeout is OwnRequest.on_timeout
    assert MongoTask.Request == REQUEST


# -- hooks -----------------------------------------------------------------------------------------


class Hooked(MongoTask):
    error: BaseException = NOBODY

    def on_success(self, *_args: Any) -> None:
        raise self.error

    on_failure = on_retry = after_return = on_success


def own(self: Any) -> None:
    raise ValueError("the task's own")


@pytest.mark.parametrize("error", [NOBODY, SystemExit(1), MemoryError()], ids=repr)
@pytest.mark.parametrize(
    ("body", "outcome"),
    [(lambda self: "done", ("SUCCESS", "on_success")), (own, ("FAILURE", "on_failure"))],
)
def test_what_a_hook_raises_is_logged_and_the_outcome_stands(
    app: Celery, caplog: pytest.LogCaptureFixture, error: BaseException, body: Any, outcome: tuple[str, str]
) -> None:
    """Celery would make a failed task's error the hook's, or end the process."""
    state, hook = outcome
    found, value = trace(make(app, Hooked, body, error=error))
    assert (found, str(value)) == (state, "done" if state == "SUCCESS" else "the task's own")
    said = [line.getMessage() for line in caplog.records if line.name == "celery_pymongo.task"]
    ending = f"of shop.task raised {type(error).__name__}; the outcome of the task stands"
    assert said == [f"task.hook_failed: {name} {ending}" for name in (hook, "after_return")]


def test_a_retry_whose_hook_fails_is_still_a_retry(app: Celery) -> None:
    """Celery would store a failure beside the copy that runs again."""

    def body(self: Any) -> None:
        raise self.retry(countdown=1)

    assert trace(make(app, Hooked, body))[0] == "RETRY"


def test_a_hook_may_reject_its_message(app: Celery) -> None:
    if versions.parsed(celery.__version__) < (5, 7):
        pytest.skip("this Celery takes no rejection of a hook's")
    with pytest.raises(Reject):
        trace(make(app, Hooked, lambda self: None, error=Reject("x", requeue=True)))


def test_a_run_has_ended_once_its_hooks_have(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose hook ends its process counts as ended by force: it would run again for ever."""
    order: list[str] = []
    deliveries = app.mongo.deliveries
    monkeypatch.setattr(deliveries, "begin", lambda _task: "run")
    monkeypatch.setattr(deliveries, "end", lambda *_args, **_kw: order.append("end"), raising=False)
    task = make(app, MongoTask, lambda self: None, on_success=lambda *_args: order.append("hook"))
    trace(task)
    assert order == ["hook", "end"]
    assert current_work.get() is None
