"""`ops/bench`: measurements of this checkout. A missed target is a result; a failed measurement exits 1."""

import json
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click

# Twice what it takes on two busy cores: something hangs.
_BASE_SECONDS = 200
_PAIR_SECONDS = 15
_ROUND_SECONDS = 60


@click.group()
def bench() -> None:
    """Measure this checkout on real workers and real servers: MONGODB_URI and REDIS_URL, or its own."""


@bench.command()
@click.option(
    "--pairs",
    default=30,
    show_default=True,
    type=click.IntRange(min=6),
    help="Interleaved pairs; on each of 5 starts for the finest comparison.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write every value there.",
)
def lifecycle(pairs: int, json_path: Path | None) -> None:
    """The one client per process: tasks/s, first operation, memory."""
    from rich.console import Console

    from . import report
    from .lifecycle import measure
    from .site import open_site

    if json_path is not None and not os.access(json_path.resolve().parent, os.W_OK):
        raise click.BadParameter(f"cannot write into {json_path.resolve().parent}", param_hint="--json")
    progress = Console(stderr=True, highlight=False)
    signal.alarm(_BASE_SECONDS + pairs * _PAIR_SECONDS)
    with open_site() as site:
        findings = list(measure(site, pairs=pairs, say=progress.print))
    report.show(Console(), site.labels, findings)
    if json_path is not None:
        json_path.write_text(json.dumps(report.to_json(site.labels, findings), indent=1) + "\n")


@bench.command()
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(min=1), help="Of everything.")
def load(rounds: int) -> None:
    """Loading a file: rows/s against insert_many in one process, with 1, 2 and 4 worker processes."""
    from rich.console import Console

    from . import report
    from .load import LEGEND, measure
    from .site import open_site

    progress = Console(stderr=True, highlight=False)
    signal.alarm(_BASE_SECONDS + rounds * _ROUND_SECONDS)
    with open_site() as site:
        findings = list(measure(site, rounds=rounds, say=progress.print))
    report.show(Console(), site.labels, findings, legend=LEGEND)


def _fail(sentence: str, code: int = 1) -> NoReturn:
    sys.stderr.write(f"ops/bench: {sentence}\n")
    raise SystemExit(code)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _give_up(*_: object) -> NoReturn:
    raise TimeoutError("took far longer than it ever should, stopped")


def main() -> None:
    """Run the command line; what is known to go wrong ends in one line."""
    if find_spec("psutil") is None:
        _fail("the development dependencies are missing: run ops/test first")
    from pymongo.errors import PyMongoError
    from redis.exceptions import RedisError

    from worker.errors import SettingsError

    from ..local.servers import ServerError
    from .site import MeasurementError

    signal.signal(signal.SIGALRM, _give_up)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        bench(prog_name="ops/bench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (MeasurementError, ServerError, SettingsError, PyMongoError, RedisError, OSError) as error:
        _fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped", 130)


if __name__ == "__main__":
    main()
