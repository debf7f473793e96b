"""Which document a row is: its key, its `_id`, or its place in this content; and whether it came before."""

import hashlib
import sqlite3
from collections.abc import Sequence
from functools import reduce
from typing import Any, Self

import bson

from ..problems import BadRow, Problem
from .codec import Document
from .rows import Row

_DIGEST_SHOWN = 24
"""Hexadecimal digits of the content's SHA-256 in an `_id`: 96 bits, so two contents never share one."""


class Identity:
    """Gives each row its key fields and an `_id` where it has none.

    That `_id` is `<the first 24 digits of the content's SHA-256>-<the row's number>`: the same content gives
    the same ones, under any name and packed or not; another content never does.
    """

    def __init__(self, key: Sequence[str], digest: str) -> None:
        self.fields = tuple(key) or ("_id",)
        self._digest = digest[:_DIGEST_SHOWN]

    def identified(self, document: Document, row: Row) -> tuple[Document, bytes | None]:
        """Return the document with its identity, and the digest of its key: None where no other row can have
        it. BadRow where a key field has no single value."""
        if self.fields == ("_id",) and "_id" not in document:
            return {"_id": f"{self._digest}-{row.number}", **document}, None
        values = [_value(document, field) for field in self.fields]
        for field, value in zip(self.fields, values, strict=True):
            if value is None or isinstance(value, list):
                raise BadRow(f"no single value in the key field {field}")
        key = bson.encode({"key": [_normal(value) for value in values]})
        return document, hashlib.blake2b(key, digest_size=16).digest()


def _value(document: Document, path: str) -> Any:
    def step(value: Any, name: str) -> Any:
        return value.get(name) if isinstance(value, dict) else None

    return reduce(step, path.split("."), document)


def _normal(value: Any) -> Any:
    # MongoDB takes 1 and 1.0 for the same key.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


class SeenKeys:
    """The line that each key was first seen in: on disk, for memory must not grow with the file."""

    def __init__(self) -> None:
        # An empty name: SQLite's own temporary file, gone with the connection, in memory while it is small.
        self._db = sqlite3.connect("", isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-4096"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self._db.close()

    def first_line(self, key: bytes, line: int) -> int | None:
        """Return the line that this key was seen in before; None, and remember it, where it was not."""
        try:
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, line)).rowcount:
                return None
            found = self._db.execute("SELECT line FROM seen WHERE key = ?", (key,)).fetchone()
        except sqlite3.OperationalError as error:
            raise Problem(f"cannot keep the keys of the file in a temporary file: {error}") from None
        return int(found[0])
