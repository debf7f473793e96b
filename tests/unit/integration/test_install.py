"""`install(app)`: what it adds, and what it leaves alone."""

import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task, signals
from pymongo import MongoClient

from worker import celery as service
from worker.delivery.task import MongoTask
from worker.errors import SettingsError
from worker.integration import install as installer
from worker.integration.install import Fixup, install
from worker.process import process
from worker.settings import schedule
from worker.settings.fields import load_settings

SETTINGS = load_settings({}, env_file=None)


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    monkeypatch.setattr(process, "_current", None)
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)
    monkeypatch.chdir(tmp_path)
    service._app.cache_clear()
    yield
    if process._current is not None:
        process._current.close()
    service._app.cache_clear()


def app_of_a_shop(**conf: Any) -> Celery:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


def test_an_app_gets_a_mongo_its_base_class_and_tasks() -> None:
    app = app_of_a_shop()
    mongo = install(app, SETTINGS)
    assert app.mongo is mongo is process.current()
    assert issubclass(mongo.Task, MongoTask)
    assert {"mongo.health.check", "mongo.pool.snapshot", "mongo.reconnect.attempt"} <= set(app.tasks)
    assert isinstance(app.tasks["mongo.health.check"], MongoTask)
    assert mongo.holder.client is None


def test_installing_again_changes_nothing() -> None:
    app = app_of_a_shop()
    mongo = install(app, SETTINGS)
    before = (dict(app.conf.beat_schedule), dict(app.conf.task_routes), set(app.fixups))
    assert install(app, load_settings({"MONGODB_DATABASE": "other"}, env_file=None)) is mongo
    assert (app.conf.beat_schedule, app.conf.task_routes, app.fixups) == before


def test_nothing_else_of_the_apps_configuration_is_changed() -> None:
    app, untouched = app_of_a_shop(), app_of_a_shop()
    install(app, SETTINGS)
    changed = {name for name, value in untouched.conf.items() if app.conf[name] != value}
    assert changed == {"beat_schedule", "task_routes"}


def test_entries_and_routes_of_the_apps_own_stay() -> None:
    own = {"task": "shop.check", "schedule": 60.0}
    app = app_of_a_shop(
        beat_schedule={"mongo.health.check": own, "shop.entry": own},
        task_routes={"mongo.data.*": {"queue": "shop-data"}, "shop.*": {"queue": "shop"}},
    )
    install(app, SETTINGS)
    assert app.conf.beat_schedule["mongo.health.check"] == own
    assert set(app.conf.beat_schedule) == {"shop.entry", *schedule.entries(SETTINGS)}
    routed = {
        name: queue_of(app, name) for name in ("mongo.data.upsert_many", "shop.x", "mongo.pool.snapshot")
    }
    assert list(routed.values()) == ["shop-data", "shop", schedule.HEALTH_QUEUE]


def queue_of(app: Celery, task: str) -> str:
    name: str = app.amqp.router.route({}, task)["queue"].name
    return name


def by_function(name: str, *_arguments: Any, **_options: Any) -> Any:
    return {"queue": "by-function"} if name == "shop.x" else None


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        ([[("shop.*", {"queue": "pairs"})]], "pairs"),
        ([{"shop.*": {"queue": "list"}}], "list"),
        (({"shop.*": {"queue": "tuple"}},), "tuple"),
        (by_function, "by-function"),
        ("os.path.join", None),  # a function by its name
        (None, "celery"),
        ({}, "celery"),
    ],
)
def test_routes_may_be_written_in_every_way_that_celery_takes(routes: Any, queue: str | None) -> None:
    app = app_of_a_shop(task_routes=routes)
    install(app, SETTINGS)
    if queue is None:
        assert app.conf.task_routes == [schedule.routes(), routes]
    else:
        assert queue_of(app, "shop.x") == queue
        assert queue_of(app, "mongo.data.upsert_many") == schedule.DATA_QUEUE


