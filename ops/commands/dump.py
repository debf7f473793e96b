"""`mongo dump`: a collection as JSON Lines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..frame import Answer, Call, command
from ..problems import UsageProblem
from ..text import count, printable


@command(seconds=None)
@click.argument("collection")
@click.option("--database", metavar="NAME", help="Of this database; by default the app's.")
@click.option("--output", type=click.Path(path_type=Path), help="A new file; with .gz it is packed.")
def dump(call: Call, collection: str, database: str | None, output: Path | None) -> Answer | None:
    """Write COLLECTION as JSON Lines that `load` brings back.

    Every type is kept. A file appears under its name once it is whole, and is never written over.

    Example: celery -A worker mongo dump orders --output orders.jsonl.gz
    """
    if call.as_json and output is None:
        raise UsageProblem("--json takes standard output: choose --output FILE for the documents")
    from ..loading.dump import dump as dump_collection

    count = dump_collection(call.app, collection, database=database, output=output)
    told = {"collection": collection, "documents": count, "output": None if output is None else str(output)}
    if call.as_json:
        return Answer("dump/1", told, render)
    if not call.is_quiet:
        # Standard output may be the documents'.
        click.echo(printable(render(told)), err=True)
    return None


def render(told: Mapping[str, Any]) -> str:
    """Return how many documents were written."""
    return f"{count(told['documents'], 'document')} of {told['collection']}"
