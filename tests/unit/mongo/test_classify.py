"""From an exception to what the caller does next: every one that PyMongo has."""

import importlib
import inspect
import pkgutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import bson
import dns.exception
import dns.message
import dns.name
import dns.resolver
import gridfs
import pymongo
import pytest
from bson.errors import InvalidBSON, InvalidDocument
from hypothesis import given
from hypothesis import strategies as st
from pymongo import errors, helpers_shared
from pymongo.pool_options import PoolOptions
from pymongo.synchronous import pool

from tests.unit.driver_names import moved
from worker.mongo import classify as module
from worker.mongo.classify import (
    ErrorClass,
    classify,
    driver_attempts,
    is_login_refused,
    is_shutdown,
    may_be_outage,
)

_PoolClosedError = moved("_PoolClosedError", "pool_shared", "synchronous.pool")
_SOCKET_MAKER = "_configured_socket_interface"
if not hasattr(pool, _SOCKET_MAKER):
    _SOCKET_MAKER = "_configured_socket"  # before PyMongo 4.12
_SrvResolver = moved("_SrvResolver", "synchronous.srv_resolver", "srv_resolver")
# Since PyMongo 4.17 the driver makes an error of its own where the time of a transaction is over.
_make_timeout_error = moved("_make_timeout_error", "client_session_shared")

OUTAGE, FAILOVER, OVERLOAD = ErrorClass.OUTAGE, ErrorClass.FAILOVER, ErrorClass.OVERLOAD
EXHAUSTED = ErrorClass.EXHAUSTED
DEADLINE, AUTH, CONFIG = ErrorClass.DEADLINE, ErrorClass.AUTH, ErrorClass.CONFIG
CLOSED, DATA, FOREIGN = ErrorClass.CLOSED, ErrorClass.DATA, ErrorClass.FOREIGN

# What each exception is that comes without code and label.
BARE: dict[str, ErrorClass] = {
    "AutoReconnect": OUTAGE,
    "BSONError": DATA,
    "BulkWriteError": DATA,
    "ClientBulkWriteException": DATA,
    "CollectionInvalid": DATA,
    "ConfigurationError": CONFIG,
    "ConnectionFailure": OUTAGE,
    "CorruptGridFile": DATA,
    "CursorNotFound": DATA,  # with its code, 43, it is a failover
    "DocumentTooLarge": DATA,
    "DuplicateKeyError": DATA,
    "EncryptedCollectionError": DATA,
    "EncryptionError": DATA,
    "ExecutionTimeout": DEADLINE,
    "FileExists": DATA,
    "GridFSError": DATA,
    "InvalidBSON": DATA,
    "InvalidDocument": DATA,
    "InvalidId": DATA,
    "InvalidName": DATA,
    "InvalidOperation": DATA,
    "InvalidStringData": DATA,
    "InvalidURI": CONFIG,
    "NetworkTimeout": OUTAGE,
    "NoFile": DATA,
    "NotPrimaryError": FAILOVER,
    "OperationFailure": DATA,
    "ProtocolError": DATA,
    "PyMongoError": DATA,
    "ServerSelectionTimeoutError": OUTAGE,
    "WTimeoutError": DEADLINE,
    "WaitQueueTimeoutError": EXHAUSTED,
    "WriteConcernError": DATA,
    "WriteError": DATA,
    "_OperationCancelled": OUTAGE,
    "_PoolClosedError": CLOSED,
}

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "BulkWriteError": ({},),
    "ClientBulkWriteException": ({}, False),
    "EncryptionError": (ValueError("cause"),),
    "EncryptedCollectionError": (ValueError("cause"), {}),
}


def modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        with suppress(ImportError):  # needs a package that is not installed, such as pyOpenSSL
            yield importlib.import_module(found.name)


