"""A worker that swallows documents and says that it inserted them: what is left is the loader's own."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from worker.integration.config import celery_config
from worker.settings.fields import load_settings

# Slower than the loader reads, so that as many batches are in flight as may be.
_SECONDS = 0.05

app = Celery("swallow")
app.conf.update(celery_config(load_settings()))


@app.task(name="mongo.data.upsert_many")
def upsert_many(collection: str, documents: str, **_options: Any) -> dict[str, Any]:
    """Take a batch as the real task does, and write nothing."""
    time.sleep(_SECONDS)
    count = documents.count("\n") + 1
    counts = {"inserted": count, "modified": 0, "unchanged": 0, "superseded": 0, "rejected": 0}
    return {"collection": collection, "read": count, **counts, "errors": []}
