"""A TCP proxy in front of MongoDB that reads along: who connected, what they sent, how they left."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import bson
from pymongo.uri_parser import parse_uri

# The wire protocol's header: length, request id, response to, opcode.
_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_OP_QUERY = 2004


@dataclass
class Wire:
    """One connection as the proxy saw it: `commands` are the names of what the client sent, in order.

    `is_stream`: it waits for news of the server's state, as exactly one connection of each client does.
    """

    appname: str | None = None
    commands: list[str] = field(default_factory=list)
    is_open: bool = True
    is_stream: bool = False

    @property
    def pid(self) -> int:
        """The process that the appname names (`prefix/deployment/node/slot/pid`)."""
        return int((self.appname or "/0").rsplit("/", 1)[1])


class WatchingProxy:
    """Listens on a loopback port and forwards to the first host of `uri`; a context manager."""

    def __init__(self, uri: str) -> None:
        self._target: tuple[str, int] = parse_uri(uri)["nodelist"][0]
        self._wires: list[Wire] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    @property
    def uri(self) -> str:
        """A URI that stays with the proxy whatever address the server advertises."""
        return f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"

    def wires(self, pids: Sequence[int] | None = None) -> list[Wire]:
        """Every connection so far (of these processes), in the order of connecting."""
        return [wire for wire in list(self._wires) if pids is None or wire.pid in pids]

    def pids(self) -> set[int]:
        """The processes that have ever said hello."""
        return {wire.pid for wire in self.wires() if wire.appname}

    def clients(self, pid: int) -> int:
        """How many clients of a process are connected now."""
        return sum(wire.is_open and wire.is_stream for wire in self.wires([pid]))

    def sessions_ended(self, pid: int) -> int:
        """How often a process ended its sessions: once for each client it closed."""
        return sum(wire.commands.count("endSessions") for wire in self.wires([pid]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="proxy-wire", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        wire = Wire()
        self._wires.append(wire)
        with client:
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                wire.is_open = False
                return
            server.settimeout(None)
            with server:
                back = threading.Thread(target=_pump, args=(server, client), name="proxy-back", daemon=True)
                back.start()
                _read_along(client, server, wire)
                wire.is_open = False
                _hang_up(server)
                back.join()


def _read_along(client: socket.socket, server: socket.socket, wire: Wire) -> None:
    """Forward whole messages, so that what was noted was also sent."""
    with suppress(OSError):
        while (message := _message(client)) is not None:
            command = _command(message)
            if command:
                _note(wire, command)
            server.sendall(message)


def _message(client: socket.socket) -> bytes | None:
    header = _exactly(client, _HEADER.size)
    if header is None:
        return None
    body = _exactly(client, _HEADER.unpack(header)[0] - _HEADER.size)
    return None if body is None else header + body


def _exactly(client: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        chunk = client.recv(count - len(received))
        if not chunk:
            return None
        received += chunk
    return bytes(received)


def _command(message: bytes) -> dict[str, Any]:
    opcode = _HEADER.unpack_from(message)[3]
    if opcode == _OP_MSG:  # flags, then a section of kind 0: the command
        return _document(message, _HEADER.size + 5)
    if opcode == _OP_QUERY:  # flags, a name that ends in a zero byte, skip, limit: the old greeting
        return _document(message, message.index(0, _HEADER.size + 4) + 9)
    return {}


def _document(message: bytes, start: int) -> dict[str, Any]:
    (length,) = struct.unpack_from("<i", message, start)
    return bson.decode(message[start : start + length])


def _note(wire: Wire, command: dict[str, Any]) -> None:
    wire.commands.append(next(iter(command)))
    wire.is_stream = wire.is_stream or "maxAwaitTimeMS" in command
    metadata = command.get("client")
    if metadata:
        wire.appname = metadata.get("application", {}).get("name")


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    _hang_up(sink)


def _hang_up(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
