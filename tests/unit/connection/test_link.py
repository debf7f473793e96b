"""A process's link to MongoDB: what it says, and what it does about it."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient, errors, monitoring
from pymongo.hello import Hello

from worker.connection.circuit import CircuitState
from worker.connection.link import Link
from worker.connection.node_peers import Alone
from worker.errors import ClientClosedError
from worker.events import Event
from worker.mongo.backoff import Backoff
from worker.mongo.classify import ErrorClass
from worker.mongo.holder import Client, ClientHolder
from worker.pool import adapter
from worker.server import pings
from worker.tracking.flight import Kind
from worker.tracking.guard import is_closed

A = ("a", 27017)
REFUSED = errors.ServerSelectionTimeoutError("a:27017: refused, Timeout: 2.0s")
FULL = errors.WaitQueueTimeoutError("no connection")
CLOSED = errors.InvalidOperation("Cannot use MongoClient after close")
BAD_AUTH = errors.OperationFailure("bad auth", 18)


class Siblings(Alone):
    """The other processes of the node, as the test has them."""

    prober = False
    leader = True

    def leads(self) -> bool:
        return self.leader

    def is_prober(self) -> bool:
        return self.prober


class World:
    """A link whose clients are real and not connected; `replies` come in the place of the network's."""

    def __init__(self, *replies: Any) -> None:
        self.replies: list[Any] = list(replies)
        self.asked: list[str] = []
        self.built: list[Any] = []
        self.can_renew = False
        self.speaks = True
        self.renewed = 0
        self.holder = ClientHolder(self._build)
        backoff = Backoff(base=1e6, cap=1e6)
        self.company = Siblings()
        self.recorded: list[tuple[Kind, float]] = []
        self.link = Link(
            self.holder,
            backoff,
            timeout_seconds=2,
            renew=self._renew,
            record=lambda kind, number, _text: self.recorded.append((kind, number)),
            company=self.company,
            give_up_seconds=10.0,
            on_change=lambda _change: self.speaks,
        )

    def _build(self) -> Client:
        client: Any = MongoClient("mongodb://a:27017", connect=False)
        vars(client)["admin"] = SimpleNamespace(command=self._command)
        self.built.append(client)
        return client  # type: ignore[no-any-return] # its commands are ours

    def _renew(self) -> bool:
        self.renewed += 1
        return self.can_renew

    def _command(self, name: str) -> Any:
        self.asked.append(name)
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def heartbeat(self, error: Exception | None = None) -> None:
        if error is None:
            reply = Hello({"ok": 1, "isWritablePrimary": True})
            self.listener.succeeded(monitoring.ServerHeartbeatSucceededEvent(0.001, reply, A))
        else:
            self.listener.failed(monitoring.ServerHeartbeatFailedEvent(0.001, error, A))

    def lose(self) -> None:
        """Lose the only server there is."""
        self.heartbeat()
        self.heartbeat(errors.AutoReconnect("reset"))

    def listen(self) -> None:
        self.listener = self.link.listener()


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    world = World()
    world.listen()
    yield world
    for client in world.built:
        client.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event")]


def levels(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.event, record.levelname) for record in caplog.records if hasattr(record, "event")]


@pytest.mark.parametrize(("speaks", "expected"), [(True, ["ERROR", "INFO"]), (False, ["DEBUG", "DEBUG"])])
def test_one_process_of_a_node_speaks_for_all(
    world: World, caplog: pytest.LogCaptureFixture, speaks: bool, expected: list[str]
) -> None:
    world.speaks = speaks
    world.replies = [REFUSED, {"ok": 1}]
    world.link.ping()
    world.link.ping()
    assert [level for _, level in levels(caplog)] == expected


