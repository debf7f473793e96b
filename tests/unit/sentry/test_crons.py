"""Beat's entries in Sentry Crons, whatever their interval."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.sentry import sdk
from worker.sentry.crons import checkins
from worker.sentry.crons.checkins import MARK, CheckIns
from worker.sentry.crons.entries import Monitor, monitor_of, slug_of, went_well
from worker.sentry.crons.windows import Ended, Window
from worker.settings.fields import load_settings


def of(when: Any, *, name: str = "shop.clean", runtime: float | None = None) -> Monitor | None:
    return monitor_of(name, when, deployment="blue", timezone="UTC", runtime_seconds=runtime)


@pytest.mark.parametrize(
    ("seconds", "told", "window"),
    [
        (0.5, ("minute", 1), 60),
        (10, ("minute", 1), 60),
        (59, ("minute", 1), 60),
        (60, ("minute", 1), None),
        (90, ("minute", 2), 120),
        (300, ("minute", 5), None),
        (3600, ("hour", 1), None),
        (5400, ("minute", 90), None),
        (86_400, ("day", 1), None),
        (604_800, ("day", 7), None),
    ],
)
def test_an_interval_is_a_monitor_of_whole_minutes(
    seconds: float, told: tuple[str, int], window: int | None
) -> None:
    monitor = of(schedule(seconds))
    assert monitor is not None
    shown = monitor.config["schedule"]
    assert (shown["type"], shown["unit"], shown["value"]) == ("interval", *told)
    assert monitor.window == window
    assert monitor.config["checkin_margin"] >= 1
    # A window is told a while after its end; Sentry must not miss it before.
    if window is not None:
        assert monitor.config["checkin_margin"] * 60 > window + monitor.grace


def test_a_crontab_stays_one() -> None:
    monitor = of(crontab(minute="*/5", hour="0-6", day_of_week="mon-fri"), runtime=3700)
    assert monitor is not None
    assert monitor.config == {
        "schedule": {"type": "crontab", "value": "*/5 0-6 * * mon-fri"},
        "checkin_margin": 5,
        "max_runtime": 62,
        "timezone": "UTC",
    }
    listed = of(crontab(minute=[0, 30], hour=4))
    assert listed is not None
    assert listed.config["schedule"]["value"] == "0,30 4 * * *"


def test_what_sentry_cannot_express_has_no_monitor() -> None:
    assert of(BaseSchedule(app=Celery(set_as_current=False))) is None  # as that of the sun's is
    assert of(schedule(0)) is None


def test_slugs_are_what_sentry_takes() -> None:
    assert slug_of("blue-mongo.health.check") == "blue-mongo-health-check"
    long = slug_of("x" * 80)
    assert len(long) == 50
    assert long != slug_of("x" * 81)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"sent": 6, "ok": 6}, True),
        ({"sent": 6, "ok": 5, "failed": 1}, False),
        ({"sent": 6, "ok": 5}, False),
        ({"sent": 5, "ok": 5, "late": 1}, False),
        ({}, True),
    ],
)
def test_a_window_fails_of_one_run_that_failed_is_missing_or_did_not_end(
    counts: dict[str, int], expected: bool
) -> None:
    assert went_well(counts) is expected


def test_a_run_is_missing_where_the_next_one_is_late() -> None:
    monitor = of(schedule(10))
    assert monitor is not None
    assert not monitor.is_late(None, 1000)
    assert not monitor.is_late(1000, 1010)
    assert not monitor.is_late(1000, 1015.9)
    assert monitor.is_late(1000, 1016.1)
    assert monitor.window_of(125.0) == 120


# -- who tells it ----------------------------------------------------------------------------------


class World:
    """Takes the place of Redis and of the SDK."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[str, str, str | None]] = []
        self.ended_runs: list[Ended] = []
        self.waiting: list[Window] = []
        self.is_away = False
        self.is_on = True
        self.published: list[dict[str, Any]] = []
        monkeypatch.setattr(sdk, "check_in", self.check_in)
        monkeypatch.setattr(sdk, "monitors_beat", lambda: False)
        app = Celery("x", broker="memory://", set_as_current=False)
        self.scheduler = SimpleNamespace(app=app, apply_async=self.apply_async, tick=lambda: 5.0)
        settings = load_settings({"CELERY_PYMONGO_DEPLOYMENT": "blue"}, env_file=None)
        windows: Any = self
        self.check_ins = CheckIns(windows, settings, lambda: self.is_on)

    def check_in(self, slug: str, status: str, *, check_in_id: str | None = None, **_told: Any) -> str:
        self.told.append((slug, status, check_in_id))
        return "id-1"

    def apply_async(self, _entry: Any, **_kwargs: Any) -> None:
        headers: dict[str, Any] = {"headers": {"sentry-trace": "x"}}
        self.check_ins._publish(headers=headers)
        self.published.append(headers)

    def sent(self, monitor: Monitor, at: float) -> int:
        if self.is_away:
            raise RedisConnectionError("away")
        return monitor.window_of(at)

    def ended(self, runs: Any, *, hastily: bool = False) -> None:
        if self.is_away:
            raise RedisConnectionError("away")
        self.ended_runs += runs

    def due(self, _at: float) -> list[Window]:
        found, self.waiting = self.waiting, []
        return found

    def send(self, seconds: float) -> dict[str, Any] | None:
        entry = SimpleNamespace(
            name="clean", task="clean", schedule=schedule(seconds), options={"expires": 9}
        )
        self.scheduler.apply_async(entry)
        found: dict[str, Any] | None = self.published[-1].get(MARK)
        return found


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(monkeypatch)
    made.check_ins.attach(made.scheduler)
    made.check_ins.attach(made.scheduler)  # once is enough
    return made