def test_a_configuration_that_is_not_read_yet_is_not_read_by_us() -> None:
    """The app may still set it; it is merged when Celery first reads it."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    install(app, SETTINGS)
    assert not app.configured
    app.conf.task_routes = {"shop.*": {"queue": "shop"}}
    assert app.conf.beat_schedule.keys() == schedule.entries(SETTINGS).keys()


def test_a_configuration_that_has_been_read_is_merged_at_once() -> None:
    app = app_of_a_shop()
    assert app.conf.timezone is None
    assert app.configured
    install(app, SETTINGS)
    assert app.conf.beat_schedule.keys() == schedule.entries(SETTINGS).keys()


class OwnTask(Task):
    """A shop's class of tasks, which its router asks for a route."""

    route = "shop"


def by_attribute(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_kw: Any) -> Any:
    return {"queue": task.route}


def test_a_router_that_knows_the_apps_own_tasks_alone_is_not_asked_of_ours() -> None:
    app = app_of_a_shop(task_routes=[by_attribute])
    install(app, SETTINGS)
    task = app.tasks["mongo.health.check"]
    assert app.amqp.router.route({}, task.name, task_type=task)["queue"].name == schedule.HEALTH_QUEUE


def test_a_route_of_the_same_name_among_several_stays_the_apps() -> None:
    app = app_of_a_shop(task_routes=[{"mongo.data.*": {"queue": "theirs"}}, by_function])
    install(app, SETTINGS)
    assert queue_of(app, "mongo.data.upsert_many") == "theirs"
    assert queue_of(app, "mongo.health.check") == schedule.HEALTH_QUEUE


@pytest.mark.parametrize("moment", ["worker", "beat"])
def test_what_the_app_sets_after_install_is_merged_again(moment: str) -> None:
    app = app_of_a_shop()
    install(app, SETTINGS)
    assert queue_of(app, "mongo.health.check") == schedule.HEALTH_QUEUE
    entry = {"task": "shop.x", "schedule": 1.0}
    app.conf.update(beat_schedule={"shop.x": entry}, task_routes={"shop.*": {"queue": "shop"}})
    if moment == "worker":
        signals.celeryd_init.send(sender="w1@h", instance=SimpleNamespace(app=app), conf=app.conf)
    else:
        signals.import_modules.send(sender=app)
    assert app.conf.beat_schedule == schedule.entries(SETTINGS) | {"shop.x": entry}
    assert [queue_of(app, name) for name in ("mongo.health.check", "shop.x")] == ["mongo.health", "shop"]


def test_a_configuration_that_is_read_anew_is_merged_again() -> None:
    app = app_of_a_shop()
    install(app, SETTINGS)
    app.config_from_object({"task_routes": {"shop.*": {"queue": "shop"}}}, force=True)
    assert queue_of(app, "mongo.health.check") == schedule.HEALTH_QUEUE


def test_an_app_that_keeps_something_else_as_its_mongo_is_left_alone() -> None:
    install(app_of_a_shop(), SETTINGS)
    other = app_of_a_shop(task_routes={"shop.*": {"queue": "shop"}})
    other.mongo = SimpleNamespace()
    assert not other.conf.beat_schedule  # read, so that it is configured
    answers = signals.import_modules.send(sender=other)
    assert [answer for _, answer in answers if isinstance(answer, Exception)] == []
    assert other.conf.task_routes == {"shop.*": {"queue": "shop"}}
    assert not other.conf.beat_schedule


def test_our_tasks_expire_whoever_sends_them() -> None:
    """A scheduler with a database of its own may drop what the entry says."""
    app = app_of_a_shop()
    install(app, SETTINGS)
    for name, entry in schedule.entries(SETTINGS).items():
        assert app.tasks[name].expires == entry["options"]["expires"]


def test_wrong_settings_leave_the_app_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", "nonsense")
    app = app_of_a_shop()
    with pytest.raises(SettingsError, match="MONGODB_URI"):
        install(app)
    assert not hasattr(app, "mongo")
    assert app.conf.beat_schedule == {}


def test_a_second_app_with_the_same_settings_shares_the_client() -> None:
    one, other = app_of_a_shop(), app_of_a_shop()
    assert install(one, SETTINGS) is install(other, SETTINGS)


def test_a_second_app_with_other_settings_closes_the_client_of_the_first() -> None:
    one, other = app_of_a_shop(), app_of_a_shop()
    first = install(one, SETTINGS)
    first.get_client()
    assert install(other, load_settings({"MONGODB_DATABASE": "other"}, env_file=None)) is not first
    assert first.holder.state == "closed"
    assert install(app_of_a_shop(), SETTINGS) is not first


