"""The archive: an index, the parts, and a file that only its owner may read."""

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import output
from ..problems import NoOutput, Problem, UsageProblem
from .parts import Part
from .search import found

ENDINGS = (".tar.gz", ".tgz")
INDEX = "index.json"


class Unsafe(Problem):
    """The bundle would hold a secret: nothing is written."""

    exit_code = os.EX_SOFTWARE


def check(file: Path) -> None:
    """Raise a Problem where the file cannot be made; makes nothing."""
    if not file.name.endswith(ENDINGS):
        raise UsageProblem(f"{file.name}: a bundle is a {' or '.join(ENDINGS)} file")
    if file.exists() or file.is_symlink():
        raise NoOutput(f"{file} is there already; name a new file")
    if not file.absolute().parent.is_dir():
        raise NoOutput(f"there is no folder {file.absolute().parent}")


def index(parts: Sequence[Part], *, deployment: str, at: float) -> dict[str, Any]:
    """Return what the bundle's own index says: which parts there are, and why others are not."""
    return {
        "schema": "bundle-index/1",
        "deployment": deployment,
        "at": round(at, 3),
        "parts": [
            {
                "name": part.name,
                "why_not": part.why,
                "exit_code": part.code,
                "seconds": part.seconds,
                "files": [_described(name, text) for name, text in part.files.items()],
            }
            for part in parts
        ],
    }


def _described(name: str, text: str) -> dict[str, Any]:
    content = text.encode()
    return {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def files_of(parts: Sequence[Part], told: Mapping[str, Any]) -> dict[str, str]:
    """Return every file of the bundle, the index first."""
    files = {INDEX: output.to_json(told, indent=1) + "\n"}
    for part in parts:
        files |= part.files
    return files


def refuse_secrets(files: Mapping[str, str], secrets: Mapping[str, set[str]]) -> None:
    """Raise Unsafe where any file holds one, naming the file and whose secret it is."""
    held = [f"{name} holds {what}" for name, text in files.items() for what in found(text, secrets)]
    if held:
        raise Unsafe(f"nothing was written: {'; '.join(held[:5])}")


def write(file: Path, files: Mapping[str, str], *, deployment: str, at: float) -> int:
    """Write the archive and return its size; what is cut short is no file."""
    moment = datetime.fromtimestamp(at, UTC)
    folder = f"celery-pymongo-{deployment}-{moment.strftime('%Y%m%dT%H%M%SZ')}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            content = text.encode()
            entry.size, entry.mtime, entry.mode = len(content), int(at), 0o600
            archive.addfile(entry, io.BytesIO(content))
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise NoOutput(f"{file} cannot be made ({error.strerror})") from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(packed.getvalue())
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise NoOutput(f"{file} cannot be written ({error.strerror})") from None
        raise
    return len(packed.getvalue())
