"""What is wrong with a URI, in words that repeat nothing of it, and what a MongoDB URI sets itself."""

import re
import warnings
from difflib import get_close_matches
from urllib.parse import unquote, unquote_plus, urlsplit

_ALIASES = {"ssl": "tls"}
_SECRET_OPTIONS = frozenset({"authmechanismproperties", "tlscertificatekeyfilepassword"})
_OPTION_NAME = re.compile("[A-Za-z]{1,40}")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?")
_TLS_OPTIONS = "those of TLS, with rediss:// (ssl_ca_certs, ssl_cert_reqs, ssl_certfile, ssl_keyfile)"
_CERT_REQS = {form for word in ("none", "optional", "required") for form in (word, f"CERT_{word.upper()}")}
_ESCAPE = "escape reserved characters in the user name, the password and the options (%40 for @, %2F for /)"


def mongo_options(uri: str) -> dict[str, str]:
    """Return the options that `uri` sets, by lower-case name (aliases resolved), as written there."""
    pairs = (option.partition("=") for option in _split_query(uri))
    named = ((name.lower(), unquote_plus(value)) for name, _, value in pairs)
    options: dict[str, str] = {}
    for name, value in named:
        # Tag sets are tried in turn; of everything else the last one counts.
        before = f"{options[name]};" if name == "readpreferencetags" and name in options else ""
        options[_ALIASES.get(name, name)] = before + value
    return options


def mongo_database(uri: str) -> str | None:
    """Return the default database that `uri` names."""
    path = _after_scheme(uri).partition("?")[0].partition("/")[2]
    return unquote_plus(path).partition(".")[0] or None


def mongo_hosts(uri: str) -> list[str]:
    """Return the hosts that `uri` names, with their ports."""
    return [unquote(host).removeprefix("[") for host in _hosts_of(_after_scheme(uri))]


def has_login(uri: str) -> bool:
    """Say whether `uri` names a user."""
    return "@" in re.split("[/?]", _after_scheme(uri), maxsplit=1)[0]


def is_srv(uri: str) -> bool:
    """Say whether the hosts come from DNS, where TLS is on unless the URI turns it off."""
    return uri.startswith("mongodb+srv://")


def mongo_uri_problem(uri: str) -> str | None:
    """Return why PyMongo would not take `uri`, or None; nothing is looked up in DNS."""
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        return "it must begin with mongodb:// or mongodb+srv://"
    if _has_stray_at(_after_scheme(uri)):
        return _ESCAPE
    if _bad_database(mongo_database(uri) or ""):
        return "its database name is not allowed"
    return _mongo_hosts_problem(uri) or _mongo_options_problem(uri) or _mongo_whole_problem(uri)


def redis_url_problem(url: str) -> str | None:
    """Return why `url` cannot carry broker and results, or None."""
    parts = re.split(r";(?=sentinel://)", url) if url.startswith("sentinel://") else [url]
    return next((problem for part in parts if (problem := _redis_part_problem(part))), None)


def transport_problem(url: str) -> str | None:
    """Return why Celery's Redis transport (kombu) would not take `url`, which redis-py does, or None.

    It makes arguments of its own of what stands behind the ?, and ends in a traceback of all others.
    """
    for part in url.split(";"):
        options = [option.partition("=") for option in _split_query(part)]
        is_tls = part.startswith(("rediss://", "sentinel://"))
        if any(not (is_tls and name.startswith("ssl_")) for name, _, _ in options):
            return f"Celery's Redis transport takes no options but {_TLS_OPTIONS}"
        if any(name == "ssl_cert_reqs" and value not in _CERT_REQS for name, _, value in options):
            return "its option ssl_cert_reqs is none, optional or required"
    return None


def dsn_problem(dsn: str) -> str | None:
    """Return why `dsn` is not one of Sentry's, or None."""
    scheme, _, rest = dsn.partition("://")
    authority, _, path = rest.partition("/")
    key, at, host = authority.rpartition("@")
    if scheme not in ("http", "https") or not (key and at and _HOST.fullmatch(host)):
        return "the key, an @ and the host are expected after https://"
    return None if path.rpartition("/")[2].isdigit() else "a project number is expected at its end"


def _after_scheme(uri: str) -> str:
    return uri.partition("://")[2]


def _has_stray_at(rest: str) -> bool:
    return "@" in re.split("[/?]", rest, maxsplit=1)[-1] if re.search("[/?]", rest) else False


def _split_query(uri: str) -> list[str]:
    return [option for option in re.split("[&;]", uri.partition("?")[2]) if option]


def _hosts_of(rest: str) -> list[str]:
    return re.split("[/?]", rest, maxsplit=1)[0].rpartition("@")[2].split(",")


