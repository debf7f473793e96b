"""TLS mistakes as what they are, found out by one connection of our own.

Where one side speaks TLS and the other does not, or where a server wants a certificate that the client does
not have, a mongod only closes the connection, and the driver can say no more than that. So the server is
asked: does it answer a TLS handshake, does it answer without one, does it ask for a certificate? And where
the driver says that a certificate has expired, the certificate says when.
"""

import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson

from ..mongo.holder import Client
from ..mongo.reasons import reason_of_server
from .security import Encryption, encryption_of

SECONDS = 1.0
"""What finding out may take."""

_CUT = re.compile(
    r"connection closed|reset by peer|broken pipe|EOF occurred|closed in the TLS handshake", re.I
)
_NO_TLS = "answers without TLS"
_DATES = ("certificate expired", "certificate not valid yet")

Address = tuple[str, int]


@dataclass(frozen=True)
class Handshake:
    """What a server did when it was greeted with TLS: answered it, asked for a certificate (None: unknown),
    and showed its own, in DER.
    """

    is_answered: bool
    asks_certificate: bool | None = None
    certificate: bytes | None = None


def mistake(client: Client, *, seconds: float = SECONDS) -> str | None:
    """Return what TLS mistake keeps a client from a server that it does not reach; None where there is none
    to be found. Connects to such servers, one after the other, within so many seconds.
    """
    ends_at = time.monotonic() + seconds
    own = encryption_of(client)
    for (host, port), server in client.topology_description.server_descriptions().items():
        left = ends_at - time.monotonic()
        if server.error is None or port is None or left <= 0:
            continue
        met = reason_of_server(server.error, (host, port)).removeprefix(f"{host}:{port}: ")
        with suppress(OSError):
            why = _why((host, port), met, own, left)
            if why is not None:
                return f"{host}:{port}: {why}"
    return None


def _why(address: Address, met: str, own: Encryption, seconds: float) -> str | None:
    is_cut = _CUT.search(met) is not None
    if not own.is_on:
        is_tls = is_cut and shake_hands(address, seconds=seconds).is_answered
        return f"the server speaks TLS and this client does not ({_said(met)})" if is_tls else None
    if met.startswith(_DATES):
        return _dated(met, shake_hands(address, seconds=seconds).certificate)
    if (is_cut or _NO_TLS in met) and answers_without_tls(address, seconds=seconds / 2):
        return f"this client speaks TLS and the server does not ({_said(met)})"
    if is_cut:
        return _of_own_certificate(shake_hands(address, seconds=seconds / 2), own.certificate, met)
    return None


def _said(met: str) -> str:
    """Return the driver's own words, where plain ones are in front of them."""
    return met.partition(" (")[2].removesuffix(")") or met


def _dated(met: str, certificate: bytes | None) -> str:
    """Return what the driver met, with the date."""
    dates = None if certificate is None else validity(certificate)
    if dates is None:
        return met
    return re.sub(
        r"^certificate (expired|not valid yet)",
        lambda found: (
            f"certificate expired on {_day(dates[1])}"
            if found[1] == "expired"
            else f"certificate not valid before {_day(dates[0])}"
        ),
        met,
    )


def _of_own_certificate(server: Handshake, path: Path | None, met: str) -> str | None:
    if not (server.is_answered and server.asks_certificate):
        return None
    if path is None:
        return f"client certificate missing: the server asks for one ({met})"
    dates = validity(ssl.PEM_cert_to_DER_cert(_first_certificate(path)))
    now = datetime.now(UTC)
    if dates is not None and now > dates[1]:
        return f"client certificate expired on {_day(dates[1])} ({met})"
    # A proxy whose server is away would do the same.
    return f"client certificate not accepted, it seems: the server asks for one and closes ({met})"


def _first_certificate(path: Path) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    _, _, rest = path.read_text().partition(begin)
    return f"{begin}{rest.partition(end)[0]}{end}\n"


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


# --- asking a server ----------------------------------------------------------------------------------


def shake_hands(address: Address, *, seconds: float) -> Handshake:
    """Greet a server with TLS, checking nothing and showing nothing. Raises OSError where it is not there."""
    heard: list[int] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def hear(_connection: Any, direction: str, _version: Any, kind: int, message: int, _data: bytes) -> None:
        if direction == "read" and kind in (_ALERT, _HANDSHAKE):
            heard.append(_ALERT if kind == _ALERT else int(message))

    # Of the standard library, for debugging, and without a public name; without it less is known.
    is_heard = hasattr(context, "_msg_callback")
    if is_heard:
        context._msg_callback = hear  # type: ignore[attr-defined]  # not in the stubs either
    certificate, is_done = None, False
    with (
        socket.create_connection(address, timeout=seconds) as raw,
        suppress(OSError),
        context.wrap_socket(raw, server_hostname=address[0]) as tls,
    ):
        certificate, is_done = tls.getpeercert(binary_form=True), True
    asks = _CERTIFICATE_REQUEST in heard if is_heard else None
    return Handshake(is_done or bool(heard), asks, certificate)


# Types of TLS records, and of the handshake's messages (RFC 8446).
_ALERT, _HANDSHAKE, _CERTIFICATE_REQUEST = 21, 22, 13


def answers_without_tls(address: Address, *, seconds: float) -> bool:
    """Say whether a server answers `hello` in clear text. Raises OSError where it is not there."""
    number, op_msg = 1, 2013
    body = b"\0\0\0\0\0" + bson.encode({"hello": 1, "$db": "admin"})
    header = b"".join(part.to_bytes(4, "little") for part in (16 + len(body), number, 0, op_msg))
    with socket.create_connection(address, timeout=seconds) as raw, suppress(OSError):
        raw.sendall(header + body)
        reply = raw.recv(16, socket.MSG_WAITALL)
        return [reply[at : at + 4] for at in (8, 12)] == [
            part.to_bytes(4, "little") for part in (number, op_msg)
        ]
    return False


# --- a certificate's dates ----------------------------------------------------------------------------


def validity(certificate: bytes) -> tuple[datetime, datetime] | None:
    """Return from when to when a certificate in DER is valid; None where it cannot be read.

    The standard library tells that only of one that it has verified.
    """
    with suppress(IndexError, ValueError):
        (whole,) = _elements(certificate)
        parts = [part for tag, part in _elements(next(_contents(whole[1]))) if tag != _VERSION]
        # Serial number, signature, issuer, validity (RFC 5280).
        before, after = (_moment(tag, text) for tag, text in _elements(parts[3]))
        return before, after
    return None


_VERSION, _UTC_TIME = 0xA0, 0x17


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        yield tag, der[at : at + length]
        at += length


def _contents(der: bytes) -> Iterator[bytes]:
    return (content for _, content in _elements(der))


def _moment(tag: int, text: bytes) -> datetime:
    # Two digits of a year are of 1950 to 2049.
    written = text.decode()
    if tag == _UTC_TIME:
        written = f"{'19' if written[:2] >= '50' else '20'}{written}"
    return datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
