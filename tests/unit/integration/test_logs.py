"""The service's log."""

import json
import logging
import logging.config
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.integration import logs

# No deadline: a machine that is busy with other things is no fault.
QUICK = settings(max_examples=50, deadline=None)

UIDS = ("celery_pymongo.logs", "celery_pymongo.quiet")


def record(message: str = "m", *arguments: Any, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("celery_pymongo.x", level, "p", 1, message, arguments, None)
    vars(made).update(extra)
    return made


def line(made: logging.LogRecord) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(logs.JsonFormatter().format(made))
    return parsed


def test_a_line_has_time_level_logger_message_and_pid() -> None:
    told = line(record("%s is %d", "one", 1))
    assert (told["level"], told["logger"], told["message"]) == ("INFO", "celery_pymongo.x", "one is 1")
    assert told["time"].endswith("+00:00")
    assert isinstance(told["pid"], int)
    assert "event" not in told
    assert "task_id" not in told


def test_an_event_brings_its_name_and_fields() -> None:
    told = line(record(event="client.warm", fields={"server": "8.0", "odd": {1}}))
    assert (told["event"], told["server"], told["odd"]) == ("client.warm", "8.0", "{1}")


def test_an_error_is_in_the_line_with_its_traceback() -> None:
    made = record()
    try:
        int("why")
    except ValueError:
        made.exc_info = sys.exc_info()
    told = line(made)
    assert told["error"].startswith("Traceback")
    assert told["error"].endswith("literal for int() with base 10: 'why'")


@QUICK
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_whatever_the_message_is_it_is_one_line_of_json(message: str) -> None:
    text = logs.JsonFormatter().format(record("%s", message))
    assert "\n" not in text
    assert "\r" not in text
    assert json.loads(text)["message"] == message


def test_a_line_of_a_task_has_its_name_and_id() -> None:
    app = Celery("x", set_as_current=False)

    @app.task(name="shop.task", bind=True, shared=False)
    def body(self: Any) -> dict[str, Any]:
        return line(record())

    told = body.apply(task_id="some-id").get()
    assert (told["task"], told["task_id"]) == ("shop.task", "some-id")


# -- quiet -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "name", "kept"),
    [
        (logging.INFO, "mongo.health.check", False),
        (logging.INFO, "shop.task", True),
        (logging.WARNING, "mongo.health.check", True),
    ],
)
def test_the_regular_tasks_are_quiet_below_a_warning(level: int, name: str, kept: bool) -> None:
    quiet = logs.QuietSchedule({"mongo.health.check"})
    assert quiet.filter(record(level=level, data={"name": name})) is kept


def test_at_debug_the_regular_tasks_are_there_as_debug() -> None:
    told = record(data={"name": "mongo.health.check"})
    logger = logging.getLogger(told.name)
    logger.setLevel(logging.DEBUG)
    try:
        assert logs.QuietSchedule({"mongo.health.check"}).filter(told)
    finally:
        logger.setLevel(logging.NOTSET)
    assert (told.levelno, told.levelname) == (logging.DEBUG, "DEBUG")


@pytest.mark.parametrize("extra", [{}, {"data": None}, {"data": "text"}, {"data": {}}])
def test_records_about_no_task_are_kept(extra: dict[str, Any]) -> None:
    assert logs.QuietSchedule({"mongo.health.check"}).filter(record(**extra))


# -- set up ----------------------------------------------------------------------------------------


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Set up as the service does, and undo it: signals, filters and levels are the process's."""
    hooks = (signals.after_setup_logger, signals.after_setup_task_logger)
    names = ("celery.app.trace", "celery.worker.strategy", "celery.worker.request", "celery.beat")
    watched = [logging.getLogger(name) for name in names]
    before = [(hook, list(hook.receivers or [])) for hook in hooks]
    filters = [(logger, list(logger.filters)) for logger in watched]
    level = logging.getLogger("pymongo").level
    for hook in hooks:
        for uid in UIDS:
            hook.disconnect(dispatch_uid=uid)
    yield logs.set_up
    for hook, receivers in before:
        hook.receivers = receivers
        hook.sender_receivers_cache.clear() if hook.use_caching else None
    for logger, kept in filters:
        logger.filters = kept
    logging.getLogger("pymongo").setLevel(level)


def logger_with_a_handler() -> logging.Logger:
    made = logging.getLogger("celery_pymongo.tests")
    made.handlers = [logging.StreamHandler()]
    return made


@pytest.mark.parametrize(("as_json", "kind"), [(True, logs.JsonFormatter), (False, type(None))])
def test_celerys_loggers_write_json_where_it_is_asked_for(set_up: Any, as_json: bool, kind: type) -> None:
    set_up(as_json=as_json)
    logger = logger_with_a_handler()
    signals.after_setup_logger.send(sender=None, logger=logger)
    assert type(logger.handlers[0].formatter) is kind


def test_the_drivers_debug_log_which_quotes_documents_stays_off(set_up: Any) -> None:
    set_up(as_json=False)
    signals.after_setup_logger.send(sender=None, logger=logger_with_a_handler())
    assert not logging.getLogger("pymongo.command").isEnabledFor(logging.DEBUG)


def test_celerys_own_loggers_keep_quiet_about_the_regular_tasks(set_up: Any) -> None:
    logs.quiet({"mongo.health.check"})
    signals.after_setup_logger.send(sender=None, logger=logger_with_a_handler())
    discarded = record("%s[%s]", "mongo.health.check", "some-id")
    discarded.name = "celery.worker.request"
    assert not logging.getLogger(discarded.name).filter(discarded)
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logger = logging.getLogger(name)
        assert not logger.filter(record(data={"name": "mongo.health.check"}))
        assert logger.filter(record(data={"name": "shop.task"}))


def test_setting_up_again_takes_the_newest_choice(set_up: Any) -> None:
    set_up(as_json=False)
    set_up(as_json=True)
    logger = logger_with_a_handler()
    signals.after_setup_logger.send(sender=None, logger=logger)
    assert isinstance(logger.handlers[0].formatter, logs.JsonFormatter)


def test_loggers_that_dictconfig_disables_are_enabled_again_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, theirs = logging.getLogger("celery_pymongo.client"), logging.getLogger("a_shop.of_its_own")
    logging.config.dictConfig({"version": 1, "incremental": False})
    logging.root.addHandler(caplog.handler)  # dictConfig has cleared those of the root
    try:
        assert ours.disabled
        logs.enable()
        logs.enable()
        assert (ours.disabled, theirs.disabled) == (False, True)
        (said,) = [record.getMessage() for record in caplog.records]
        assert said.startswith("settings.warning: the logging configuration has disabled loggers")
    finally:
        for each in logging.root.manager.loggerDict.values():
            if isinstance(each, logging.Logger):
                each.disabled = False