def raised() -> dict[str, type[BaseException]]:
    """Return every exception class that the driver defines anywhere, private ones included."""
    every = [module for package in (pymongo, bson, gridfs) for module in modules(package)]
    kinds = {kind for module in every for kind in vars(module).values() if inspect.isclass(kind)}
    own = {kind for kind in kinds if kind.__module__.partition(".")[0] in ("pymongo", "bson", "gridfs")}
    return {kind.__name__: kind for kind in own if issubclass(kind, BaseException)}


RAISED = raised()


def make(name: str) -> BaseException:
    return RAISED[name](*ARGUMENTS.get(name, ("some text",)))


def coded(code: int, *labels: str, kind: type[errors.OperationFailure] = errors.OperationFailure) -> Any:
    return kind("some text", code, {"errorLabels": list(labels)})


def labelled(kind: type[errors.PyMongoError], *labels: str) -> errors.PyMongoError:
    error = kind("some text")
    for label in labels:
        error._add_error_label(label)
    return error


def error_of(operation: Callable[[], object]) -> Exception:
    """Return what it raises."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the caller judges it
        operation()
    return raised.value


def raiser(error: Exception) -> Any:
    def fail(*_args: Any, **_options: Any) -> None:
        raise error

    return fail


def test_every_exception_of_pymongo_has_been_judged() -> None:
    """A PyMongo with a new one fails here until somebody has thought about it."""
    assert set(BARE) == set(RAISED)


@pytest.mark.parametrize("name", BARE)
def test_an_exception_without_code_and_label_is_classified_by_its_type(name: str) -> None:
    assert classify(make(name)) is BARE[name]


@pytest.mark.parametrize("name", ["NetworkTimeout", "ServerSelectionTimeoutError", "NotPrimaryError"])
def test_a_subclass_of_auto_reconnect_has_a_rule_of_its_own(name: str) -> None:
    """The trap of the class tree: a handler of AutoReconnect placed first would take them all."""
    kinds = [kind for kind, _ in module._BY_TYPE]
    assert isinstance(make(name), errors.AutoReconnect)
    assert kinds.index(RAISED[name]) < kinds.index(errors.ConnectionFailure)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (18, AUTH),  # AuthenticationFailed
        (13, AUTH),  # Unauthorized
        (8000, AUTH),  # AtlasError: "bad auth"
        (91, FAILOVER),  # ShutdownInProgress
        (189, FAILOVER),  # PrimarySteppedDown
        (10107, FAILOVER),  # NotWritablePrimary
        (133, FAILOVER),  # FailedToSatisfyReadPreference
        (43, FAILOVER),  # CursorNotFound: a failover or a restart took it
        (112, FAILOVER),  # WriteConflict
        (6, FAILOVER),  # HostUnreachable, of a shard: the router that says so is there
        (262, OVERLOAD),  # ExceededTimeLimit
        (462, OVERLOAD),  # IngressRequestRateLimitExceeded
        (50, DEADLINE),  # MaxTimeMSExpired
        (64, DEADLINE),  # WriteConcernTimeout
        (11000, DATA),  # DuplicateKey
        (121, DATA),  # DocumentValidationFailure
        (2, DATA),  # BadValue
        (11601, DATA),  # Interrupted: somebody killed the operation on purpose
        (100, CONFIG),  # UnsatisfiableWriteConcern
    ],
)
def test_a_server_code_says_more_than_the_type(code: int, expected: ErrorClass) -> None:
    assert classify(coded(code)) is expected


@pytest.mark.parametrize("code", sorted(helpers_shared._RETRYABLE_ERROR_CODES))
def test_what_the_driver_retries_is_transient_and_was_tried_twice_and_is_no_outage(code: int) -> None:
    """A server that answers with a code is there: its error must not open the circuit."""
    assert classify(coded(code)).is_transient
    assert classify(coded(code)) is not OUTAGE
    assert classify(coded(code)) is OVERLOAD or driver_attempts(coded(code)) == 2


@pytest.mark.parametrize(
    "error",
    [
        coded(462, "SystemOverloadedError", "RetryableError", "NoWritesPerformed"),
        coded(2, "SystemOverloadedError"),
        labelled(errors.NotPrimaryError, "SystemOverloadedError"),
    ],
)
def test_the_overload_label_of_a_server_that_answers_wins_over_code_and_type(
    error: errors.PyMongoError,
) -> None:
    assert classify(error) is OVERLOAD


def connecting(cause: Exception) -> Exception:
    """Return what PyMongo's pool makes of an error of the socket on which it connects, labels and all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, _SOCKET_MAKER, raiser(cause))
        return error_of(pool.Pool(("127.0.0.1", 27017), PoolOptions()).connect)