def test_an_outage_is_said_once_and_so_is_its_end(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.replies = [REFUSED, REFUSED, {"ok": 1}, {"ok": 1}]
    world.link.ping()
    world.link.ping()
    world.lose()
    world.link.ping()
    world.link.ping()
    assert said(caplog) == [Event.CIRCUIT_OPENED, Event.CIRCUIT_CLOSED]
    assert "MongoDB cannot be reached: a:27017: refused" in caplog.text


def test_a_lost_heartbeat_opens_the_circuit_and_wakes_the_reporter(world: World) -> None:
    world.heartbeat()
    assert not world.link.wake.is_set()
    world.heartbeat(errors.AutoReconnect("reset"))
    assert world.link.circuit.state is CircuitState.OPEN
    assert world.link.wake.is_set()
    assert world.link.due_in() == 0.0


def test_a_heartbeat_that_succeeds_makes_the_next_attempt_due(world: World) -> None:
    world.lose()
    world.replies = [REFUSED]
    world.link.reconnect()
    due_in = world.link.due_in()
    assert due_in is not None
    assert due_in > 0
    world.link.wake.clear()
    world.heartbeat()
    assert world.link.wake.is_set()
    assert world.link.due_in() == 0.0


def test_a_server_that_is_there_and_refuses_logins_is_not_asked_at_each_heartbeat(world: World) -> None:
    refused = errors.OperationFailure("authentication failed", 18)
    world.replies = [refused]
    world.link.ping()
    world.heartbeat()
    world.replies = [refused]
    world.link.reconnect()
    due_in = world.link.due_in()
    world.heartbeat()
    assert world.link.due_in() == pytest.approx(due_in, abs=0.1)
    world.heartbeat(errors.AutoReconnect("reset"))
    world.heartbeat()
    assert world.link.due_in() == 0.0


def test_nothing_is_due_while_the_circuit_is_closed(world: World) -> None:
    assert world.link.due_in() is None
    assert world.link.reconnect() is None
    assert world.asked == []


@pytest.mark.parametrize("error", [FULL, errors.NotPrimaryError("x"), errors.DuplicateKeyError("x", 11000)])
def test_what_is_no_outage_leaves_the_circuit_closed(world: World, error: Exception) -> None:
    world.link.observe(error)
    world.replies = [error]
    assert not world.link.ping().is_answered
    assert world.link.circuit.is_closed


def test_a_probe_that_fails_in_any_way_opens_the_circuit_again(world: World) -> None:
    world.lose()
    world.replies = [FULL]
    attempt = world.link.reconnect()
    assert attempt is not None
    assert not attempt.connected
    assert world.link.circuit.state is CircuitState.OPEN


def test_a_failed_attempt_says_when_the_next_is_due(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.lose()
    world.replies = [REFUSED]
    world.link.reconnect()
    assert said(caplog)[-1] == Event.RECONNECT_FAILED
    assert "attempt 1 failed (outage: a:27017: refused), the next is due in" in caplog.text


def test_a_health_check_that_ends_the_outage_ends_its_backoff(world: World) -> None:
    world.lose()
    world.replies = [REFUSED, {"ok": 1}, REFUSED]
    world.link.reconnect()
    world.link.ping()
    world.lose()
    attempt = world.link.reconnect()
    assert attempt is not None
    assert attempt.number == 1


def test_a_forced_attempt_is_made_though_nothing_is_wrong(world: World) -> None:
    world.replies = [{"ok": 1}]
    attempt = world.link.reconnect(force=True)
    assert attempt is not None
    assert attempt.connected


def test_a_client_that_a_task_closed_is_replaced(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.holder.get().close()
    assert world.link.observe(CLOSED) is ErrorClass.CLOSED
    assert len(world.built) == 2
    assert said(caplog) == [Event.CLIENT_REPLACED]


def test_an_error_of_a_client_that_is_replaced_already_replaces_nothing(world: World) -> None:
    """Ten threads that met one closed client make one new client, not ten."""
    world.holder.get().close()
    for _ in range(10):
        world.link.observe(CLOSED)
    assert len(world.built) == 2
    assert not is_closed(world.built[1])


def test_a_probe_that_the_shutdown_overtakes_opens_no_client(world: World) -> None:
    """The reporter is in the middle of a ping when the client is closed, and it is the process's end."""
    world.lose()
    world.holder.open()

    def closed_meanwhile(name: str) -> Any:
        world.holder.close()
        raise CLOSED

    vars(world.built[0])["admin"] = SimpleNamespace(command=closed_meanwhile)
    attempt = world.link.reconnect()
    assert attempt is not None
    assert not attempt.replaced_client
    assert (world.holder.state, len(world.built)) == ("closed", 1)
    with pytest.raises(ClientClosedError):
        world.link.ping()


@pytest.mark.parametrize("can_renew", [True, False])
def test_a_refused_login_replaces_the_client_where_the_credentials_changed(
    world: World, caplog: pytest.LogCaptureFixture, can_renew: bool
) -> None:
    world.can_renew = can_renew
    world.lose()
    world.replies = [BAD_AUTH, {"ok": 1}]
    attempt = world.link.reconnect()
    assert attempt is not None
    assert (attempt.connected, attempt.replaced_client, world.renewed) == (can_renew, can_renew, 1)
    assert (Event.CLIENT_REPLACED in said(caplog)) is can_renew
    assert len(world.built) == (2 if can_renew else 1)


EXPIRED = errors.ServerSelectionTimeoutError(
    "a:27017: [SSL] certificate verify failed: certificate has expired"
)


def test_what_a_person_has_to_mend_opens_the_circuit_and_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.replies = [EXPIRED]
    assert world.link.ping().error_class is ErrorClass.CONFIG
    assert (world.link.circuit.state, world.link.error_class) == (CircuitState.OPEN, ErrorClass.CONFIG)
    assert said(caplog) == [Event.CIRCUIT_OPENED]
    assert "the connection's settings do not fit MongoDB: a:27017: certificate expired" in caplog.text


@pytest.mark.parametrize("speaks", [True, False])
@pytest.mark.parametrize(
    "found", [(EXPIRED, "certificate expired"), (BAD_AUTH, "refuses the login")], ids=["tls", "login"]
)
def test_an_outage_that_turns_out_to_need_a_person_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture, found: tuple[Exception, str], *, speaks: bool
) -> None:
    error, words = found
    world.company.leader = world.company.prober = speaks
    world.lose()
    world.replies = [error, REFUSED, error, {"ok": 1}]
    for _ in range(4):
        world.link.reconnect(force=True)
    told = [one for one in levels(caplog) if one[0] != Event.RECONNECT_FAILED]
    opened, closed = (Event.CIRCUIT_OPENED, "ERROR"), (Event.CIRCUIT_CLOSED, "INFO")
    assert told == [opened, (Event.CIRCUIT_CAUSE, "ERROR" if speaks else "DEBUG"), closed]
    [line] = [line for line in caplog.messages if line.startswith(Event.CIRCUIT_CAUSE)]
    assert words in line


def test_an_error_of_the_settings_of_another_client_leaves_the_circuit_closed(world: World) -> None:
    world.link.observe(EXPIRED)
    world.replies = [{"ok": 1}]
    assert world.link.settle()
    assert world.link.circuit.is_closed
    world.link.observe(EXPIRED)
    world.replies = [EXPIRED]
    assert not world.link.settle()
    assert not world.link.circuit.is_closed


def test_a_client_whose_tls_files_were_renewed_is_replaced(world: World) -> None:
    world.can_renew = True
    world.lose()
    world.replies = [EXPIRED, {"ok": 1}]
    attempt = world.link.reconnect()
    assert attempt is not None
    assert (attempt.connected, attempt.replaced_client) == (True, True)


def test_what_is_behind_a_failure_is_found_out_once_in_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def explained(result: pings.Ping, client: Client) -> pings.Ping:
        asked.append(result.error)
        return pings.Ping(pings.Verdict.DOWN, None, ErrorClass.CONFIG, "no TLS here")

    monkeypatch.setattr(pings, "explained", explained)
    world.lose()
    closed = errors.AutoReconnect("a:27017: connection closed")
    world.replies = [closed, closed, REFUSED, {"ok": 1}, closed]
    for _ in range(5):
        world.link.reconnect(force=True)
    assert asked == ["a:27017: connection closed", "a:27017: refused", "a:27017: connection closed"]
    assert (world.link.error, world.link.error_class) == ("no TLS here", ErrorClass.CONFIG)


def test_a_check_tells_everything_as_plain_json(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.replies = [{"ok": 1}, {"version": "8.0.4"}, {"ok": 1}]
    report = world.link.check()
    assert json.loads(json.dumps(report)) == report
    assert {name: report[name] for name in ("verdict", "reasons", "error_class", "server", "circuit")} == {
        "verdict": "ok",
        "reasons": [],
        "error_class": None,
        "server": "MongoDB 8.0.4",
        "circuit": "closed",
    }
    assert report["latency_ms"] >= 0
    assert report["outage_seconds"] == 0
    assert report["topology"]["type"] == "Unknown"
    assert world.link.check()["server"] == "MongoDB 8.0.4"
    assert world.asked == ["ping", "buildInfo", "ping"]
    assert said(caplog) == []


def test_a_check_that_fails_gives_the_reason(world: World) -> None:
    world.replies = [FULL]
    report = world.link.check()
    assert (report["verdict"], report["server"]) == ("degraded", None)
    assert report["reasons"] == ["exhausted pool: no connection"]


def test_the_server_is_asked_anew_which_it_is_after_an_outage(world: World) -> None:
    world.replies = [{"ok": 1}, {"version": "7.0"}, REFUSED, {"ok": 1}, {"version": "8.0"}]
    assert world.link.check()["server"] == "MongoDB 7.0"
    assert world.link.check()["server"] is None
    assert world.link.check()["server"] == "MongoDB 8.0"


def test_of_many_failed_attempts_ever_fewer_are_told_and_recorded(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.lose()
    world.replies = [REFUSED] * 20
    for _ in range(20):
        world.link.reconnect(force=True)
    told = [int(line.split("attempt ")[1].split()[0]) for line in caplog.messages if "attempt" in line]
    assert told == [1, 2, 4, 8, 16]
    assert [number for kind, number in world.recorded if kind is Kind.RECONNECT] == told
    assert [kind for kind, _ in world.recorded].count(Kind.CIRCUIT) == 1


# --- what an operator asks for ---


def test_an_order_is_carried_out_at_a_moment_of_its_own_within_two_seconds(world: World) -> None:
    dues = []
    for _ in range(30):
        world.link._order = None
        world.link.order(replaces=False)
        dues.append(world.link.due_in() or 0.0)
    assert max(dues) <= 2.0
    assert max(dues) - min(dues) > 0.5
    assert world.link.reconnect() is None or dues[-1] < 0.01


@pytest.mark.parametrize("replaces", [False, True])
def test_an_order_is_carried_out_once_and_though_nothing_is_wrong(
    world: World, caplog: pytest.LogCaptureFixture, replaces: bool
) -> None:
    world.holder.open()
    world.replies = [{"ok": 1}]
    world.link.order(replaces=replaces, within=0.0)
    attempt = world.link.reconnect()
    assert attempt is not None
    assert attempt.connected
    assert world.link.reconnect() is None
    assert world.link.due_in() is None
    assert (world.renewed, len(world.built)) == ((1, 2) if replaces else (0, 1))
    assert said(caplog) == [Event.CLIENT_REPLACED] * replaces


def test_what_came_of_an_order_is_kept_and_counted(world: World) -> None:
    world.holder.open()
    world.replies = [{"ok": 1}, {"ok": 1}, errors.AutoReconnect("refused")]
    world.link.reconnect(force=True)
    assert world.link.reconnected is None  # nobody asked for that one
    found = []
    for replaces in (True, False):
        world.link.order(replaces=replaces, within=0.0)
        world.link.reconnect()
        found.append(vars(world.link.reconnected))
    assert [(done["number"], done["replaced"]) for done in found] == [(1, True), (2, False)]
    assert found[0]["error"] is None
    assert found[1]["error"] == "refused"


def test_what_came_of_a_ping_is_kept_and_counted(world: World) -> None:
    world.holder.open()
    world.replies = [{"ok": 1}, errors.AutoReconnect("refused")]
    world.link.ping_as_asked()
    first = world.link.pinged
    world.link.ping_as_asked()
    second = world.link.pinged
    assert first is not None
    assert second is not None
    assert (first.number, first.error, second.number) == (1, None, 2)
    assert first.latency_ms is not None
    assert second.latency_ms is None
    assert second.error == "refused"


def test_a_probe_that_is_asked_for_later_does_not_take_a_new_client_back(world: World) -> None:
    world.holder.open()
    world.replies = [{"ok": 1}]
    world.link.order(replaces=True)
    world.link.order(replaces=False, within=0.0)
    world.link.reconnect()
    assert len(world.built) == 2


def test_nothing_is_replaced_where_the_process_ends_meanwhile(world: World) -> None:
    world.holder.open()
    world.holder.close()
    assert not world.link.replace("asked for")
    assert len(world.built) == 1


# --- an outage that lasts ---


def fail(world: World, monkeypatch: pytest.MonkeyPatch, *, after: float) -> None:
    """Let an attempt fail so many seconds after the outage began."""
    monkeypatch.setattr(world.link.circuit, "outage_seconds", lambda _now: after)
    world.replies = [REFUSED]
    world.link.reconnect(force=True)


def test_an_outage_that_lasts_too_long_is_said_once_by_the_prober_and_trying_goes_on(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lose()
    fail(world, monkeypatch, after=11.0)
    assert Event.RECONNECT_GIVEN_UP not in said(caplog)
    world.company.prober = True
    for seconds in (9.0, 11.0, 12.0):
        fail(world, monkeypatch, after=seconds)
    assert said(caplog).count(Event.RECONNECT_GIVEN_UP) == 1
    assert world.link.due_in() is not None
    world.replies = [{"ok": 1}]
    world.link.ping()
    world.lose()
    fail(world, monkeypatch, after=11.0)
    assert said(caplog).count(Event.RECONNECT_GIVEN_UP) == 2


def test_why_the_circuit_is_open_is_known_by_its_class(world: World) -> None:
    world.heartbeat()
    world.heartbeat(errors.AutoReconnect("reset"))
    classes = [world.link.error_class]
    world.replies = [BAD_AUTH, REFUSED, {"ok": 1}]
    for _ in range(2):
        world.link.ping()
        # That no server is found afterwards is the refused login's doing.
        classes.append(world.link.error_class)
    world.heartbeat(errors.AutoReconnect("reset"))
    classes.append(world.link.error_class)
    world.link.ping()
    assert classes == [ErrorClass.OUTAGE, ErrorClass.AUTH, ErrorClass.AUTH, ErrorClass.OUTAGE]
    assert world.link.error_class is None


LABELS = {"errorLabels": ["SystemOverloadedError", "RetryableError"]}


@pytest.mark.parametrize("error", [FULL, errors.AutoReconnect("refused", LABELS)], ids=repr)
def test_a_full_pool_and_a_connection_that_fails_are_no_overload_of_the_server(
    world: World, error: Exception
) -> None:
    world.link.observe(error)
    world.replies = [error]
    world.link.ping()
    assert (world.link.overloads, world.link.overloaded_at) == (0, None)


def test_the_servers_overload_is_counted(world: World) -> None:
    world.replies = [errors.OperationFailure("busy", 462)]
    world.link.ping()
    world.link.observe(errors.OperationFailure("busy", 462))
    assert world.link.overloads == 2
    assert world.link.overloaded_at is not None
    assert world.link.circuit.is_closed


# --- an error, and what a ping says of it ---


@pytest.mark.parametrize("error", [REFUSED, BAD_AUTH, errors.NetworkTimeout("timed out")], ids=repr)
def test_an_error_alone_leaves_the_circuit_closed_and_has_the_reporter_ask(
    world: World, error: Exception
) -> None:
    """It may be another client's, another cluster's, or this operation's alone."""
    world.link.observe(error)
    assert world.link.circuit.is_closed
    assert world.link.wake.is_set()
    assert world.asked == []
    world.replies = [{"ok": 1}]
    assert world.link.settle()
    assert world.link.settle()
    assert world.asked == ["ping"]


@pytest.mark.parametrize("error", [REFUSED, BAD_AUTH], ids=repr)
def test_a_ping_that_fails_after_an_error_opens_the_circuit(world: World, error: Exception) -> None:
    world.link.observe(error)
    world.replies = [error]
    assert not world.link.settle()
    assert world.link.circuit.state is CircuitState.OPEN
    assert world.link.error_class in (ErrorClass.OUTAGE, ErrorClass.AUTH)


def test_nothing_is_asked_where_the_circuit_is_open_already(world: World) -> None:
    """Hundreds of tasks that fail at once cost no ping."""
    world.lose()
    world.link.observe(REFUSED)
    assert not world.link.answers(time.monotonic())
    assert world.asked == []


def test_one_ping_answers_for_all_errors_before_it(world: World) -> None:
    failed_at = time.monotonic()
    world.replies = [{"ok": 1}, {"ok": 1}]
    assert [world.link.answers(failed_at) for _ in range(3)] == [True] * 3
    assert world.asked == ["ping"]
    assert world.link.answers(time.monotonic())
    assert world.asked == ["ping"] * 2


def test_a_server_that_shuts_down_is_asked_until_another_is_primary(world: World) -> None:
    stopping = errors.OperationFailure("shutting down", 91)
    world.replies = [stopping, errors.NotPrimaryError("x"), {"ok": 1}]
    assert world.link.answers(time.monotonic())
    world.replies = [stopping, REFUSED]
    assert not world.link.answers(time.monotonic())
    assert not world.link.circuit.is_closed


def test_a_server_that_says_it_shuts_down_is_not_taken_at_its_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers pings while it closes what it has open."""
    waited: list[float] = []

    def lose(seconds: float) -> bool:
        waited.append(seconds)
        world.lose()
        return True

    monkeypatch.setattr(world.link.circuit, "wait_open", lose)
    world.holder.open()
    assert not world.link.answers(time.monotonic(), is_shutdown=True)
    assert waited
    assert world.asked == []


def test_another_primary_ends_the_wait_for_a_server_that_shuts_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def elect(seconds: float) -> bool:
        waited.append(seconds)
        world.link._heartbeats.elected_at = time.monotonic()
        return False

    monkeypatch.setattr(world.link.circuit, "wait_open", elect)
    world.replies = [{"ok": 1}]
    assert world.link.answers(time.monotonic(), is_shutdown=True)
    assert len(waited) == 2  # the last one is for a heartbeat


def test_a_primary_that_is_not_found_in_a_pings_time_is_an_outage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.link, "_timeout_seconds", 0.1)
    world.replies = [errors.NotPrimaryError("x")] * 100
    assert not world.link.answers(time.monotonic())
    assert world.link.circuit.state is CircuitState.OPEN


@pytest.mark.parametrize(
    "error", [FULL, errors.OperationFailure("busy", 462), errors.ExecutionTimeout("slow", 50)], ids=repr
)
def test_a_server_that_is_slow_or_busy_and_a_pool_that_is_full_are_not_away(
    world: World, error: Exception
) -> None:
    world.replies = [error]
    assert world.link.answers(time.monotonic())
    assert world.link.circuit.is_closed


def test_a_ping_that_had_little_time_says_nothing_to_the_circuit(world: World) -> None:
    world.replies = [REFUSED]
    assert not world.link.answers(time.monotonic(), within=0.1)
    assert world.link.circuit.is_closed


def test_after_the_processs_end_nothing_is_asked(world: World) -> None:
    world.holder.open()
    world.holder.close()
    assert not world.link.answers(time.monotonic())
    assert world.asked == []


def dns_away() -> errors.ConfigurationError:
    """Return what PyMongo makes of a DNS that cannot be asked."""
    error = errors.ConfigurationError("no route to the DNS")
    error.__cause__ = OSError(101, "Network is unreachable")
    return error


@pytest.mark.parametrize(
    ("error", "is_open"),
    [
        (dns_away(), True),
        (errors.ConfigurationError("no such option"), True),
        (OSError(2, "no file"), False),
    ],
    ids=repr,
)
def test_a_client_that_cannot_be_made_is_told_as_what_stands_in_its_way_and_made_later(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, is_open: bool
) -> None:
    def refuse() -> Client:
        raise error

    monkeypatch.setattr(world.holder, "_build", refuse)
    report = world.link.check()
    assert report["verdict"] != "ok"
    assert type(error).__name__ in report["reasons"][0]
    assert report["topology"] == {"type": "Unknown", "primary": None, "members": {}, "errors": {}}
    assert world.link.circuit.is_closed is not is_open
    monkeypatch.undo()
    world.replies = [{"ok": 1}]
    assert world.link.reconnect(force=True) is not None
    assert world.link.circuit.is_closed


def test_a_server_that_hangs_is_called_so_since_it_was_last_heard(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted = threading.Event()
    monkeypatch.setattr(adapter, "answers", lambda *_arguments: False)
    monkeypatch.setattr(adapter, "interrupt", lambda *_arguments: interrupted.set())
    world.holder.open()
    world.listen()
    world.heartbeat()
    silent_since = time.monotonic() - 30
    world.listener._silent_since[A] = silent_since
    assert world.link.hung_seconds(time.monotonic()) is None
    world.link.look()
    assert interrupted.wait(5)
    assert world.link.circuit.state is CircuitState.OPEN
    assert world.link.hung_seconds(silent_since + 35) == 35.0
    assert world.link.circuit.outage_seconds(silent_since + 35) == 35.0
    assert world.link.error == "hung: no answer for 30 s"
    assert levels(caplog) == [(Event.CIRCUIT_OPENED, "ERROR"), (Event.SERVER_HUNG, "DEBUG")]
    assert "MongoDB cannot be reached: hung: no answer for 30 s" in caplog.text
    # Its process is killed: it hangs no longer, and is away all the same.
    world.heartbeat(errors.AutoReconnect("Connection refused"))
    assert world.link.hung_seconds(time.monotonic()) is None
    assert world.link.circuit.state is CircuitState.OPEN


def test_nobody_looks_for_a_server_before_there_is_a_client(world: World) -> None:
    assert world.link.look() is None
    assert world.link.hung_seconds(time.monotonic()) is None
