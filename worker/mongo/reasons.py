"""Why MongoDB cannot be used: the driver's own reason, in one line for a person.

The driver's texts are long, and the reason is not always where they begin: `No servers found yet`, `Replica
set is configured with internal hostnames or IPs?` and the names of private classes say nothing of what it
met. Behind them it describes each server and its last error, which does.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pymongo import errors

from ..text import shorten
from .classify import is_login_refused

LONGEST = 300
# Characters of an error: the driver describes each member of a deployment in it, and a server may say more.
_READ = 32_768
LOGIN_REFUSED = "login refused"

# A server in the description of the deployment that ends a selection error.
_BEGIN = "<ServerDescription "
_SERVER = re.compile(
    r"\((?P<host>'[^']*'|\"[^\"]*\"), (?P<port>\d{1,5}|None)\) server_type: (?P<kind>\w+), "
    r"rtt: [\w.+-]+(?:, error=(?P<error>.*\)))?>",
    re.DOTALL,
)
_REPR = re.compile(r"(?P<name>\w+)\((?P<text>.*)\)", re.DOTALL)
# What says where in the driver, in OpenSSL or in the kernel, and not what.
_NOISE = re.compile(
    r" ?\(configured timeouts:[^)]{0,300}\)|SSL handshake failed: |\[Errno -?\d+\] |\[SSL(?:: \w+)?\] "
    r"| ?\(_ssl\.c:\d+\)"
)
_CODE = re.compile(r"'code': (\d+)")

# In the words of a person, before the driver's own; the first that fits.
_PLAIN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        ("Temporary failure in name resolution", "name does not resolve at the moment"),
        ("Name or service not known|nodename nor servname|No address associated", "name does not resolve"),
        ("getaddrinfo failed|Name has no usable address|Name does not resolve", "name does not resolve"),
        ("certificate has expired", "certificate expired"),
        ("certificate is not yet valid", "certificate not valid yet"),
        ("Hostname mismatch|IP address mismatch|doesn't match", "certificate is of another host"),
        ("self.signed certificate|unable to get (local )?issuer|unable to verify", "certificate not trusted"),
        ("unknown ca", "certificate not trusted by the other side"),
        ("certificate verify failed", "certificate refused"),
        ("certificate required", "client certificate missing"),
        ("wrong version number|record layer failure|packet length too long", "answers without TLS"),
        ("EOF occurred in violation of protocol", "connection closed in the TLS handshake"),
        ("operation cancelled", "connection given up by the driver after another one failed"),
    )
)


@dataclass(frozen=True)
class _Server:
    address: str
    is_known: bool
    error: str | None


def reason(error: BaseException) -> str:
    """Return why a connection failed, by server where the driver says it: hosts and ports, no data.

    Only for errors of connections: an operation's error may quote documents. Of other errors the public class
    comes first.
    """
    text = str(error)[:_READ]
    is_login = is_login_refused(error)
    if isinstance(error, errors.ServerSelectionTimeoutError):
        return shorten(_of_selection(text, is_login=is_login), LONGEST)
    if isinstance(error, errors.ConnectionFailure):
        return shorten(_plain(text) or public_name(error), LONGEST)
    if isinstance(error, errors.OperationFailure):
        return shorten(_refused(text, is_login=is_login), LONGEST)
    return shorten(f"{public_name(error)}: {_plain(text)}".removesuffix(": "), LONGEST)


def summary(error: BaseException) -> str:
    """Return what may be told of any error of the driver's: why a connection failed, else class and code."""
    if isinstance(error, errors.ConnectionFailure) or is_login_refused(error):
        return reason(error)
    code = getattr(error, "code", None)
    return public_name(error) + ("" if code is None else f", code {code}")


def reason_of_server(error: BaseException, address: tuple[str, int | None]) -> str:
    """Return why this server failed, with its address in front."""
    host, port = address
    shown, why = host if port is None else f"{host}:{port}", reason(error)
    return why if why.startswith(shown) else f"{shown}: {why}"


def public_name(error: BaseException) -> str:
    """Return the name of an error's class, or of the first public one that it is made from."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return next(name for name in kinds if not name.startswith("_"))


def _of_selection(text: str, *, is_login: bool) -> str:
    """Return what the driver met at each server, the same reason once; else what it says of them all."""
    first = text.partition(", Timeout:")[0]
    servers = list(_servers(text, is_login=is_login))
    met: dict[str, list[str]] = {}
    for server in servers:
        if server.error is not None:
            met.setdefault(server.error, []).append(server.address)
        elif not server.is_known:
            met.setdefault("no answer yet", []).append(server.address)
    found = [f"{', '.join(addresses)}: {why}" for why, addresses in met.items()]
    if not servers or any(server.is_known for server in servers):
        # Of those that answer none will do: the driver says what it looked for.
        found.insert(0, _plain(first))
    return "; ".join(found)


def _servers(text: str, *, is_login: bool) -> Iterator[_Server]:
    # Each description by itself: what a server says in one may look like any number of others.
    for part in text.partition(_BEGIN)[2].rpartition("]>")[0].split(f", {_BEGIN}"):
        found = _SERVER.fullmatch(part)
        if found is None:
            continue
        host = ast.literal_eval(found["host"])
        address = host if found["port"] == "None" else f"{host}:{found['port']}"
        why = None if found["error"] is None else _of_repr(found["error"], address, is_login=is_login)
        yield _Server(address, found["kind"] != "Unknown", why)


def _of_repr(error: str, address: str, *, is_login: bool) -> str:
    """Return the reason in the repr of an error, without the address of its server."""
    found = _REPR.fullmatch(error)
    if found is None:
        return _plain(error)
    try:
        text = str(ast.literal_eval(found["text"]))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        text = found["text"]
    if found["name"] == "OperationFailure":
        return _refused(text, is_login=is_login)
    return _plain(_NOISE.sub("", text).removeprefix(f"{address}: "))


def _refused(text: str, *, is_login: bool) -> str:
    """Return what a server answered, and its code."""
    first, _, details = text.partition(", full error:")
    code = _CODE.search(details)
    said = first.strip().rstrip(".") + ("" if code is None else f", code {code[1]}")
    return f"{LOGIN_REFUSED} ({said})" if is_login else said


def _plain(text: str) -> str:
    """Return one line without noise; what has a plain word for it begins with that."""
    text = " ".join(_NOISE.sub("", text).partition(", full error:")[0].split())
    for pattern, words in _PLAIN:
        if pattern.search(text):
            address, separator, said = _split_address(text)
            return f"{address}{separator}{words} ({said.rstrip('.')})"
    return text


def _split_address(text: str) -> tuple[str, str, str]:
    found = re.match(r"(\S+?:\d+)(: )", text)
    return (found[1], found[2], text[found.end() :]) if found else ("", "", text)
