"""One listener of the fault proxy and the server behind it."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import psutil

from ops.local.servers import free_port
from tests.faults.lane import Cut, Lane
from tests.faults.wire import CutHereError, Wire

Way = Literal["up", "down"]
BOTH: tuple[Way, Way] = ("up", "down")
"""`up` goes to the server, `down` comes from it."""

Run = Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True)
class Stats:
    """What a route has seen so far; bytes are those that were delivered."""

    accepted: int
    open: int
    unreachable: int
    """Connections reset at once, since nobody listened at the other end."""
    resets: int
    cuts: int
    caught: int
    """Replies that `hold` holds or has held."""
    bytes_up: int
    bytes_down: int


class Route:
    """A loopback port, its server and the faults between them, each in force when its method returns.

    Faults add up until `clear()`, and hold for connections that are open and for those to come. `run` calls
    in the proxy's thread and returns the result.
    """

    def __init__(self, uri: str, *, seed: int, run: Run) -> None:
        self.port = free_port()
        self._parts = urlsplit(uri)
        self._target = self._parts.hostname or "", self._parts.port or 0
        self._seed = seed
        self._run = run
        self._lanes: dict[Way, Lane] = {way: Lane() for way in BOTH}
        self._listener: socket.socket | None = None
        self._wires: dict[Wire, asyncio.Task[None]] = {}
        self._isolated: frozenset[int] = frozenset()
        self._silences = False
        self._silent: set[Wire] = set()
        self._accepted = self._unreachable = self._resets = self._cuts = 0

    @property
    def uri(self) -> str:
        """The server's URI by way of this route, whatever address the server advertises."""
        user, at, _ = self._parts.netloc.rpartition("@")
        query = self._parts.query
        if self._parts.scheme == "mongodb" and "directConnection" not in query:
            query = f"{query}&directConnection=true".lstrip("&")
        place = f"{user}{at}127.0.0.1:{self.port}"
        return urlunsplit((self._parts.scheme, place, self._parts.path or "/", query, ""))

    def delay(self, latency: float, *, jitter: float = 0.0, ways: Sequence[Way] = BOTH) -> None:
        """Make each chunk late by `latency` s, and by up to `jitter` s more."""
        self._set(ways, latency=latency, jitter=jitter)

    def throttle(self, bytes_per_second: float, *, ways: Sequence[Way] = BOTH) -> None:
        """Bound the bandwidth of each connection."""
        self._set(ways, bandwidth=bytes_per_second)

    def cut(self, *, after_bytes: int, ways: Sequence[Way] = ("down",)) -> None:
        """Reset each connection once it has delivered so many more bytes."""
        self._set(ways, cut=Cut(after_bytes))

    def blackhole(self, *, ways: Sequence[Way] = BOTH) -> None:
        """Deliver nothing; what is sent meanwhile, an end too, arrives after `clear()`."""
        self._set(ways, is_held=True)

    def hold(self, marker: bytes) -> None:
        """Hold the reply that has these bytes, and what its connection gets after it."""
        self._set(["down"], held_from=marker)

    def half_open(self) -> None:
        """Let requests pass and hold their replies."""
        self.blackhole(ways=["down"])

    def reset(self) -> int:
        """End every open connection by RST, at both ends; return how many."""
        count: int = self._run(self._reset)
        return count

    def refuse(self) -> None:
        """Take no new connection: nobody listens. Those that are open stay."""
        self._run(self._stop_listening)

    def isolate(self, *pids: int, silently: bool = False) -> None:
        """Reset the connections of these client processes, now and whenever they come again.

        `silently`: they stay open instead, and neither side hears of the other, as where packets are dropped.
        """
        self._run(lambda: self._isolate(frozenset(pids), silently=silently))

    def clear(self) -> None:
        """Take all faults back: listen, and deliver what was held."""
        self._run(self._clear)

    def stats(self) -> Stats:
        """Return what passed so far."""
        stats: Stats = self._run(self._stats)
        return stats

    def listen(self) -> None:
        """Listen unless it does; for the proxy's thread, as is `end`."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def end(self) -> None:
        """Listen no more, and reset what is open."""
        self._stop_listening()
        self._reset()
        self._end_silence()

    def _set(self, ways: Sequence[Way], **changes: object) -> None:
        def change() -> None:
            for way in ways:
                self._lanes[way].change(**changes)

        self._run(change)

    def _clear(self) -> None:
        for lane in self._lanes.values():
            lane.clear()
        self._isolated = frozenset()
        self._end_silence()
        self.listen()

    def _stats(self) -> Stats:
        counts = self._accepted, len(self._wires), self._unreachable, self._resets, self._cuts
        up, down = self._lanes["up"], self._lanes["down"]
        return Stats(*counts, down.caught, up.delivered, down.delivered)

    def _isolate(self, pids: frozenset[int], *, silently: bool) -> None:
        self._isolated, self._silences = pids, silently
        ports = _ports_of(pids)
        self._cut_off([wire for wire in self._wires if wire.client_port in ports])

    def _cut_off(self, wires: Collection[Wire]) -> None:
        if not self._silences:
            self._reset(wires)
            return
        self._silent.update(wires)
        for wire in wires:
            self._wires[wire].cancel()

    def _end_silence(self) -> None:
        silent, self._silent = self._silent, set()
        for wire in silent:
            wire.reset()

    def _reset(self, chosen: Collection[Wire] | None = None) -> int:
        wires = self._wires.keys() if chosen is None else chosen
        self._resets += len(wires)
        for wire in wires:
            wire.reset()
            self._wires[wire].cancel()
        return len(wires)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, (_, port) = listener.accept()
        except OSError:
            return  # it has left again
        self._accepted += 1
        wire = Wire(client, port)
        task = self._wires[wire] = asyncio.create_task(self._serve(wire, number=self._accepted))
        # Not in the task itself: one that is cancelled before it began runs nothing of it.
        task.add_done_callback(functools.partial(self._forget, wire))

    def _forget(self, wire: Wire, _: asyncio.Task[None]) -> None:
        del self._wires[wire]
        if wire not in self._silent:
            wire.reset()

    async def _serve(self, wire: Wire, *, number: int) -> None:
        # Found out beside the loop, where it would delay every other connection.
        if self._isolated and wire.client_port in await asyncio.to_thread(_ports_of, self._isolated):
            self._cut_off([wire])
            return
        try:
            await wire.connect(self._target)
            await wire.carry(self._lanes["up"], self._lanes["down"], seed=self._seed, number=number)
        except CutHereError:
            self._cuts += 1
        except OSError:
            self._unreachable += not wire.is_connected


def _ports_of(pids: Iterable[int]) -> set[int]:
    """Return the local ports of processes' connections; none of one that is gone."""
    ports = set()
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            ports |= {one.laddr.port for one in psutil.Process(pid).net_connections(kind="tcp")}
    return ports
