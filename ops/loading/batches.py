"""Rows gathered into messages: a run of the file each, with what of it is sent and what is refused here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..problems import BadRow, InputProblem
from .codec import CODEC_ERRORS, MESSAGE_LIMIT, Refused, encoded
from .identity import Identity, SeenKeys
from .rows import Reader, Row

BATCH_ROWS = 1000
BATCH_BYTES = 1024 * 1024
"""Characters of a message's documents; a single document that is longer has a message of its own."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not written, and why; a duplicate is the later of two rows with one key."""

    row: Row
    reason: str
    is_duplicate: bool = False


@dataclass(slots=True)
class Batch:
    """A run of rows: `sent` go to a worker, `refusals` were found here; `last` is where it ends."""

    sent: list[tuple[Row, str]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    size: int = 0
    last: Row | None = None

    @property
    def rows(self) -> int:
        """How many rows of the file it covers."""
        return len(self.sent) + len(self.refusals)

    @property
    def text(self) -> str:
        """The documents as the data tasks read them."""
        return "\n".join(line for _, line in self.sent)

    def has_room(self, size: int) -> bool:
        """Whether it may take a row of this size."""
        return not self.rows or (self.rows < BATCH_ROWS and self.size + size <= BATCH_BYTES)

    def add(self, row: Row, item: str | Refusal) -> None:
        """Take the next row."""
        if isinstance(item, Refusal):
            self.refusals.append(item)
        else:
            self.sent.append((row, item))
        self.size += _size(item)
        self.last = row

    def parts(self, rows: int) -> list["Batch"]:
        """Return batches of at most `rows` documents with what this one sends; the last has all else of it,
        so that nothing of it is done before that one is."""
        parts = [Batch(sent=self.sent[start : start + rows]) for start in range(0, len(self.sent), rows)]
        parts[-1].refusals, parts[-1].last = self.refusals, self.last
        return parts


class Sorter:
    """Says of each row what becomes of it."""

    def __init__(self, reader: Reader, identity: Identity, seen: SeenKeys) -> None:
        self._reader = reader
        self._identity = identity
        self._seen = seen

    def batches(self, rows: Iterable[Row], *, after: int = 0) -> Iterator[Batch]:
        """Yield the rows after number `after` in batches; those before are read for their keys alone.

        InputProblem, where the rest cannot be read, comes after the last batch.
        """
        batch, problem = Batch(), None
        try:
            for row in rows:
                item = self.sorted(row)
                if row.number <= after:
                    continue
                if not batch.has_room(_size(item)):
                    yield batch
                    batch = Batch()
                batch.add(row, item)
        except InputProblem as error:
            problem = error
        if batch.rows:
            yield batch
        if problem:
            raise problem

    def sorted(self, row: Row) -> str | Refusal:
        """Return the row's line of a message, or why it is not sent."""
        if row.problem:
            return Refusal(row, row.problem)
        try:
            document, key = self._identity.identified(self._reader.document(row), row)
            line = encoded(document)
        except (BadRow, Refused) as error:
            return Refusal(row, _reason(error))
        except CODEC_ERRORS as error:
            return Refusal(row, f"a value or a key that BSON cannot hold ({type(error).__name__})")
        except MemoryError:  # a row of 16 MiB may be half a gigabyte of small values
            return Refusal(row, "its values take more memory than there is")
        first = None if key is None else self._seen.first_line(key, row.line)
        return line if first is None else Refusal(row, f"the same key as line {first}", is_duplicate=True)


def _reason(error: Exception) -> str:
    if isinstance(error, BadRow):
        return str(error)
    if "characters in one message" in str(error):
        return f"too large for a message: more than {MESSAGE_LIMIT} characters when encoded"
    return str(error).removeprefix("document 0 has ")


def _size(item: str | Refusal) -> int:
    if isinstance(item, str):
        return len(item) + 1
    text = item.row.text
    return len(text) if isinstance(text, bytes) else sum(map(len, text)) + len(text)
