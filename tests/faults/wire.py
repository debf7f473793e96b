"""One proxied connection: two sockets and, for each direction, a pump between them."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress

from tests.faults.lane import Cut, Lane, dice

CHUNK_BYTES = 16_384
QUEUED_CHUNKS = 64
"""A lane that is held takes a megabyte, then the sender's own buffers fill: as on a stalled link."""

# SO_LINGER for no time: close() sends RST and throws away what is unsent.
_RESET = struct.pack("ii", 1, 0)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class CutHereError(Exception):
    """The lane's cut is reached: the connection ends in a reset."""


class Wire:
    """A client's connection and the server's that belongs to it."""

    def __init__(self, client: socket.socket, client_port: int) -> None:
        self.client_port = client_port
        self._client = client
        self._has_begun = False
        self._streams: list[Streams] = []

    async def connect(self, target: tuple[str, int]) -> None:
        """Connect to the server. Raises OSError where nobody listens."""
        self._has_begun = True
        self._streams.append(await asyncio.open_connection(sock=self._client))
        self._streams.append(await asyncio.open_connection(*target))

    @property
    def is_connected(self) -> bool:
        return len(self._streams) == 2

    async def carry(self, up: Lane, down: Lane, *, seed: int, number: int) -> None:
        """Carry both ways until both have ended.

        Raises:
            CutHereError: a lane's cut was reached.
            OSError: one side is gone and the other still sends.
        """
        (client, to_client), (server, to_server) = self._streams
        there = Pump(up, client, sink=to_server, dice=dice(seed, number, "up"))
        back = Pump(down, server, sink=to_client, dice=dice(seed, number, "down"))
        await _both(asyncio.create_task(there.run()), asyncio.create_task(back.run()))
        to_client.close()
        to_server.close()

    def reset(self) -> None:
        """End both connections by RST, unless they have ended.

        In the middle of `connect`, which has to be cancelled then, the client's ends with that: a socket that
        is closed under its transport leaves it with a number that another connection gets.
        """
        if not self._streams and self._client.fileno() >= 0:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            if not self._has_begun:
                self._client.close()
        for _, writer in self._streams:
            if not writer.is_closing():
                end = writer.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()


async def _both(*tasks: asyncio.Task[None]) -> None:
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Pump:
    """Carries one connection's bytes one way, in order."""

    def __init__(
        self, lane: Lane, source: asyncio.StreamReader, *, sink: asyncio.StreamWriter, dice: random.Random
    ) -> None:
        self._lane = lane
        self._source = source
        self._sink = sink
        self._dice = dice
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_CHUNKS)
        self._cut: Cut | None = None
        self._left = 0

    async def run(self) -> None:
        """Carry until the source ends, its end included; raise as `Wire.carry` does."""
        reading = asyncio.create_task(self._read())
        try:
            await self._deliver()
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _read(self) -> None:
        clock = asyncio.get_running_loop().time
        chunk = b"not the end"
        while chunk:
            try:
                chunk = await self._source.read(CHUNK_BYTES)
            except OSError:
                chunk = b""  # reset by its sender: what it sent before still arrives
            faults = self._lane.faults
            late = faults.latency + self._dice.uniform(0.0, faults.jitter)
            await self._queue.put((clock() + late, chunk))

    async def _deliver(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, chunk = await self._queue.get()
            if due > clock():
                await asyncio.sleep(due - clock())
            await self._lane.open(chunk)
            if not chunk:
                self._sink.write_eof()
                return
            await self._write(chunk)

    async def _write(self, chunk: bytes) -> None:
        allowed = self._allowed(len(chunk))
        self._sink.write(chunk[:allowed])
        await self._sink.drain()
        self._lane.delivered += allowed
        if self._cut and not self._left:
            raise CutHereError
        if self._lane.faults.bandwidth:
            await asyncio.sleep(allowed / self._lane.faults.bandwidth)

    def _allowed(self, size: int) -> int:
        if self._lane.faults.cut is not self._cut:
            self._cut = self._lane.faults.cut
            self._left = self._cut.after_bytes if self._cut else 0
        if self._cut is None:
            return size
        allowed = min(size, self._left)
        self._left -= allowed
        return allowed
