"""A plain client beside the workers: PyMongo's own options, and a loop that does what a task does.

It is a process of its own: `python -m tests.faults.plain URI DATABASE THREADS FILE`. Each line of the file is
when a write was acknowledged and when the loop had done with it; monotonic seconds.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from ops.local.child import Child
from tests.faults.settings import PAUSE_SECONDS


class PlainClient:
    """The process, and what it has written down."""

    def __init__(self, uri: str, database: str, *, threads: int, folder: Path) -> None:
        self._file = folder / "plain"
        argv = [sys.executable, "-m", __name__, uri, database, str(threads), str(self._file)]
        self._child = Child("plain", argv, log=folder / "plain.log")

    def start(self) -> None:
        """Begin to write."""
        self._file.touch()
        self._child.start()

    def stop(self) -> None:
        """End at once."""
        self._child.kill()

    def done_after(self, moment: float) -> float | None:
        """When it was done with the first write that was acknowledged after a moment; None: never."""
        return next((done for wrote, done in self._lines() if wrote > moment), None)

    def _lines(self) -> Iterator[tuple[float, float]]:
        text = self._file.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():
            wrote, done = line.split()
            yield float(wrote), float(done)


def _write(database: Database[Any], number: int, file: int) -> None:
    while True:
        time.sleep(PAUSE_SECONDS)
        try:
            database.plain.update_one({"_id": number}, {"$inc": {"n": 1}}, upsert=True)
        except PyMongoError:
            continue
        wrote = time.monotonic()
        time.sleep(PAUSE_SECONDS)
        os.write(file, f"{wrote:.6f} {time.monotonic():.6f}\n".encode())


def main(uri: str, database: str, threads: str, path: str) -> None:
    """Write until the process is ended."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    client: MongoClient[dict[str, Any]] = MongoClient(uri)
    running = [
        threading.Thread(target=_write, args=(client[database], number, file), daemon=True)
        for number in range(int(threads))
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
