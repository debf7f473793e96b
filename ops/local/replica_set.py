"""A MongoDB replica set of this machine's own: so many `mongod` processes on loopback ports.

    with ReplicaSet(folder, election_timeout=2.0) as replica_set:
        old = replica_set.primary()
        old.kill()                                   # or suspend(), or replica_set.step_down()
        new = replica_set.primary(other_than=old)    # waits for the election
        old.start()

A member is a LocalServer: it is killed, suspended and started by itself. The set's own methods act on all.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from .identify import ask_member
from .security import certificate, with_logins, with_tls
from .servers import START_SECONDS, LocalServer, ServerError, free_port, mongod_command

NAME = "local"
ROOT, PASSWORD = "root", "of a server of the tests"
"""The login that `auth` makes; it may do everything."""

ELECTION_SECONDS = 60.0
"""How long `primary` waits by default: several elections on a machine that is busy."""

_ASK_MS = 2000
_LONGEST_HEARTBEAT_SECONDS = 2.0
_BECAME_PRIMARY = 21331
"""The log's id of "Transition to primary complete; database writes are now permitted"."""

T = TypeVar("T")


class ReplicaSet:
    """The members, their data below `data`, and the URI that names them all; a context manager.

    `election_timeout`, in seconds, is how long members miss a primary before they elect another. `hosts` are
    the addresses under which members and clients find each other: until the first start they may be changed,
    e.g. to those of proxies. `auth` asks for logins (keyFile and SCRAM; `uri` is that of ROOT), `tls` refuses
    connections without TLS. `options` are further arguments of every mongod.

    Raises:
        ServerError: there is no mongod, or no openssl to make a certificate with.
    """

    def __init__(  # noqa: PLR0913 - what a set is made of
        self,
        data: Path,
        *,
        members: int = 3,
        election_timeout: float = 10.0,
        auth: bool = False,
        tls: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._election_timeout = election_timeout
        self._has_login = auth
        self._is_initiated = False
        self._query: dict[str, str] = {}
        common = list(options)
        if auth:
            common += with_logins(data)
        if tls:
            authority = certificate(data)
            common += with_tls(authority)
            self._query = {"tls": "true", "tlsCAFile": str(authority)}
        ports = _free_ports(members)
        self.members = [self._member(number, data, port, common) for number, port in enumerate(ports)]
        self.hosts = [f"127.0.0.1:{member.port}" for member in self.members]

    @property
    def uri(self) -> str:
        """The URI of the whole set, by its hosts."""
        return self._uri(",".join(self.hosts), replicaSet=NAME, login=self._has_login)

    @property
    def label(self) -> str:
        """Which server answered, and how many there are."""
        return f"{self.members[0].label}, a replica set of {len(self.members)}"

    def uri_of(self, member: LocalServer) -> str:
        """The URI of one member alone, at its own port."""
        return self._uri(f"127.0.0.1:{member.port}", directConnection="true", login=self._has_login)

    def client(self, member: LocalServer | None = None) -> MongoClient[dict[str, Any]]:
        """A plain client of the set, or of one member alone, which the caller closes."""
        uri = self.uri if member is None else self.uri_of(member)
        return MongoClient(uri, serverSelectionTimeoutMS=10_000)

    # --- who is what ---

    def primary(
        self, *, other_than: LocalServer | None = None, seconds: float = ELECTION_SECONDS
    ) -> LocalServer:
        """Wait for a primary (another one than `other_than`) and return it.

        Raises:
            ServerError: none was elected in time.
        """
        return _wait(lambda: self._elected(other_than), seconds, "a primary")

    def secondaries(self) -> list[LocalServer]:
        """The members that say now that they are secondaries."""
        return [member for member in self.members if _hello(member).get("secondary")]

    def wait_for_members(self, *, seconds: float = ELECTION_SECONDS) -> None:
        """Wait until all members hold what the primary holds now.

        Raises:
            ServerError: they did not in time.
        """
        _wait(self._is_whole, seconds, "a set whose members all have the same")

    def wait_without_primary(self, *, seconds: float = ELECTION_SECONDS) -> None:
        """Wait until no member is the primary: they have noticed that there is no majority.

        Raises:
            ServerError: one still was.
        """
        _wait(lambda: not self.answers(), seconds, "no primary")

    def step_down(self, *, seconds: int = 60) -> LocalServer:
        """Have the primary step down, for so long that it is not elected again; return it."""
        old = self.primary()
        with self.client(old) as client:
            client.admin.command("replSetStepDown", seconds, secondaryCatchUpPeriodSecs=min(10, seconds - 1))
        return old

    # --- all members ---

    def start(self) -> None:
        """Start the members that do not run, and return once one of them is the primary.

        Raises:
            ServerError: a member did not start, or none became the primary.
        """
        try:
            self.launch()
            for member in self.members:
                _wait(member.answers, START_SECONDS, f"an answer of {member.name}")
            if not self._is_initiated:
                self._initiate()
            self.primary()
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start the members that do not run, and return at once."""
        for member in self.members:
            if not member.is_running:
                member.launch()

    def listens(self) -> bool:
        """Whether all members take connections now."""
        return all(member.listens() for member in self.members)

    def answers(self) -> bool:
        """Whether there is a primary now."""
        return self._elected() is not None

    def stop(self) -> None:
        """SIGTERM to all at once, then SIGKILL to those that do not end."""
        self._signal(signal.SIGTERM)
        for member in self.members:
            member.stop()

    def kill(self) -> None:
        """SIGKILL to all at once: none of them learns of it from another."""
        self._signal(signal.SIGKILL)
        for member in self.members:
            member.kill()

    def suspend(self) -> None:
        """SIGSTOP to all."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to all."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        for member in self.members:
            member.child.signal(number)

    # --- making it ---

    def _member(self, number: int, data: Path, port: int, options: Sequence[str]) -> LocalServer:
        name = f"mongo-{number}"
        argv = [*mongod_command(data / name, port), *options]
        uri = self._uri(f"127.0.0.1:{port}", directConnection="true")
        return LocalServer(name, argv, uri=uri, port=port, data=data, ask=ask_member)

    def _uri(self, place: str, *, login: bool = False, **query: str) -> str:
        user = f"{ROOT}:{quote(PASSWORD)}@" if login else ""
        return f"mongodb://{user}{place}/?{urlencode(query | self._query)}"

    def _initiate(self) -> None:
        """Make the members a set, have the first elected without waiting, and make the login."""
        heartbeat = min(_LONGEST_HEARTBEAT_SECONDS, self._election_timeout / 4)
        config = {
            "_id": NAME,
            "members": [{"_id": number, "host": host} for number, host in enumerate(self.hosts)],
            "settings": {
                "electionTimeoutMillis": round(self._election_timeout * 1000),
                "heartbeatIntervalMillis": round(heartbeat * 1000),
            },
        }
        with MongoClient[dict[str, Any]](self.members[0].uri, serverSelectionTimeoutMS=10_000) as client:
            client.admin.command("replSetInitiate", config)
            # One that has not heard of the others yet is not elected; then the timeout does it.
            with suppress(PyMongoError):
                client.admin.command("replSetStepUp")
        if self._has_login:
            # Permitted on loopback until there is a first user.
            with MongoClient[dict[str, Any]](self.primary().uri, serverSelectionTimeoutMS=10_000) as client:
                client.admin.command("createUser", ROOT, pwd=PASSWORD, roles=["root"])
        self._is_initiated = True

    def _is_whole(self) -> bool:
        if (primary := self._elected()) is None:
            return False
        concern = {"w": len(self.members), "wtimeout": _ASK_MS}
        with self.client(primary) as client, suppress(PyMongoError):
            client.admin.command("appendOplogNote", data={"awaits": "all members"}, writeConcern=concern)
            return True
        return False

    def _elected(self, other_than: LocalServer | None = None) -> LocalServer | None:
        """The primary of the newest election: an old one that was cut off may not know better yet."""
        elections = {}
        for member in self.members:
            hello = _hello(member)
            if hello.get("isWritablePrimary"):
                elections[hello["electionId"]] = member
        newest = elections[max(elections)] if elections else None
        return None if newest is other_than else newest


def _free_ports(count: int) -> list[int]:
    """So many different ones: what is not bound yet may be given twice."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def elections(log: Path) -> Iterator[float]:
    """Yield when a mongod became the primary, by its log; seconds since the epoch."""
    with log.open(errors="replace") as lines:
        for line in lines:
            if f'"id":{_BECAME_PRIMARY},' in line:
                yield datetime.fromisoformat(json.loads(line)["t"]["$date"]).timestamp()


def _wait(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise ServerError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return found


def _hello(member: LocalServer) -> dict[str, Any]:
    """What a member says of itself; nothing where it does not answer."""
    if not member.is_running:
        return {}
    try:
        # Asked from outside the driver's own watching, which is late by up to a heartbeat.
        with MongoClient[dict[str, Any]](member.uri, timeoutMS=_ASK_MS) as client:
            return client.admin.command("hello")
    except PyMongoError:
        return {}
