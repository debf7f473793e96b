"""Run SecantusDB, a MongoDB-wire server, with settings that its command line lacks.

Run by the Python of `.venv-secantus`, always as a process of its own: it is GPL, and nothing of ours
imports it.
"""

import argparse
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import secantus.server
import secantus.transactions
from secantus import SecantusDBServer

RETRYABLE_RECORDS = 256
"""The table of retryable writes is rescanned at each write: 10,000 rows, its default, cost 7/8 of
the speed."""

IDLE_SECONDS = 3600
"""Its default closes idle connections after 300 s, which mongod never does."""


Dispatch = Callable[[dict[str, Any], Any], dict[str, Any]]


class _Turn:
    """A lock that can be referred to weakly."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def in_turn(dispatch: Dispatch) -> Dispatch:
    """Return `dispatch` with one numbered command at a time per session, as mongod checks sessions out.

    Without it a write and the driver's retry of it, sent while the first is still on its way, are both
    executed: the retry looks for the first one's record before there is one.
    """
    turns: WeakValueDictionary[bytes, _Turn] = WeakValueDictionary()
    changing = threading.Lock()

    def dispatched(document: dict[str, Any], context: Any) -> dict[str, Any]:
        session = document.get("lsid")
        if "txnNumber" not in document or not isinstance(session, dict):
            return dispatch(document, context)
        with changing:
            turn = turns.setdefault(bytes(session["id"]), _Turn())
        with turn.lock:
            return dispatch(document, context)

    return dispatched


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", required=True)
    return parser.parse_args()


def serve(port: int, data: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked in every thread and waited for: a handler would run only when the main thread next wakes,
    # which never comes if the kernel gives the signal to another thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    secantus.transactions._RETRYABLE_RECORD_MAX = RETRYABLE_RECORDS
    secantus.server.dispatch = in_turn(secantus.server.dispatch)
    server = SecantusDBServer(
        "127.0.0.1",
        port,
        data,
        replica_set_name="secantus",
        enable_test_commands=True,
        client_idle_timeout_s=IDLE_SECONDS,
        ttl_sweep_seconds=1.0,
        sync_on_commit=True,  # an acknowledged write survives SIGKILL
        cache_size="256M",
    )
    server.start()
    signal.sigwait(ends)
    # accept() does not notice that its socket was closed; without the shutdown, stop() waits 2 s for it.
    server._socket.shutdown(socket.SHUT_RDWR)
    server.stop()


if __name__ == "__main__":
    arguments = parse_arguments()
    serve(arguments.port, arguments.data)
