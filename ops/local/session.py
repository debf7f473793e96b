"""One run of `ops/up` inside its environment: which services, in which order, and what is said of them."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from worker.errors import SettingsError
from worker.settings.fields import Settings, load_settings

from . import demo, health, named
from .environment import SetupError
from .interrupts import Interrupts
from .locks import FolderLock
from .screen import Screen
from .servers import ServerError
from .services import celery_services, install_servers, server_services
from .supervisor import Service, StartError, Supervisor

TICK_SECONDS = 0.1
ONCE_SECONDS = 120.0
SLOW_SECONDS = 16.0
KEPT = ("mongo", "redis", "loads")
VARIABLES = {"mongo": "MONGODB_URI", "redis": "REDIS_URL"}

NEEDED_MB = 64
"""Empty databases and one run's logs; with less free, servers would start and then fail one by one."""
LEFT_MB = 8


def run(options: argparse.Namespace, folder: Path) -> int:
    """Run until a signal; return the exit code."""
    with FolderLock(folder / "lock") as lock:
        try:
            if not lock.acquire():
                return _refuse(f"it runs already (pid {lock.holder()}); stop it there with Ctrl-C")
            # Before anything is installed or said of the servers that no setting names.
            named.check(load_settings())
            install_servers(load_settings())
            interrupts = Interrupts()
            interrupts.listen()
            return _Session(options, folder, interrupts).run()
        except SettingsError as error:
            return _refuse(str(error), code=error.exit_code)
        except (SetupError, ServerError, StartError) as error:
            return _refuse(str(error))
        except OSError as error:
            return _refuse(f"{error.filename or folder}: {error.strerror}")


def _refuse(sentence: str, *, code: int = 1) -> int:
    for line in sentence.splitlines():
        print(f"ops/up: {line}", file=sys.stderr)
    return code


class _Session:
    def __init__(self, options: argparse.Namespace, folder: Path, interrupts: Interrupts) -> None:
        self._options = options
        self._folder = folder.resolve()
        self._interrupts = interrupts
        self._screen = Screen(on_closed=interrupts.ask)
        self._load: demo.Load | None = None
        self._is_failed = False

    def run(self) -> int:
        self._prepare_folder()
        self._check_space(NEEDED_MB)
        services = server_services(load_settings(), self._folder, self._options)
        services += celery_services(self._folder, self._options)
        settings = load_settings()  # now with the addresses of those servers
        supervisor = Supervisor(services, say=self._screen.say)
        try:
            with self._screen:
                self._begin(supervisor)
                self._tell(services, settings)
                self._watch(supervisor)
        finally:
            self._stop_load()
            supervisor.stop(is_hurried=lambda: self._interrupts.is_hurried)
        self._screen.say("all is stopped")
        return 1 if self._is_failed or (self._options.once and self._interrupts.is_stopping) else 0

    def _prepare_folder(self) -> None:
        for name in KEPT if self._options.fresh else ():
            with suppress(FileNotFoundError):
                shutil.rmtree(self._folder / name)
        logs = self._folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for log in ("worker.log", "beat.log", "load.log", "up.log"):
            with suppress(FileNotFoundError):
                (logs / log).replace(logs / f"{log}.1")
        logging.raiseExceptions = False  # a full disk is said in one line, not by every record
        logging.basicConfig(filename=logs / "up.log", format="%(asctime)s %(levelname)s %(message)s")

    def _check_space(self, needed_mb: int) -> None:
        free_mb = shutil.disk_usage(self._folder).free // 2**20
        if free_mb < needed_mb:
            raise StartError(f"the disk is full: {free_mb} MB are free for {_near(self._folder)}, make room")

    def _begin(self, supervisor: Supervisor) -> None:
        """Start everything in order."""
        waiting, since, patience = "", time.monotonic(), SLOW_SECONDS
        while not supervisor.is_complete and not self._interrupts.is_stopping:
            service = next(service for service in supervisor.services if not service.was_ready)
            now = time.monotonic()
            if service.name != waiting:
                waiting, since, patience = service.name, now, SLOW_SECONDS
                self._screen.say(f"starting {waiting}")
            elif now - since > patience:
                self._tell_slow(service, now - since)
                patience *= 2
            supervisor.tick()
            time.sleep(TICK_SECONDS)

    def _tell_slow(self, service: Service, seconds: float) -> None:
        line = f"{service.name} is not ready after {seconds:.0f} s, see {_near(service.child.log)}"
        if self._options.once and seconds > ONCE_SECONDS:
            raise StartError(line)
        self._screen.say(line)

    def _tell(self, services: Sequence[Service], settings: Settings) -> None:
        """Say what runs where."""
        if self._interrupts.is_stopping:
            return
        for service in services:
            facts = [*filter(None, [service.describe()]), f"pid {service.child.pid}"]
            self._screen.say(f"{service.name}: {', '.join(facts)}, log {_near(service.child.log)}")
        names = {service.name for service in services}
        for name, uri in (("mongo", settings.mongodb_uri), ("redis", settings.redis_url)):
            if name not in names:
                port = getattr(self._options, f"{name}_port")
                self._screen.say(named.describe(name, uri.get_secret_value(), port=port))

    def _watch(self, supervisor: Supervisor) -> None:
        """Keep everything running and show its health until a signal, or until `--once` has seen enough."""
        if self._interrupts.is_stopping:
            return
        from worker.celery import app  # reads the settings

        feed = health.Feed(app)
        feed.start()
        if not self._options.no_data:
            self._start_load(supervisor)
        deadline = time.monotonic() + ONCE_SECONDS
        while not self._interrupts.is_stopping:
            supervisor.tick()
            self._check_space(LEFT_MB)
            self._attend_load()
            self._show_health(feed, supervisor.away())
            if self._options.once and self._is_enough(feed, deadline):
                break
            time.sleep(TICK_SECONDS)
        feed.end()

    def _show_health(self, feed: health.Feed, away: str) -> None:
        if away:
            feed.forget()
        self._screen.health(*health.describe(feed.answer, away=away, now=time.monotonic()))

    def _start_load(self, supervisor: Supervisor) -> None:
        ours = (VARIABLES[service.name] for service in supervisor.services if service.name in VARIABLES)
        variables = {name: os.environ[name] for name in ours}
        load = demo.Load(self._folder, variables, say=self._screen.say)
        load.start()
        self._load = load

    def _attend_load(self) -> None:
        if self._load is None or not self._load.has_ended():
            return
        if self._load.code:
            self._screen.say(
                f"load: it ended with code {self._load.code}; the same command goes on from there"
            )
            self._is_failed = True
        self._load = None

    def _stop_load(self) -> None:
        if self._load is not None:
            self._screen.say("stopping load")
            self._load.stop(is_hurried=lambda: self._interrupts.is_hurried)

    def _is_enough(self, feed: health.Feed, deadline: float) -> bool:
        if time.monotonic() > deadline:
            self._screen.say(f"not done after {ONCE_SECONDS:.0f} s, see {_near(self._folder / 'logs')}")
            self._is_failed = True
            return True
        return self._load is None and feed.answer is not None


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
