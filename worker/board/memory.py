"""What a process costs in memory: its own, and what its connections cost the server."""

from pathlib import Path

_PRIVATE = ("Private_Clean:", "Private_Dirty:")

SERVER_BYTES_PER_CONNECTION = 1 << 20
"""What a connection costs mongod: about 1 MB (MongoDB, "Connection Pool Overview")."""


def unique_set_size(rollup: Path = Path("/proc/self/smaps_rollup")) -> int | None:
    """Return the bytes that would be free if this process ended; None where the system does not say.

    What a prefork child shares with its parent is left out. Reading takes the kernel about a millisecond
    per 100 MB, so not at every tick.
    """
    try:
        lines = [line.split() for line in rollup.read_text().splitlines()]
    except OSError:
        return None
    return sum(1024 * int(words[1]) for words in lines if words[0] in _PRIVATE)
