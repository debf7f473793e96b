"""Whether a failed operation may have written: no only where it is certain."""

import socket
from typing import Any

import pytest
from bson.errors import InvalidDocument
from hypothesis import given
from hypothesis import strategies as st
from pymongo import errors
from pymongo.pool_shared import _PoolClosedError
from pymongo.synchronous import mongo_client

from worker.mongo.outcome import may_have_written


def labelled(error: errors.PyMongoError, *labels: str) -> errors.PyMongoError:
    for label in labels:
        error._add_error_label(label)
    return error


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def coded(code: int, *labels: str, kind: type[errors.OperationFailure] = errors.OperationFailure) -> Any:
    return kind("some text", code, {"errorLabels": list(labels)})


def lost() -> errors.AutoReconnect:
    return errors.AutoReconnect("h:27017: connection closed")


def not_primary(code: int = 10107) -> errors.NotPrimaryError:
    return errors.NotPrimaryError("some text", {"ok": 0, "code": code})


def refused() -> errors.PyMongoError:
    """A connection that did not come to be, as the driver labels it."""
    error = errors.AutoReconnect("h:27017: [Errno 111] Connection refused")
    return labelled(error, "SystemOverloadedError", "RetryableError", "RetryableWriteError")


class Operation:
    """The driver's record of an operation: its names are PyMongo's, see the test that pins them."""

    def __init__(
        self, *, attempts: int = 1, last: Exception | None = None, bulk: object = None, is_read: bool = False
    ) -> None:
        self._attempt_number = attempts - 1
        self._last_error = last
        self._bulk = bulk
        self._is_read = is_read
        self._is_aggregate_write = False
        self._is_run_command = False

    def run(self, error: Exception) -> None:
        raise error

    def fail(self, error: Exception) -> Exception:
        try:
            self.run(error)
        except Exception as raised:  # noqa: BLE001 - whatever is to be raised
            return raised
        raise AssertionError


def test_the_drivers_record_of_an_operation_is_as_it_is_read() -> None:
    """A PyMongo that keeps it otherwise fails here until somebody has thought about it."""
    kind = mongo_client._ClientConnectionRetryable
    names = {slot for base in kind.__mro__ for slot in getattr(base, "__slots__", ())}
    assert {"_attempt_number", "_last_error", "_bulk", "_is_read"} <= names
    assert {"_is_aggregate_write", "_is_run_command"} <= names
    assert callable(kind.run)


@pytest.mark.parametrize(
    "error",
    [
        lost(),
        errors.NetworkTimeout("h:27017: timed out"),
        errors._OperationCancelled("cancelled"),
        errors.ConnectionFailure("some text"),
        labelled(lost(), "RetryableWriteError"),
        errors.ExecutionTimeout("time", 50),
        errors.WTimeoutError("time", 64),
        coded(91, kind=errors.WriteConcernError),
        coded(13, "NoWritesPerformed", kind=errors.WriteConcernError),
        errors.BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}),
        errors.ClientBulkWriteException({"error": lost()}, False),
        labelled(lost(), "UnknownTransactionCommitResult"),
        labelled(errors.ServerSelectionTimeoutError("commit"), "UnknownTransactionCommitResult"),
        labelled(coded(112), "UnknownTransactionCommitResult", "TransientTransactionError"),
        not_primary(11602),  # interrupted in the midst of it
        not_primary(189),
        not_primary(91),
        errors.NotPrimaryError("who knows"),
        coded(11600),
        coded(262, "RetryableError"),
        coded(462, "SystemOverloadedError"),
        coded(11000, kind=errors.DuplicateKeyError),  # of an update_many's third document
        InvalidDocument("in the second batch"),
        errors.InvalidOperation("some other misuse"),
        ValueError("of the task's own"),
        ConnectionRefusedError("somebody's socket"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_nobody_can_know_may_have_written(error: BaseException) -> None:
    assert may_have_written(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.ServerSelectionTimeoutError("nobody"),
        errors.WaitQueueTimeoutError("full"),
        errors.ConfigurationError("some text"),
        errors.InvalidURI("some text"),
        refused(),
        errors.AutoReconnect("h:27017: connection pool paused (configured timeouts: timeoutMS: 5.0ms)"),
        errors.AutoReconnect("h:27017: connection pool paused"),
        caused(errors.AutoReconnect("h:27017: name"), socket.gaierror("name")),
        errors.InvalidOperation("Cannot use MongoClient after close"),
        _PoolClosedError("some text"),
        coded(18),
        coded(13),
        coded(391),
        not_primary(10107),
        not_primary(13436),
        coded(462, "SystemOverloadedError", "RetryableError"),
        coded(11600, "NoWritesPerformed"),
        labelled(not_primary(91), "NoWritesPerformed"),
        coded(112, "TransientTransactionError"),
        labelled(lost(), "TransientTransactionError"),
        labelled(errors.ServerSelectionTimeoutError("nobody"), "TransientTransactionError"),
    ],
    ids=repr,
)
def test_what_was_never_sent_or_refused_or_undone_has_not_written(error: BaseException) -> None:
    assert not may_have_written(error)


