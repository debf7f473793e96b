"""The fixes: when each switches itself off, and what each does without a broker."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from celery import Celery, bootsteps
from celery.concurrency import prefork, solo
from celery.concurrency.asynpool import AsynPool
from celery.worker import loops, state
from kombu.asynchronous.timer import Timer
from kombu.connection import Connection
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from worker.integration import fixes
from worker.integration.fixes import (
    gevent_stall,
    gevent_sweep,
    prefetch_restore,
    redis_restart,
    replacement_hole,
)

ROOT = Path(__file__).resolve().parents[3]


def test_every_fix_says_what_it_mends_and_where() -> None:
    """The table is complete, and no name is used twice."""
    assert len({fix.name for fix in fixes.FIXES}) == len(fixes.FIXES) == 6
    for fix in fixes.FIXES:
        assert fix.mends
        assert fix.upstream
        assert fix.step.__doc__


def test_every_fix_is_needed_with_the_installed_celery() -> None:
    """This fails once Celery or kombu mends one: then its file can go."""
    assert fixes.active() == fixes.FIXES


def test_install_adds_the_steps_once() -> None:
    """A second install changes nothing."""
    app = Celery(set_as_current=False)
    fixes.install(app)
    once = set(app.steps["consumer"])
    fixes.install(app)
    assert app.steps["consumer"] == once
    assert {fix.step for fix in fixes.FIXES} < once


def test_install_leaves_out_what_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fix that is not needed adds no step."""
    monkeypatch.setattr(AsynPool, "timers", property(lambda pool: {pool.maintain_pool: 0.1}))
    app = Celery(set_as_current=False)
    fixes.install(app)
    assert replacement_hole.ReplaceExitedChildren not in app.steps["consumer"]
    assert redis_restart.HandOverMessages in app.steps["consumer"]


def test_gevent_fix_is_off_once_the_loop_drains_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two-second drain is what the fix looks for."""

    def synloop(connection: Any) -> None:
        connection.drain_events(timeout=0.05)

    monkeypatch.setattr(loops, "synloop", synloop)
    assert not gevent_stall.needed()


@pytest.mark.parametrize("error", [None, ConnectionError("closed")])
def test_redis_fix_is_off_once_a_closed_channel_fails_cleanly(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Any end but the AttributeError means that kombu has mended it."""

    def connparams(channel: Any) -> dict[str, Any]:
        if error is not None:
            raise error
        return {}

    monkeypatch.setattr(kombu_redis.Channel, "_connparams", connparams)
    assert not redis_restart.needed()


def test_active_fixes_are_named_once_per_worker(caplog: pytest.LogCaptureFixture) -> None:
    """The line names those that apply to the worker's pool; a reconnect does not repeat it."""
    caplog.set_level(logging.INFO)
    step = object.__new__(gevent_stall.DrainWhenFree)
    say = fixes.SayWhatIsMended(SimpleNamespace())
    connection = Connection("redis://")
    for restart_count in (0, 1, 2):
        say.start(SimpleNamespace(restart_count=restart_count, steps=[step, say], connection=connection))
    assert [record.message for record in caplog.records] == ["fix.active: gevent-stall"]


