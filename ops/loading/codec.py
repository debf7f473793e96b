"""The tasks' codec, found beside `ops`: `tasks` in a checkout, nested in the wheel.

A copy of its own where both exist: it holds no state. What must be the app's is asked of the app.
"""

from importlib import import_module
from typing import Any

_ROOT = __package__.removesuffix("ops.loading")
_TASKS = f"{_ROOT}tasks"
_documents: Any = import_module(f"{_TASKS}.documents")

MESSAGE_LIMIT: int = _documents.MESSAGE_LIMIT
READ_OPTIONS: Any = _documents.READ_OPTIONS
CODEC_ERRORS: tuple[type[Exception], ...] = _documents.CODEC_ERRORS
Refused: type[ValueError] = _documents.Refused

Document = dict[str, Any]


def encoded(document: Document) -> str:
    """Return a document as one line of a message: base64 BSON, the quicker form. Raises `Refused`."""
    line: str = _documents.encode([document], format="bson")
    return line


def shown(document: Document) -> str:
    """Return a document as one line for people: canonical Extended JSON, or base64 BSON where a document's
    own `$` names would be taken for types. Raises `Refused` above the size of a message."""
    line: str = _documents.encode([document])
    return line


def read_back(line: str) -> Any:
    """Return the document of a line that `encoded` or `shown` made, or the tasks' `Rejected`."""
    return next(_documents.decode(line))
