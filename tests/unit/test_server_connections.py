"""Who is connected, from what servers answer: mongod, mongos, others, and those that refuse."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import _csot
from pymongo.errors import AutoReconnect, OperationFailure

from worker.mongo.server_connections import NOT_PERMITTED, Connections, read

OWN = "cp/test/w1@h/0/100"
STATUS = {"connections": {"current": 9, "available": 90, "totalCreated": 40}}
GROUPED = [
    {"_id": OWN, "n": 3},
    {"_id": "cp/test/w1@h/1/101", "n": 4},
    {"_id": "shell", "n": 1},
    {"_id": None, "n": 2},
]
LISTED = {
    "inprog": [
        {"connectionId": 1, "appName": OWN},
        {"connectionId": 2, "clientMetadata": {"application": {"name": OWN}}},
        {"connectionId": 3, "clientMetadata": {"driver": {}}},
        {"connectionId": 4},
        {"desc": "no connection", "appName": OWN},
    ]
}
REFUSED = OperationFailure("not authorized", 13)
UNKNOWN_STAGE = OperationFailure("unknown stage", 40324)
AWAY = AutoReconnect("reset")


class Server:
    """Answers serverStatus, $currentOp and currentOp, or raises; remembers what it was asked."""

    def __init__(self, status: Any, aggregated: Any, listed: Any, *, topology: str = "Single") -> None:
        self._answers = {"serverStatus": status, "$currentOp": aggregated, "currentOp": listed}
        self.topology_description = SimpleNamespace(topology_type_name=topology)
        self.admin = self
        self.asked: list[str] = []
        self.deadlines: list[float | None] = []
        self.stage: dict[str, Any] = {}

    def get_database(self, _name: str, **_options: Any) -> Server:
        return self

    def command(self, command: Any) -> Any:
        return self._answer(command if isinstance(command, str) else next(iter(command)))

    def aggregate(self, pipeline: list[dict[str, Any]]) -> Any:
        self.stage = pipeline[0]["$currentOp"]
        return nullcontext(self._answer("$currentOp"))

    def _answer(self, name: str) -> Any:
        self.asked.append(name)
        self.deadlines.append(_csot.remaining())
        answer = self._answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def asked(server: Any) -> Connections:
    return read(server, prefix="cp/test/", own=OWN, timeout_seconds=2)


def test_a_mongod_tells_by_aggregation_and_is_asked_no_further() -> None:
    server = Server(STATUS, GROUPED, LISTED)
    ours = {OWN: 3, "cp/test/w1@h/1/101": 4}
    assert asked(server) == Connections(9, 90, 40, "$currentOp", ours, 3)
    assert server.asked == ["serverStatus", "$currentOp"]
    assert server.stage == {"allUsers": True, "idleConnections": True}


def test_a_mongos_is_asked_for_its_own_connections() -> None:
    server = Server(STATUS, GROUPED, LISTED, topology="Sharded")
    asked(server)
    assert server.stage["localOps"] is True


@pytest.mark.parametrize("aggregated", [UNKNOWN_STAGE, REFUSED, [{"_id": None, "n": 1}], []])
def test_the_older_command_is_asked_where_the_aggregation_does_not_tell(aggregated: Any) -> None:
    assert asked(Server(STATUS, aggregated, LISTED)) == Connections(9, 90, 40, "currentOp", {OWN: 2}, 2)


def test_what_is_refused_is_not_permitted_and_the_numbers_stay() -> None:
    assert asked(Server(STATUS, REFUSED, REFUSED)) == Connections(9, 90, 40, NOT_PERMITTED)
    assert asked(Server(REFUSED, REFUSED, UNKNOWN_STAGE)) == Connections(source=NOT_PERMITTED)
    assert asked(Server(STATUS, UNKNOWN_STAGE, UNKNOWN_STAGE)) == Connections(9, 90, 40)


def test_a_server_that_is_away_is_not_asked_on() -> None:
    server = Server(AWAY, AWAY, LISTED)
    assert asked(server) == Connections()
    assert server.asked == ["serverStatus", "$currentOp"]


def test_all_questions_have_one_deadline() -> None:
    server = Server(STATUS, UNKNOWN_STAGE, LISTED)
    asked(server)
    assert all(seconds is not None and 0 < seconds <= 2 for seconds in server.deadlines)
    assert len(server.deadlines) == 3
    assert _csot.remaining() is None
