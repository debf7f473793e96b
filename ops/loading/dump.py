"""`mongo dump`: a collection as JSON Lines that `mongo load` brings back as it was."""

import base64
import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import bson
from pymongo.errors import OperationFailure, PyMongoError

from ..problems import Problem
from ..text import count
from .codec import READ_OPTIONS, Document, Refused, shown
from .place import collection_of

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def dump(app: Any, collection: str, *, database: str | None, output: Path | None) -> int:
    """Write every document of a collection to a new file (0600), or to standard output; return how many.

    One document per line: canonical Extended JSON, which keeps every type; base64 BSON where a document's own
    `$` names would be taken for types. A file appears under its name when it is whole.
    """
    found = collection_of(app, database, collection).with_options(codec_options=READ_OPTIONS)
    done = 0
    try:
        _refuse_missing(found)
        with _writer(output) as write:
            for line in _lines(found):
                write(line)
                done += 1
    except PyMongoError as error:
        why = app.mongo.reason(error)
        raise Problem(f"MongoDB is away or refused ({why}) after {count(done, 'document')}") from None
    except BrokenPipeError:
        raise Problem(f"the reader closed the pipe after {count(done, 'document')}") from None
    except OSError as error:  # of the last bytes too, which are written when the file is closed
        raise Problem(f"cannot write: {error.strerror}, after {count(done, 'document')}") from None
    return done


def _refuse_missing(collection: Any) -> None:
    # A misspelt name would be an empty dump, which looks like a backup.
    try:
        found = collection.database.list_collection_names(filter={"name": collection.name})
    except OperationFailure:  # a user who may read this collection alone
        return
    if not found:
        raise Problem(f"there is no collection {collection.name} in the database {collection.database.name}")


def _lines(collection: Any) -> Iterator[bytes]:
    with collection.find() as cursor:
        for document in cursor:
            yield _line(document).encode() + b"\n"


def _line(document: Document) -> str:
    try:
        return shown(document)
    except Refused:  # larger than a message may be
        return base64.b64encode(bson.encode(document)).decode("ascii")


@contextmanager
def _writer(output: Path | None) -> Iterator[Any]:
    if output is None:
        yield from _standard_output()
        return
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    with ExitStack() as stack:
        if os.path.lexists(output):
            raise Problem(f"{output} exists and is not written over; choose another --output")
        file = stack.enter_context(_new_file(part))
        stack.callback(lambda: part.unlink(missing_ok=True))
        is_packed = output.suffix == ".gz"
        with gzip.GzipFile(fileobj=file, mode="wb") if is_packed else nullcontext(file) as writer:
            yield writer.write
        file.flush()
        os.fsync(file.fileno())
        # Unlike a rename, a link refuses a name that somebody took meanwhile.
        _link(part, output)


def _standard_output() -> Iterator[Any]:
    if sys.stdout is None:
        raise Problem("standard output is closed; choose --output FILE")
    stream = sys.stdout.buffer
    try:
        yield stream.write
        stream.flush()
    finally:
        _give_up(stream)


def _give_up(stream: BinaryIO) -> None:
    """Keep Python from trying again at its exit what failed, with a message of its own."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _new_file(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, _NEW, 0o600), "wb")
    except OSError as error:
        raise Problem(f"cannot write {path.parent}: {error.strerror}") from None


def _link(part: Path, output: Path) -> None:
    try:
        os.link(part, output)
    except FileExistsError:
        raise Problem(f"{output} exists and is not written over; choose another --output") from None
