"""`mongo load`: a file's rows into a collection, through the workers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..frame import Answer, Call, command
from ..problems import Problem
from ..text import count


@command(seconds=None)
@click.argument("file")
@click.option("--into", "collection", required=True, metavar="COLLECTION", help="Where the rows go.")
@click.option("--database", metavar="NAME", help="Of this database; by default the app's.")
@click.option("--key", multiple=True, metavar="FIELD", help="What makes a row itself; may be repeated.")
@click.option("--format", type=click.Choice(["csv", "tsv", "json", "jsonl"]), help="By default seen.")
@click.option("--types", multiple=True, metavar="COLUMN=TYPE,…", help="By default inferred, and shown.")
@click.option("--rejects", type=click.Path(path_type=Path), help="By default FILE.rejects.jsonl, here.")
@click.option("--in-flight", default=16, type=click.IntRange(1, 1000), help="Batches at once; 16.")
@click.option("--state", type=click.Path(path_type=Path), help="Folder that resuming needs.")
def load(call: Call, **options: Any) -> Answer:
    """Load FILE into a collection, through the workers.

    FILE is CSV, TSV, JSON or JSON Lines; plain, .gz or .zst, or - for standard input. Each row is upserted
    by --key, else by its _id, else by an _id made of the file's content and the row's number: loading the
    same file twice changes nothing. Of rows with one key the first is loaded; the others are reported as
    duplicates, and a row of more than 8 MiB when encoded (6 MiB of BSON) is rejected. Interrupted, the same
    command goes on where it stopped.

    Exit codes: 0 every row is accounted for (written, unchanged, or in the file of rejected rows); 1 not,
    or every row was rejected; 64 wrong usage; 65 unreadable content; 66 no such file; 75 the same load runs
    already; 78 the app cannot do it; 128 + n signal n.

    Example: celery -A worker mongo load orders.csv.gz --into orders --key number
    """
    from ..loading.load import load as load_file
    from ..loading.outcome import LoadOptions
    from ..loading.progress import Screen

    with Screen(quiet=call.is_quiet) as screen:
        outcome = load_file(call.app, LoadOptions(**options), screen)
    if outcome.problem:
        Problem(outcome.problem).show()
    return Answer("load/1", outcome.to_dict(), render, exit_code=outcome.exit_code)


def render(told: Mapping[str, Any]) -> str:
    """Return the sum of the load, and where the rest is."""
    rows, duplicates = count(told["read"], "row"), count(told["duplicates"], "duplicate")
    line = (
        f"{told['file']} into {told['collection']}: {rows} read = {told['written']:,} written "
        f"({told['inserted']:,} new) + {told['unchanged']:,} unchanged + {duplicates} "
        f"+ {told['rejected']:,} rejected, in {told['seconds']:.1f} s"
    )
    return line + (f"\nnot written, with reasons: {told['rejects']}" if told["rejects"] else "")
