"""A public data set through the queue: four years of Seattle's weather, loaded as a person would load it."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from .child import Child
from .environment import ROOT

COLLECTION = "demo_weather"
FILE = "seattle-weather.csv"
STOP_SECONDS = 12.0
"""A little more than the command itself gives the batches that are under way."""

_POLL_SECONDS = 0.05


def command(state: Path) -> list[str]:
    """Return the command, with paths as one would type them in the checkout.

    Raises:
        FileNotFoundError: the data set is not installed.
    """
    celery = str(_near(Path(sys.executable).with_name("celery")))
    load = [celery, "-A", "worker", "mongo", "load", str(_near(_data_file()))]
    return [*load, "--into", COLLECTION, "--key", "date", "--state", str(_near(state))]


def _data_file() -> Path:
    # Found but not imported: that would take pandas.
    spec = find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(None, "not installed here: start with ops/up, which installs it", FILE)
    return Path(spec.origin).parent / "_data" / FILE


def _near(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


class Load:
    """The command beside the services; what it prints is passed on to `say`, line by line.

    `variables` are those that a person must set to run it in another terminal.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], *, say: Callable[[str], None]) -> None:
        argv = command(folder / "loads")
        self._child = Child("load", argv, log=folder / "logs" / "load.log")
        assignments = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        self._shown = " ".join([*assignments, shlex.join(argv)])
        self._say = say
        self._read = 0

    def start(self) -> None:
        """Start it, and say how to."""
        self._say(f"load: {self._shown}")
        self._child.start()

    def has_ended(self) -> bool:
        """Pass on what it printed; say whether that was all."""
        is_running = self._child.is_running  # asked first, or its last words could be missed
        self._pass_on()
        return not is_running

    @property
    def code(self) -> int | None:
        """How it ended: 0 where every row is accounted for; negative for a signal."""
        return self._child.returncode

    def stop(self, *, is_hurried: Callable[[], bool]) -> None:
        """Ask it to stop, which keeps how far it came; make it where that takes long or there is a hurry."""
        self._child.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while not self._child.wait(_POLL_SECONDS):
            if is_hurried() or time.monotonic() > deadline:
                self._child.kill()
            self._pass_on()
        self._pass_on()

    def _pass_on(self) -> None:
        with self._child.log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            self._say(f"load: {line}")
