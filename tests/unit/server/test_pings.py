"""One ping and what it tells."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
from pymongo import MongoClient, _csot, errors

from worker.mongo.classify import ErrorClass
from worker.mongo.holder import Client
from worker.pool.missing_names import looks_up_when_made
from worker.server import pings
from worker.server.pings import Verdict


class Server:
    """A client whose server answers `replies` or raises; remembers commands and their deadlines."""

    def __init__(self, *replies: Any) -> None:
        self._replies = list(replies)
        self.asked: list[tuple[str, float | None]] = []
        self.admin = SimpleNamespace(command=self._command)
        self.round_trip = 0.0
        self.topology_description = SimpleNamespace(server_descriptions=self._servers)

    def _servers(self) -> dict[Any, Any]:
        return {("a", 27017): SimpleNamespace(min_round_trip_time=self.round_trip)}

    def _command(self, name: str, **_options: Any) -> Any:
        self.asked.append((name, _csot.remaining()))
        reply = self._replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply


def client(*replies: Any) -> Any:
    return Server(*replies)


@pytest.fixture
def unconnected() -> Iterator[Any]:
    made: Client = MongoClient("mongodb://a:27017,b:27018/?replicaSet=rs", connect=False)
    yield made
    made.close()


def test_a_ping_that_comes_back_is_ok_and_has_its_time() -> None:
    result = pings.ping(client({"ok": 1}), timeout_seconds=2)
    assert (result.verdict, result.is_answered, result.error_class) == (Verdict.OK, True, None)
    assert result.latency_ms is not None
    assert 0 <= result.latency_ms < 1000


def test_a_ping_has_the_deadline_and_leaves_none_behind() -> None:
    server = client({"ok": 1})
    pings.ping(server, timeout_seconds=1.5)
    assert server.asked == [("ping", pytest.approx(1.5, abs=0.5))]
    assert _csot.remaining() is None


def test_a_ping_has_time_for_the_round_trip_that_a_hang_left_behind() -> None:
    """PyMongo refuses at once what has less time left, while the server answers again."""
    server = client({"ok": 1})
    server.round_trip = 3.8
    pings.ping(server, timeout_seconds=2)
    assert server.asked == [("ping", pytest.approx(5.8, abs=0.5))]


def test_an_answer_after_the_deadline_is_one_of_a_server_that_is_too_slow() -> None:
    result = pings.ping(client({"ok": 1}), timeout_seconds=0.0)
    assert (result.verdict, result.error_class) == (Verdict.DEGRADED, ErrorClass.DEADLINE)
    assert not result.is_answered


def test_a_ping_keeps_an_earlier_deadline_around_it() -> None:
    server = client({"ok": 1})
    with pymongo.timeout(0.5):
        pings.ping(server, timeout_seconds=2)
    assert server.asked[0][1] == pytest.approx(0.5, abs=0.5)


@pytest.mark.parametrize(
    ("error", "verdict", "error_class"),
    [
        (errors.ServerSelectionTimeoutError("refused"), Verdict.DOWN, ErrorClass.OUTAGE),
        (errors.NetworkTimeout("slow"), Verdict.DOWN, ErrorClass.OUTAGE),
        (errors.OperationFailure("bad auth", 18), Verdict.DOWN, ErrorClass.AUTH),
        (errors.WaitQueueTimeoutError("full"), Verdict.DEGRADED, ErrorClass.EXHAUSTED),
        (errors.NotPrimaryError("election"), Verdict.DEGRADED, ErrorClass.FAILOVER),
        (errors.ExecutionTimeout("slow", 50), Verdict.DEGRADED, ErrorClass.DEADLINE),
        (OSError("too many open files"), Verdict.UNKNOWN, ErrorClass.FOREIGN),
    ],
)
def test_a_ping_never_raises_for_what_the_network_does(
    error: Exception, verdict: Verdict, error_class: ErrorClass
) -> None:
    result = pings.ping(client(error), timeout_seconds=2)
    assert (result.verdict, result.error_class, result.latency_ms) == (verdict, error_class, None)
    assert not result.is_answered
    assert str(error) in str(result.error)


def test_a_ping_of_a_closed_client_says_so_without_the_network(unconnected: Any) -> None:
    unconnected.close()
    assert pings.ping(unconnected, timeout_seconds=2).error_class is ErrorClass.CLOSED


@pytest.mark.parametrize(
    "error", [None, errors.AutoReconnect("reset"), errors.OperationFailure("no role", 13)]
)
def test_warming_reads_under_the_deadline_and_never_raises(error: Exception | None) -> None:
    deadlines: list[float | None] = []

    def find_one(_filter: Any) -> None:
        deadlines.append(_csot.remaining())
        if error is not None:
            raise error

    fake: Any = {"app": {"celery_pymongo.warm": SimpleNamespace(find_one=find_one)}}
    pings.warm(fake, "app", timeout_seconds=1.5)
    assert deadlines == [pytest.approx(1.5, abs=0.5)]


def test_what_is_no_fault_of_mongodbs_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        pings.ping(client(ZeroDivisionError()), timeout_seconds=2)


def test_a_ping_is_plain_json() -> None:
    result = pings.ping(client(errors.AutoReconnect("reset")), timeout_seconds=2)
    assert json.loads(json.dumps(result.to_dict())) == {
        "verdict": "down",
        "latency_ms": None,
        "error_class": "outage",
        "error": "reset",
    }


def test_a_topology_is_told_before_anything_has_connected(unconnected: Any) -> None:
    told = pings.topology(unconnected)
    assert told == {
        "type": "ReplicaSetNoPrimary",
        "primary": None,
        "members": {"a:27017": "Unknown", "b:27018": "Unknown"},
        "errors": {},
    }
    assert json.loads(json.dumps(told)) == told


def test_a_member_that_was_not_checked_within_the_timeout_did_not_answer(unconnected: Any) -> None:
    told = pings.checked_topology(unconnected, waited=2.0, timeout_seconds=2.0)
    assert told["errors"] == dict.fromkeys(("a:27017", "b:27018"), "no answer within 2 s")


@pytest.mark.parametrize(
    ("info", "label"),
    [
        ({"version": "8.0.4"}, "MongoDB 8.0.4"),
        (
            {"version": "7.0.0", "secantusVersion": "0.7"},
            "SecantusDB 0.7 (speaks MongoDB 7.0.0; not mongod)",
        ),
        (
            {"version": "7.0.77", "ferretdb": {"version": "v2"}},
            "FerretDB v2 (speaks MongoDB 7.0.77; not mongod)",
        ),
        (errors.OperationFailure("not allowed", 13), None),
        (errors.AutoReconnect("reset"), None),
    ],
)
def test_a_server_says_which_it_is(info: Any, label: str | None) -> None:
    assert pings.server_label(client(info), timeout_seconds=2) == label


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            {"connections": {"current": 7, "available": 93, "totalCreated": 9, "active": 1}},
            {"current": 7, "available": 93, "total_created": 9},
        ),
        ({"connections": {"current": 7, "available": 0}}, {"current": 7}),
        ({"connections": {}}, None),
        ({}, None),
        (errors.OperationFailure("not allowed", 13), None),
        (errors.AutoReconnect("reset"), None),
    ],
)
def test_connections_that_the_user_may_not_see_are_unknown_and_no_error(
    status: Any, expected: dict[str, int] | None
) -> None:
    assert pings.server_connections(client(status)) == expected


def test_a_name_that_is_yet_to_be_looked_up_has_no_port() -> None:
    if looks_up_when_made():
        pytest.skip("this PyMongo looks it up when the client is made")
    client: Any = MongoClient("mongodb+srv://cluster0.shop.test/", connect=False)
    assert pings.topology(client)["members"] == {"cluster0.shop.test": "Unknown"}