@pytest.mark.parametrize(
    "cause",
    [
        ConnectionRefusedError(111, "Connection refused"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("timed out"),
        OSError(113, "No route to host"),
        socket.gaierror(-3, "Temporary failure in name resolution"),
        socket.gaierror(-2, "Name or service not known"),
    ],
    ids=repr,
)
def test_a_connection_that_cannot_be_made_is_an_outage_whatever_the_driver_labels_it(
    cause: Exception,
) -> None:
    error: Any = connecting(cause)
    if pymongo.version_tuple >= (4, 17):
        assert error.has_error_label("SystemOverloadedError") is not isinstance(cause, socket.gaierror)
    assert classify(error) is OUTAGE


@pytest.mark.parametrize("label", ["RetryableWriteError", "RetryableError", "TransientTransactionError"])
def test_a_command_error_that_says_it_can_be_retried_is_transient(label: str) -> None:
    assert classify(coded(99999, label)) is FAILOVER
    assert classify(coded(99999, "NoWritesPerformed")) is DATA


def test_a_lost_connection_stays_an_outage_with_the_label_that_the_driver_gives_it() -> None:
    error = labelled(errors.AutoReconnect, "RetryableWriteError", "TransientTransactionError")
    assert classify(error) is OUTAGE
    assert driver_attempts(error) == 2


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidOperation("Cannot use MongoClient after close"),
        _PoolClosedError("Attempted to check out a connection from closed connection pool"),
    ],
)
def test_a_closed_client_is_told_from_other_misuse(error: errors.PyMongoError) -> None:
    assert classify(error) is CLOSED


def test_a_document_that_quotes_the_sentence_of_a_closed_client_is_still_data() -> None:
    text = "dup key: { note: 'Cannot use MongoClient after close, closed connection pool' }"
    assert classify(errors.DuplicateKeyError(text, 11000)) is DATA


@pytest.mark.parametrize(
    "text",
    [
        "SSL handshake failed: h:27017: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
        "SSL handshake failed: h:27017: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)",
        "h:27017: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required",
        "h:27017: [SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca",
    ],
)
def test_a_mistake_in_tls_is_for_a_person_to_mend(text: str) -> None:
    for kind in (errors.AutoReconnect, errors.ServerSelectionTimeoutError):
        assert classify(kind(text)) is CONFIG
    assert classify(ssl.SSLCertVerificationError(text)) is CONFIG


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), TimeoutError(), ConnectionRefusedError(), RuntimeError("x")]
)
def test_other_peoples_errors_are_foreign_and_never_retried(error: Exception) -> None:
    assert classify(error) is FOREIGN
    assert driver_attempts(error) == 1
    assert not FOREIGN.is_transient


@pytest.mark.parametrize("error", [InvalidDocument("x"), InvalidBSON("x"), errors.DocumentTooLarge("x")])
def test_what_cannot_be_encoded_is_data(error: Exception) -> None:
    assert classify(error) is DATA


