"""What the server refuses, told without a word of the documents that it quotes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pymongo.errors import OperationFailure, WriteConcernError, WTimeoutError

# Codes in a bulk reply that say nothing about the document: network, primary, interruption, overload,
# deadline, write conflict, and authorisation (mongodb/mongo, src/mongo/base/error_codes.yml).
_NOT_THE_DOCUMENT = frozenset(
    {6, 7, 89, 9001, 91, 133, 189, 10107, 11600, 11602, 13435, 13436, 202, 262, 462, 24, 50, 64, 112, 13, 18}
)
# Unknown stage and unknown operator: the server's text quotes the pipeline's own words, no document.
_PIPELINE_WORDS = frozenset({40324, 168})
_RETRY_LABELS = ("RetryableWriteError", "RetryableError", "SystemOverloadedError")

T = TypeVar("T")


def raise_if_not_about_documents(reply: Mapping[str, Any]) -> None:
    for failed in reply["writeErrors"]:
        if failed.get("code") in _NOT_THE_DOCUMENT:
            raise _told(OperationFailure, failed)
    for concern in reply["writeConcernErrors"]:
        timed_out = concern.get("code") == 64 or "wtimeout" in concern.get("errInfo", {})
        raise _told(WTimeoutError if timed_out else WriteConcernError, concern)


def guarded(operation: Callable[[], T]) -> T:
    """Run an operation; raise what the server refuses anew, same class and code, without documents."""
    try:
        return operation()
    except OperationFailure as error:
        kind, told = type(error), {"code": error.code, "errmsg": str(error), **(error.details or {})}
        labels = [label for label in _RETRY_LABELS if error.has_error_label(label)]
    raise _told(kind, told, labels)


def _told(kind: type[OperationFailure], reply: Mapping[str, Any], labels: Sequence[str] = ()) -> Exception:
    code, name = reply.get("code"), reply.get("codeName", "unnamed")
    text = reply.get("errmsg") if code in _PIPELINE_WORDS else "its text may quote documents and is withheld"
    details = {"errorLabels": labels} if labels else None
    return kind(f"the server answered with code {code} ({name}): {text}", code, details)
