"""The faults: each strikes a rig under load, lasts, and heals what is not for the workers to mend."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ops.local.replica_set import ReplicaSet
from ops.local.servers import LocalServer
from tests.e2e.workers import wait_until
from tests.faults.rig import Rig
from tests.faults.users import NEXT_PASSWORD, USER, as_user

_BACK_SECONDS = 30.0
_EXIT_SECONDS = 60.0

_STORM_SECONDS = 0.2
_KILLS_PER_SECOND = 1.0


# --- MongoDB ---


def kill_mongo(rig: Rig, seconds: float) -> None:
    """SIGKILL, and a start on the same port with the same data."""
    rig.strike()
    rig.mongo.kill()
    rig.last(seconds)
    _start(rig, rig.mongo)


def terminate_mongo(rig: Rig, seconds: float) -> None:
    """SIGTERM, and likewise."""
    rig.strike()
    rig.mongo.stop()
    rig.last(seconds)
    _start(rig, rig.mongo)


def suspend_mongo(rig: Rig, seconds: float) -> None:
    """SIGSTOP: connections stay open, nothing answers."""
    rig.strike()
    rig.mongo.suspend()
    try:
        rig.last(seconds)
    finally:
        rig.mongo.resume()
    rig.heal()


def not_primary(rig: Rig, seconds: float) -> None:
    """Each write is refused by a server that says that it is not the primary."""
    with _failing(rig, failCommands=["update"], errorCode=10107):
        rig.last(seconds)
    rig.heal()


def fill_pool(rig: Rig, seconds: float) -> None:
    """Each process holds all connections of its pool itself."""
    with _failing(rig, failCommands=["distinct"], blockConnection=True, blockTimeMS=700):
        rig.crowd.touch()
        rig.last(seconds)
        rig.crowd.unlink()
    rig.heal()


def rotate_password(rig: Rig, seconds: float) -> None:
    """The password is changed on the server, and after a while in the file that the settings name."""
    with rig.database() as client:
        client.admin.command("updateUser", USER, pwd=NEXT_PASSWORD)
    rig.strike()
    # Connections that have logged in stay; the new ones are refused.
    rig.network.reset()
    rig.last(seconds)
    rig.secret.write_text(as_user(rig.network.uri, NEXT_PASSWORD))
    rig.heal()


# --- the network ---


def refuse(rig: Rig, seconds: float) -> None:
    """Nobody listens, and what was open is reset."""
    with _broken(rig):
        rig.network.refuse()
        rig.network.reset()
        rig.last(seconds)


def blackhole(rig: Rig, seconds: float) -> None:
    """Nothing arrives, either way."""
    with _broken(rig):
        rig.network.blackhole()
        rig.last(seconds)


def half_open(rig: Rig, seconds: float) -> None:
    """Requests arrive, replies do not: writes happen, and nobody learns of it."""
    with _broken(rig):
        rig.network.half_open()
        rig.last(seconds)


def reset_storm(rig: Rig, seconds: float) -> None:
    """All connections are reset, five times a second."""
    with _broken(rig):
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            rig.network.reset()
            time.sleep(_STORM_SECONDS)
        rig.ask_until_it_answers()


def cut_off_process(rig: Rig, seconds: float) -> None:
    """One process of the node is reset whenever it connects; the others are not."""
    with _broken(rig):
        rig.network.isolate(rig.worker.children()[0])
        rig.last(seconds)


# --- Redis ---


def kill_redis(rig: Rig, seconds: float) -> None:
    """SIGKILL, and a start with what the append-only file kept."""
    rig.strike()
    rig.redis.kill()
    time.sleep(seconds)
    _start(rig, rig.redis)
    rig.ask_until_it_answers()


def suspend_redis_and_terminate(rig: Rig, seconds: float) -> None:
    """Redis hangs, and the worker is told to end; another takes its place once Redis is back."""
    rig.strike()
    rig.redis.suspend()
    try:
        rig.worker.send_signal(signal.SIGTERM)
        time.sleep(seconds)
    finally:
        rig.redis.resume()
    rig.worker.wait(seconds=_EXIT_SECONDS)
    rig.start_worker()
    rig.heal()
    rig.ask_until_it_answers()


# --- processes ---


def kill_children(rig: Rig, seconds: float) -> None:
    """SIGKILL for one child after the other."""
    rig.strike()
    dice = random.Random(rig.seed)  # noqa: S311 - nothing to keep secret
    for _ in range(max(1, round(seconds * _KILLS_PER_SECOND))):
        _kill(dice.choice(rig.worker.children()))
        time.sleep(dice.uniform(0.5, 1.5) / _KILLS_PER_SECOND)
    rig.heal()
    rig.ask_until_it_answers()


def kill_main(rig: Rig, seconds: float) -> None:
    """SIGKILL for MAIN, with whatever its processes are in the middle of; a new worker follows."""
    rig.strike()
    rig.worker.terminate(signal.SIGKILL)
    rig.worker.close()
    time.sleep(seconds)
    rig.start_worker()
    rig.heal()
    rig.ask_until_it_answers()


def terminate_worker(rig: Rig, seconds: float) -> None:
    """SIGTERM in the middle of tasks; a new worker follows."""
    _end_worker(rig, seconds, signal.SIGTERM)


def quit_worker(rig: Rig, seconds: float) -> None:
    """SIGQUIT: a cold shutdown, which interrupts the tasks; a new worker follows."""
    _end_worker(rig, seconds, signal.SIGQUIT)


def recycle(rig: Rig, seconds: float) -> None:
    """Each child ends after a few tasks; the worker has been started so."""
    rig.strike()
    rig.last(seconds)
    rig.heal()


def kill_beats(rig: Rig, seconds: float) -> None:
    """Both beats are killed, and MongoDB too: it is found again with nobody to send reconnect.attempt."""
    beats = [rig.start_beat() for _ in range(2)]
    wait_until(lambda: any(beat.sent() for beat in beats), what="a beat that sends", seconds=_BACK_SECONDS)
    for beat in beats:
        beat.terminate(signal.SIGKILL)
    kill_mongo(rig, seconds)


# --- parts of these ---


@contextmanager
def _broken(rig: Rig) -> Iterator[None]:
    rig.strike()
    try:
        yield
    finally:
        rig.network.clear()
    rig.heal()


@contextmanager
def _failing(rig: Rig, **data: Any) -> Iterator[None]:
    with rig.primary() as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
        rig.strike()
        try:
            yield
        finally:
            client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def _end_worker(rig: Rig, seconds: float, number: int) -> None:
    rig.strike()
    rig.worker.terminate(number, seconds=_EXIT_SECONDS)
    time.sleep(seconds)
    rig.start_worker()
    rig.heal()
    rig.ask_until_it_answers()


def _start(rig: Rig, server: LocalServer | ReplicaSet) -> None:
    """Start a server again; the fault is over once it takes a connection."""
    server.launch()
    wait_until(server.listens, what="a server that listens", seconds=_BACK_SECONDS)
    rig.heal()
    wait_until(server.answers, what="a server that answers", seconds=_BACK_SECONDS)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