def bulk(*writes: int, concerns: tuple[int, ...] = ()) -> errors.BulkWriteError:
    parts = {"writeErrors": writes, "writeConcernErrors": concerns}
    return errors.BulkWriteError({name: [{"code": c} for c in codes] for name, codes in parts.items()})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (bulk(11000), DATA),
        (bulk(concerns=(64,)), DEADLINE),
        (bulk(concerns=(91, 91)), FAILOVER),
        (bulk(91, 11000), DATA),
        (bulk(11000, concerns=(64,)), DATA),
        (bulk(13), AUTH),
        (errors.ClientBulkWriteException({"error": errors.AutoReconnect("reset")}, False), OUTAGE),
        (errors.ClientBulkWriteException({"error": coded(10107)}, False), FAILOVER),
        (errors.ClientBulkWriteException({"error": None, "writeErrors": [{"code": 11000}]}, False), DATA),
    ],
)
def test_a_bulk_write_is_what_its_parts_are(error: errors.PyMongoError, expected: ErrorClass) -> None:
    """One part that no retry mends decides, since the whole would be sent again."""
    assert classify(error) is expected


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (labelled(errors.NetworkTimeout, "SystemOverloadedError", "RetryableError"), 3),
        (coded(2, "SystemOverloadedError"), 1),  # the driver retries an overload only where it may
        (errors.NotPrimaryError("not primary"), 2),
        (errors.ServerSelectionTimeoutError("nobody"), 1),
        (errors.WaitQueueTimeoutError("full"), 1),
        (coded(43), 1),
        (coded(11000), 1),
    ],
)
def test_the_drivers_own_attempts_are_counted(error: errors.PyMongoError, attempts: int) -> None:
    assert driver_attempts(error) == attempts


def test_what_a_person_has_to_mend_is_not_transient() -> None:
    transient = {OUTAGE, FAILOVER, OVERLOAD, EXHAUSTED, DEADLINE, CLOSED}
    assert {c for c in ErrorClass if c.is_transient} == transient


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (errors.AutoReconnect("the key service"), FAILOVER),  # MongoDB itself may be well
        (errors.ServerSelectionTimeoutError("mongocryptd"), FAILOVER),
        (coded(13), AUTH),
        (errors.ExecutionTimeout("find in the key vault", 50), DEADLINE),
        (errors.EncryptionError(coded(10107)), FAILOVER),
        (ValueError("not a key"), DATA),
        (ConnectionRefusedError("the key service"), DATA),
    ],
)
def test_an_encryption_error_is_what_encryption_met(cause: Exception, expected: ErrorClass) -> None:
    assert classify(errors.EncryptionError(cause)) is expected
    assert classify(errors.EncryptedCollectionError(cause, {})) is expected


# -- the cause is in the cause ---------------------------------------------------------------------


def of_dns(kind: Any, **options: Any) -> Exception:
    """Return an error of dnspython's, whose constructors have no types."""
    error: Exception = kind(**options)
    return error


def resolving(cause: Exception) -> Exception:
    """Return what PyMongo makes of an error of the lookup that `mongodb+srv` begins with."""

    def ping() -> Any:
        # Before PyMongo 4.12 the name is looked up when the client is made.
        return pymongo.MongoClient("mongodb+srv://cluster0.shop.test/", connect=False).admin.command("ping")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_SrvResolver.__init__.__globals__, "_resolve", raiser(cause))
        return error_of(ping)


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (of_dns(dns.resolver.NoNameservers), OUTAGE),  # SERVFAIL, REFUSED
        (of_dns(dns.resolver.LifetimeTimeout, timeout=10.0, errors=[]), OUTAGE),
        (of_dns(dns.exception.Timeout), OUTAGE),
        (of_dns(dns.resolver.NoResolverConfiguration), OUTAGE),
        (OSError(101, "Network is unreachable"), OUTAGE),
        (of_dns(dns.resolver.NXDOMAIN), CONFIG),
        # The name has no SRV record.
        (of_dns(dns.resolver.NoAnswer, response=dns.message.QueryMessage()), CONFIG),
        (of_dns(dns.resolver.YXDOMAIN), CONFIG),
        (of_dns(dns.name.LabelTooLong), CONFIG),
        (of_dns(dns.name.EmptyLabel), CONFIG),
        (UnicodeError("x"), CONFIG),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_dns_that_does_not_answer_is_an_outage_and_a_name_that_does_not_exist_is_not(
    cause: Exception, expected: ErrorClass
) -> None:
    assert classify(resolving(cause)) is expected


