"""Whether what a command prints is what its published schema says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).resolve().parents[1] / "ops" / "schemas"


def validated(text: str) -> dict[str, Any]:
    """Return the one JSON document that was printed, once it is as the schema that it names says."""
    document: dict[str, Any] = json.loads(text)
    file = SCHEMAS / f"{document['schema'].replace('/', '-')}.json"
    errors = list(Draft202012Validator(json.loads(file.read_text())).iter_errors(document))
    assert not errors, [f"{error.json_path}: {error.message}" for error in errors]
    return document
