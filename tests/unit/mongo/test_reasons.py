"""The driver's own reason, out of texts that PyMongo 4.20 made against mongod 6.0.5."""

from collections.abc import Sequence

import pytest
from pymongo import errors
from pymongo.server_description import ServerDescription
from pymongo.synchronous.settings import TopologySettings
from pymongo.topology_description import TOPOLOGY_TYPE, TopologyDescription

from tests.unit.driver_names import moved
from worker.mongo.reasons import LONGEST, public_name, reason, reason_of_server

_PoolClosedError = moved("_PoolClosedError", "pool_shared", "synchronous.pool")
TIMEOUTS = " (configured timeouts: socketTimeoutMS: 20000.0ms, connectTimeoutMS: 10000.0ms)"
REFUSED_LOGIN = (
    "Authentication failed., full error: {'ok': 0.0, 'errmsg': 'Authentication failed.', 'code': 18, "
    "'codeName': 'AuthenticationFailed', '$clusterTime': {'clusterTime': Timestamp(1796085060, 5), "
    "'signature': {'hash': b\"\\xf5'()>\", 'keyId': 7714126572059361287}}}"
)

Server = tuple[str, int, Exception | None]


def selection(first: str, servers: Sequence[Server]) -> errors.ServerSelectionTimeoutError:
    """Make a selection error as PyMongo does, with its description of the deployment."""
    described: dict[tuple[str, int | None], ServerDescription] = {
        (host, port): ServerDescription((host, port), error=error) for host, port, error in servers
    }
    kind = TOPOLOGY_TYPE.ReplicaSetNoPrimary
    topology = TopologyDescription(kind, described, "rs", None, None, TopologySettings())
    return errors.ServerSelectionTimeoutError(f"{first}, Timeout: 5.0s, Topology Description: {topology!r}")


def met(text: str) -> errors.AutoReconnect:
    return errors.AutoReconnect(text + TIMEOUTS)


INTERNAL = (
    "Could not reach any servers in [('db1', 27017)]. "
    "Replica set is configured with internal hostnames or IPs?"
)
UNVERIFIED = "certificate verify failed"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[Errno 111] Connection refused", "Connection refused"),
        ("connection closed", "connection closed"),
        ("timed out", "timed out"),
        ("[Errno 113] No route to host", "No route to host"),
        ("[Errno -2] Name or service not known", "name does not resolve (Name or service not known)"),
        (
            "[Errno -3] Temporary failure in name resolution",
            "name does not resolve at the moment (Temporary failure in name resolution)",
        ),
        (
            f"[SSL: CERTIFICATE_VERIFY_FAILED] {UNVERIFIED}: certificate has expired (_ssl.c:1006)",
            f"certificate expired ({UNVERIFIED}: certificate has expired)",
        ),
        (
            f"[SSL: CERTIFICATE_VERIFY_FAILED] {UNVERIFIED}: self-signed certificate in certificate "
            "chain (_ssl.c:1006)",
            f"certificate not trusted ({UNVERIFIED}: self-signed certificate in certificate chain)",
        ),
        (
            f"[SSL: CERTIFICATE_VERIFY_FAILED] {UNVERIFIED}: IP address mismatch, certificate is not "
            "valid for 'db1'. (_ssl.c:1006)",
            f"certificate is of another host ({UNVERIFIED}: IP address mismatch, certificate is not "
            "valid for 'db1')",
        ),
    ],
)
def test_the_reason_is_told_whatever_the_driver_puts_in_front(text: str, shown: str) -> None:
    alone = met(f"db1:27017: {text}")
    for error in (
        alone,
        selection(str(alone), [("db1", 27017, alone)]),
        selection(INTERNAL, [("db1", 27017, alone)]),
    ):
        assert reason(error) == f"db1:27017: {shown}"


def test_a_handshake_that_fails_names_its_server_once() -> None:
    eof = "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)"
    alone = met(f"SSL handshake failed: db1:27017: {eof}")
    shown = "db1:27017: connection closed in the TLS handshake (EOF occurred in violation of protocol)"
    assert reason(alone) == reason(selection(str(alone), [("db1", 27017, alone)])) == shown


def test_servers_that_failed_alike_are_told_together() -> None:
    refused = [met(f"db{n}:27017: [Errno 111] Connection refused") for n in (1, 2)]
    unknown = met("db3:27017: [Errno -2] Name or service not known")
    servers: list[Server] = [("db1", 27017, refused[0]), ("db2", 27017, refused[1]), ("db3", 27017, unknown)]
    assert reason(selection(",".join(str(error) for _, _, error in servers), servers)) == (
        "db1:27017, db2:27017: Connection refused; "
        "db3:27017: name does not resolve (Name or service not known)"
    )


def test_a_server_that_has_not_answered_yet_is_named() -> None:
    assert reason(selection("No servers found yet", [("db1", 27017, None)])) == "db1:27017: no answer yet"


def test_what_the_driver_looked_for_is_told_where_servers_answer_or_none_is_known() -> None:
    wrong_set = 'No replica set members available for replica set name "other"'
    assert reason(selection(wrong_set, [])) == wrong_set
    assert reason(errors.ServerSelectionTimeoutError("No primary available")) == "No primary available"


def test_a_refused_login_is_told_as_one_and_says_no_more_than_its_code() -> None:
    refused = errors.OperationFailure(
        "Authentication failed.", 18, {"code": 18, "errmsg": "Authentication failed.", "hash": b"x"}
    )
    assert reason(refused) == "login refused (Authentication failed, code 18)"
    later = selection(REFUSED_LOGIN, [("db1", 27017, errors.OperationFailure(REFUSED_LOGIN))])
    assert reason(later) == "db1:27017: login refused (Authentication failed, code 18)"


def test_what_a_server_refuses_is_told_without_the_command() -> None:
    refused = errors.OperationFailure("no such command: 'x'", 59, {"code": 59, "secret": "s3cret"})
    assert reason(refused) == "no such command: 'x', code 59"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (errors._OperationCancelled("operation cancelled"),
         "connection given up by the driver after another one failed (operation cancelled)"),
        (_PoolClosedError("closed"), "PyMongoError: closed"),
        (ValueError("x\ny"), "ValueError: x y"),
        (TimeoutError(), "TimeoutError"),
        (errors.AutoReconnect(), "AutoReconnect"),
        (errors.AutoReconnect("db1:1: x y " * 100), None),
    ],
)  # fmt: skip
def test_no_private_name_is_told_and_no_word_cut(error: Exception, shown: str | None) -> None:
    told = reason(error)
    assert "_" not in told
    assert len(told) <= LONGEST
    assert told == shown if shown else told.endswith(("x…", "y…", "db1:1…"))


def test_the_name_of_a_class_is_a_public_one() -> None:
    assert public_name(errors._OperationCancelled("x")) == "AutoReconnect"
    assert public_name(KeyError("x")) == "KeyError"


def test_a_servers_reason_has_its_address_once() -> None:
    assert (
        reason_of_server(errors.ConnectionFailure("closed"), ("/run/x.sock", None)) == "/run/x.sock: closed"
    )
