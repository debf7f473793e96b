"""Names that PyMongo has moved between its modules from version to version."""

from importlib import import_module
from typing import Any


def moved(name: str, *modules: str) -> Any:
    """Return what has this name in the first of the modules that has it; None where none has."""
    for module in modules:
        try:
            return getattr(import_module(f"pymongo.{module}"), name)
        except (ImportError, AttributeError):
            continue
    return None
