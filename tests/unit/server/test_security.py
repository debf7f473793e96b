"""What PyMongo keeps of a client's login and TLS, and what a certificate says of its dates."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from tests.certificates import Authority
from worker.server import tls
from worker.server.security import Encryption, Login, encryption_of, login_of


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


def test_when_a_certificate_is_valid_is_read_from_it(authority: Authority) -> None:
    far = authority.sign("far", begins=timedelta(days=365 * 30), lasts=timedelta(days=1))
    dates = tls.validity(ssl.PEM_cert_to_DER_cert(tls._first_certificate(far)))
    assert dates is not None
    assert dates[1] - dates[0] == timedelta(days=1)
    assert dates[0].year == (datetime.now(UTC) + timedelta(days=365 * 30)).year  # another type of time in DER


@pytest.mark.parametrize(
    "text", [b"", b"\x30", b"\x30\x03\x02\x01\x01", b"no certificate" * 9, b"\x30\x80\x00"]
)
def test_what_is_no_certificate_has_no_dates(text: bytes) -> None:
    assert tls.validity(text) is None


# --- what PyMongo keeps without a public name ---


def test_who_logs_in_is_known_without_the_password() -> None:
    with MongoClient[dict[str, Any]]("mongodb://app:s3cret@h/shop?authSource=users", connect=False) as made:
        assert login_of(made) == Login("app", "users", "SCRAM")
        assert "s3cret" not in repr(login_of(made))
    uri = "mongodb://app:s3cret@h/?authMechanism=PLAIN"
    with MongoClient[dict[str, Any]](uri, connect=False) as made:
        assert login_of(made) == Login("app", "$external", "PLAIN")
    with MongoClient[dict[str, Any]]("mongodb://h/", connect=False) as made:
        assert login_of(made) is None


def test_how_a_client_encrypts_is_known(authority: Authority) -> None:
    own = authority.sign("own")
    uri = f"mongodb://h/?tlsCertificateKeyFile={own}"
    with MongoClient[dict[str, Any]](uri, connect=False) as made:
        assert encryption_of(made) == Encryption(True, own)
    with MongoClient[dict[str, Any]]("mongodb://h/", tls=True, connect=False) as made:
        assert encryption_of(made) == Encryption(True)
    with MongoClient[dict[str, Any]]("mongodb://h/", connect=False) as made:
        assert encryption_of(made) == Encryption(False)


def test_what_is_not_where_it_was_is_unknown() -> None:
    assert login_of(object()) is None
    assert encryption_of(object()) == Encryption(False)
