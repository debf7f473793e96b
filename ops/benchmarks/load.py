"""What `mongo load` makes of a file, against one process that inserts it, and with more worker processes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pymongo

from worker.settings.schedule import DATA_QUEUE

from ..local.child import Child
from .lifecycle import Finding
from .site import MeasurementError, Site
from .stats import estimate, paired_ratios

Say = Callable[[str], None]
Round = dict[str, float]
Rows = list[dict[str, Any]]

LEGEND = """\
A row is a JSON line of about 200 bytes with an _id, into an empty collection each time.
insert    one process that reads the file and calls insert_many, 1000 rows at a time
upsert    the same with a replacement or insertion by _id of each row, as a load does
load      `celery mongo load` with so many worker processes: reads, sends, upserts, counts;
          from its first look at the file to its summary, without the start of Python
"""

_PROCESSES = (1, 2, 4)
_ROWS = 5000
_BATCH_ROWS = 1000
_START_SECONDS = 40.0
_LOAD_SECONDS = 120.0
_STOP_SECONDS = 15.0


def measure(site: Site, *, rounds: int, say: Say) -> Iterator[Finding]:
    """Yield the findings; each round runs everything once, so that what disturbs it disturbs all."""
    path = _write(site.folder / "rows.jsonl")
    with ExitStack() as stack:
        for processes in _PROCESSES:
            stack.enter_context(worker(site, processes))
        say(f"rows/s: {rounds} rounds of {_ROWS} rows, inserted and loaded")
        found = [_round(site, path) for _ in range(rounds)]
    for processes in _PROCESSES:
        name = f"load, {processes}"
        for alone in ("insert", "upsert"):
            yield _ratio(f"{name} : {alone}", [(one[name], one[alone]) for one in found])
    for processes in _PROCESSES[1:]:
        pairs = [(one[f"load, {processes}"], one["load, 1"]) for one in found]
        yield _ratio(f"load, {processes} : load, 1", pairs)
    yield from (_rate(name, [one[name] for one in found]) for name in found[0])


def _round(site: Site, path: Path) -> Round:
    rates = {"insert": _ROWS / _alone(site, path, _insert), "upsert": _ROWS / _alone(site, path, _upsert)}
    return rates | {f"load, {processes}": _ROWS / _load(site, path, processes) for processes in _PROCESSES}


def _ratio(title: str, pairs: list[tuple[float, float]]) -> Finding:
    ratios = paired_ratios(pairs)
    return Finding(title, "x", estimate(ratios), raw={"ratios": ratios})


def _rate(title: str, rates: list[float]) -> Finding:
    return Finding(title, "rows/s", estimate(rates), raw={"rates": rates})


def _write(path: Path) -> Path:
    with path.open("w") as file:
        for n in range(_ROWS):
            row = {"_id": n, "name": f"row {n}", "x": n / 7, "tags": ["a", "b"], "pad": "x" * 120}
            file.write(json.dumps(row) + "\n")
    return path


def _alone(site: Site, path: Path, send: Callable[[Any, Rows], None]) -> float:
    """Return the seconds that one process takes."""
    with _collection(site) as collection, path.open() as lines:
        started = time.monotonic()
        while rows := [json.loads(line) for line in islice(lines, _BATCH_ROWS)]:
            send(collection, rows)
        return time.monotonic() - started


def _insert(collection: Any, rows: Rows) -> None:
    collection.insert_many(rows, ordered=False)


def _upsert(collection: Any, rows: Rows) -> None:
    writes = [pymongo.ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows]
    collection.bulk_write(writes, ordered=False)


def _load(site: Site, path: Path, processes: int) -> float:
    """Return the seconds that the load says it took; MeasurementError unless every row was inserted."""
    command = [sys.executable, "-m", "celery", "-A", "worker", "mongo", "load", str(path), "--into", _NAME]
    environment = site.environment_of(_deployment(processes))
    with _collection(site) as collection:
        done = subprocess.run(
            [*command, "--json", "--state", str(site.folder / "state")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LOAD_SECONDS,
            check=False,
        )
        if done.returncode or collection.estimated_document_count() != _ROWS:
            raise MeasurementError(f"a load failed: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout)["seconds"])


_NAME = "bench_load"


@contextmanager
def _collection(site: Site) -> Iterator[Any]:
    database = site.environment["MONGODB_DATABASE"]
    with pymongo.MongoClient[dict[str, Any]](site.environment["MONGODB_URI"], timeoutMS=60_000) as client:
        collection = client[database][_NAME]
        collection.drop()
        yield collection


@contextmanager
def worker(site: Site, processes: int) -> Iterator[str]:
    """Run a worker for data tasks in a deployment of its own; yield the deployment's name."""
    name = _deployment(processes)
    argv = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "prefork", "-c", str(processes)]
    argv += ["-n", f"{name}@bench", "-l", "INFO", "-Q", DATA_QUEUE]
    child = Child(name, argv, log=site.folder / f"{name}.log", env=site.environment_of(name))
    child.start()
    try:
        _wait_ready(child)
        yield name
    finally:
        child.stop(_STOP_SECONDS)


def _wait_ready(child: Child) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while f"{child.name}@bench ready." not in child.log.read_text(errors="replace"):
        if not child.is_running or time.monotonic() > deadline:
            raise MeasurementError(f"the worker {child.name} did not start, see {child.log}")
        time.sleep(0.05)


def _deployment(processes: int) -> str:
    return f"load-{processes}"
