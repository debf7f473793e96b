"""MongoTask: client, deadlines, retries; called by Celery, eagerly, or like a function."""

import contextlib
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from billiard import common
from celery import Celery
from celery.app.trace import task_has_custom
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from kombu.exceptions import OperationalError
from pymongo import MongoClient, _csot, errors

from worker.broker.requeue import BackToBroker
from worker.delivery import recovery
from worker.delivery.deliveries import NotKeptError
from worker.delivery.task import MongoTask
from worker.errors import DeadLetteredError, NotInstalledError, TaskExitError
from worker.integration.install import install
from worker.process import process
from worker.process.process import Mongo, task_ends_at
from worker.settings.fields import load_settings
from worker.tracking.work import Work, current_work

FAKE = {"app": "the database"}
DUPLICATE = errors.DuplicateKeyError("dup key", 11000)
ELECTION = errors.NotPrimaryError("not primary")
NOBODY = errors.ServerSelectionTimeoutError("nobody")
CLOSED_CLIENT = errors.InvalidOperation("Cannot use MongoClient after close")
BAD_LOGIN = errors.OperationFailure("Authentication failed.", 18)


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
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_store_eager_result = False
    mongo = install(app, load_settings({}, env_file=None))
    mongo.deliveries = NoRedis()
    # A moment that a slot is kept for: here nobody comes back meanwhile.
    monkeypatch.setattr(recovery, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    # What a ping finds after an error.
    monkeypatch.setattr(mongo.link, "answers", lambda since, *, within, is_shutdown: True)
    with mongo.use_client(FAKE):
        yield app
    mongo.close()


def make(app: Celery, body: Any, **options: Any) -> Any:
    body.__name__ = "body"  # Celery refuses a lambda's
    # Not shared: Celery would give it to every app of the process.
    return app.task(base=MongoTask, bind=True, name="shop.task", shared=False, **options)(body)


def traced(task: Any, *args: Any, **request: Any) -> Any:
    """Call a task as Celery's tracer does: with a request of its own on the stack, and its signals."""
    told = {"id": "some-id", "retries": 0, "called_directly": False, "args": args, "kwargs": {}}
    task.push_request(**(told | request))
    try:
        if task_has_custom(task, "before_start"):
            task.before_start("some-id", args, {})
        return task(*args)
    finally:
        if (work := current_work.get()) is not None and work.at_end is not None:
            work.at_end()
        task.pop_request()


def lose(app: Celery) -> None:
    """Open the circuit."""
    app.mongo.link.circuit.fail(time.monotonic(), "heartbeat")


def raising(error: BaseException) -> Any:
    def body(self: Any) -> None:
        raise error

    return body


# -- client ----------------------------------------------------------------------------------------


def test_a_task_has_the_client_and_the_database_of_its_process(app: Celery) -> None:
    task = make(app, lambda self: (self.client, self.db, self.mongo))
    assert task() == (FAKE, "the database", app.mongo)
    assert traced(task) == task()


def test_a_task_of_an_app_without_install_says_what_to_do() -> None:
    bare = Celery("bare", set_as_current=False)
    task = make(bare, lambda self: None)
    with pytest.raises(
        NotInstalledError, match=r"app 'bare' has no MongoDB client: call .*install\(app\)"
    ) as told:
        task()
    assert told.value.__context__ is None


def test_use_client_restores_itself_also_on_error(app: Celery) -> None:
    other = {"app": "other"}
    task = make(app, lambda self: self.db)
    assert process.current() is app.mongo
    with contextlib.suppress(ZeroDivisionError), process.use_client(other):
        assert task() == "other"
        raise ZeroDivisionError
    assert task() == "the database"


# -- called like a function, and eagerly -----------------------------------------------------------


def test_a_task_called_like_a_function_raises_its_error_and_is_not_retried(app: Celery) -> None:
    with pytest.raises(errors.NotPrimaryError):
        make(app, raising(ELECTION))()


def test_an_eager_task_sees_its_own_request(app: Celery) -> None:
    app.conf.task_always_eager = True
    task = make(app, lambda self: (self.request.id, self.request.called_directly, self.request.is_eager))
    result = task.delay()
    assert result.get() == (result.id, False, True)


def test_an_eager_task_is_retried_until_it_works(app: Celery) -> None:
    app.conf.task_always_eager = True
    seen: list[int] = []

    def body(self: Any) -> str:
        seen.append(self.request.retries)
        if len(seen) < 3:
            raise ELECTION
        return "done"

    assert make(app, body).delay().get() == "done"
    assert seen == [0, 1, 2]


def test_an_eager_task_that_never_works_ends_with_its_own_error(app: Celery) -> None:
    app.conf.task_always_eager = True
    with pytest.raises(errors.NotPrimaryError):
        make(app, raising(ELECTION), max_retries=2).delay().get()


def test_a_body_may_retry_by_itself(app: Celery) -> None:
    def body(self: Any) -> Any:
        raise self.retry(countdown=7)

    with pytest.raises(Retry) as retry:
        traced(make(app, body))
    assert retry.value.when == 7


def no_redis(*_args: Any, **_options: Any) -> None:
    raise OperationalError("Redis is away")


def test_a_retry_that_cannot_be_sent_gives_the_message_back(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery would drop it."""
    monkeypatch.setattr(app.amqp, "send_task_message", no_redis)
    with pytest.raises(Reject, match="its retry could not be sent") as reject:
        traced(make(app, raising(ELECTION)))
    assert reject.value.requeue


def test_a_retry_that_cannot_be_sent_is_an_error_where_the_message_is_acknowledged(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.amqp, "send_task_message", no_redis)
    with pytest.raises(OperationalError):
        traced(make(app, raising(ELECTION), acks_late=False))


class Dead:
    """Takes every letter, or none where Redis is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away = is_away
        self.ended: list[bool] = []
        self.interrupted: list[str | None] = []

    def begin(self, task: Any) -> str:
        return "run"

    def end(self, task: Any, run_id: str, *, is_done: bool) -> None:
        self.ended.append(is_done)

    def interrupt(self, task: Any, run_id: str | None) -> None:
        self.interrupted.append(run_id)

    def refuse(self, task: Any, reason: str, *, error: BaseException | None) -> DeadLetteredError:
        if self.is_away:
            raise NotKeptError
        return DeadLetteredError(f"{reason}: {error!r}")


@pytest.fixture
def work() -> Iterator[Work]:
    """What the attribution notes of the task that runs."""
    work = Work("shop.task", "some-id", 0.0)
    token = current_work.set(work)
    yield work
    current_work.reset(token)


@pytest.mark.parametrize("is_away", [False, True])
def test_what_must_not_run_twice_is_not_retried_by_itself_either_once_it_may_have_written(
    app: Celery, work: Work, is_away: bool
) -> None:
    app.mongo.deliveries, app.mongo.has_write_counter = Dead(is_away=is_away), True

    def body(self: Any) -> None:
        work.writes += 1
        self.retry(exc=ValueError("x"))

    with pytest.raises(BackToBroker if is_away else DeadLetteredError):
        traced(make(app, body, idempotent=False))


@pytest.mark.usefixtures("work")
def test_what_must_not_run_twice_is_retried_while_it_has_written_nothing(app: Celery) -> None:
    app.mongo.deliveries, app.mongo.has_write_counter = Dead(), True

    def body(self: Any) -> None:
        self.retry(exc=ValueError("x"))

    with pytest.raises(Retry):
        traced(make(app, body, idempotent=False))


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("error", "is_done"),
    [
        (None, True),
        (ValueError("the task's own"), True),
        (DUPLICATE, True),
        (Ignore(), True),
        (Reject("x", requeue=False), True),
        (Reject("x", requeue=True), False),
        (Retry("x"), False),
        (ELECTION, False),
        (NOBODY, False),
    ],
    ids=repr,
)
def test_a_run_is_done_unless_another_is_to_follow(
    app: Celery, error: Exception | None, is_done: bool
) -> None:
    app.mongo.deliveries, app.mongo.has_write_counter = dead, _ = Dead(), True

    def body(self: Any) -> None:
        if error is not None:
            raise error

    with contextlib.suppress(Exception):
        traced(make(app, body, idempotent=False))
    assert dead.ended == [is_done]


def test_an_eager_task_that_must_not_run_twice_keeps_its_error(app: Celery) -> None:
    """There is no message to keep."""
    app.mongo.deliveries = Dead()
    with pytest.raises(errors.NotPrimaryError):
        traced(make(app, raising(ELECTION), idempotent=False), is_eager=True)


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    "error",
    [SystemExit(0), SystemExit("usage"), KeyboardInterrupt(), GeneratorExit(), MemoryError()],
    ids=repr,
)
def test_a_task_that_raises_what_would_end_its_process_fails(app: Celery, error: BaseException) -> None:
    """Celery would run it again, for ever; a MemoryError would end the whole worker."""
    app.mongo.deliveries = dead = Dead()
    with pytest.raises(TaskExitError, match="ends the task, not its process") as raised:
        traced(make(app, raising(error), idempotent=False))
    assert raised.value.__cause__ is error
    assert dead.ended == [True]


