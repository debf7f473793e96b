"""Run SecantusDB, a MongoDB-wire server, with settings that its command line lacks.

Run by the Python of `.venv-embedded`, always as a process of its own: it is GPL, and nothing of ours
imports it.
"""

import argparse
import signal
import socket

import secantus.transactions
from secantus import SecantusDBServer

RETRYABLE_RECORDS = 256
"""The table of retryable writes is rescanned at each write: 10,000 rows, its default, cost 7/8 of
the speed."""

IDLE_SECONDS = 3600
"""Its default closes idle connections after 300 s, which mongod never does."""


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
