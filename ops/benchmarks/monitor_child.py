"""A client that is watched against one that is not, in a process of their own: prints the times as JSON.

`python -m ops.benchmarks.monitor_child cycle|ping KIND URI PAIRS`; what is global in a way of watching ends
with the process. Runs where nothing but PyMongo and what KIND needs is installed.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient, monitoring

Client = MongoClient[dict[str, Any]]
Pair = tuple[float, float]

# So many of them take about 20 ms: short enough for what else the machine does to hit both halves of a pair.
_CYCLES, _PINGS = 2000, 100


class EmptyListener(monitoring.ConnectionPoolListener):
    """Listens to the pool and does nothing: what PyMongo's own events cost."""

    def _ignore(self, event: Any) -> None: ...

    pool_created = pool_ready = pool_cleared = pool_closed = _ignore
    connection_created = connection_ready = connection_closed = _ignore
    connection_check_out_started = connection_check_out_failed = _ignore
    connection_checked_out = connection_checked_in = _ignore


@dataclass(frozen=True)
class Kind:
    """A way of watching: the client with it, the client to compare, and what each batch runs in."""

    watched: Callable[[str], Client]
    other: Callable[[str], Client] = MongoClient
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


def main(what: str, kind_name: str, uri: str, pairs: str) -> None:
    """Print the seconds of one operation, watched and not, pair by pair."""
    kind = KINDS[kind_name]
    # What is not watched comes first: instrumentations hook every client that is made after them.
    other, watched = kind.other(uri), kind.watched(uri)
    first, second = (OPERATIONS[what](client) for client in (watched, other))
    first(), second()
    found = [_pair(first, second, kind.around, is_swapped=bool(number % 2)) for number in range(int(pairs))]
    print(json.dumps(found))


def _pair(
    first: Callable[[], float],
    second: Callable[[], float],
    around: Callable[[], AbstractContextManager[Any]],
    *,
    is_swapped: bool,
) -> Pair:
    took: dict[Callable[[], float], float] = {}
    for batch in (second, first) if is_swapped else (first, second):
        with around():
            took[batch] = batch()
    return took[first], took[second]


def _cycles(client: Client) -> Callable[[], float]:
    """Return a batch of checkouts of one connection, which returns the CPU seconds of one."""
    client.admin.command("ping")
    (server,) = client._topology._servers.values()
    checkout = server.pool.checkout

    def batch() -> float:
        started = time.thread_time()
        for _ in range(_CYCLES):
            with checkout():
                pass
        return (time.thread_time() - started) / _CYCLES

    return batch


def _pings(client: Client) -> Callable[[], float]:
    """Return a batch of pings, which returns the seconds of one."""
    command = client.admin.command

    def batch() -> float:
        started = time.perf_counter()
        for _ in range(_PINGS):
            command("ping")
        return (time.perf_counter() - started) / _PINGS

    return batch


def _empty(uri: str) -> Client:
    return MongoClient(uri, event_listeners=[EmptyListener()])


def _ours(uri: str, *, commands: bool = False) -> Client:
    from worker.pool.monitor import PoolMonitor
    from worker.tracking.work import Works

    # As in a task: what is checked out has a name.
    Works().begin("bench.ping", "0")
    return MongoClient(uri, event_listeners=PoolMonitor(commands=commands).listeners())


def _opentelemetry(uri: str) -> Client:
    from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Dropped(SpanExporter):
        def export(self, _spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Dropped()))
    PymongoInstrumentor().instrument(tracer_provider=provider)
    return MongoClient(uri)


def _sentry(uri: str, *, traces: float = 0.0) -> Client:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Dropped(Transport):
        def capture_envelope(self, envelope: Any) -> None: ...

    sentry_sdk.init("http://key@127.0.0.1:9/1", transport=Dropped(), traces_sample_rate=traces)
    return MongoClient(uri)


def _transaction() -> AbstractContextManager[Any]:
    import sentry_sdk

    return sentry_sdk.start_transaction(name="bench", op="task")


OPERATIONS = {"cycle": _cycles, "ping": _pings}
KINDS = {
    "empty": Kind(_empty),
    "ours": Kind(_ours),
    "ours-empty": Kind(_ours, _empty),
    "commands": Kind(lambda uri: _ours(uri, commands=True)),
    "opentelemetry": Kind(_opentelemetry),
    "sentry": Kind(_sentry),
    "sentry-traces": Kind(lambda uri: _sentry(uri, traces=1.0), around=_transaction),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