class OrderError(Exception):
    """An error of a task's own."""


def raised_from(error: Exception) -> Exception:
    own = OrderError("not saved")
    own.__cause__ = error
    return own


def raised_while_handling(error: Exception) -> Exception:
    def save() -> None:
        try:
            raise error
        except type(error):
            raise OrderError("not saved")  # noqa: B904 - as much code does

    return error_of(save)


def raised_in_place_of(error: Exception) -> Exception:
    def save() -> None:
        try:
            raise error
        except type(error):
            raise OrderError("not saved") from None

    return error_of(save)


SHUTTING_DOWN = errors.WriteConcernError("Replication is being shut down", 91)
REFUSED = errors.ServerSelectionTimeoutError("refused")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (REFUSED, OUTAGE),
        (SHUTTING_DOWN, FAILOVER),
        (errors.DuplicateKeyError("x", 11000), DATA),
        (coded(18), AUTH),
        (InvalidDocument("x"), DATA),
        (resolving(of_dns(dns.resolver.NoNameservers)), OUTAGE),
        (KeyError("x"), FOREIGN),
    ],
    ids=repr,
)
def test_an_error_of_other_code_has_the_class_of_what_it_was_made_of(
    error: Exception, expected: ErrorClass
) -> None:
    for own in (raised_from(error), raised_while_handling(error), raised_from(raised_from(error))):
        assert classify(own) is expected
        assert is_login_refused(own) is (expected is AUTH)
        assert driver_attempts(own) == driver_attempts(error)
    assert classify(raised_in_place_of(error)) is FOREIGN


def test_a_chain_of_causes_that_bites_its_tail_ends() -> None:
    first, second = OrderError("x"), OrderError("y")
    first.__cause__, second.__cause__ = second, first
    assert classify(first) is FOREIGN


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([REFUSED, SHUTTING_DOWN], OUTAGE),
        ([REFUSED, ValueError("x")], FOREIGN),
        ([SHUTTING_DOWN, errors.DuplicateKeyError("x", 11000)], DATA),
        ([ExceptionGroup("inner", [REFUSED]), raised_from(REFUSED)], OUTAGE),
        ([coded(18), REFUSED], AUTH),
    ],
)
def test_a_group_of_errors_is_what_the_first_that_no_retry_mends_is(
    parts: list[Exception], expected: ErrorClass
) -> None:
    group = ExceptionGroup("several", parts)
    assert classify(group) is classify(raised_from(group)) is expected
    assert may_be_outage(group) is (expected in (OUTAGE, AUTH))


def in_transaction(error: errors.PyMongoError) -> errors.PyMongoError:
    """Return what `with_transaction` makes of its last error when its time is over."""
    timeout: errors.PyMongoError = _make_timeout_error(error) if _make_timeout_error else error
    timeout.__cause__ = error if _make_timeout_error else None
    return timeout


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        # A ping says that it is none.
        (
            in_transaction(coded(112, "TransientTransactionError")),
            OUTAGE if _make_timeout_error else FAILOVER,
        ),
        (errors.PyMongoError("some text"), DATA),
        (errors.InvalidOperation("some text"), DATA),
    ],
)
def test_what_the_driver_makes_of_an_error_of_its_own(error: Exception, expected: ErrorClass) -> None:
    assert classify(error) is expected


@pytest.mark.parametrize("kind", [errors.PyMongoError, errors.OperationFailure, errors.ConfigurationError])
def test_an_error_of_the_drivers_that_says_nothing_by_itself_has_its_causes_class(
    kind: type[errors.PyMongoError],
) -> None:
    error, coded_error = kind("some text"), coded(11000)
    error.__cause__ = coded_error.__cause__ = REFUSED
    assert classify(error) is OUTAGE
    assert classify(coded_error) is DATA
    error.__cause__ = coded(13)
    assert classify(error) is BARE[kind.__name__]


