"""Sentry in one process: when it is set up, what it is told, what is held back and what for."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sentry_sdk
from pymongo import errors

from tests.unit.sentry_events import DSN, Kept
from worker import events
from worker.errors import DeadLetteredError
from worker.events import Event
from worker.process import process
from worker.process.process import Mongo, Place
from worker.sentry import Agent, sdk
from worker.sentry.outages.state import Outage
from worker.settings.fields import Settings, load_settings
from worker.tracking.flight import Kind
from worker.tracking.work import Works, current_work

logger = logging.getLogger("celery_pymongo.test")
NODE = "celery@host"


def load(**environ: str) -> Settings:
    return load_settings(environ, env_file=None)


class FakeRedis:
    """Takes the place of the ledger and the registry: there never was an outage, and nobody else is there."""

    def __init__(self) -> None:
        self.asked = 0

    def take(self, _owner: str) -> bool:
        self.asked += 1
        return True

    def read(self) -> None:
        return None

    def fleet(self) -> Any:
        return SimpleNamespace(now=time.time(), silent_until=0.0, processes=[])


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """A fresh SDK whose `init` keeps the events; ends with none."""
    transport, init = Kept(), sentry_sdk.init

    def quiet_init(**options: Any) -> None:
        # What patches the whole process is left out; the rest is as we chose it.
        quiet = {"transport": transport, "default_integrations": False, "integrations": []}
        init(**options | quiet | {"enable_backpressure_handling": False, "auto_enabling_integrations": False})
        transport.options = options

    monkeypatch.setattr(sentry_sdk, "init", quiet_init)
    with sentry_sdk.isolation_scope() as scope:
        scope.clear()
        yield transport
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(process, "_current", None)
    made: list[Mongo] = []

    def make(**environ: str) -> Agent:
        mongo = Mongo(load(**environ))
        mongo.place = Place(NODE)
        made.append(mongo)
        redis = cast("Any", FakeRedis())
        return Agent(mongo, redis, redis, redis)

    yield make
    events.tell(None)
    for mongo in made:
        mongo.holder.close()


# -- set up ----------------------------------------------------------------------------------------


def test_without_a_dsn_nothing_starts(kept: Kept, agents: Any) -> None:
    agent = agents()
    agent.start(NODE)
    agent.enter(NODE)
    agent.tick(0.0, is_redis_away=False)
    agent.end()
    assert kept.flushed == []
    assert not sentry_sdk.is_initialized()


def test_an_sdk_that_sends_nowhere_is_none(kept: Kept, agents: Any) -> None:
    sentry_sdk.init()
    sentry_sdk.get_client().transport = None
    agent = agents()
    agent.start(NODE)
    agent.end()
    assert kept.flushed == []


def test_an_event_says_deployment_node_environment_and_release(kept: Kept, agents: Any) -> None:
    names = {"SENTRY_ENVIRONMENT": "staging", "SENTRY_RELEASE": "1.2", "CELERY_PYMONGO_DEPLOYMENT": "blue"}
    agents(SENTRY_DSN=DSN, **names).start(NODE)
    sentry_sdk.capture_message("hello")
    (event,) = kept.events
    assert event["tags"] == {"celery.node": NODE, "celery_pymongo.deployment": "blue"}
    assert (event["environment"], event["release"]) == ("staging", "1.2")


def test_an_event_has_no_local_variables_and_no_personal_data(kept: Kept, agents: Any) -> None:
    """Frames of the driver hold filters and documents."""
    agents(SENTRY_DSN=DSN).start(NODE)
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


@pytest.mark.parametrize("environ", [{}, {"SENTRY_DSN": DSN, "SENTRY_ENVIRONMENT": "ours"}])
def test_an_sdk_that_the_app_has_started_is_added_to(
    kept: Kept, agents: Any, environ: dict[str, str]
) -> None:
    """Whether we were given a DSN of our own or not: its options stay, its events are scrubbed and tagged."""
    sentry_sdk.init(dsn=DSN, environment="the app's own")
    agents(**environ).start(NODE)
    sentry_sdk.capture_message("mongodb://a:b@c")
    (event,) = kept.events
    assert (event["environment"], event["message"]) == ("the app's own", "mongodb://***@c")
    assert event["tags"]["celery.node"] == NODE


def test_an_sdk_that_the_app_starts_later_is_added_to_from_then_on(kept: Kept, agents: Any) -> None:
    agent = agents()
    agent.start("unknown")
    sentry_sdk.init(dsn=DSN)
    agent.enter(NODE)
    sentry_sdk.capture_message("mongodb://a:b@c")
    assert kept.events[0]["tags"]["celery.node"] == NODE
    assert kept.events[0]["message"] == "mongodb://***@c"


def test_a_password_of_the_settings_is_kept_out_of_everything(kept: Kept, agents: Any) -> None:
    uris = {"MONGODB_URI": "mongodb://u:tr0ub%40dor@db", "REDIS_URL": "redis://:horse@cache"}
    agents(SENTRY_DSN=DSN, **uris).start(NODE)
    sentry_sdk.capture_message("tr0ub%40dor or tr0ub@dor or horse")
    assert kept.events[0]["message"] == "[withheld] or [withheld] or [withheld]"


def test_the_end_waits_no_longer_than_it_may(kept: Kept, agents: Any) -> None:
    agent = agents(SENTRY_DSN=DSN)
    agent.start(NODE)
    options: Any = kept.options
    # A child's two, and MAIN's one.
    assert options["shutdown_timeout"] + 2 * sdk.FLUSH_SECONDS <= 2
    agent.end()
    assert kept.flushed == [sdk.FLUSH_SECONDS]
    assert sentry_sdk.get_client().options["shutdown_timeout"] == 0


def test_an_app_that_set_up_the_sdk_keeps_its_own_wait_at_the_end(kept: Kept, agents: Any) -> None:
    sentry_sdk.init(dsn=DSN, shutdown_timeout=7)
    agent = agents()
    agent.start(NODE)
    agent.end()
    assert sentry_sdk.get_client().options["shutdown_timeout"] == 7


def test_the_queue_of_the_sdk_is_what_a_forked_child_mends() -> None:
    """A later SDK that has no such queue any more, or no such fault, is noticed here."""
    from sentry_sdk.worker import BackgroundWorker

    worker = BackgroundWorker()
    worker._thread_for_pid = os.getpid() + 1
    worker._queue.not_empty._waiters.append("a thread of the parent's")  # type: ignore[attr-defined] # private
    told = SimpleNamespace(transport=SimpleNamespace(_worker=worker))
    forget = sdk.waiters_of_another_process
    assert list(forget(told)) == ["a thread of the parent's"]
    worker._thread_for_pid = os.getpid()
    assert forget(told) is None
    assert forget(SimpleNamespace(transport=None)) is None


def test_asking_for_the_sdk_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    monkeypatch.delitem(sys.modules, "sentry_sdk")
    sdk.end()
    sdk.after_fork()
    assert sdk.client() is None
    assert "sentry_sdk" not in sys.modules


# -- an outage and its errors ----------------------------------------------------------------------

AWAY = errors.AutoReconnect("localhost:27017: [Errno 111] Connection refused")


def fail(error: BaseException) -> None:
    try:
        raise error
    except type(error) as caught:
        sentry_sdk.capture_exception(caught)


def began(agent: Agent) -> Agent:
    """Return an agent whose reporter thread ticks."""
    agent.start(NODE)
    agent.tick(time.monotonic(), is_redis_away=False)
    return agent


def cut_off(agent: Agent, seconds: float) -> None:
    agent._mongo.link.circuit.fail(time.monotonic() - seconds, "gone")


def types(kept: Kept) -> list[str]:
    return [event["exception"]["values"][-1]["type"] for event in kept.events if "exception" in event]


def test_an_error_that_no_outage_explains_comes_a_moment_later(kept: Kept, agents: Any) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    fail(AWAY)
    assert types(kept) == []
    agent.tick(time.monotonic() + 4, is_redis_away=False)
    assert types(kept) == ["AutoReconnect"]
    assert "Connection refused" in kept.events[0]["exception"]["values"][-1]["value"]


def test_what_is_held_comes_as_the_process_ends(kept: Kept, agents: Any) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    fail(AWAY)
    agent.end()
    assert types(kept) == ["AutoReconnect"]


def test_a_connection_that_was_refused_is_of_the_outage_whatever_the_driver_calls_it(
    kept: Kept, agents: Any
) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    cut_off(agent, 6)
    refused = errors.AutoReconnect("localhost:27017: [Errno 111] Connection refused")
    refused._add_error_label("SystemOverloadedError")
    fail(refused)
    assert types(kept) == []


def test_what_was_counted_is_handed_over_once_all_is_sent(
    kept: Kept, agents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    flushed: list[Any] = []
    monkeypatch.setattr(agent._teller, "leave", lambda own: flushed.append((own.member, list(kept.flushed))))
    agent.end()
    assert flushed == [(f"{NODE}/0", [sdk.FLUSH_SECONDS])]


def test_an_error_of_an_outage_that_is_confirmed_is_counted(kept: Kept, agents: Any) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    cut_off(agent, 6)
    fail(AWAY)
    error = RuntimeError("no order")
    error.__cause__ = AWAY
    fail(error)
    assert types(kept) == []
    assert agent._teller._errors == {"no task": 2}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("unrelated"),
        errors.DuplicateKeyError("E11000", 11000, {}),
        errors.WaitQueueTimeoutError("full"),
        errors.AutoReconnect("elsewhere.example:27017: [Errno 111] Connection refused"),
        errors.OperationFailure("not authorized", 13, {}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_something_else_arrives_during_an_outage(
    kept: Kept, agents: Any, error: Exception
) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    agent._mongo.get_client()
    cut_off(agent, 60)
    fail(error)
    assert types(kept) == [type(error).__name__]


def test_a_fault_in_handling_the_outage_arrives(kept: Kept, agents: Any) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    cut_off(agent, 60)
    try:
        try:
            raise AWAY
        except errors.AutoReconnect as error:
            str(error).no_such_method()  # type: ignore[attr-defined] # the fault
    except AttributeError as fault:
        sentry_sdk.capture_exception(fault)
    assert types(kept)[-1:] == ["AttributeError"]


def test_where_nobody_ticks_nothing_is_held(kept: Kept, agents: Any) -> None:
    agent = agents(SENTRY_DSN=DSN)
    agent.start(NODE)
    fail(AWAY)
    assert types(kept) == ["AutoReconnect"]


def test_a_healthy_process_asks_redis_once_in_a_while(kept: Kept, agents: Any) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    redis: Any = agent._ledger
    now = time.monotonic()
    for second in range(60):
        agent.tick(now + second, is_redis_away=False)
    assert redis.asked == 2


# -- what is told with it --------------------------------------------------------------------------


def test_an_error_of_a_task_says_where_it_ran_and_what_its_pool_did(kept: Kept, agents: Any) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    for number in range(40):
        agent._mongo.row.recorder.record(Kind.CONNECTION_READY, float(number), "db:27017")
    work = Works().begin("shop.sell", "id-1")
    work.waited, work.ends_at = 0.25, time.monotonic() + 9
    try:
        sentry_sdk.add_breadcrumb(message="the app's own", timestamp="2020-01-01T00:00:00.000000Z")
        fail(ValueError("no"))
    finally:
        current_work.set(None)
    fail(ValueError("of no task"))
    event, other = kept.events
    task = event["contexts"]["celery_pymongo_task"]
    assert (task["name"], task["id"], task["waited_seconds"]) == ("shop.sell", "id-1", 0.25)
    assert 8 < task["left_seconds"] <= 9
    assert task["deadline"].endswith("Z")
    where = event["contexts"]["celery_pymongo"]
    assert (where["node"], where["slot"], where["pid"], where["circuit"]) == (NODE, 0, os.getpid(), "closed")
    crumbs = [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
    assert crumbs[0] == "the app's own"
    assert len(crumbs) == 31
    assert crumbs[-1] == "connection.ready 39 db:27017"
    assert "celery_pymongo_task" not in other["contexts"]


def test_what_is_worth_a_person_is_told_once_by_a_process_that_ticks(kept: Kept, agents: Any) -> None:
    agent = began(agents(SENTRY_DSN=DSN, CELERY_PYMONGO_DEPLOYMENT="blue"))
    for _ in range(3):
        events.say(logger, logging.WARNING, Event.CLIENT_REPLACED, "replaced: %s", "auth", why="auth")
    assert kept.events == []
    agent.tick(time.monotonic(), is_redis_away=True)
    (event,) = kept.events
    assert event["message"] == "Find out why MongoDB clients had to be replaced: auth"
    assert event["fingerprint"] == ["celery-pymongo", "blue", "client.replaced", "auth"]
    assert event["tags"]["runbook"] == "docs/runbook.md#client-replaced"
    assert event["contexts"]["what"] == {"why": "auth"}
    assert event["contexts"]["celery_pymongo"]["said"] == "replaced: auth"


def test_a_dead_letter_is_told_at_once_and_its_task_fails_in_silence(kept: Kept, agents: Any) -> None:
    began(agents(SENTRY_DSN=DSN))
    fields = {"reason": "poison", "task": "shop.charge", "task_id": "0b1"}
    events.say(logger, logging.ERROR, Event.TASK_DEAD, "x", **fields)
    fail(DeadLetteredError("it is kept"))
    (event,) = kept.events
    assert "mongo dead show 0b1" in event["message"]


def test_the_log_says_it_and_sentry_hears_it_once(kept: Kept, agents: Any) -> None:
    """The SDK makes an event of an error in the log, too."""
    from sentry_sdk.integrations.logging import EventHandler

    began(agents(SENTRY_DSN=DSN))
    handler = EventHandler(level=logging.ERROR)
    logger.addHandler(handler)
    try:
        fields = {"reason": "poison", "task": "shop.charge", "task_id": "0b1"}
        events.say(logger, logging.ERROR, Event.TASK_DEAD, "x", **fields)
        events.say(logger, logging.ERROR, Event.CIRCUIT_OPENED, "MongoDB cannot be reached: %s", "x")
        events.say(logger, logging.ERROR, Event.REDIS_REFUSED, "it cannot be used")
    finally:
        logger.removeHandler(handler)
    dead, refused = kept.events
    assert dead["fingerprint"][2] == "task.dead"
    assert refused["logentry"]["message"] == "redis.refused: it cannot be used"


def test_what_follows_from_an_outage_is_not_told_beside_it(kept: Kept, agents: Any) -> None:
    agent = began(agents(SENTRY_DSN=DSN))
    agent._teller._state = Outage(time.time() - 60, time.time() - 20, time.time(), is_over=True)
    fields = {"verdict": "degraded", "reasons": ["old messages"], "layers": {"reachability": "ok"}}
    events.say(logger, logging.WARNING, Event.HEALTH_CHANGED, "x", **fields)
    agent.tick(time.monotonic(), is_redis_away=True)
    assert kept.events == []
    agent._teller._state = None
    cut_off(agent, 1)
    events.say(logger, logging.WARNING, Event.CLIENT_REPLACED, "x", why="it fails")
    agent._mongo.link.circuit.succeed(time.monotonic(), "ping")
    events.say(logger, logging.WARNING, Event.HEALTH_CHANGED, "x", **fields)
    agent.tick(time.monotonic(), is_redis_away=True)
    assert [event["message"] for event in kept.events] == ["See what is degraded: old messages"]


def test_who_says_something_does_not_fail_of_who_hears_it(kept: Kept, agents: Any) -> None:
    began(agents(SENTRY_DSN=DSN))
    events.say(logger, logging.ERROR, Event.TASK_DEAD, "without its fields")
    assert kept.events == []
