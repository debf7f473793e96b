"""Documents that go by `mongo load`, part by part over a time; a load that gives up is run again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.workers import ROOT
from tests.faults.rig import Rig
from tests.faults.settings import MODULE

COLLECTION = "chaos"

_LOAD_SECONDS = 180.0
_TRIES = 20
_PAUSE_SECONDS = 1.0


class LoadError(RuntimeError):
    """A load ended in a way that no outage explains, or never ended well."""


def documents(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield the documents of a seed."""
    dice = random.Random(seed)  # noqa: S311 - nothing to keep secret
    for number in range(count):
        yield {"_id": number, "value": dice.random(), "text": f"{dice.getrandbits(200):x}"}


class Loader:
    """Loads `count` documents in parts, one each `interval` seconds, in a thread of its own.

    A part that took longer delays the next one. `tries` counts the loads that were begun.
    """

    def __init__(self, rig: Rig, *, seed: int, count: int, parts: int, interval: float) -> None:
        self.tries = 0
        self.error: Exception | None = None
        self._rig = rig
        self.parts = parts
        self._interval = interval
        self._log = rig.folder / "loads.log"
        self._files = list(_files(rig.folder, list(documents(seed, count)), parts))
        self._hurries, self._ends = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def finish(self) -> None:
        """Load what is left without a pause. Raises what ended the loading."""
        self._hurries.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """End at once, wherever it is. Idempotent."""
        self._ends.set()
        self._hurries.set()
        if self._process is not None:
            self._process.kill()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        began = time.monotonic()
        try:
            for number, file in enumerate(self._files):
                self._hurries.wait(max(0.0, began + number * self._interval - time.monotonic()))
                self._load(file)
        except Exception as error:  # noqa: BLE001 - told by finish(), in the thread that asks
            self.error = error

    def _load(self, file: Path) -> None:
        for _ in range(_TRIES):
            if self._ends.is_set():
                return
            self.tries += 1
            if self._try(file) == 0:
                return
            # What a person does who reads that MongoDB or Redis is away.
            self._ends.wait(_PAUSE_SECONDS)
        raise LoadError(f"{file.name} was not loaded in {_TRIES} tries, see {self._log}")

    def _try(self, file: Path) -> int:
        command = [sys.executable, "-m", "celery", "-A", MODULE, "mongo", "load", str(file)]
        command += ["--into", COLLECTION, "--state", str(self._rig.folder / "loads")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(os.environ) | self._rig.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            return self._process.wait(_LOAD_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise LoadError(f"{file.name} was still loading after {_LOAD_SECONDS:g} s") from None


def _files(folder: Path, rows: Sequence[dict[str, Any]], parts: int) -> Iterator[Path]:
    for number in range(parts):
        file = folder / f"part-{number:04}.jsonl"
        chosen = rows[number::parts]
        file.write_text("".join(json.dumps(row) + "\n" for row in chosen))
        yield file
