"""Reads a file as `mongo load` does, all but the sending, and prints what came of it. A program of its own:

python -m tests.hostile.reading FILE MEGABYTES
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter

from ops.loading.batches import Sorter
from ops.loading.identity import Identity, SeenKeys
from ops.loading.readers import open_rows
from ops.loading.source import Source
from ops.problems import Problem


def read(name: str) -> dict[str, object]:
    """Return how many rows are documents, what is wrong with the others, and with the file."""
    reads: list[int] = []
    found: Counter[str] = Counter()
    told: dict[str, object] = {}
    try:
        with Source(name, reads.append) as source, SeenKeys() as seen:
            survey = source.survey()
            opened = open_rows(source, survey, format=None, types={})
            sorter = Sorter(opened.reader, Identity((), survey.digest), seen)
            for batch in sorter.batches(opened.reader.rows()):
                found["documents"] += len(batch.sent)
                found.update(refusal.reason for refusal in batch.refusals)
    except Problem as problem:
        told = {"problem": problem.message, "code": problem.exit_code}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return told | {"rows": dict(found.most_common(5)), "reads": len(reads), "peak_mb": peak}


if __name__ == "__main__":
    limit = int(sys.argv[2]) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.stdout.write(json.dumps(read(sys.argv[1])))