@pytest.mark.parametrize("request_", [{"is_eager": True}, {"called_directly": True}], ids=repr)
def test_outside_a_worker_the_caller_gets_it(app: Celery, request_: dict[str, bool]) -> None:
    with pytest.raises(KeyboardInterrupt):
        traced(make(app, raising(KeyboardInterrupt())), **request_)


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("error", [SystemExit(-241), OSError("in its clean-up")], ids=repr)
def test_a_run_that_a_signal_interrupts_is_noted_and_its_process_ends(
    app: Celery, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    app.mongo.deliveries = dead = Dead()
    monkeypatch.setattr(common, "_should_have_exited", [True])
    error.__context__ = error if isinstance(error, SystemExit) else SystemExit(-241)
    with pytest.raises(SystemExit):
        traced(make(app, raising(error)))
    assert (dead.interrupted, dead.ended) == (["run"], [])


# -- retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ELECTION,
        errors.WaitQueueTimeoutError("full"),
        errors.ExecutionTimeout("slow", 50),
        errors.InvalidOperation("Cannot use MongoClient after close"),
    ],
)
@pytest.mark.parametrize("retries", [0, 3, 9])
def test_a_transient_error_is_retried_after_a_full_jitter_delay(
    app: Celery, error: Exception, retries: int
) -> None:
    with pytest.raises(Retry) as retry:
        traced(make(app, raising(error)), retries=retries)
    assert retry.value.exc is error
    assert 0 <= retry.value.when <= app.mongo.backoff.ceiling(retries)


