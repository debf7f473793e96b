"""`mongo bundle FILE`: one archive for an incident."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..frame import Answer, Call, command
from ..text import count

if TYPE_CHECKING:
    from rich.console import RenderableType


@command(seconds=20)
@click.argument("file", type=click.Path(path_type=Path))
def bundle(call: Call, file: Path) -> Answer:
    """Write one archive (.tar.gz) of all that is known now.

    It is to be read later, or by somebody else.

    It has what status, doctor, processes, size, snapshot, leaks, dead letters and history find, as JSON and
    as text, the flight recorders and post-mortems, the settings without their secrets, and versions. Its
    index says why a part is missing. Before it is written every part is searched for every secret of the
    settings and for passwords in URIs; where one is found nothing is written. FILE is new, and only its owner
    may read it. It names hosts, queues and tasks.

    Exit codes: 0 every part is there; 1 some are missing; 64 no .tar.gz; 70 a secret was found; 73 the file
    cannot be made.

    Example: celery -A worker mongo bundle incident.tar.gz
    """
    from ..bundle import archive, parts
    from ..cli import mongo as commands

    archive.check(file)
    settings = call.app.mongo.settings
    at = time.time()
    found = parts.gather(call, commands)
    told = archive.index(found, deployment=settings.deployment, at=at)
    files = archive.files_of(found, told)
    secrets = call.app.mongo.view.secrets()
    archive.refuse_secrets(files, secrets)
    size = archive.write(file, files, deployment=settings.deployment, at=at)
    body = {
        "file": str(file),
        "bytes": size,
        "parts": told["parts"],
        "searched": {"files": len(files), "secrets": sum(map(len, secrets.values()))},
    }
    return Answer("bundle/1", body, render, exit_code=1 if any(part.why for part in found) else 0)


def render(document: Mapping[str, Any]) -> "RenderableType":
    """Return the parts, those that are missing with their reasons."""
    from .. import tables

    rows = [
        (
            part["name"],
            tables.size(sum(file["bytes"] for file in part["files"])) if part["files"] else None,
            part["seconds"],
            part["why_not"] or "",
        )
        for part in document["parts"]
    ]
    searched = document["searched"]
    table = tables.table(("PART", "SIZE", "SECONDS", "REASON"), rows, right=("SIZE",))
    line = (
        f"{document['file']}: {tables.size(document['bytes'])}, for its owner alone; "
        f"{count(searched['files'], 'file')} searched for {count(searched['secrets'], 'secret')}, none found"
    )
    return tables.sections(table, line)
