"""`ops/bench`: measurements of this checkout. A missed target is a result; a failed measurement exits 1."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from .lifecycle import Finding
    from .site import Site

# Twice what it takes on two busy cores: something hangs.
_BASE_SECONDS = 200
_PAIR_SECONDS = 15
_ROUND_SECONDS = 60

Measure = Callable[["Site", Callable[[str], None]], Iterable["Finding"]]

_pairs = click.option(
    "--pairs",
    default=30,
    show_default=True,
    type=click.IntRange(min=6),
    help="Interleaved pairs; on each of 5 starts for the finest comparison.",
)
_json = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write every value there.",
)


def _rounds(default: int) -> Callable[[Any], Any]:
    kind = click.IntRange(min=1)
    return click.option("--rounds", default=default, show_default=True, type=kind, help="Of everything.")


@click.group()
def bench() -> None:
    """Measure this checkout on real workers and real servers: MONGODB_URI and REDIS_URL, or its own."""


@bench.command()
@_pairs
@_json
def lifecycle(pairs: int, json_path: Path | None) -> None:
    """The one client per process: tasks/s, first operation, memory."""
    from .lifecycle import LEGEND, measure

    seconds = _BASE_SECONDS + pairs * _PAIR_SECONDS
    _run(lambda site, say: measure(site, pairs=pairs, say=say), LEGEND, seconds, json_path)


@bench.command()
@_rounds(6)
@_json
def load(rounds: int, json_path: Path | None) -> None:
    """Loading a file: rows/s against insert_many in one process, with 1, 2 and 4 worker processes."""
    from .load import LEGEND, measure

    seconds = _BASE_SECONDS + rounds * _ROUND_SECONDS
    _run(lambda site, say: measure(site, rounds=rounds, say=say), LEGEND, seconds, json_path)


@bench.command()
@_pairs
@_json
def monitor(pairs: int, json_path: Path | None) -> None:
    """Watching the pool: a checkout, a ping, and beside it OpenTelemetry's and Sentry's way."""
    from .monitor import LEGEND, measure

    seconds = _BASE_SECONDS + pairs * _PAIR_SECONDS
    _run(lambda site, say: measure(site, pairs=pairs, say=say), LEGEND, seconds, json_path)


@bench.command()
@_pairs
@_json
def sentry(pairs: int, json_path: Path | None) -> None:
    """Sentry: a task that does nothing and a find_one, ours against sentry_sdk.init alone."""
    from .sentry import LEGEND, measure

    seconds = _BASE_SECONDS + pairs * _PAIR_SECONDS
    _run(lambda site, say: measure(site, pairs=pairs, say=say), LEGEND, seconds, json_path)


@bench.command()
@_rounds(7)
@_json
def fleet(rounds: int, json_path: Path | None) -> None:
    """A snapshot of 100, 1,000 and 10,000 simulated processes, and what Redis bears for them."""
    from .fleet import LEGEND, measure

    seconds = _BASE_SECONDS + rounds * _ROUND_SECONDS
    _run(lambda site, say: measure(site, rounds=rounds, say=say), LEGEND, seconds, json_path)


@bench.command()
@_rounds(15)
@_json
def cli(rounds: int, json_path: Path | None) -> None:
    """The command line: its part of Celery's start, and a status of small and large fleets."""
    from .cli import LEGEND, measure

    seconds = _BASE_SECONDS + rounds * _ROUND_SECONDS
    _run(lambda site, say: measure(site, rounds=rounds, say=say), LEGEND, seconds, json_path)


@bench.command()
@_rounds(5)
@click.option(
    "--fault",
    "kinds",
    multiple=True,
    type=click.Choice(["step-down", "primary-kill", "set-kill"]),
    help="Default: every one.",
)
@click.option(
    "--seconds",
    multiple=True,
    default=[8.0],
    show_default=True,
    type=click.FloatRange(1, 600),
    help="That all members are away; several times.",
)
@click.option(
    "--members", default=3, show_default=True, type=click.Choice([1, 3]), help="Of the replica set."
)
@click.option("--processes", default=8, show_default=True, type=click.IntRange(1, 64), help="In the worker.")
@_json
def outage(  # noqa: PLR0913, PLR0917 - the options of a command
    rounds: int,
    kinds: Sequence[str],
    seconds: Sequence[float],
    members: int,
    processes: int,
    json_path: Path | None,
) -> None:
    """An election or an outage of MongoDB, its own: failures, blocked slots, time to come back."""
    from .outage import FAULTS, LEGEND, SET_KILL, Fault, measure

    faults = [Fault(kind) for kind in kinds or FAULTS if kind != SET_KILL and members > 1]
    faults += [Fault(SET_KILL, one) for one in seconds if SET_KILL in (kinds or FAULTS)]
    if not faults:
        raise click.UsageError("one member has no other to elect: --fault set-kill")
    limit = _BASE_SECONDS + int(rounds * sum(4 * _ROUND_SECONDS + 8 * fault.seconds for fault in faults))
    _run(
        lambda site, say: measure(site, faults, members=members, rounds=rounds, processes=processes, say=say),
        LEGEND,
        limit,
        json_path,
    )


def _run(measure: Measure, legend: str, seconds: int, json_path: Path | None) -> None:
    """Measure within so many seconds, show the findings, and write them where a file is asked for."""
    from rich.console import Console

    from ..local import programs
    from . import report
    from .site import open_site

    if json_path is not None and not os.access(json_path.resolve().parent, os.W_OK):
        raise click.BadParameter(f"cannot write into {json_path.resolve().parent}", param_hint="--json")
    progress = Console(stderr=True, highlight=False)
    signal.alarm(seconds)
    if "MONGODB_URI" not in os.environ and (line := programs.install_mongodb()):
        progress.print(line)
    if "REDIS_URL" not in os.environ:
        programs.install_redis()
    with open_site() as site:
        findings = list(measure(site, progress.print))
    report.show(Console(), site.labels, findings, legend=legend)
    if json_path is not None:
        json_path.write_text(json.dumps(report.to_json(site.labels, findings), indent=1) + "\n")


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

    from ..local.environment import SetupError
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
    except (
        MeasurementError,
        ServerError,
        SetupError,
        SettingsError,
        PyMongoError,
        RedisError,
        OSError,
    ) as error:
        _fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped", 130)


if __name__ == "__main__":
    main()
