"""`ops/drill`: faults for people who want to see what becomes of their tasks."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console

from ops.local import programs
from tests.faults import cell as cells
from tests.faults import chaos as chaotic
from tests.faults import table
from tests.faults.matrix import FAULTS, MEMBERS, every_cell
from tests.faults.settings import POOLS

_CELL_SECONDS = 400
_CHAOS_SECONDS = 600
_USAGE, _INTERRUPTED = 64, 130
_WIDTH = 140

_members = click.option(
    "--members",
    default=1,
    show_default=True,
    type=click.Choice(MEMBERS),
    help="Of MongoDB's replica set; 3 need a mongod.",
)
_json = click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="All of it."
)


@click.group()
def drill() -> None:
    """Hurt real workers and servers and count what became of every task.

    Everything runs here, on loopback, on servers that the drill starts: never on yours.
    """


@drill.command()
@click.option("--fault", "faults", multiple=True, type=click.Choice(list(FAULTS)), help="Default: every one.")
@click.option("--pool", "pools", multiple=True, type=click.Choice(POOLS), help="Default: every one.")
@_members
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 16), help="Cells at a time.")
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write the table as Markdown.")
@_json
def faults(  # noqa: PLR0913, PLR0917 - the options of a command
    faults: Sequence[str],
    pools: Sequence[str],
    members: int,
    jobs: int,
    page: Path | None,
    json_path: Path | None,
) -> None:
    """Each fault on each kind of pool: what is lost, what happens twice, how it looks, how soon it goes on.

    With --members 3 they are those of a replica set: elections, and members that are lost.

    Exit codes: 0 all as promised, 1 not.

    Example: ops/drill faults --fault mongo-kill --pool prefork
    """
    wanted = [
        (fault, pool)
        for fault, pool in every_cell(members)
        if fault in (faults or FAULTS) and pool in (pools or POOLS)
    ]
    if not wanted:
        raise click.UsageError("no such fault on such a pool, or on so many members")
    for path in (page, json_path):
        _check_writable(path)
    console = _console()
    _install_servers(console, members)
    outcomes = []
    for number, outcome in enumerate(_Cells(members).run(wanted, jobs), 1):
        outcomes.append(outcome)
        _tell(console, outcome, f"{number} of {len(wanted)}")
    order = {pair: place for place, pair in enumerate(wanted)}
    outcomes.sort(key=lambda outcome: order[outcome["fault"], outcome["pool"]])
    console.print(table.terminal(outcomes))
    console.print("lost and twice: set a field / $inc under once / raw $inc with idempotent=False")
    for line in table.resumed(outcomes):
        console.print(line)
    console.print(f"{outcomes[0]['labels']['mongo']}, {outcomes[0]['labels']['redis']}")
    if page:
        before = page.read_text() if page.exists() else ""
        page.write_text(table.page(outcomes, before=before, command="ops/test --full"))
    _write_json(json_path, outcomes)
    raise SystemExit(any(outcome["problems"] for outcome in outcomes))


@drill.command()
@_members
@click.option("--documents", default=100_000, show_default=True, type=click.IntRange(1), help="To be loaded.")
@click.option(
    "--minutes", default=10.0, show_default=True, type=click.FloatRange(0.1, 600), help="Of faults."
)
@click.option("--seed", default=1, show_default=True, help="The same faults for the same seed.")
@_json
def chaos(members: int, documents: int, minutes: float, seed: int, json_path: Path | None) -> None:
    """Load documents while random faults strike; in the end the collection equals the input.

    With --members 3 elections are among them.

    Exit codes: 0 it does, and no task took effect twice; 1 not.

    Example: ops/drill chaos --documents 100000 --minutes 10 --seed 7
    """
    _check_writable(json_path)
    console = _console()
    _install_servers(console, members)
    folder = Path(tempfile.mkdtemp(prefix="celery-pymongo-chaos-"))
    signal.alarm(int(minutes * 120) + _CHAOS_SECONDS)
    try:
        outcome = chaotic.run(
            folder, count=documents, seconds=minutes * 60, seed=seed, say=console.print, members=members
        )
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    for line in chaotic.lines(outcome):
        console.print(line)
    _write_json(json_path, outcome.to_dict())
    if outcome.problems:
        console.print(f"logs: {folder}")
        raise SystemExit(1)
    shutil.rmtree(folder)


@drill.command(hidden=True)
@click.argument("fault")
@click.argument("pool")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@_members
def cell(fault: str, pool: str, folder: Path, members: int) -> None:
    """Run one cell and print its outcome as JSON."""
    click.echo(json.dumps(cells.run(fault, pool, folder, members=members).to_dict()))


class _Cells:
    """Cells in processes of their own, which end with this one: also by Ctrl-C, which they do not hear."""

    def __init__(self, members: int) -> None:
        self._members = members
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ends = False

    def run(self, wanted: Sequence[tuple[str, str]], jobs: int) -> Iterator[dict[str, Any]]:
        """Run them, and yield their outcomes in their order."""
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for future in [pool.submit(self._run, *pair) for pair in wanted]:
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._ends = True
                for process in list(self._running):
                    process.terminate()
                raise

    def _run(self, fault: str, pool: str) -> dict[str, Any]:
        folder = Path(tempfile.mkdtemp(prefix=f"celery-pymongo-{fault}-{pool}-"))
        log = folder / "cell.log"
        command = [sys.executable, "-m", "tests.faults", "cell", fault, pool, str(folder)]
        command += ["--members", str(self._members)]
        with log.open("wb") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        self._running.add(process)
        if self._ends:
            # It was started while the others were being ended.
            process.terminate()
        try:
            told, _ = process.communicate(timeout=_CELL_SECONDS)
        finally:
            process.terminate()
            self._running.discard(process)
        if process.returncode in (_INTERRUPTED, -signal.SIGTERM):
            shutil.rmtree(folder, ignore_errors=True)
            raise KeyboardInterrupt
        if process.returncode:
            raise click.ClickException(f"{fault} on {pool} could not be run, see {log}")
        outcome: dict[str, Any] = json.loads(told)
        outcome["folder"] = str(folder)
        if not outcome["problems"]:
            shutil.rmtree(folder, ignore_errors=True)
        return outcome


def _tell(console: Console, outcome: dict[str, Any], place: str) -> None:
    told = "; ".join(outcome["problems"]) or "as promised"
    where = f"  (logs: {outcome['folder']})" if outcome["problems"] else ""
    console.print(f"{place}: {outcome['fault']} on {outcome['pool']}: {told}{where}", soft_wrap=True)


def _console() -> Console:
    """A console whose tables keep their width where nobody's terminal bounds it."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def _install_servers(console: Console, members: int) -> None:
    """Have the servers that the drill starts; a replica set of three takes a mongod."""
    if line := programs.install_mongodb():
        console.print(line, soft_wrap=True)
    programs.install_redis()
    if members > 1 and programs.mongod() is None:
        raise click.UsageError("a replica set of three takes a mongod, and there is none")


def _check_writable(path: Path | None) -> None:
    if path is not None and not path.resolve().parent.is_dir():
        raise click.UsageError(f"there is no folder {path.resolve().parent}")


def _write_json(path: Path | None, told: Any) -> None:
    if path is not None:
        path.write_text(json.dumps(told, indent=1) + "\n")


def _fail(sentence: str, code: int = 1) -> NoReturn:
    sys.stderr.write(f"ops/drill: {sentence}\n")
    raise SystemExit(code)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _give_up(*_: object) -> NoReturn:
    raise TimeoutError("took far longer than it ever should, stopped")


def main() -> None:
    """Run the command line; what is known to go wrong ends in one line."""
    signal.signal(signal.SIGALRM, _give_up)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        drill(prog_name="ops/drill", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped", _INTERRUPTED)
    except click.UsageError as error:
        _fail(error.format_message(), _USAGE)
    except click.ClickException as error:
        _fail(error.format_message())
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        _fail(str(error))