def test_an_app_that_was_pickled_for_a_child_comes_with_its_mongo() -> None:
    """Spawned children get the app so; importing its module makes it once more, with the same client."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    install(app, SETTINGS)
    process._current = None
    twin = pickle.loads(pickle.dumps(app))  # noqa: S301 - what billiard does
    assert twin.mongo is process.current()
    assert twin.mongo.is_shared
    again = Celery("shop", broker="memory://", set_as_current=False)
    assert install(again, SETTINGS) is twin.mongo
    assert "mongo.health.check" in again.tasks


def test_a_fixup_is_one_among_equals() -> None:
    assert {Fixup(SETTINGS), Fixup(SETTINGS)} == {Fixup(SETTINGS)}
    assert Fixup(None) != Fixup(SETTINGS)


def test_the_task_modules_are_those_beside_the_package() -> None:
    assert {module.__name__.split(".")[0] for module in installer._TASK_MODULES} == {"tasks", "ops"}


# -- the service's own app -------------------------------------------------------------------------


def test_the_service_makes_its_app_once_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_DATABASE", "shop")
    assert service.app is service.app
    assert service.app.mongo.settings.mongodb_database == "shop"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        service.nothing  # noqa: B018 - reading it is the test


def test_wrong_settings_end_the_service_with_a_line_each_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MONGODB_URI", "nonsense")
    monkeypatch.setenv("REDIS_URL", "nonsense")
    with pytest.raises(SystemExit) as ended:
        service.app  # noqa: B018 - reading it is the test
    assert ended.value.code == 78
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "MONGODB_URI",
        "REDIS_URL",
    ]


def test_the_service_asks_its_redis_before_a_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("worker.store.redis_server.refuse", asked.append)
    service._refuse_cluster(instance=SimpleNamespace(app="the app"))
    assert asked == ["the app"]


def test_the_services_log_travels_with_its_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spawned child gets the app pickled, and never imports the module that made it."""
    told: list[bool] = []
    monkeypatch.setattr("worker.integration.logs.set_up", lambda **options: told.append(options["as_json"]))
    app = service.create_app(load_settings({"CELERY_PYMONGO_LOG_FORMAT": "json"}, env_file=None))
    pickle.loads(pickle.dumps(app))  # noqa: S301 - what billiard does
    assert told == [True, True]


def test_an_app_may_hand_over_its_uris() -> None:
    mongo = install(app_of_a_shop(), mongodb_uri="mongodb://db.example/shop", redis_url="redis://r.example/3")
    assert mongo.settings.mongodb_uri.get_secret_value() == "mongodb://db.example/shop"
    assert mongo.settings.mongodb_database == "shop"
    assert mongo.redis_settings.redis_url.get_secret_value() == "redis://r.example/3"
    assert mongo._settings_changed() is False  # read anew they are what they were


def test_what_is_handed_over_wins_over_the_environment_and_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    secret = tmp_path / "uri"
    secret.write_text("mongodb://file.example/x")
    monkeypatch.setenv("MONGODB_URI_FILE", str(secret))
    monkeypatch.setenv("REDIS_URL", "redis://outer.example/1")
    mongo = install(app_of_a_shop(), mongodb_uri="mongodb://db.example/shop")
    assert mongo.settings.mongodb_uri.get_secret_value() == "mongodb://db.example/shop"
    assert mongo.settings.redis_url.get_secret_value() == "redis://outer.example/1"


def test_a_spawned_child_gets_what_was_handed_over_and_no_text_shows_it() -> None:
    app = app_of_a_shop()
    install(app, mongodb_uri="mongodb://u:secret@db.example/shop")
    (fixup,) = [one for one in app.fixups if isinstance(one, Fixup)]
    twin = pickle.loads(pickle.dumps(fixup))  # noqa: S301 - our own
    assert twin == fixup
    assert twin.load() == app.mongo.settings
    assert "secret" not in repr(fixup)


def test_settings_and_uris_together_are_a_mistake_in_one_line() -> None:
    with pytest.raises(
        SettingsError, match=r"^install\(\): settings are given, so these belong there, too: MONGODB_URI$"
    ):
        install(app_of_a_shop(), SETTINGS, mongodb_uri="mongodb://x")