def request(mark: Any, *, retried: bool = False) -> Any:
    """A task's request: the mark is at its top, or among the headers of a retry."""
    told = {"headers": {MARK: mark}} if retried else {"headers": None, MARK: mark}
    return SimpleNamespace(**told)


def test_a_run_of_whole_minutes_is_in_progress_until_it_has_ended(world: World) -> None:
    mark = world.send(60)
    assert mark is not None
    assert world.published[-1]["headers"][MARK] == mark
    world.check_ins._succeeded(sender=SimpleNamespace(request=request(mark, retried=True)))
    world.check_ins._failed(sender=SimpleNamespace(request=request(mark)))
    assert world.told == [
        ("blue-clean", "in_progress", None),
        ("blue-clean", "ok", "id-1"),
        ("blue-clean", "error", "id-1"),
    ]


def test_a_run_that_expired_has_ended_and_did_not_run(world: World) -> None:
    mark = world.send(60)
    world.check_ins._revoked(request=request(mark))
    assert world.told[-1] == ("blue-clean", "error", "id-1")


def test_runs_of_a_short_interval_are_counted_and_told_by_their_window(world: World) -> None:
    mark = world.send(10)
    assert mark is not None
    assert world.told == []
    sender = SimpleNamespace(request=request(mark))
    world.is_away = True
    world.check_ins._succeeded(sender=sender)
    world.check_ins.tick()
    world.is_away = False
    world.check_ins._failed(sender=sender)
    world.check_ins.leave()
    assert [run.how for run in world.ended_runs] == ["ok", "failed"]
    world.waiting = [
        Window("blue-clean", {}, 60, {"sent": 6, "ok": 6}),
        Window("blue-clean", {}, 60, {"sent": 6, "ok": 5}),
    ]
    world.check_ins._look_at = float("-inf")
    assert world.scheduler.tick() == 5.0
    assert [status for _, status, _ in world.told] == ["ok", "error"]


def test_a_task_that_beat_did_not_send_is_none_of_its_runs(world: World) -> None:
    marks: list[Any] = [None, {}, "x"]
    for mark in marks:
        world.check_ins._succeeded(sender=SimpleNamespace(request=request(mark)))
    assert world.told == []


def test_what_cannot_be_sent_is_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_entry: Any, **_kwargs: Any) -> None:
        raise OSError("no broker")

    made = World(monkeypatch)
    made.scheduler.apply_async = refuse
    made.check_ins.attach(made.scheduler)
    with pytest.raises(OSError, match="no broker"):
        made.send(60)
    assert [status for _, status, _ in made.told] == ["in_progress", "error"]


def test_beat_sends_on_where_nothing_can_be_told(world: World) -> None:
    world.is_away = True
    assert world.send(10) is None
    world.is_on = False
    assert world.send(60) is None
    assert world.told == []


def test_entries_that_the_app_leaves_to_the_sdk_are_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "monitors_beat", lambda: True)
    assert world.send(60) is None
    assert world.send(10) is not None


def test_a_run_may_take_its_expiry_and_its_limit() -> None:
    app = Celery("x", set_as_current=False)
    entry = SimpleNamespace(task="none", options={"expires": 30, "time_limit": 90})
    assert checkins._runtime(app, entry) == 120
    assert checkins._runtime(app, SimpleNamespace(task="none", options={})) is None
