"""From an exception to what the caller does next."""

import ssl
from enum import StrEnum

from pymongo import errors


class ErrorClass(StrEnum):
    """Why an operation failed, named by what helps."""

    OUTAGE = "outage"
    """No server can be reached or selected: wait for the reconnector."""
    FAILOVER = "failover"
    """The server lives but is not the primary now, or interrupted the operation: retry soon."""
    OVERLOAD = "overload"
    """The pool or the server has no room: retry later, with jitter."""
    DEADLINE = "deadline"
    """The operation's own time ran out: retry if there is time."""
    AUTH = "auth"
    """Not who we say, or not allowed: mend credentials or roles."""
    CONFIG = "config"
    """URI, options or TLS are wrong: mend the settings."""
    CLOSED = "closed client"
    """The client object was closed: replace it."""
    DATA = "data"
    """The server refused this operation on these data: retrying cannot help."""
    FOREIGN = "foreign"
    """Not an error of MongoDB's at all."""

    @property
    def is_transient(self) -> bool:
        """True where the same operation may succeed later with nothing changed by a person."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {ErrorClass.OUTAGE, ErrorClass.FAILOVER, ErrorClass.OVERLOAD, ErrorClass.DEADLINE, ErrorClass.CLOSED}
)

# Server error codes: mongodb/mongo, src/mongo/base/error_codes.yml.
_AUTH_CODES = frozenset({11, 13, 18, 31, 33, 334, 391, 8000})
_FAILOVER_CODES = frozenset({91, 189, 10107, 11600, 11602, 13435, 13436, 133})
_OUTAGE_CODES = frozenset({6, 7, 89, 9001})
_OVERLOAD_CODES = frozenset({202, 262, 462})
_DEADLINE_CODES = frozenset({50, 24, 64})

# Order matters: NetworkTimeout, ServerSelectionTimeoutError and NotPrimaryError are all subclasses of
# AutoReconnect, which is a ConnectionFailure; the first match wins.
_BY_TYPE: tuple[tuple[type[BaseException], ErrorClass], ...] = (
    (errors.WaitQueueTimeoutError, ErrorClass.OVERLOAD),
    (errors.NotPrimaryError, ErrorClass.FAILOVER),
    (errors.ExecutionTimeout, ErrorClass.DEADLINE),
    (errors.WTimeoutError, ErrorClass.DEADLINE),
    (errors.ServerSelectionTimeoutError, ErrorClass.OUTAGE),
    (errors.NetworkTimeout, ErrorClass.OUTAGE),
    (errors.ConnectionFailure, ErrorClass.OUTAGE),
    (errors.ConfigurationError, ErrorClass.CONFIG),
    (errors.OperationFailure, ErrorClass.DATA),
    (errors.InvalidOperation, ErrorClass.DATA),
    (errors.PyMongoError, ErrorClass.DATA),
    (ssl.SSLError, ErrorClass.CONFIG),
)


def classify(error: BaseException) -> ErrorClass:
    """Return the class of an error that an operation raised.

    A label or a server code says more than a type, so they are asked first.
    """
    if not isinstance(error, errors.PyMongoError):
        return _by_type(error)
    if error.has_error_label("SystemOverloadedError"):
        return ErrorClass.OVERLOAD
    if _is_closed_client(error):
        return ErrorClass.CLOSED
    if isinstance(error, errors.ConnectionFailure) and _is_certificate_error(error):
        return ErrorClass.CONFIG
    return _by_code(getattr(error, "code", None)) or _by_type(error)


def driver_attempts(error: BaseException) -> int:
    """Return how many attempts the driver itself made before it raised this error.

    The driver retries a retryable read or write once, and an overloaded server twice (its
    `max_adaptive_retries`). Whoever retries on top counts these as spent, so that attempts add up
    instead of multiplying.
    """
    if not isinstance(error, errors.PyMongoError):
        return 1
    if error.has_error_label("SystemOverloadedError"):
        return 3
    if error.has_error_label("RetryableWriteError") or classify(error) is ErrorClass.FAILOVER:
        return 2
    return 1


def _by_code(code: int | None) -> ErrorClass | None:
    for codes, error_class in (
        (_AUTH_CODES, ErrorClass.AUTH),
        (_FAILOVER_CODES, ErrorClass.FAILOVER),
        (_OUTAGE_CODES, ErrorClass.OUTAGE),
        (_OVERLOAD_CODES, ErrorClass.OVERLOAD),
        (_DEADLINE_CODES, ErrorClass.DEADLINE),
    ):
        if code in codes:
            return error_class
    return None


def _by_type(error: BaseException) -> ErrorClass:
    return next((cls for kind, cls in _BY_TYPE if isinstance(error, kind)), ErrorClass.FOREIGN)


def _is_closed_client(error: errors.PyMongoError) -> bool:
    # PyMongo has no type for this; both sentences have been stable since 4.8.
    text = str(error)
    return isinstance(error, errors.InvalidOperation) and (
        "Cannot use MongoClient after close" in text or "closed Topology" in text
    )


def _is_certificate_error(error: errors.PyMongoError) -> bool:
    # A selection error carries the handshake's failure as text only.
    text = str(error)
    return "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text