@pytest.mark.parametrize("later", [errors.WaitQueueTimeoutError("full"), coded(18), refused(), not_primary()])
def test_a_harmless_error_of_the_second_attempt_does_not_hide_the_first(later: Any) -> None:
    """A write is sent, loses its connection, and then waits for another in vain."""
    assert may_have_written(Operation(attempts=2, last=lost()).fail(later))
    assert not may_have_written(Operation(attempts=2, last=not_primary()).fail(later))


def test_an_attempt_that_nobody_remembers_may_have_written() -> None:
    third = refused()
    assert may_have_written(Operation(attempts=3, last=third).fail(third))


def test_an_error_kept_from_the_only_attempt_that_was_sent_speaks_for_itself() -> None:
    """No server was found for the second: the driver then raises the error of the first."""
    first = not_primary()
    assert not may_have_written(Operation(attempts=2, last=first).fail(first))


@pytest.mark.parametrize(
    "refusal", [not_primary(), coded(13), coded(462, "SystemOverloadedError", "RetryableError")]
)
def test_a_bulk_write_refused_at_its_second_batch_has_written_its_first(refusal: Any) -> None:
    assert may_have_written(Operation(bulk=object()).fail(refusal))


@pytest.mark.parametrize("error", [errors.WaitQueueTimeoutError("full"), refused(), coded(18)])
def test_a_bulk_write_that_got_no_connection_has_written_nothing(error: Any) -> None:
    assert not may_have_written(Operation(bulk=object()).fail(error))


def test_a_read_writes_nothing_however_it_fails() -> None:
    assert not may_have_written(Operation(is_read=True).fail(lost()))


@pytest.mark.parametrize("name", ["_is_aggregate_write", "_is_run_command"])
def test_what_the_driver_runs_as_a_read_and_may_write_is_no_read(name: str) -> None:
    operation = Operation(is_read=True)
    setattr(operation, name, True)
    assert may_have_written(operation.fail(lost()))


CODES = st.one_of(
    st.integers(0, 500), st.sampled_from([8000, 9001, 10058, 10107, 11000, 11600, 11602, 13435])
)


@given(CODES)
def test_a_write_concern_that_failed_has_written_whatever_its_code(code: int) -> None:
    assert may_have_written(coded(code, kind=errors.WriteConcernError))


@given(CODES)
def test_an_unknown_commit_is_unknown_whatever_else_is_said(code: int) -> None:
    labels = ("UnknownTransactionCommitResult", "TransientTransactionError", "NoWritesPerformed")
    assert may_have_written(coded(code, *labels))


FAILURES = st.sampled_from([lost, refused, not_primary, lambda: errors.WaitQueueTimeoutError("full")])


@given(FAILURES, FAILURES)
def test_two_attempts_have_written_nothing_only_if_neither_has(first: Any, second: Any) -> None:
    one, two = first(), second()
    assert may_have_written(Operation(attempts=2, last=one).fail(two)) == (
        may_have_written(one) or may_have_written(two)
    )
