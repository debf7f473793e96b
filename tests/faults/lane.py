"""The faults of one direction: what delays, throttles, holds or cuts bytes on their way."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, eq=False)
class Cut:
    """Each connection is reset once this many more bytes have passed; another Cut counts anew."""

    after_bytes: int


@dataclass(frozen=True)
class Faults:
    """None at all, unless said otherwise."""

    latency: float = 0.0
    """Seconds by which each chunk is late."""
    jitter: float = 0.0
    """Seconds by which it is late at most beyond that."""
    bandwidth: float | None = None
    """Bytes per second of each connection."""
    cut: Cut | None = None
    is_held: bool = False
    """Nothing is delivered until this ends."""
    held_from: bytes | None = None
    """A connection delivers no more from the chunk on that has these bytes, until this ends."""


class Lane:
    """One direction of all connections of a route; used in the proxy's thread alone.

    `delivered` counts bytes, `caught` the chunks that were held for what they are.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.delivered = self.caught = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._changed = asyncio.Event()

    def change(self, **changes: Any) -> None:
        """Change some of the faults."""
        self._become(replace(self.faults, **changes))

    def clear(self) -> None:
        """Take all faults back; what was held goes first."""
        self._become(Faults())

    async def open(self, chunk: bytes) -> None:
        """Wait while the lane is held, or this chunk is."""
        await self._flows.wait()
        while (marker := self.faults.held_from) and marker in chunk:
            self.caught += 1
            await self._changed.wait()

    def _become(self, faults: Faults) -> None:
        self.faults = faults
        self._changed.set()
        self._changed = asyncio.Event()
        if faults.is_held:
            self._flows.clear()
        else:
            self._flows.set()


def dice(seed: int, connection: int, way: str) -> random.Random:
    """The jitter's source: the same for the same seed, connection and direction, whatever else goes on."""
    return random.Random(f"{seed}/{connection}/{way}")  # noqa: S311 - nothing to keep secret