@pytest.mark.parametrize(
    "error",
    [errors.AutoReconnect("x"), coded(10107), labelled(errors.AutoReconnect, "RetryableWriteError")],
    ids=repr,
)
def test_a_bulk_write_of_a_client_that_an_error_ended_is_that_error(error: Exception) -> None:
    ended = errors.ClientBulkWriteException({"error": error, "writeErrors": []}, False)
    assert classify(ended) is classify(error)
    assert driver_attempts(ended) == driver_attempts(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (REFUSED, True),
        (errors.NetworkTimeout("x"), True),
        (coded(18), True),
        (coded(13), False),
        (SHUTTING_DOWN, False),
        (errors.WaitQueueTimeoutError("x"), False),
        (OSError("x"), False),
    ],
    ids=repr,
)
def test_what_a_ping_has_to_explain(error: Exception, expected: bool) -> None:
    assert may_be_outage(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SHUTTING_DOWN, True),
        (coded(11600), True),
        (errors.NotPrimaryError("interrupted at shutdown", {"code": 11600}), True),
        (bulk(concerns=(64, 91)), True),
        (errors.ClientBulkWriteException({"error": coded(91)}, False), True),
        (raised_from(SHUTTING_DOWN), True),
        (ExceptionGroup("both", [REFUSED, SHUTTING_DOWN]), True),
        (errors.NotPrimaryError("stepped down", {"code": 189}), False),
        (errors.NotPrimaryError("not primary"), False),
        (errors.AutoReconnect("x", [SHUTTING_DOWN]), False),
        (bulk(11000), False),
        (REFUSED, False),
        (ValueError("x"), False),
    ],
    ids=repr,
)
def test_a_server_says_that_it_shuts_down(error: Exception, expected: bool) -> None:
    assert is_shutdown(error) is expected


LABELS = st.lists(
    st.sampled_from(
        [
            "TransientTransactionError",
            "RetryableWriteError",
            "UnknownTransactionCommitResult",
            "NoWritesPerformed",
            "RetryableError",
            "of some later version",
        ]
    ),
    unique=True,
)
CODES = st.one_of(st.none(), st.integers(0, 500), st.sampled_from([8000, 9001, 10058, 10107, 11000, 13436]))


@given(st.sampled_from(sorted(BARE)), LABELS)
def test_whatever_is_raised_has_one_class_and_is_never_foreign(name: str, labels: list[str]) -> None:
    error = make(name)
    for label in labels if isinstance(error, errors.PyMongoError) else ():
        error._add_error_label(label)  # type: ignore[attr-defined]  # narrowed in the line above
    assert classify(error) in set(ErrorClass) - {FOREIGN}
    assert driver_attempts(error) in (1, 2, 3)


@given(st.sampled_from(sorted(BARE)))
def test_what_the_driver_calls_a_timeout_may_succeed_another_time(name: str) -> None:
    error = make(name)
    assert classify(error).is_transient or not getattr(error, "timeout", False)


@given(CODES, LABELS)
def test_a_server_that_answers_is_never_an_outage(code: int | None, labels: list[str]) -> None:
    """Its error must not open the circuit, whatever it says."""
    assert classify(errors.OperationFailure("some text", code, {"errorLabels": labels})) is not OUTAGE


@given(CODES, LABELS)
def test_an_overloaded_server_is_left_alone_for_a_while_whatever_else_it_says(
    code: int | None, labels: list[str]
) -> None:
    assert classify(coded(code or 0, "SystemOverloadedError", *labels)) is OVERLOAD


def rows() -> list[list[str]]:
    lines = [line for line in (module.__doc__ or "").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_says_of_every_class_what_the_caller_does() -> None:
    assert sorted(name for name, _, _ in rows()) == sorted(ErrorClass)


def test_the_table_and_the_code_agree_on_what_is_tried_again() -> None:
    for name, _, action in rows():
        assert ErrorClass(name).is_transient == ("tried again" in action)


def test_every_class_says_in_a_sentence_what_helps() -> None:
    source = inspect.getsource(ErrorClass)
    assert source.count('"""') >= 2 * len(ErrorClass)
