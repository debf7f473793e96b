"""What Sentry is told, and when."""

import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from worker import sentry
from worker.settings import Settings, load_settings

DSN = "https://key@sentry.invalid/1"


def load(**environ: str) -> Settings:
    return load_settings(environ, env_file=None)


class Kept(Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []
        self.flushed: list[float] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.events += [item.get_event() for item in envelope.items if item.get_event()]

    def flush(self, timeout: float, callback: Any = None) -> None:
        self.flushed.append(timeout)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """A fresh SDK whose `init` keeps the events; ends with none."""
    transport, init = Kept(), sentry_sdk.init

    def quiet_init(**options: Any) -> None:
        # What patches the whole process is left out; the rest is as we chose it.
        init(**options | {"transport": transport, "default_integrations": False, "integrations": []})
        transport.options = options

    monkeypatch.setattr(sentry_sdk, "init", quiet_init)
    with sentry_sdk.isolation_scope():
        yield transport
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


def test_without_a_dsn_nothing_starts(kept: Kept) -> None:
    assert not sentry.start(load(), node="n")
    sentry.flush(1)
    assert kept.flushed == []
    assert not sentry_sdk.is_initialized()


def test_an_event_says_deployment_node_environment_and_release(kept: Kept) -> None:
    settings = load(
        SENTRY_DSN=DSN, SENTRY_ENVIRONMENT="staging", SENTRY_RELEASE="1.2", CELERY_PYMONGO_DEPLOYMENT="blue"
    )
    assert sentry.start(settings, node="celery@host")
    sentry_sdk.capture_message("hello")
    (event,) = kept.events
    assert event["tags"] == {"celery.node": "celery@host", "celery_pymongo.deployment": "blue"}
    assert (event["environment"], event["release"]) == ("staging", "1.2")


def test_an_event_has_no_local_variables_and_no_personal_data(kept: Kept) -> None:
    """Frames of the driver hold filters and documents."""
    sentry.start(load(SENTRY_DSN=DSN), node="n")
    secret = "".join(["in a", " document"])  # frames quote their source, where it must not stand
    try:
        {"secret": secret}[len(secret)]  # type: ignore[index] # the error is the point
    except KeyError as error:
        sentry_sdk.capture_exception(error)
    assert secret not in repr(kept.events)
    options: Any = kept.options
    assert (options["max_request_body_size"], options["include_local_variables"]) == ("never", False)
    assert options["traces_sample_rate"] == 0
    assert not sentry_sdk.get_client().should_send_default_pii()


def test_an_sdk_that_the_app_has_started_is_left_as_it_is(kept: Kept) -> None:
    sentry_sdk.init(dsn=DSN, environment="the app's own")
    assert not sentry.start(load(SENTRY_DSN=DSN, SENTRY_ENVIRONMENT="ours"), node="n")
    sentry_sdk.capture_message("hello")
    assert kept.events[0]["environment"] == "the app's own"


def test_a_node_that_is_learnt_later_is_named_from_then_on(kept: Kept) -> None:
    sentry.start(load(SENTRY_DSN=DSN), node="unknown")
    sentry.name_node(load(SENTRY_DSN=DSN), "celery@host")
    sentry_sdk.capture_message("hello")
    assert kept.events[0]["tags"]["celery.node"] == "celery@host"


def test_an_app_without_a_dsn_of_ours_gets_no_tags_of_ours(kept: Kept) -> None:
    sentry_sdk.init(dsn=DSN)
    sentry.name_node(load(), "celery@host")
    sentry_sdk.capture_message("hello")
    assert "tags" not in kept.events[0]


def test_flushing_waits_as_long_as_it_is_told(kept: Kept) -> None:
    sentry.start(load(SENTRY_DSN=DSN), node="n")
    sentry.flush(1.5)
    assert kept.flushed == [1.5]


def test_flushing_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    monkeypatch.delitem(sys.modules, "sentry_sdk")
    sentry.flush(1)
    assert "sentry_sdk" not in sys.modules


def test_the_queue_of_the_sdk_is_what_a_forked_child_mends() -> None:
    """A later SDK that has no such queue any more, or no such fault, is noticed here."""
    from sentry_sdk.worker import BackgroundWorker

    worker = BackgroundWorker()
    worker._thread_for_pid = os.getpid() + 1
    worker._queue.not_empty._waiters.append("a thread of the parent's")  # type: ignore[attr-defined] # private
    told = SimpleNamespace(transport=SimpleNamespace(_worker=worker))
    forget = sentry.waiters_of_another_process
    assert list(forget(told)) == ["a thread of the parent's"]
    worker._thread_for_pid = os.getpid()
    assert forget(told) is None
    assert forget(SimpleNamespace(transport=None)) is None
