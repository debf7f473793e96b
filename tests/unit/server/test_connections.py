"""Who is connected, from what servers answer: mongod, mongos, others, and those that refuse."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import _csot
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TOPOLOGY_TYPE

from worker.server.connections import NOT_PERMITTED, Connections, Counted, read

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
        self.topology_description = SimpleNamespace(
            topology_type=TOPOLOGY_TYPE._fields.index(topology),
            topology_type_name=topology,
            server_descriptions=lambda: {("m", 1): ServerDescription(("m", 1))},
        )
        self.admin = self
        self.asked: list[str] = []
        self.deadlines: list[float | None] = []
        self.stage: dict[str, Any] = {}

    def get_database(self, _name: str, **_options: Any) -> Server:
        return self

    def command(self, command: Any, **_options: Any) -> Any:
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


def asked(server: Any) -> Counted:
    (counted,) = read(server, prefix="cp/test/", own=OWN, timeout_seconds=2).members.values()
    return counted


def test_a_mongod_tells_by_aggregation_and_is_asked_no_further() -> None:
    server = Server(STATUS, GROUPED, LISTED)
    ours = {OWN: 3, "cp/test/w1@h/1/101": 4}
    assert asked(server) == Counted(9, 90, 40, "$currentOp", ours, 3)
    assert server.asked == ["serverStatus", "$currentOp"]
    assert server.stage == {"allUsers": True, "idleConnections": True}


def test_a_mongos_is_asked_for_its_own_connections() -> None:
    server = Server(STATUS, GROUPED, LISTED, topology="Sharded")
    asked(server)
    assert server.stage["localOps"] is True


@pytest.mark.parametrize("aggregated", [UNKNOWN_STAGE, REFUSED, [{"_id": None, "n": 1}], []])
def test_the_older_command_is_asked_where_the_aggregation_does_not_tell(aggregated: Any) -> None:
    assert asked(Server(STATUS, aggregated, LISTED)) == Counted(9, 90, 40, "currentOp", {OWN: 2}, 2)


def test_what_is_refused_is_not_permitted_and_the_numbers_stay() -> None:
    assert asked(Server(STATUS, REFUSED, REFUSED)) == Counted(9, 90, 40, NOT_PERMITTED)
    assert asked(Server(REFUSED, REFUSED, UNKNOWN_STAGE)) == Counted(source=NOT_PERMITTED)
    assert asked(Server(STATUS, UNKNOWN_STAGE, UNKNOWN_STAGE)) == Counted(9, 90, 40)


def test_a_server_that_is_away_is_not_asked_on() -> None:
    server = Server(AWAY, AWAY, LISTED)
    assert asked(server) == Counted()
    assert server.asked == ["serverStatus", "$currentOp"]


def test_all_questions_have_one_deadline() -> None:
    server = Server(STATUS, UNKNOWN_STAGE, LISTED)
    asked(server)
    assert all(seconds is not None and 0 < seconds <= 2 for seconds in server.deadlines)
    assert len(server.deadlines) == 3
    assert _csot.remaining() is None


# --- of several ---


def test_the_member_with_the_least_room_left_is_the_fullest() -> None:
    members = {"a:1": Counted(90, 910), "b:1": Counted(50, 50), "c:1": Counted(700), "d:1": Counted()}
    assert Connections(members).fullest == ("b:1", members["b:1"])
    assert Connections({"a:1": Counted(5), "b:1": Counted(9)}).fullest[0] == "b:1"
    assert Connections().fullest == (None, Counted())


def test_what_all_members_count_is_added_up_as_far_as_they_tell() -> None:
    members = {
        "a:1": Counted(by_appname={"x": 2, "y": 1}, others=3),
        "b:1": Counted(by_appname={"x": 1}, others=0),
    }
    found = Connections(members | {"c:1": Counted(source=NOT_PERMITTED)})
    assert (found.by_appname, found.others) == ({"x": 3, "y": 1}, 3)
    assert (Connections().by_appname, Connections().others) == (None, None)


def test_what_is_not_known_of_a_member_has_a_reason() -> None:
    assert Counted(current=3).why_unknown is None
    assert Counted(source=NOT_PERMITTED).why_unknown == "not permitted"
    assert Counted().why_unknown == "no answer, or it does not say"


def test_one_of_several_mongos_cannot_be_chosen_and_is_told_as_one_of_them() -> None:
    server = Server(STATUS, GROUPED, LISTED, topology="Sharded")
    two = {(host, 1): ServerDescription((host, 1)) for host in "ab"}
    server.topology_description.server_descriptions = lambda: two
    found = read(server, prefix="cp/test/", own=OWN, timeout_seconds=2, everywhere=True)  # type: ignore[arg-type] # a stand-in
    assert list(found.members) == ["one of the mongos"]
