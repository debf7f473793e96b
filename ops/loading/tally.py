"""What became of the rows, counted as the batches land; the rejected ones are written."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from .batches import Batch, Refusal
from .flight import Sent
from .journal import Counts, Progress
from .rejects import RejectsFile
from .rows import Row

_PART_ROWS = 100
"""Documents of a part of a batch: no more than a worker names when it rejects them."""


class Tally:
    """Brings a load's progress forward, batch by batch in the order of the file."""

    def __init__(self, progress: Progress, rejects: RejectsFile) -> None:
        self._progress = progress
        self._rejects = rejects
        self._batch = Counts()

    def take(self, sent: Sent) -> list[Batch]:
        """Count a batch that landed; return its parts where the worker could not name all that it rejected:
        sent again, they tell it."""
        batch, result = sent.batch, sent.result or {}
        self._count(result, is_counted=sent.is_counted)
        if result["rejected"] > len(result["errors"]):
            return batch.parts(_PART_ROWS)
        refusals = sorted([*batch.refusals, *_refused(batch, result)], key=lambda refusal: refusal.row.number)
        self._rejects.write(refusals)
        duplicates = sum(refusal.is_duplicate for refusal in refusals)
        self._batch.duplicates += duplicates
        self._batch.rejected += len(refusals) - duplicates
        if batch.last is not None:
            self._advance(batch.last)
        return []

    def _count(self, result: Mapping[str, Any], *, is_counted: bool) -> None:
        self._batch.inserted += result["inserted"]
        self._batch.modified += result["modified"]
        if is_counted:
            self._batch.unchanged += result["unchanged"]
            self._batch.duplicates += result["superseded"]

    def _advance(self, last: Row) -> None:
        # All at once, so that what is saved between two batches fits together.
        progress, batch = self._progress, self._batch
        batch.read = last.number - progress.number
        for name, number in asdict(batch).items():
            setattr(progress.counts, name, getattr(progress.counts, name) + number)
        progress.number, progress.end = last.number, last.end
        if self._rejects.path:
            progress.rejects, progress.rejects_size = str(self._rejects.path), self._rejects.size
        self._batch = Counts()


def _refused(batch: Batch, result: Mapping[str, Any]) -> Iterable[Refusal]:
    return [Refusal(batch.sent[error["index"]][0], error["reason"]) for error in result["errors"]]