def _bad_host(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is None or (match[1] is not None and not 0 < int(match[1]) < 65536)


def _bad_database(name: str) -> bool:
    return bool(set(name) & set('/\\ "$\0')) or len(name.encode()) > 63


def _mongo_hosts_problem(uri: str) -> str | None:
    hosts = _hosts_of(_after_scheme(uri))
    sockets = [host for host in hosts if unquote(host).endswith(".sock")]
    if any(_bad_host(host) for host in hosts if host not in sockets):
        return f"host or port cannot be read; {_ESCAPE}"
    if is_srv(uri) and (len(hosts) != 1 or ":" in hosts[0]):
        return "mongodb+srv:// takes one host and no port"
    return None


def _mongo_options_problem(uri: str) -> str | None:
    from pymongo.uri_parser import split_options  # pymongo costs 70 ms, paid where a URI is set

    is_after_secret = False
    for number, option in enumerate(_split_query(uri), start=1):
        name, equals, _ = option.partition("=")
        if not equals:
            return f"option {number} has no value; options are name=value, joined by &"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                split_options(option)
        except Exception as error:  # noqa: BLE001 - validators raise ValueError, TypeError, OSError and PyMongo's own
            return _option_problem(name, number, error, is_named=not is_after_secret)
        is_after_secret = is_after_secret or name.lower() in _SECRET_OPTIONS
    return None


def _option_problem(name: str, number: int, error: Exception, *, is_named: bool) -> str:
    from pymongo.common import URI_OPTIONS_VALIDATOR_MAP

    if name.lower() in URI_OPTIONS_VALIDATOR_MAP:
        if isinstance(error, OSError):
            return f"the file named by its option {name} cannot be read"
        return f"its option {name} has a value that PyMongo does not take"
    close = get_close_matches(name.lower(), URI_OPTIONS_VALIDATOR_MAP, n=1, cutoff=0.7)
    close = ["journal"] if name.lower() == "j" else close
    if close:
        return f"unknown option {name}, did you mean {close[0]}?"
    # After a secret value with an & in it a name may be that value's second half.
    is_shown = is_named and _OPTION_NAME.fullmatch(name)
    return f"PyMongo does not know {f'its option {name}' if is_shown else f'option {number}'}"


def _mongo_whole_problem(uri: str) -> str | None:
    """Let PyMongo judge what single options do not show; as mongodb://, so that nothing asks DNS."""
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri, parse_userinfo

    location, question, query = _after_scheme(uri).partition("?")
    authority, slash, path = location.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if at:
                parse_userinfo(userinfo)
    except PyMongoError:
        return _ESCAPE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parse_uri(f"mongodb://{hosts}{slash}{path}{question}{_without_srv(query)}")
    except (PyMongoError, ValueError, TypeError):
        return "its options contradict each other"
    return None


def _without_srv(query: str) -> str:
    return "&".join(o for o in re.split("[&;]", query) if o and not o.lower().startswith("srv"))


def _redis_part_problem(url: str) -> str | None:
    scheme, separator, rest = url.partition("://")
    if scheme in ("redis+cluster", "rediss+cluster") or "," in _authority(rest):
        return (
            "a Redis Cluster cannot be used, since Celery's Redis transport and RedBeat use several keys in "
            "one operation, which a cluster refuses; give one Redis, or Sentinels joined by semicolons"
        )
    if not separator or scheme not in ("redis", "rediss", "sentinel"):
        return "it must begin with redis://, rediss:// or sentinel://"
    if _has_stray_at(rest) or not _splits(url):
        return _ESCAPE
    if any(_bad_host(host) for host in _hosts_of(rest)):
        return f"host or port cannot be read; {_ESCAPE}"
    database = urlsplit(url).path.strip("/")
    if database and not database.isdigit():
        return "the database after the host is a number, such as /0"
    return _redis_options_problem(url)


def _redis_options_problem(url: str) -> str | None:
    names = {option.partition("=")[0] for option in _split_query(url)}
    if not names:
        return None
    if names & {"username", "password"} and has_login(url):
        return "user name and password stand before the host or behind the ?, not in both places"
    return (
        None if url.startswith("sentinel://") or _is_taken(url) else "Redis' client does not take its options"
    )


def _is_taken(url: str) -> bool:
    """Say whether redis-py can make a connection of `url`; nothing is connected."""
    import redis  # 60 ms, paid where there are options

    # redis-py knows CERT_REQUIRED, as Celery has it, by its second word alone.
    plain = re.sub(r"(ssl_cert_reqs=)(?:CERT_)?(\w+)", lambda found: found[1] + found[2].lower(), url)
    try:
        redis.ConnectionPool.from_url(plain).make_connection()
    except (ValueError, TypeError, AttributeError, redis.RedisError):
        return False
    return True


def _splits(url: str) -> bool:
    """Say whether urllib, with which redis-py splits URLs, can find their parts."""
    try:
        return not urlsplit(url).fragment and "#" not in url
    except ValueError:
        return False


def _authority(rest: str) -> str:
    return re.split("[/?]", rest, maxsplit=1)[0].rpartition("@")[2]
