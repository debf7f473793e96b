"""Whether an operation that failed may have written all the same."""

import socket
import traceback
from typing import Any

from pymongo import errors

from .classify import ErrorClass, classify

# The commit was sent, and nobody heard what became of it.
_UNKNOWN = "UnknownTransactionCommitResult"
# The whole transaction is undone, whatever its operations did.
_UNDONE = "TransientTransactionError"
# The server's own word for it.
_NOTHING_WRITTEN = "NoWritesPerformed"
# Together: refused before execution, by the server or because no connection came to be.
_REFUSED = ("SystemOverloadedError", "RetryableError")

# Said before the operation begins: not primary, no role, log in again. 189, 11602 and 91 come in the midst.
_REJECTING_CODES = frozenset({10058, 10107, 13435, 13436, 13, 391})
# Said while a connection logs in, so before the operation is sent.
_LOGIN_CODES = frozenset({11, 18, 334})

_NEVER_SENT = (errors.ServerSelectionTimeoutError, errors.WaitQueueTimeoutError, errors.ConfigurationError)


def may_have_written(error: BaseException) -> bool:
    """Say whether the operation that raised this error may have taken effect, wholly or in part.

    False only where it is certain that it did not: it was never sent, or refused before it began, or its
    transaction is undone, or it was a read. True where nobody can know (a connection lost or timed out
    after sending, an interruption, a write concern that failed, an unknown commit), and for whatever is not
    listed here.

    It speaks of one operation: what the same task wrote before stays written. Ask with the error as it was
    caught, its traceback included: see `_attempts`.
    """
    if not isinstance(error, errors.PyMongoError) or isinstance(error, errors.WriteConcernError):
        return True
    if error.has_error_label(_UNKNOWN):
        return True
    if error.has_error_label(_UNDONE):
        return False
    operation = _operation_of(error)
    if _is_plain_read(operation):
        return False
    is_bulk = getattr(operation, "_bulk", None) is not None
    return any(_attempt_may_have_written(attempt, is_bulk) for attempt in _attempts(error, operation))


def _attempt_may_have_written(error: BaseException | None, is_bulk: bool) -> bool:
    if not isinstance(error, errors.PyMongoError):
        return True
    if _was_never_sent(error):
        return False
    # A bulk write goes out in batches: those before the one that was refused are written.
    return is_bulk or not _was_refused(error)


def _was_never_sent(error: errors.PyMongoError) -> bool:
    if isinstance(error, errors.NotPrimaryError):
        return False
    if isinstance(error, _NEVER_SENT) or classify(error) is ErrorClass.CLOSED:
        return True
    if isinstance(error, errors.ConnectionFailure):
        # PyMongo has no type for a pool that was cleared while this operation waited for its turn.
        is_paused = str(error).partition(" (")[0].endswith("connection pool paused")
        is_unresolved = isinstance(error.__cause__, socket.gaierror)
        return is_paused or is_unresolved or all(map(error.has_error_label, _REFUSED))
    return isinstance(error, errors.OperationFailure) and error.code in _LOGIN_CODES


def _was_refused(error: errors.PyMongoError) -> bool:
    if error.has_error_label(_NOTHING_WRITTEN) or all(map(error.has_error_label, _REFUSED)):
        return True
    details = getattr(error, "details", None)
    code = (
        details.get("code")
        if isinstance(error, errors.NotPrimaryError) and isinstance(details, dict)
        else None
    )
    return (code or getattr(error, "code", None)) in _REJECTING_CODES


def _operation_of(error: BaseException) -> Any:
    """Return the driver's record of the operation that raised, or None where the traceback has none.

    The one place that touches it: it is private to PyMongo, and a test fails where a version lacks it.
    """
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    owners = (frame.f_locals.get("self") for frame in frames if frame.f_code.co_name == "run")
    return next((owner for owner in owners if hasattr(owner, "_attempt_number")), None)


def _is_plain_read(operation: Any) -> bool:
    may_write = getattr(operation, "_is_aggregate_write", True) or getattr(operation, "_is_run_command", True)
    return bool(getattr(operation, "_is_read", False)) and not may_write


def _attempts(error: BaseException, operation: Any) -> list[BaseException | None]:
    """Return the error of each attempt that the driver made; None is one that nobody knows.

    The error alone does not tell: a write can be sent, lose its connection, and then fail to get another.
    What is raised is the queue's timeout, or the refused login, of the second attempt.
    """
    number = getattr(operation, "_attempt_number", 0)
    last = getattr(operation, "_last_error", None)
    if number > 1:
        return [None]
    return [error] if last is None or last is error else [last, error]
