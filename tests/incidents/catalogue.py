"""Every incident: one file each in `cases/`, in the order of their names."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.incidents.incident import Incident

CASES = Path(__file__).with_name("cases")


def incidents() -> list[Incident]:
    """Return them all; each module has one as INCIDENT, or several as INCIDENTS."""
    found: list[Incident] = []
    for path in sorted(CASES.glob("[a-z]*.py")):
        module = importlib.import_module(f"tests.incidents.cases.{path.stem}")
        found += getattr(module, "INCIDENTS", None) or [module.INCIDENT]
    return found
