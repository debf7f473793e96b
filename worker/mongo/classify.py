"""From an exception to what the caller does next.

| class | what it is | what the caller does |
|---|---|---|
| outage | no server selectable, refused, connection lost, network timeout, DNS silent | tried again |
| failover | not primary, interrupted, a write conflict, a helper of encryption away | tried again, soon |
| overload | the server says that it is overloaded | tried again, later |
| exhausted pool | the process's own pool had no connection in time | tried again, later |
| deadline | the operation's own time ran out, or its write concern's | tried again if there is time |
| closed client | the object was closed | replaced, tried again |
| auth | credentials or a role refused | fails at once; new credentials are read from the settings |
| config | URI, options, TLS, no such SRV name, a write concern that cannot be satisfied | fails, or waits |
| data | the server refused this operation on these data, or they cannot be encoded | fails at once |
| foreign | not MongoDB's; an OSError too, since the driver wraps those of its sockets | fails at once |

An outage may be another client's, or of this operation alone: a ping of the process's own client decides, as
it does of a login and of a configuration that are refused.

The cause is in the cause: an error of other code that was raised from one of MongoDB's, or while it was
handled, has its class, and so has one of PyMongo's that says nothing by itself. Of a group of errors, as
of the parts of a bulk write, the first that no retry mends decides, since the whole would run again.

Whether a write may have happened all the same is another question: see `writes`.
"""

import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
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
    """The server has no room: retry later, with jitter."""
    EXHAUSTED = "exhausted pool"
    """This process's own pool has no connection left: retry later, with jitter."""
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
    {
        *(ErrorClass.OUTAGE, ErrorClass.FAILOVER, ErrorClass.OVERLOAD, ErrorClass.EXHAUSTED),
        *(ErrorClass.DEADLINE, ErrorClass.CLOSED),
    }
)

# Server error codes: mongodb/mongo, src/mongo/base/error_codes.yml. A server that sends a code is there,
# so no code is an outage: 6, 7, 89 and 9001 are what a router says of a shard that it cannot reach.
_AUTH_CODES = frozenset({11, 13, 18, 31, 33, 334, 391, 8000})
_LOGIN_CODES = frozenset({11, 18, 334, 391})
# Atlas has one code for all that its own gates refuse, and says in words which.
_ATLAS_CODE, _ATLAS_LOGIN = 8000, "bad auth"
_FAILOVER_CODES = frozenset({6, 7, 89, 91, 134, 189, 9001, 10058, 10107, 11600, 11602, 13435, 13436})
# ShutdownInProgress and InterruptedAtShutdown: the server will be gone in a moment.
_SHUTDOWN_CODES = frozenset({91, 11600})
# No readable member, a lost cursor, a write conflict, a killed plan: what the driver does not try again.
_INTERRUPTED_CODES = frozenset({43, 112, 133, 175, 237})
_OVERLOAD_CODES = frozenset({202, 262, 462})
_DEADLINE_CODES = frozenset({50, 24, 64})
# A write concern that names a tag set nobody has, or more members than there are.
_CONFIG_CODES = frozenset({79, 100})

# With these the server or the driver says itself that the same again can succeed.
_RETRYABLE_LABELS = ("RetryableWriteError", "RetryableError", "TransientTransactionError")

# What OpenSSL says where one side does not trust, or does not speak, the other's TLS.
_TLS_MISTAKES = re.compile(
    "certificate verify failed|wrong version number|record layer failure|unsupported protocol|no protocols"
    "|alert (?:certificate|bad certificate|unknown ca|access denied|handshake failure|protocol version)"
)

# The driver's own words where `replicaSet` names another set than the servers' (and the first, too, where the
# set's own configuration names none of the hosts).
_ANOTHER_SET = re.compile("configured to connect to a replica set named|available for replica set name")

# What dnspython raises where the DNS has answered, or need not be asked: there is no such name or record, or
# it cannot be a name. All else that it raises is a DNS that does not answer.
_NO_SUCH_NAME = frozenset({"NXDOMAIN", "NoAnswer", "YXDOMAIN", "SyntaxError", "FormError", "IDNAException"})

