"""Show URIs, and values that may be URIs, without the secrets in them."""

import re

from ..text import shorten

HIDDEN = "***"

_SCHEMES = frozenset(
    [
        "mongodb",
        "mongodb+srv",
        "redis",
        "rediss",
        "redis+cluster",
        "rediss+cluster",
        "sentinel",
        "http",
        "https",
    ]
)
_HOST = r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_PATH = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_WORD = re.compile(r"[A-Za-z0-9_.,:+-]{0,64}")

# Only these options keep their values: a list of what is safe stays right when drivers learn new secrets.
# fmt: off
_SHOWN_OPTIONS = frozenset(
    [
        "appname", "authmechanism", "authsource", "compressors", "connecttimeoutms", "db",
        "directconnection", "heartbeatfrequencyms", "health_check_interval", "journal",
        "loadbalanced", "localthresholdms", "maxconnecting", "maxidletimems", "maxpoolsize",
        "maxstalenessseconds", "minpoolsize", "readconcernlevel", "readpreference",
        "readpreferencetags", "replicaset", "retryreads", "retrywrites", "serverselectiontimeoutms",
        "sockettimeoutms", "srvmaxhosts", "srvservicename", "ssl", "ssl_cert_reqs", "timeoutms",
        "tls", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames", "tlsinsecure",
        "uuidrepresentation", "w", "waitqueuetimeoutms", "wtimeoutms", "zlibcompressionlevel",
    ]
)
# fmt: on


_NAMED_OPTIONS = frozenset(
    ["authmechanismproperties", "password", "proxypassword", "tlscertificatekeyfilepassword", "username"]
)


def redact_uri(uri: str) -> str:
    """Return `uri` with *** for user information, unknown options and all that cannot be told apart."""
    return ";".join(_redact_one(part) for part in re.split(r";(?=sentinel://)", uri))


def redact_value(value: str) -> str:
    """Return `value` fit for a message: URIs redacted, keys and other text of several lines hidden, what is
    long cut."""
    if not value.isprintable() or "-----BEGIN" in value:
        return HIDDEN
    shown = redact_uri(value) if "@" in value or "://" in value else value
    return shorten(shown, 100)


def is_shown_option(name: str) -> bool:
    """Say whether the value of a URI's option `name` may be shown."""
    return name.lower() in _SHOWN_OPTIONS


def _redact_one(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return HIDDEN
    return f"{scheme if scheme in _SCHEMES else HIDDEN}://{_redact_rest(rest)}"


def _redact_rest(rest: str) -> str:
    location, question, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    # An @ behind the host means that a password was not escaped: nobody can say where it begins or ends.
    if "@" in path or "@" in query:
        return HIDDEN
    userinfo, at, hosts = authority.rpartition("@")
    user = HIDDEN if userinfo else ""
    shown_query = "&".join(_redact_option(option) for option in re.split("[&;]", query)) if question else ""
    return f"{user}{at}{_matching(_HOSTS, hosts)}{slash}{_matching(_PATH, path)}{question}{shown_query}"


def _redact_option(option: str) -> str:
    name, equals, value = option.partition("=")
    if not equals:
        return HIDDEN if option else ""
    if is_shown_option(name):
        return f"{name}={_matching(_WORD, value)}"
    # What nobody knows as a name may be the second half of a password with an & in it.
    return f"{name if name.lower() in _NAMED_OPTIONS else HIDDEN}={HIDDEN}"


def _matching(pattern: re.Pattern[str], text: str) -> str:
    return text if not text or pattern.fullmatch(text) else HIDDEN
