"""A public data set, sent through the queue: four years of Seattle's weather, a document per day."""

from __future__ import annotations

import csv
import logging
import threading
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pymongo
from redis.exceptions import RedisError

from tasks.data import send_upsert_many

COLLECTION = "demo_seattle_weather"
FILE = "seattle-weather.csv"
BATCH = 500
LOAD_SECONDS = 60.0
NUMBERS = ("precipitation", "temp_max", "temp_min", "wind")


class LoadError(RuntimeError):
    """The data set did not arrive; the sentence says how far it came."""


def data_file() -> Path:
    """The data set in the vega_datasets package, which is found but not imported: that would take pandas."""
    spec = find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        raise LoadError("the data set is not installed: start with ops/up, which installs it")
    return Path(spec.origin).parent / "_data" / FILE


def read(path: Path) -> list[dict[str, Any]]:
    """The rows with their types: the date is the `_id`, so sending them again changes nothing."""
    with path.open(newline="") as lines:
        return [_document(row) for row in csv.DictReader(lines)]


def _document(row: dict[str, str]) -> dict[str, Any]:
    day = datetime.strptime(row["date"], "%Y/%m/%d").replace(tzinfo=UTC)
    return {"_id": day, "weather": row["weather"], **{name: float(row[name]) for name in NUMBERS}}


def load(app: Any, settings: Any) -> str:
    """Send the data set in batches, wait for the worker, and return a line with the server's own count.

    Raises:
        LoadError: something was missing at the end.
    """
    documents = read(data_file())
    batches = [documents[start : start + BATCH] for start in range(0, len(documents), BATCH)]
    began = time.monotonic()
    results = [send_upsert_many(app, COLLECTION, batch) for batch in batches]
    pending = _wait(results, began + LOAD_SECONDS)
    seconds = time.monotonic() - began
    there, where = _count(settings), f"{settings.mongodb_database}.{COLLECTION}"
    if pending or there < len(documents):
        raise LoadError(
            f"{FILE}: {where} holds {there} of {len(documents)} documents after {seconds:.0f} s; "
            f"{pending} of {len(batches)} messages were not done, see worker.log"
        )
    return (
        f"{FILE}: {len(documents)} documents sent in {len(batches)} messages; "
        f"{where} holds {there}, counted at the server after {seconds:.1f} s"
    )


def _wait(results: list[Any], deadline: float) -> int:
    """Wait until the worker is done with every message; return how many it is not done with, or failed."""
    pending = results
    while pending and time.monotonic() < deadline:
        pending = [result for result in pending if not _is_done(result)]
        time.sleep(0.1)
    for result in results:
        result.forget()
    return len(pending)


def _is_done(result: Any) -> bool:
    try:
        return bool(result.state == "SUCCESS")
    except RedisError:  # the broker is away for a moment: the supervisor brings it back
        return False


def _count(settings: Any) -> int:
    """How many there are, asked of the server by a client that no worker knows."""
    uri = settings.mongodb_uri.get_secret_value()
    with pymongo.MongoClient[dict[str, Any]](uri, timeoutMS=10_000, appname="ops/up") as client:
        return client[settings.mongodb_database][COLLECTION].count_documents({})


class Loader(threading.Thread):
    """Sends the data set beside the supervision; `line` is what there is to say of it at the end."""

    def __init__(self, app: Any, settings: Any) -> None:
        super().__init__(name="loader", daemon=True)
        self._app = app
        self._settings = settings
        self.line = ""
        self.is_failed = False

    def run(self) -> None:
        try:
            self.line = load(self._app, self._settings)
        except Exception as error:  # told in one line, and the rest goes on
            logging.getLogger(__name__).warning("the data set was not loaded", exc_info=True)
            self.is_failed = True
            known = isinstance(error, LoadError)
            self.line = str(error) if known else f"{FILE} was not loaded ({type(error).__name__})"