# Order matters: NetworkTimeout, ServerSelectionTimeoutError and NotPrimaryError are all subclasses of
# AutoReconnect, which is a ConnectionFailure; the first match wins.
_BY_TYPE: tuple[tuple[type[BaseException], ErrorClass], ...] = (
    (errors.WaitQueueTimeoutError, ErrorClass.EXHAUSTED),
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
    """Return the class of an error that an operation raised, or that was made of one.

    A label or a server code says more than a type, so they are asked first; but a connection that could not
    be made or was lost is that, whatever the driver labels it.
    """
    cause = _of_mongodb(error)
    if isinstance(cause, BaseExceptionGroup):
        return _worst(map(classify, cause.exceptions))
    return _class_of(cause) if isinstance(cause, errors.PyMongoError) else _by_type(cause)


def may_be_outage(error: BaseException) -> bool:
    """Say whether an error can be that MongoDB is away from its client, or does not let it in.

    It is not said that the client is this process's own: a ping tells.
    """
    return classify(error) in (ErrorClass.OUTAGE, ErrorClass.CONFIG) or is_login_refused(error)


def is_shutdown(error: BaseException) -> bool:
    """Say whether a server said that it shuts down: it may answer for a moment yet."""
    cause = _of_mongodb(error)
    if isinstance(cause, BaseExceptionGroup):
        return any(map(is_shutdown, cause.exceptions))
    details: Any = getattr(cause, "details", None)
    told = details if isinstance(details, Mapping) else {}
    parts = [*told.get("writeErrors", ()), *told.get("writeConcernErrors", ())]
    codes = {getattr(cause, "code", None), *(part.get("code") for part in [told, *parts])}
    return isinstance(cause, errors.PyMongoError) and not _SHUTDOWN_CODES.isdisjoint(codes)


def is_login_refused(error: BaseException) -> bool:
    """Say whether the user or the password was refused, rather than one operation for want of a role."""
    cause = _of_mongodb(error)
    if isinstance(cause, BaseExceptionGroup):
        return any(map(is_login_refused, cause.exceptions))
    # A refused login makes the driver forget the server until its next heartbeat. An operation that waits
    # for it until then gets a selection error, which carries the reason as text only.
    text = str(cause)
    codes = _LOGIN_CODES | {_ATLAS_CODE} if _ATLAS_LOGIN in text else _LOGIN_CODES
    if isinstance(cause, errors.ServerSelectionTimeoutError):
        return any(f"'code': {code}," in text for code in codes)
    return isinstance(cause, errors.PyMongoError) and getattr(cause, "code", None) in codes


def denied(error: BaseException) -> errors.PyMongoError | None:
    """Return the driver's error where an operation failed for want of a role; None where it did not."""
    cause = _of_mongodb(error)
    if isinstance(cause, BaseExceptionGroup):
        return next(filter(None, map(denied, cause.exceptions)), None)
    is_denied = classify(error) is ErrorClass.AUTH and not is_login_refused(error)
    return cause if is_denied and isinstance(cause, errors.PyMongoError) else None


# What tasks expect: a duplicate key is how many a program asks whether it was first.
_EXPECTED_CODES = frozenset({11_000, 11_001, 12_582})
_NOT_MENDED = frozenset({ErrorClass.DATA, ErrorClass.CONFIG, ErrorClass.DEADLINE})


def refused(error: BaseException) -> tuple[ErrorClass, int, str] | None:
    """Return the class, the code and its name (empty where the server said none) of an error with which a
    server refused an operation that it had taken; None for every other error.

    Not for what waiting mends, as an election or an overload, for a role that is missing (see `denied`), nor
    for what tasks expect, as a duplicate key.
    """
    cause = _of_mongodb(error)
    if isinstance(cause, BaseExceptionGroup):
        return next(filter(None, map(refused, cause.exceptions)), None)
    error_class = classify(error)
    if not isinstance(cause, errors.PyMongoError) or error_class not in _NOT_MENDED:
        return None
    details: Any = getattr(cause, "details", None)
    told = details if isinstance(details, Mapping) else {}
    parts = [*told.get("writeErrors", ()), *told.get("writeConcernErrors", ())]
    code = next((part.get("code") for part in parts), None) or getattr(cause, "code", None)
    if not isinstance(code, int) or code in _EXPECTED_CODES:
        return None
    name = next((part.get("codeName") for part in [told, *parts] if part.get("codeName")), "")
    return error_class, code, str(name)


def driver_attempts(error: BaseException) -> int:
    """Return how many attempts the driver itself made before it raised this error.

    The driver retries a retryable read or write once, and an overloaded server that allows it twice (its
    `max_adaptive_retries`). Whoever retries on top counts these as spent, so that attempts add up
    instead of multiplying. A read that met a network error twice looks like one that met it once.
    """
    cause = _of_mongodb(error)
    if not isinstance(cause, errors.PyMongoError):
        return 1
    if cause.has_error_label("SystemOverloadedError"):
        return 3 if cause.has_error_label("RetryableError") else 1
    is_retried = isinstance(cause, errors.NotPrimaryError) or getattr(cause, "code", None) in _FAILOVER_CODES
    return 2 if is_retried or cause.has_error_label("RetryableWriteError") else 1


def _of_mongodb(error: BaseException) -> BaseException:
    """Return the first error of the driver's that this one is, or was made of; itself where there is none.

    A group of errors is returned as it is: each of its errors has causes of its own. So is a bulk write whose
    parts say what became of it; where another error ended it, it is that one.
    """
    for cause in _causes(error):
        ended_by = cause.error if isinstance(cause, errors.ClientBulkWriteException) else None
        if isinstance(ended_by, BaseException):
            return _of_mongodb(ended_by)
        if isinstance(cause, (errors.PyMongoError, BSONError, BaseExceptionGroup)):
            return cause
    return error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from or in the handling of, and so on, as tracebacks show it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _worst(classes: Iterable[ErrorClass]) -> ErrorClass:
    """Return the first class that no retry mends, else the first."""
    found = list(classes)
    return next((each for each in found if not each.is_transient), found[0])


def _class_of(error: errors.PyMongoError) -> ErrorClass:
    if _is_closed_client(error):
        return ErrorClass.CLOSED
    if isinstance(error, errors.ConnectionFailure) and (_is_tls_mistake(error) or _is_another_set(error)):
        return ErrorClass.CONFIG
    if _by_type(error) is ErrorClass.OUTAGE:
        # Before the labels: since 4.17 the driver gives that of an overload to each connection that fails.
        return ErrorClass.AUTH if is_login_refused(error) else ErrorClass.OUTAGE
    if error.has_error_label("SystemOverloadedError"):
        return ErrorClass.OVERLOAD
    if isinstance(error, (errors.BulkWriteError, errors.ClientBulkWriteException)):
        return _by_parts(error)
    by_code = ErrorClass.AUTH if is_login_refused(error) else _by_code(getattr(error, "code", None))
    return by_code or _by_label(error) or _by_cause(error) or _by_type(error)


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
    """Return the class of a bulk write by what became of its parts."""
    details: Any = error.details
    parts = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    return _worst([_by_code(part.get("code")) or ErrorClass.DATA for part in parts] or [ErrorClass.DATA])


def _by_cause(error: errors.PyMongoError) -> ErrorClass | None:
    """Return the class of what made the driver raise an error that says nothing by itself."""
    if isinstance(error, errors.EncryptionError):
        return _by_encryption(error.cause)
    cause = error.__cause__
    # PyMongo below 4.12 raises what the DNS met `from None`.
    if isinstance(error, errors.ConfigurationError) and _is_dns_away(cause or error.__context__):
        return ErrorClass.OUTAGE
    if cause is None or getattr(error, "code", None) is not None:
        return None
    found = classify(cause)
    return found if found.is_transient else None


def _by_encryption(cause: BaseException) -> ErrorClass | None:
    """Return the class of what encryption met on its way to the key vault, mongocryptd or the key service."""
    found = classify(cause)
    if found is ErrorClass.FOREIGN:
        return None
    # What cannot be reached may be the key service alone: no reason to call MongoDB away.
    return ErrorClass.FAILOVER if found is ErrorClass.OUTAGE else found


def _is_dns_away(cause: BaseException | None) -> bool:
    """Say whether the DNS did not answer the lookup that `mongodb+srv` begins with.

    By names: PyMongo imports dnspython where such a URI is used, and it would cost all others their start.
    """
    kinds = type(cause).__mro__
    if isinstance(cause, OSError):
        return True
    is_of_dns = any(kind.__module__ == "dns.exception" for kind in kinds)
    return is_of_dns and not any(kind.__name__ in _NO_SUCH_NAME for kind in kinds)


def _by_type(error: BaseException) -> ErrorClass:
    return next((cls for kind, cls in _BY_TYPE if isinstance(error, kind)), ErrorClass.FOREIGN)


def _is_closed_client(error: errors.PyMongoError) -> bool:
    # PyMongo has no public type for either. The second is a checkout that the closing overtook.
    is_refused = isinstance(error, errors.InvalidOperation) and "MongoClient after close" in str(error)
    return is_refused or type(error).__name__ == "_PoolClosedError"


def _is_another_set(error: errors.PyMongoError) -> bool:
    is_selection = isinstance(error, errors.ServerSelectionTimeoutError)
    return is_selection and _ANOTHER_SET.search(str(error)) is not None


def _is_tls_mistake(error: errors.PyMongoError) -> bool:
    # A selection error carries the handshake's failure as text only, in OpenSSL's words.
    return _TLS_MISTAKES.search(str(error).lower().replace("_", " ")) is not None
