"""`ops/screenshots`: pictures of the command line, each of a real command on a real fleet.

Two workers, beat and some load run on servers of this program's own; then MongoDB is killed. A picture is
made from what the command printed on a terminal.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import StringIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from pymongo import MongoClient
from rich.console import Console
from rich.text import Text

from ops.cli import COMMANDS
from ops.local.servers import LocalServer, mongo_server, redis_server
from tasks.data import send_upsert_many
from tests.e2e.apps.service import beat, producer
from tests.e2e.operator import Operator
from tests.e2e.workers import ROOT, Worker, wait_until

FOLDER = ROOT / "docs" / "images"
COLUMNS = 104
PROCESSES = 6
SETTINGS = {
    "CELERY_PYMONGO_DEPLOYMENT": "shop",
    "CELERY_PYMONGO_INCLUDE": "tests.e2e.apps.attribution",
    "CELERY_PYMONGO_SCHEDULER": "plain",
    "CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS": "1",
    "CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "2",
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
}
_LIMIT_SECONDS = 300
_FRAMES = 25
# What moves a terminal's cursor or changes its modes: a picture has neither.
_MOVES = re.compile(r"\x1b\[\??[0-9;]*[A-Za-ln-z]|\r")
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


@dataclass(frozen=True)
class Shot:
    """A picture: its file's name, and the command's arguments."""

    name: str
    arguments: Sequence[str]


HEALTHY = (Shot("status", ("status", "--watch")),)
DOWN = (
    Shot("outage", ("status",)),
    Shot("doctor", ("doctor",)),
    Shot("history", ("history", "--since", "2m", "--metric", "operations", "--metric", "in_use")),
)


def take(operator: Operator, shot: Shot) -> None:
    """Run the command on a terminal and draw what stands there in the end."""
    is_watch = "--watch" in shot.arguments
    frames = 0

    def is_enough(text: str) -> bool:
        nonlocal frames
        frames = text.count("LAST MINUTE")
        return is_watch and frames >= _FRAMES

    screen, _ = operator.on_terminal(*shot.arguments, until=is_enough, columns=COLUMNS)
    last = screen.rpartition("\x1b[?1049l")[2]
    draw(shot, _MOVES.sub("", last).replace("^C", "").rstrip())


def draw(shot: Shot, text: str) -> None:
    """Write the picture; without the fonts that rich would fetch from another host."""
    command = f"celery -A worker mongo {' '.join(shot.arguments)}"
    console = Console(
        file=StringIO(), record=True, width=COLUMNS, force_terminal=True, color_system="truecolor"
    )
    console.print(Text.from_ansi(text), soft_wrap=False)
    svg = console.export_svg(title=command, unique_id=f"mongo-{shot.name}")
    (FOLDER / f"{shot.name}.svg").write_text(_FONTS.sub("", svg))
    sys.stdout.write(f"docs/images/{shot.name}.svg: {command}\n")


@contextmanager
def fleet(folder: Path, mongo: LocalServer, redis: LocalServer) -> Iterator[Operator]:
    """Run two workers, beat and the load; yield who looks at them, once all processes report."""
    env = SETTINGS | {"MONGODB_URI": mongo.uri, "REDIS_URL": redis.uri}
    queues = ("shop", "mongo.health", "mongo.data", "mongo.ops")
    operator = Operator({**env, "COLORTERM": "truecolor"})
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                Worker("worker", folder / f"{name}.log", "prefork", PROCESSES // 2, queues, env, name=name)
            )
            for name in ("web1", "web2")
        ]
        stack.enter_context(beat(env, folder))
        app = stack.enter_context(producer(env))
        for worker in workers:
            worker.wait_ready()
        live = f'"live": {PROCESSES}'
        wait_until(lambda: live in operator.run("status", "--json").stdout, what="reports", seconds=60)
        with _load(app, mongo):
            yield operator


@contextmanager
def _load(app: Celery, mongo: LocalServer) -> Iterator[None]:
    """Send batches of documents, and now and then a task whose read takes two seconds."""
    done = threading.Event()
    data = {"failCommands": ["distinct"], "blockConnection": True, "blockTimeMS": 2000}

    def send() -> None:
        with suppress(OperationalError):
            for number in count():
                if number % 40 == 0:
                    app.send_task("attribution.hold", queue="shop")
                rows = [{"_id": (100 * number + n) % 20_000, "price": n} for n in range(100)]
                send_upsert_many(app, "prices", rows)
                if done.wait(0.05):
                    return

    with MongoClient[dict[str, Any]](mongo.uri) as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _end(*_signal: object) -> None:
    raise SystemExit(1)


def main(names: Sequence[str]) -> int:
    """Take all pictures, or those of these names; a command that is not there has none."""
    signal.signal(signal.SIGTERM, _end)
    signal.alarm(_LIMIT_SECONDS)
    FOLDER.mkdir(parents=True, exist_ok=True)

    def wanted(shots: Sequence[Shot]) -> list[Shot]:
        return [s for s in shots if s.arguments[0] in COMMANDS and (not names or s.name in names)]

    with TemporaryDirectory(prefix="celery-pymongo-") as place, ExitStack() as stack:
        folder = Path(place)
        mongo = stack.enter_context(mongo_server(folder / "mongo"))
        redis = stack.enter_context(redis_server(folder / "redis"))
        operator = stack.enter_context(fleet(folder, mongo, redis))
        for shot in wanted(HEALTHY):
            take(operator, shot)
        mongo.kill()
        wait_until(lambda: operator.run("status", "--json").returncode == 2, what="the outage", seconds=60)
        for shot in wanted(DOWN):
            take(operator, shot)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
