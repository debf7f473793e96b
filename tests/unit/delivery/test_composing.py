"""What the app's own task class adds is in its MongoTasks, too; what cannot be both is an error at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task, _state, shared_task
from celery.app import trace
from pymongo import MongoClient

from worker.delivery.task import MongoTask
from worker.errors import SettingsError
from worker.integration.install import install
from worker.process import process
from worker.settings.fields import load_settings

contexts: list[str] = []


class ContextTask(Task):
    """As Flask's guide has it."""

    acks_late = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        contexts.append("in")
        try:
            return self.run(*args, **kwargs)
        finally:
            contexts.append("out")

    def on_commit(self) -> str:
        return str(self.name)


class Timing(Task):
    """A mixin with a name that MongoTask has, too."""

    mongo: Any = "theirs"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class TimedFirst(Timing, MongoTask):
    pass


class TimedLast(MongoTask, Timing):
    pass


class Hiding(MongoTask):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class Without(Hiding):
    with_app_class = False


class Batches(Task):
    def Strategy(self, *_args: Any) -> None:
        pass


class Batched(MongoTask, Batches):
    pass


class Both(ContextTask, MongoTask):
    pass


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    monkeypatch.setattr(process, "_current", None)
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)  # restores what install() wraps
    contexts.clear()
    app = Celery("shop", backend="cache+memory://", set_as_current=False, task_cls=ContextTask)
    mongo = install(app, load_settings({}, env_file=None))
    with mongo.use_client({"app": "the database"}):
        yield app
    mongo.close()


def make(app: Celery, base: Any = MongoTask, **options: Any) -> Any:
    return app.task(base=base, bind=True, name="shop.task", shared=False, **options)(lambda_of_a_shop)


def lambda_of_a_shop(self: Any) -> str:
    contexts.append(self.db)
    return "done"


def run(task: Any) -> Any:
    return trace.build_tracer(task.name, task, app=task.app, eager=True)("id", (), {}).retval


@pytest.mark.parametrize("base", [MongoTask, TimedFirst, TimedLast, Both])
def test_the_apps_context_is_around_the_body(app: Celery, base: Any) -> None:
    task = make(app, base)
    assert run(task) == "done"
    assert contexts == ["in", "the database", "out"]
    assert task.on_commit() == "shop.task"


def test_what_the_tasks_own_base_sets_holds(app: Celery) -> None:
    assert make(app).acks_late


@pytest.mark.parametrize("kind", [ContextTask, Both])
def test_a_class_that_the_app_sets_later_counts(app: Celery, kind: Any) -> None:
    """As Flask's older guide has it: `celery.Task = ContextTask`."""
    plain = Celery("other", backend="cache+memory://", set_as_current=False)
    plain.Task = kind
    plain.mongo = app.mongo
    assert run(make(plain)) == "done"
    assert contexts == ["in", "the database", "out"]


def test_an_apps_class_may_be_a_mongo_task(app: Celery) -> None:
    app.task_cls = Both
    vars(app).pop("Task", None)
    task = make(app, None)
    assert isinstance(task, MongoTask)
    assert run(task) == "done"
    assert run(make_other(app)) == "done"


def make_other(app: Celery) -> Any:
    """A task whose base is a base of the app's class."""
    return app.task(base=MongoTask, bind=True, name="shop.other", shared=False)(lambda_of_a_shop)


def test_a_shared_task_has_the_class_of_each_app(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every app that is made from then on has a shared task: none of a test after this one.
    monkeypatch.setattr("celery._state._on_app_finalizers", set(_state._on_app_finalizers))
    shared_task(base=MongoTask, bind=True, name="shop.shared")(lambda_of_a_shop)
    assert isinstance(app.tasks["shop.shared"], ContextTask)
    other = Celery("other", set_as_current=False)
    assert not isinstance(other.tasks["shop.shared"], ContextTask)


def test_ours_are_without(app: Celery) -> None:
    ours = [task for name, task in app.tasks.items() if name.startswith("mongo.")]
    assert ours
    assert not any(isinstance(task, ContextTask) for task in ours)
    assert isinstance(app.tasks["celery.backend_cleanup"], ContextTask)


@pytest.mark.parametrize(
    ("base", "line"),
    [
        (Hiding, r"shop\.task: __call__ of .*Hiding hides .*ContextTask: end it with `return super"),
        (Batched, r"shop\.task: .*Batches takes its messages .*: leave MongoTask out of its bases"),
    ],
)
def test_what_cannot_be_both_says_the_line_to_change(app: Celery, base: Any, line: str) -> None:
    task = make(app, base)
    with pytest.raises(SettingsError, match=line):
        str(task.acks_late)


def test_classes_in_two_orders_say_the_line_to_change(app: Celery) -> None:
    vars(app)["Task"] = TimedFirst
    task = make(app, TimedLast)
    with pytest.raises(SettingsError, match=r"TimedLast and .*TimedFirst do not go together .*one order"):
        str(task.acks_late)


def test_one_that_does_without_says_so(app: Celery) -> None:
    assert run(make(app, Without)) == "done"
    assert contexts == ["the database"]


def test_a_class_of_ones_own_is_left_as_it_is(app: Celery) -> None:
    class Whole(MongoTask):
        name = "shop.whole"

        def run(self) -> str:
            return str(self.db)

    assert run(app.register_task(Whole())) == "the database"
    assert contexts == []
