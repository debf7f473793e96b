"""`celery -A app mongo …`: the commands of this project beside Celery's own.

Celery imports this module at every start, of workers too: what is heavy is imported by the command itself.
The app is the one that -A names; nothing here asks which modules it came from.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from celery.bin.base import handle_preload_options

from .dead import dead
from .frame import Command, app_of, show
from .loading.problems import Problem

if TYPE_CHECKING:
    from .loading.outcome import Outcome

T = TypeVar("T")
_INTERRUPTED = 130


@click.group()
def mongo() -> None:
    """Load and dump collections through this app's workers, and see to their dead letters."""


mongo.add_command(dead)


@mongo.command(cls=Command)
@click.argument("file")
@click.option("--into", "collection", required=True, metavar="COLLECTION", help="Where the rows go.")
@click.option("--database", metavar="NAME", help="Of this database; by default the app's.")
@click.option("--key", multiple=True, metavar="FIELD", help="What makes a row itself; may be repeated.")
@click.option("--format", type=click.Choice(["csv", "tsv", "json", "jsonl"]), help="By default seen.")
@click.option("--types", multiple=True, metavar="COLUMN=TYPE,…", help="By default inferred, and shown.")
@click.option("--rejects", type=click.Path(path_type=Path), help="By default FILE.rejects.jsonl, here.")
@click.option("--in-flight", default=16, type=click.IntRange(1, 1000), help="Batches at once; 16.")
@click.option("--state", type=click.Path(path_type=Path), help="Folder that resuming needs.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
@handle_preload_options
def load(ctx: click.Context, as_json: bool, **options: Any) -> None:
    """Load FILE (CSV, JSON, JSON Lines; plain, .gz, .zst, or -) into a collection.

    Each row is upserted by --key, else by its _id, else by an _id made of the file's content and the row's
    number: loading the same file twice changes nothing. Of rows with one key the first is loaded; the others
    are reported as duplicates, and a row of more than 8 MiB when encoded (6 MiB of BSON) is rejected.
    Interrupted, the same command goes on where it stopped.

    Exit codes: 0 every row is accounted for (written, unchanged, or in the file of rejected rows); 1 not;
    64 wrong usage; 65 unreadable content; 66 no such file; 75 the same load runs already; 78 the app cannot
    do it; 128 + n signal n.
    """
    app = app_of(ctx)
    from .loading.load import load as load_file
    from .loading.outcome import LoadOptions
    from .loading.progress import Screen

    with Screen(quiet=ctx.obj.quiet) as screen:
        outcome = _interruptible(lambda: load_file(app, LoadOptions(**options), screen))
    show(json.dumps(outcome.to_dict()) if as_json else _summary(outcome))
    if outcome.problem:
        Problem(outcome.problem).show()
    ctx.exit(outcome.exit_code)


@mongo.command(cls=Command)
@click.argument("collection")
@click.option("--database", metavar="NAME", help="Of this database; by default the app's.")
@click.option("--output", type=click.Path(path_type=Path), help="A new file; with .gz it is packed.")
@click.pass_context
@handle_preload_options
def dump(ctx: click.Context, collection: str, **options: Any) -> None:
    """Write COLLECTION as JSON Lines that `load` brings back with every type."""
    app = app_of(ctx)
    from .loading.dump import dump as dump_collection

    count = _interruptible(lambda: dump_collection(app, collection, **options))
    if not ctx.obj.quiet:
        click.echo(f"{count:,} documents of {collection}", err=True)


def _interruptible(command: Callable[[], T]) -> T:
    try:
        return command()
    except KeyboardInterrupt:
        Problem("interrupted").show()
        sys.exit(_INTERRUPTED)


def _summary(outcome: "Outcome") -> str:
    counts = outcome.counts
    line = (
        f"{outcome.file} into {outcome.collection}: {counts.read:,} rows read = {counts.written:,} written "
        f"({counts.inserted:,} new) + {counts.unchanged:,} unchanged + {counts.duplicates:,} duplicates "
        f"+ {counts.rejected:,} rejected, in {outcome.seconds:.1f} s"
    )
    return line + (f"\nnot written, with reasons: {outcome.rejects}" if outcome.rejects else "")