def test_retries_are_bounded_and_then_the_error_stands(app: Celery) -> None:
    task = make(app, raising(ELECTION))
    for retries in (10, 11):
        with pytest.raises(errors.NotPrimaryError):
            traced(task, retries=retries)


def test_a_task_without_a_limit_of_retries_is_retried_for_ever(app: Celery) -> None:
    with pytest.raises(Retry):
        traced(make(app, raising(ELECTION), max_retries=None), retries=10_000)


def test_a_task_that_wants_no_retries_has_none(app: Celery) -> None:
    with pytest.raises(errors.NotPrimaryError):
        traced(make(app, raising(ELECTION), max_retries=0))


@pytest.mark.parametrize(
    "error",
    [
        DUPLICATE,
        errors.OperationFailure("not allowed", 13),
        errors.ConfigurationError("options"),
        ValueError("the task's own"),
        SoftTimeLimitExceeded(),
        Reject("x"),
    ],
)
def test_an_error_that_no_retry_mends_fails_at_once(app: Celery, error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        traced(make(app, raising(error)))
    assert raised.value is error


def test_a_retry_is_said_without_the_arguments(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    def body(self: Any, secret: str) -> None:
        raise ELECTION

    with pytest.raises(Retry):
        traced(make(app, body), "the argument")
    assert "task.retry: shop.task[some-id] met failover and runs again in" in caplog.text
    assert "(retry 1 of 10)" in caplog.text
    assert "the argument" not in caplog.text


# -- outages ---------------------------------------------------------------------------------------


class OrderError(Exception):
    """An error of the task's own."""


def wrapped(error: Exception) -> Exception:
    """Return the task's own error, raised from another."""
    own = OrderError("could not be saved")
    own.__cause__ = error
    return own


SHUTTING_DOWN = errors.WriteConcernError("Replication is being shut down", 91)
OUTAGES = [
    NOBODY,
    errors.AutoReconnect("reset"),
    errors.NetworkTimeout("timed out"),
    BAD_LOGIN,
    ELECTION,
    SHUTTING_DOWN,
    errors.ExecutionTimeout("slow", 50),
    wrapped(NOBODY),
    ExceptionGroup("both", [NOBODY, SHUTTING_DOWN]),
]


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
@pytest.mark.parametrize("retries", [0, 10])
@pytest.mark.parametrize("is_known", [True, False], ids=["open before", "opened by the ping"])
def test_a_task_that_meets_an_outage_goes_back_to_the_broker_and_costs_no_retry(
    app: Celery, monkeypatch: pytest.MonkeyPatch, error: Exception, retries: int, is_known: bool
) -> None:
    monkeypatch.setattr(app.mongo.link, "answers", lambda since, *, within, is_shutdown: False)

    def body(self: Any) -> None:
        if is_known:
            lose(app)
        raise error

    with pytest.raises(Reject) as reject:
        traced(make(app, body), retries=retries)
    assert reject.value.requeue
    assert reject.value.__suppress_context__
    assert app.mongo.requeued == 1


@pytest.mark.parametrize("error", [*OUTAGES, errors.WaitQueueTimeoutError("full")], ids=repr)
def test_an_election_in_the_middle_of_a_task_costs_no_retry_though_the_new_primary_answers(
    app: Celery, error: Exception
) -> None:
    """It may be over before the ping is."""

    def body(self: Any, is_elected: bool) -> None:
        if is_elected:
            app.mongo.link._heartbeats.elected_at = time.monotonic()
        raise error

    task = make(app, body)
    with pytest.raises(Reject):
        traced(task, True)
    with pytest.raises(errors.OperationFailure if error is BAD_LOGIN else Retry):
        traced(task, False)


@pytest.mark.parametrize("error", [errors.WaitQueueTimeoutError("full"), CLOSED_CLIENT], ids=repr)
def test_an_error_of_the_process_itself_waits_where_the_circuit_is_open_and_asks_for_no_ping(
    app: Celery, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(
        app.mongo.link, "answers", lambda since, *, within, is_shutdown: pytest.fail("a ping")
    )

    def body(self: Any, is_lost: bool) -> None:
        if is_lost:
            lose(app)
        raise error

    task = make(app, body)
    with pytest.raises(Retry):
        traced(task, False)
    with pytest.raises(Reject):
        traced(task, True)


def test_an_outage_that_is_over_before_its_error_comes_costs_no_retry_either(app: Celery) -> None:
    def body(self: Any, is_lost: bool) -> None:
        if is_lost:
            lose(app)
            app.mongo.link.circuit.succeed(time.monotonic(), "ping")
        raise NOBODY

    task = make(app, body)
    with pytest.raises(Reject):
        traced(task, True)
    with pytest.raises(Retry):
        traced(task, False)


@pytest.mark.parametrize("error", [e for e in OUTAGES if e is not BAD_LOGIN], ids=repr)
def test_an_error_is_the_tasks_own_where_a_ping_is_answered(app: Celery, error: Exception) -> None:
    """As another cluster's, or one of a read preference that no member serves: else it would never end."""
    task = make(app, raising(error))
    with pytest.raises(Retry) as retry:
        traced(task)
    assert retry.value.exc is error
    with pytest.raises(type(error)):
        traced(task, retries=10)
    assert app.mongo.link.circuit.is_closed
    assert app.mongo.requeued == 0


def test_another_clusters_refused_login_fails_at_once(app: Celery) -> None:
    with pytest.raises(errors.OperationFailure):
        traced(make(app, raising(BAD_LOGIN)))


@pytest.mark.parametrize("error", [DUPLICATE, ValueError("x"), wrapped(DUPLICATE)], ids=repr)
def test_an_error_that_no_retry_mends_stands_in_an_outage_too(app: Celery, error: Exception) -> None:
    def body(self: Any) -> None:
        lose(app)
        raise error

    with pytest.raises(type(error)):
        traced(make(app, body))


@pytest.mark.parametrize("own", [Retry("x"), Reject("x", requeue=False), Ignore()], ids=repr)
def test_what_a_task_says_itself_of_its_next_run_is_taken_at_its_word(app: Celery, own: Exception) -> None:
    own.__context__ = NOBODY

    def body(self: Any) -> None:
        lose(app)
        raise own

    with pytest.raises(type(own)) as raised:
        traced(make(app, body))
    assert raised.value is own


def test_a_soft_time_limit_is_no_outage_though_it_strikes_in_the_handling_of_an_error(app: Celery) -> None:
    """As where the driver sleeps before it tries again."""
    limit = SoftTimeLimitExceeded()
    limit.__context__ = NOBODY
    with pytest.raises(SoftTimeLimitExceeded):
        traced(make(app, raising(limit)))


def test_a_soft_time_limit_that_strikes_in_an_outage_costs_no_retry(app: Celery) -> None:
    def body(self: Any) -> None:
        lose(app)
        raise SoftTimeLimitExceeded

    with pytest.raises(Reject, match="SoftTimeLimitExceeded in an outage"):
        traced(make(app, body))


def test_a_ping_takes_no_more_time_than_the_task_has(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def answers(since: float, *, within: float, is_shutdown: bool) -> bool:
        given.append(within)
        return True

    monkeypatch.setattr(app.mongo.link, "answers", answers)
    task = make(app, raising(NOBODY))
    for limit in (None, 20.0, 0.01):
        with pytest.raises(Retry):
            traced(task, timelimit=[limit, None])
    assert given == [float("inf"), pytest.approx(19, abs=1), 0.1]


def test_where_the_message_is_acknowledged_early_a_copy_is_sent_that_keeps_the_retries(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rejected message would be lost."""
    monkeypatch.setattr(app.mongo.link, "answers", lambda since, *, within, is_shutdown: False)
    task = make(app, raising(NOBODY), acks_late=False)
    sent: list[dict[str, Any]] = []

    def send(_producer: Any, _name: str, message: Any, **options: Any) -> None:
        sent.append(message.headers | options)

    monkeypatch.setattr(app.amqp, "send_task_message", send)
    with pytest.raises(Ignore):
        traced(task, retries=3, delivery_info={"exchange": "", "routing_key": "shop.queue"})
    (headers,) = sent
    assert (headers["id"], headers["retries"], headers["queue"].name) == ("some-id", 3, "shop.queue")
    assert headers["eta"] is not None


def test_what_goes_back_is_said_without_the_arguments(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="celery_pymongo")

    def body(self: Any, secret: str) -> None:
        lose(app)
        raise NOBODY

    with pytest.raises(Reject):
        traced(make(app, body), "the argument")
    assert "task.requeued: shop.task[some-id] goes back to the broker: outage" in caplog.text
    assert "the argument" not in caplog.text


def test_a_task_is_acknowledged_late_whatever_the_app_says() -> None:
    app = Celery("x", set_as_current=False)
    app.conf.update(task_acks_late=False, task_reject_on_worker_lost=False)
    task = make(app, lambda self: None)
    assert (task.acks_late, task.reject_on_worker_lost, task.max_retries) == (True, True, 10)


# -- deadlines -------------------------------------------------------------------------------------


def left(self: Any) -> tuple[float | None, float | None]:
    """Return the deadline of the driver, and the seconds until the task's own end."""
    ends_at = task_ends_at.get()
    return _csot.remaining(), None if ends_at is None else ends_at - time.monotonic()


def test_a_long_time_limit_is_never_handed_to_the_driver(app: Celery) -> None:
    """It would replace the selection timeout: a task would wait that long for a server."""
    deadline, ends_in = traced(make(app, left), timelimit=[300, 270])
    assert deadline is None
    assert ends_in == pytest.approx(269, abs=1)


def test_a_time_limit_shorter_than_the_drivers_limits_is_a_deadline(app: Celery) -> None:
    deadline, ends_in = traced(make(app, left), timelimit=[20, 10])
    assert deadline == pytest.approx(9, abs=1)
    assert ends_in == pytest.approx(9, abs=1)
    assert _csot.remaining() is None
    assert task_ends_at.get() is None


def test_the_deadline_of_an_operation_is_not_the_tasks(app: Celery) -> None:
    """The client has it, for each operation anew."""
    app.mongo.settings = load_settings({"CELERY_PYMONGO_OPERATION_DEADLINE_SECONDS": "5"}, env_file=None)
    task = make(app, left)
    assert traced(task, timelimit=[300, 270])[0] is None
    assert traced(task, timelimit=[300, 10])[0] is None
    assert traced(task, timelimit=[300, 4])[0] == pytest.approx(3.6, abs=1)


def test_a_call_inside_a_task_ends_with_the_task(app: Celery) -> None:
    def body(self: Any) -> list[float | None]:
        asked = self.mongo.call(_csot.remaining, deadline=60)
        return [asked, self.mongo.call(_csot.remaining, deadline=2), self.mongo.call(_csot.remaining)]

    long, short, none = traced(make(app, body), timelimit=[20, 10])
    assert long == pytest.approx(9, abs=1)
    assert short == pytest.approx(2, abs=1)
    assert none == pytest.approx(9, abs=1)


def test_a_task_called_inside_another_keeps_its_end(app: Celery) -> None:
    inner = app.task(base=MongoTask, bind=True, name="shop.inner", shared=False)(left)
    deadline, ends_in = traced(make(app, lambda self: inner()), timelimit=[20, 10])
    assert deadline == pytest.approx(9, abs=1)
    assert ends_in == pytest.approx(9, abs=1)


def test_a_task_called_like_a_function_has_no_end(app: Celery) -> None:
    assert make(app, left, time_limit=5)() == (None, None)


@pytest.mark.parametrize(
    ("header", "of_task", "of_app", "seconds"),
    [
        (None, (None, None), (None, None), None),
        (None, (None, None), (300, 270), 269),
        (None, (None, None), (300, None), 299),
        (None, (20, 10), (300, 270), 9),
        (None, (20, 30), (300, 270), 19),  # the hard limit comes first
        ([8, 4], (20, 10), (300, 270), 3.0),
        ([None, 4], (20, 10), (300, 270), 3.0),
        ([8, None], (20, 10), (300, 270), 7.0),
        ([0.5, None], (None, None), (None, None), 0.3),
    ],
)
def test_the_limit_of_the_message_comes_before_the_tasks_and_that_before_the_apps(
    app: Celery, header: Any, of_task: Any, of_app: Any, seconds: float | None
) -> None:
    """A tenth of it, one second at most, is left for the task to fail by its own error."""
    app.conf.task_time_limit, app.conf.task_soft_time_limit = of_app
    # A worker has them, too; before Celery 5.7 a task has not.
    app.mongo.time_limits = of_app
    hard, soft = of_task
    task = make(app, lambda self: self.seconds_left(), time_limit=hard, soft_time_limit=soft)
    assert traced(task, timelimit=header) == (None if seconds is None else pytest.approx(seconds))


def test_the_limits_of_the_nodes_command_line_are_the_last_to_be_asked(app: Celery) -> None:
    app.mongo.time_limits = (20, 10)
    task = make(app, lambda self: self.seconds_left())
    assert traced(task) == pytest.approx(9)
    assert traced(task, timelimit=[None, 5]) == pytest.approx(4.0)


def test_a_mongo_of_another_app_is_not_used(app: Celery) -> None:
    other = Celery("other", set_as_current=False)
    other.mongo = Mongo(load_settings({"MONGODB_DATABASE": "theirs"}, env_file=None))
    with other.mongo.use_client({"theirs": "their database"}):
        assert make(other, lambda self: self.db)() == "their database"
    assert make(app, lambda self: self.db)() == "the database"


# -- our own tasks ---------------------------------------------------------------------------------


def server(*replies: Any) -> Any:
    """Return a client whose server answers `replies` or raises them."""
    left_over = list(replies)

    def command(_name: str) -> Any:
        reply = left_over.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    client: Any = MongoClient("mongodb://a:1", connect=False)
    vars(client)["admin"] = SimpleNamespace(command=command)
    return client


def run(app: Celery, name: str, client: Any, **request: Any) -> Any:
    with app.mongo.use_client(client):
        return traced(app.tasks[name], **request)


@pytest.mark.parametrize("name", ["mongo.health.check", "mongo.pool.snapshot"])
def test_a_scheduled_task_returns_what_the_watch_finds(app: Celery, name: str) -> None:
    app.mongo.watch = SimpleNamespace(
        check=lambda *, is_sent: "mongo.health.check" * is_sent, snapshot=lambda: "mongo.pool.snapshot"
    )
    assert run(app, name, server()) == name


def test_the_scheduled_tasks_are_not_retried(app: Celery) -> None:
    """The next one is on its way anyway."""
    for name in ("mongo.health.check", "mongo.pool.snapshot", "mongo.reconnect.attempt"):
        assert app.tasks[name].max_retries == 0


def test_a_reconnection_is_attempted_only_in_an_outage(app: Celery) -> None:
    assert run(app, "mongo.reconnect.attempt", server())["attempt"] is None
    lose(app)
    report = run(app, "mongo.reconnect.attempt", server({"ok": 1}))
    assert report["attempt"]["connected"] is True
    assert report["circuit"] == "closed"


def test_a_bounded_reconnection_ends_in_yes_as_soon_as_it_can(app: Celery) -> None:
    report = run(app, "mongo.reconnect.run", server({"ok": 1}))
    assert (report["connected"], report["attempts"]) == (True, 1)


def test_a_bounded_reconnection_goes_back_to_the_broker_between_attempts(app: Celery) -> None:
    with pytest.raises(Retry) as retry:
        run(app, "mongo.reconnect.run", server(NOBODY))
    assert 0 <= retry.value.when <= app.mongo.backoff.ceiling(0)


def test_a_bounded_reconnection_ends_in_no(app: Celery) -> None:
    report = run(app, "mongo.reconnect.run", server(NOBODY), retries=2)
    assert (report["connected"], report["attempts"]) == (False, 3)