@pytest.mark.parametrize(
    ("broker", "named"),
    [
        ("amqp://", "replacement-hole, prefetch-restore"),
        ("memory://", "replacement-hole"),
        ("filesystem://", "replacement-hole"),
    ],
)
def test_fixes_for_one_broker_are_not_named_with_another(
    broker: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    steps: list[Any] = [object.__new__(fix.step) for fix in fixes.FIXES]
    say = fixes.SayWhatIsMended(SimpleNamespace())
    say.start(SimpleNamespace(restart_count=0, steps=steps, connection=Connection(broker)))
    assert [record.message for record in caplog.records] == [f"fix.active: {named}"]


@pytest.mark.parametrize(("broker", "in_loop"), [("amqp://", True), ("memory://", False)])
def test_the_prefetch_is_restored_in_the_consumers_loop(broker: str, in_loop: bool) -> None:
    """Whichever thread acknowledges; it would wait for an answer that the loop reads."""
    soon: list[Any] = []
    consumer = SimpleNamespace(
        connection=Connection(broker),
        call_soon=lambda *args: soon.append(args),
        _restore_prefetch_count_after_connection_restart=lambda _promise: None,
    )
    step: Any = object.__new__(prefetch_restore.RestorePrefetchInLoop)
    step.start(consumer)
    consumer._restore_prefetch_count_after_connection_restart("promise")
    assert [args[1:] for args in soon] == ([(consumer, "promise")] if in_loop else [])


def test_every_step_starts_once_there_is_a_connection() -> None:
    """Steps that require nothing come in any order."""
    for step in (fixes.SayWhatIsMended, *(fix.step for fix in fixes.FIXES)):
        required = bool(getattr(step, "requires", ()))
        assert required or step is replacement_hole.ReplaceExitedChildren


def test_the_next_connection_is_resumed_with_redis_alone() -> None:
    """A channel of RabbitMQ's has no `qos`."""
    consumer = SimpleNamespace(connection_for_read=None, task_consumer=SimpleNamespace(channel=object()))
    step = redis_restart.HandOverMessages(consumer)
    step.start(consumer)
    assert step._handover._live is None


# The replacement hole


class Pool(prefork.TaskPool):
    """A prefork pool without processes, counting its maintenance."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None

    def maintain_pool(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def consumer() -> SimpleNamespace:
    blueprint = SimpleNamespace(state=bootsteps.RUN)
    return SimpleNamespace(pool=Pool(), hub=object(), timer=Timer(), blueprint=blueprint)


def entries(consumer: SimpleNamespace) -> list[Any]:
    return [scheduled.entry for scheduled in consumer.timer.queue if not scheduled.entry.canceled]


def test_children_are_looked_after_under_prefork_only(consumer: SimpleNamespace) -> None:
    """Other pools have no children; where there is no event loop a thread of billiard's looks after them."""
    step = replacement_hole.ReplaceExitedChildren(consumer)
    assert step.include_if(consumer)
    assert not step.include_if(SimpleNamespace(pool=object.__new__(solo.TaskPool), hub=object()))
    consumer.hub = None
    assert not step.include_if(consumer)


def test_one_timer_whatever_the_reconnects(consumer: SimpleNamespace) -> None:
    """Each start leaves one entry, each stop none; a second stop is harmless."""
    step = replacement_hole.ReplaceExitedChildren(consumer)
    for _ in range(3):
        step.start(consumer)
        assert len(entries(consumer)) == 1
    step.stop(consumer)
    step.stop(consumer)
    assert entries(consumer) == []


def test_a_failing_replacement_is_said_once_and_never_raised(
    consumer: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """A fork without memory must not end the event loop; a new series of failures is said again."""
    step = replacement_hole.ReplaceExitedChildren(consumer)
    for error in (MemoryError(), MemoryError(), None, OSError("no more processes")):
        consumer.pool.error = error
        step._maintain(consumer.pool)
    assert consumer.pool.calls == 4
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "OSError('no more processes')" in caplog.text


# gevent's stall


class Drain:
    """A consumer whose drain only notes its timeout."""

    def __init__(self, *, credit: bool, pending: int = 0, broker: str = "redis://") -> None:
        self.timeouts: list[float | None] = []
        self.connection = Connection(broker)
        # As the step does: on the connection, not on its class.
        vars(self.connection)["drain_events"] = self.drain
        qos = SimpleNamespace(can_consume=lambda: credit)
        self.consumer = SimpleNamespace(
            hub=None,
            connection=self.connection,
            task_consumer=SimpleNamespace(channel=SimpleNamespace(qos=qos)),
            _pending_operations=[None] * pending,
        )
        gevent_stall.DrainWhenFree(self.consumer).start(self.consumer)

    def drain(self, timeout: float | None = None) -> None:
        self.timeouts.append(timeout)


def test_a_drain_with_credit_is_celerys_own() -> None:
    """An idle worker waits as long as it always did."""
    drain = Drain(credit=True)
    drain.consumer.connection.drain_events(timeout=2.0)
    assert drain.timeouts == [2.0]


def test_the_drain_of_another_broker_is_celerys_own() -> None:
    """It hands out what comes in the middle of a drain, too."""
    drain = Drain(credit=False, broker="memory://")
    drain.consumer.connection.drain_events(timeout=2.0)
    assert drain.timeouts == [2.0]


def test_acknowledgements_run_before_a_drain_without_credit() -> None:
    """They are what brings credit back."""
    drain = Drain(credit=False, pending=1)
    drain.consumer.connection.drain_events(timeout=2.0)
    assert drain.timeouts == []


def test_a_drain_without_credit_is_short_and_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fan-out messages are read even while every slot is taken."""
    monkeypatch.setattr(gevent_stall, "HOLD_SECONDS", 0.0)
    drain = Drain(credit=False)
    drain.consumer.connection.drain_events(timeout=2.0)
    assert drain.timeouts == [gevent_stall.STEP_SECONDS]


def test_the_event_loop_needs_no_such_drain() -> None:
    """Prefork, threads and solo have one."""
    drain = Drain(credit=True)
    step = gevent_stall.DrainWhenFree(drain.consumer)
    assert step.include_if(drain.consumer)
    assert not step.include_if(SimpleNamespace(hub=object()))


# gevent's sweep


@pytest.fixture
def drained() -> SimpleNamespace:
    """A consumer without an event loop, whose poller counts how often it looks for messages of the dead."""
    connection = Connection("redis://", transport_options={"unacked_restore_interval": 7})
    connection.transport.cycle.maybe_restore_messages = Mock()
    return SimpleNamespace(hub=None, timer=Timer(), connection=connection)


def test_one_sweep_whatever_the_reconnects(drained: SimpleNamespace) -> None:
    step = gevent_sweep.ReturnMessagesOfTheDead(drained)
    for _ in range(3):
        step.start(drained)
        (entry,) = entries(drained)
    look = drained.connection.transport.cycle.maybe_restore_messages
    look.side_effect = ConnectionError
    entry()
    assert look.call_count == 1
    step.stop(drained)
    step.stop(drained)
    assert entries(drained) == []


def test_other_brokers_and_event_loops_have_no_sweep(drained: SimpleNamespace) -> None:
    drained.connection = Connection("memory://")
    step = gevent_sweep.ReturnMessagesOfTheDead(drained)
    step.start(drained)
    assert entries(drained) == []
    assert step.include_if(drained)
    assert not step.include_if(SimpleNamespace(hub=object()))


def test_the_sweep_is_off_once_kombu_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(self: Any, _callback: Any, timeout: Any = None) -> None:
        self.maybe_restore_messages()
        raise virtual.Empty

    monkeypatch.setattr(kombu_redis.MultiChannelPoller, "get", get)
    assert not gevent_sweep.needed()


# Messages over a lost connection


class BrokerGone(ConnectionError):
    """Redis does not answer."""


class Broker:
    """What Redis would hold: tags acknowledged, tags returned; it can be away."""

    def __init__(self) -> None:
        self.acked: list[str] = []
        self.returned: list[str] = []
        self.is_away = False

    def take(self, into: list[str], tag: str) -> None:
        if self.is_away:
            raise BrokerGone
        into.append(tag)


class MemoryQoS:
    """kombu's QoS as far as the mix-in needs it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._delivered: dict[str, Any] = {}
        self._dirty: set[str] = set()
        self._on_collect = SimpleNamespace(cancel=lambda: None)

    def append(self, message: Any, delivery_tag: str) -> None:
        self.channel.broker.take([], delivery_tag)
        self._delivered[delivery_tag] = message

    def ack(self, delivery_tag: str) -> None:
        self._remove_from_indices(delivery_tag).execute()
        self._dirty.add(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not requeue:
            return self.ack(delivery_tag)
        self.restore_by_tag(delivery_tag)
        self._dirty.add(delivery_tag)
        return None

    def _remove_from_indices(self, tag: str) -> SimpleNamespace:
        broker = self.channel.broker
        return SimpleNamespace(execute=lambda: broker.take(broker.acked, tag))

    def restore_by_tag(self, tag: str) -> None:
        self.channel.broker.take(self.channel.broker.returned, tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        for tag in self._delivered:
            self.restore_by_tag(tag)


class QoS(redis_restart.HandingOver, MemoryQoS):
    """The mix-in, mixed in."""


class Request:
    """A task in a slot; Celery's sets refer to it weakly."""

    def __init__(self, tag: str) -> None:
        self.message = SimpleNamespace(delivery_tag=tag)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Tasks that run: what the test puts in here."""
    requests: list[Request] = []
    monkeypatch.setattr(state, "active_requests", requests)
    monkeypatch.setattr(state, "reserved_requests", [])
    return requests


@pytest.fixture
def handover(consumer: SimpleNamespace, running: list[Request]) -> redis_restart.Handover:
    return redis_restart.Handover(consumer)


def connect(broker: Broker, handover: redis_restart.Handover, *tags: str) -> QoS:
    """A new connection that resumes, then delivers `tags`."""
    connection = SimpleNamespace(client=object())
    qos = QoS(SimpleNamespace(broker=broker, connection=connection))
    qos.handover = handover
    handover.resume(qos)
    for tag in tags:
        qos.append(SimpleNamespace(delivery_tag=tag), tag)
    return qos


def test_a_lost_connection_returns_nothing_by_itself(broker: Broker, handover: Any, running: Any) -> None:
    """Even where the broker answers: the tasks may still run."""
    running.append(Request("a"))
    connect(broker, handover, "a", "b").restore_unacked_once()
    assert (broker.acked, broker.returned) == ([], [])


def test_the_next_connection_returns_what_does_not_run(broker: Broker, handover: Any, running: Any) -> None:
    """A message whose task runs stays with it, and is acknowledged when it ends, wherever it came from."""
    running.append(Request("a"))
    old = connect(broker, handover, "a", "b", "c")
    old.ack("c")
    old.restore_unacked_once()
    connect(broker, handover)
    assert broker.returned == ["b"]
    old.ack("a")
    assert broker.acked == ["c", "a"]


def test_what_ends_while_there_is_no_connection_is_settled_on_the_next(
    broker: Broker, handover: Any, running: Any
) -> None:
    """An acknowledgement or a rejection in between is neither raised nor forgotten."""
    running.extend(map(Request, "ab"))
    old = connect(broker, handover, "a", "b")
    broker.is_away = True
    old.restore_unacked_once()
    old.ack("a")
    old.reject("b", requeue=True)
    broker.is_away = False
    connect(broker, handover)
    assert (broker.acked, broker.returned) == (["a"], ["b"])


def test_an_acknowledgement_that_failed_is_sent_again(broker: Broker, handover: Any, running: Any) -> None:
    """Celery hears of the error; the message is not returned as if its task had not run."""
    old = connect(broker, handover, "a")
    broker.is_away = True
    with pytest.raises(BrokerGone):
        old.ack("a")
    old.restore_unacked_once()
    broker.is_away = False
    connect(broker, handover)
    assert (broker.acked, broker.returned) == (["a"], [])


def test_a_connection_lost_again_while_resuming_owes_the_rest(
    broker: Broker, handover: Any, running: Any
) -> None:
    """Nothing is paid twice, nothing is dropped."""
    connect(broker, handover, "a", "b").restore_unacked_once()
    broker.is_away = True
    with pytest.raises(BrokerGone):
        connect(broker, handover)
    broker.is_away = False
    connect(broker, handover)
    connect(broker, handover)
    assert broker.returned == ["a", "b"]


def test_a_connection_that_nobody_closed_hands_over_too(broker: Broker, handover: Any, running: Any) -> None:
    """Celery 5.6 may leave it open."""
    old = connect(broker, handover, "a")
    connect(broker, handover)
    assert old.is_lost
    assert broker.returned == ["a"]


def test_closing_another_channel_leaves_the_tasks_channel_alone(
    broker: Broker, handover: Any, running: Any
) -> None:
    """Remote control closes and reopens its own."""
    running.append(Request("a"))
    old = connect(broker, handover, "a")
    old.restore_unacked_once()
    connect(broker, handover)
    other = QoS(SimpleNamespace(broker=broker, connection=SimpleNamespace(client=object())))
    other.handover = handover
    other.restore_unacked_once()
    old.ack("a")
    assert broker.acked == ["a"]


def test_a_transport_without_its_client_is_lost(broker: Broker, handover: Any, running: Any) -> None:
    """That is where kombu would raise AttributeError."""
    old = connect(broker, handover, "a")
    old.channel.connection.client = None
    old.ack("a")
    assert broker.acked == []
    connect(broker, handover)
    assert broker.acked == ["a"]


def test_threads_keep_all_that_they_were_given(
    broker: Broker, handover: Any, running: Any, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that waits for a thread will run: it must not be returned."""
    consumer.pool = object()
    monkeypatch.setattr(state, "reserved_requests", [Request("waits")])
    connect(broker, handover, "waits", "idle").restore_unacked_once()
    connect(broker, handover)
    assert broker.returned == ["idle"]


def test_nothing_runs_on_in_a_solo_worker(
    broker: Broker, handover: Any, running: Any, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tasks run in the thread that noticed the loss; one left behind by an error is over."""
    consumer.pool = object.__new__(solo.TaskPool)
    monkeypatch.setattr(state, "reserved_requests", [Request("a")])
    connect(broker, handover, "a").restore_unacked_once()
    connect(broker, handover)
    assert broker.returned == ["a"]


def test_the_workers_end_returns_everything(
    broker: Broker, handover: Any, running: Any, consumer: Any
) -> None:
    """A closing worker restores as kombu does, and what it still kept for a running task."""
    running.append(Request("a"))
    connect(broker, handover, "a").restore_unacked_once()
    live = connect(broker, handover, "b")
    consumer.blueprint.state = bootsteps.CLOSE
    handover.finish()
    live.restore_unacked_once()
    assert broker.returned == ["a", "b"]


def test_the_workers_end_without_a_broker_is_a_warning(
    broker: Broker, handover: Any, running: Any, consumer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An exit must not fail on a broker that is gone; the operator reads how many messages wait."""
    old = connect(broker, handover, "a")
    lost = connect(broker, handover, "b")
    broker.is_away = True
    lost.restore_unacked_once()
    consumer.blueprint.state = bootsteps.CLOSE
    handover.finish()
    old.restore_unacked_once()
    live = QoS(SimpleNamespace(broker=broker, connection=SimpleNamespace(client=object())))
    live.handover, live._delivered = handover, {"c": None}
    live.restore_unacked_once()
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "no connection: 1 message waits for the visibility timeout",
        "cannot return 1 message at shutdown: BrokerGone()",
    ]


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_message_handed_out_but_perhaps_not_stored_is_put_back(
    broker: Broker, handover: Any, running: Any, is_stored: bool
) -> None:
    """Whether Redis had stored it is seen on the next connection; it goes back once either way."""
    old = connect(broker, handover)
    message = SimpleNamespace(
        delivery_tag="a", _raw={"a": 1}, delivery_info={"exchange": "", "routing_key": "q"}
    )
    broker.is_away = True
    with pytest.raises(BrokerGone):
        old.append(message, "a")
    broker.is_away = False
    live = QoS(ChannelWithClient(broker, is_stored=is_stored))
    live.handover = handover
    handover.resume(live)
    handover.resume(live)
    assert broker.returned == (["a"] if is_stored else ["raw a"])


class ChannelWithClient:
    """A channel that can ask Redis whether a message is stored, and push one."""

    unacked_key = "unacked"

    def __init__(self, broker: Broker, *, is_stored: bool) -> None:
        self.broker = broker
        self.connection = SimpleNamespace(client=object())
        self._is_stored = is_stored

    def conn_or_acquire(self) -> ChannelWithClient:
        return self

    def __enter__(self) -> ChannelWithClient:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def hexists(self, key: str, tag: str) -> bool:
        return self._is_stored

    def _do_restore_message(self, raw: dict[str, Any], exchange: str, routing_key: str, client: Any) -> None:
        self.broker.returned.append(f"raw {next(iter(raw))}")


def test_other_brokers_are_left_alone(handover: Any) -> None:
    """Only a Redis transport is adopted."""
    with Connection("memory://") as connection:
        before = connection.transport.Channel
        redis_restart.adopt(connection, handover)
        assert connection.transport.Channel is before


def test_only_this_connections_channels_hand_over(handover: Any) -> None:
    """kombu's classes, and so every other connection of the process, stay as they are."""
    with Connection("redis://127.0.0.1:1/0") as connection:
        redis_restart.adopt(connection, handover)
        assert issubclass(connection.transport.Channel.QoS, redis_restart.HandingOver)
        assert connection.transport.Channel.QoS.handover is handover
    assert kombu_redis.Transport.Channel is kombu_redis.Channel
    assert not issubclass(kombu_redis.Channel.QoS, redis_restart.HandingOver)


def test_no_fix_imports_celerys_consumer_which_would_trace_tasks_without_sentry() -> None:
    code = (
        "import sys; from worker.integration import fixes; fixes.active();"
        " print('celery.worker.consumer' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
