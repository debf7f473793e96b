"""From an exception to what the caller does next.

| class | what it is | what the caller does |
|---|---|---|
| outage | no server selectable, refused, connection lost, network timeout | opens the circuit; tried again |
| failover | not primary, interrupted, a write conflict, a helper of encryption away | tried again, soon |
| overload | the wait queue timed out, the server says that it is overloaded | tried again, later |
| deadline | the operation's own time ran out, or its write concern's | tried again if there is time |
| closed client | the object was closed | replaced, tried again |
| auth | credentials or a role refused | fails at once; new credentials are read from the settings |
| config | URI, options, TLS, a write concern that nobody can satisfy | fails at once |
| data | the server refused this operation on these data, or they cannot be encoded | fails at once |
| foreign | not MongoDB's; an OSError too, since the driver wraps those of its sockets | fails at once |

Whether a write may have happened all the same is another question: see `writes`.
"""

import ssl
from enum import StrEnum
from typing import Any

from bson.errors import BSONError
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

# Server error codes: mongodb/mongo, src/mongo/base/error_codes.yml. A server that sends a code is there,
# so no code is an outage: 6, 7, 89 and 9001 are what a router says of a shard that it cannot reach.
_AUTH_CODES = frozenset({11, 13, 18, 31, 33, 334, 391, 8000})
_LOGIN_CODES = frozenset({11, 18, 334, 391})
# Atlas has one code for all that its own gates refuse, and says in words which.
_ATLAS_CODE, _ATLAS_LOGIN = 8000, "bad auth"
_FAILOVER_CODES = frozenset({6, 7, 89, 91, 134, 189, 9001, 10058, 10107, 11600, 11602, 13435, 13436})
# No readable member, a lost cursor, a write conflict, a killed plan: what the driver does not try again.
_INTERRUPTED_CODES = frozenset({43, 112, 133, 175, 237})
_OVERLOAD_CODES = frozenset({202, 262, 462})
_DEADLINE_CODES = frozenset({50, 24, 64})
# A write concern that names a tag set nobody has, or more members than there are.
_CONFIG_CODES = frozenset({79, 100})

# With these the server or the driver says itself that the same again can succeed.
_RETRYABLE_LABELS = ("RetryableWriteError", "RetryableError", "TransientTransactionError")

# What OpenSSL says where one side does not trust, or does not speak, the other's TLS.
_TLS_MISTAKES = ("certificate verify failed", "wrong version number", "certificate required", "unknown ca")

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
    (BSONError, ErrorClass.DATA),
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
    if isinstance(error, errors.ConnectionFailure) and _is_tls_mistake(error):
        return ErrorClass.CONFIG
    if isinstance(error, (errors.BulkWriteError, errors.ClientBulkWriteException)):
        return _by_parts(error)
    told = ErrorClass.AUTH if is_login_refused(error) else _by_code(getattr(error, "code", None))
    return told or _by_label(error) or _by_cause(error) or _by_type(error)


def is_login_refused(error: BaseException) -> bool:
    """Say whether the user or the password was refused, rather than one operation for want of a role."""
    # A refused login makes the driver forget the server until its next heartbeat. Whoever waits for it until
    # then gets a selection error, which carries the reason as text only.
    text = str(error)
    codes = _LOGIN_CODES | {_ATLAS_CODE} if _ATLAS_LOGIN in text else _LOGIN_CODES
    if isinstance(error, errors.ServerSelectionTimeoutError):
        return any(f"'code': {code}," in text for code in codes)
    return getattr(error, "code", None) in codes


def driver_attempts(error: BaseException) -> int:
    """Return how many attempts the driver itself made before it raised this error.

    The driver retries a retryable read or write once, and an overloaded server that allows it twice (its
    `max_adaptive_retries`). Whoever retries on top counts these as spent, so that attempts add up
    instead of multiplying. A read that met a network error twice looks like one that met it once.
    """
    if not isinstance(error, errors.PyMongoError):
        return 1
    if error.has_error_label("SystemOverloadedError"):
        return 3 if error.has_error_label("RetryableError") else 1
    is_retried = isinstance(error, errors.NotPrimaryError) or getattr(error, "code", None) in _FAILOVER_CODES
    return 2 if is_retried or error.has_error_label("RetryableWriteError") else 1


def _by_code(code: int | None) -> ErrorClass | None:
    for codes, error_class in (
        (_AUTH_CODES, ErrorClass.AUTH),
        (_FAILOVER_CODES, ErrorClass.FAILOVER),
        (_INTERRUPTED_CODES, ErrorClass.FAILOVER),
        (_OVERLOAD_CODES, ErrorClass.OVERLOAD),
        (_DEADLINE_CODES, ErrorClass.DEADLINE),
        (_CONFIG_CODES, ErrorClass.CONFIG),
    ):
        if code in codes:
            return error_class
    return None


def _by_label(error: errors.PyMongoError) -> ErrorClass | None:
    # The driver labels lost connections too; their type says more.
    is_told = any(error.has_error_label(label) for label in _RETRYABLE_LABELS)
    return ErrorClass.FAILOVER if is_told and isinstance(error, errors.OperationFailure) else None


def _by_parts(error: errors.BulkWriteError | errors.ClientBulkWriteException) -> ErrorClass:
    """Return the class of a bulk write: what made it end, or the first part that no retry mends."""
    details: Any = error.details
    if isinstance(details.get("error"), BaseException):
        return classify(details["error"])
    parts = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    classes = [_by_code(part.get("code")) or ErrorClass.DATA for part in parts]
    lasting = (error_class for error_class in classes if not error_class.is_transient)
    return next(lasting, classes[0] if classes else ErrorClass.DATA)


def _by_cause(error: errors.PyMongoError) -> ErrorClass | None:
    """Return the class of what encryption met on its way to the key vault, mongocryptd or the key service."""
    cause = classify(error.cause) if isinstance(error, errors.EncryptionError) else ErrorClass.FOREIGN
    if cause is ErrorClass.FOREIGN:
        return None
    # What cannot be reached may be the key service alone: no reason to call MongoDB away.
    return ErrorClass.FAILOVER if cause is ErrorClass.OUTAGE else cause


def _by_type(error: BaseException) -> ErrorClass:
    return next((cls for kind, cls in _BY_TYPE if isinstance(error, kind)), ErrorClass.FOREIGN)


def _is_closed_client(error: errors.PyMongoError) -> bool:
    # PyMongo has no public type for either. The second is a checkout that the closing overtook.
    is_refused = isinstance(error, errors.InvalidOperation) and "MongoClient after close" in str(error)
    return is_refused or type(error).__name__ == "_PoolClosedError"


def _is_tls_mistake(error: errors.PyMongoError) -> bool:
    # A selection error carries the handshake's failure as text only, in OpenSSL's words.
    text = str(error).lower().replace("_", " ")
    return any(words in text for words in _TLS_MISTAKES)
