"""Which Redis the fleet's view is kept in: the one that REDIS_URL names, else the app's own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pydantic import SecretStr

from ..settings.fields import Settings
from ..settings.types import SecretUri

_SCHEMES = ("redis", "rediss", "sentinel")
_TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_SENTINEL_PORT, _PORT = 26379, 6379


@dataclass(frozen=True)
class AppRedis:
    """A Redis that the app's own configuration names: by which setting, how it is reached, and the prefix of
    all keys there.
    """

    setting: str
    url: str
    master: str | None = None
    sentinel_password: str | None = None
    prefix: str = ""

    @property
    def address(self) -> str:
        """Host, port and database, without any login."""
        return address(self.url)


def of_app(conf: Any) -> AppRedis | None:
    """Return the Redis of the app's broker, else that of its result backend; None where neither is one."""
    return next(_named(conf), None)


def effective(settings: Settings, conf: Any) -> Settings | None:
    """Return the settings with the app's own Redis in place of a REDIS_URL that is not set; None where
    nobody names one: another app's may be at the default's place.
    """
    if "redis_url" in settings.model_fields_set:
        return settings
    own = of_app(conf)
    if own is None:
        return None
    found: dict[str, Any] = {"redis_url": SecretUri(own.url), "redis_sentinel_master": own.master}
    if own.sentinel_password is not None:
        found["redis_sentinel_password"] = SecretStr(own.sentinel_password)
    return settings.model_copy(update=found).within(own.prefix)


def difference(settings: Settings, conf: Any) -> str | None:
    """Return one line where REDIS_URL is set and the app uses no such Redis; None where that is right."""
    named = list(_named(conf))
    place = address(settings.redis_url.get_secret_value())
    if "redis_url" not in settings.model_fields_set or not named:
        return None
    if place in {one.address for one in named}:
        return None
    app = named[0]
    return (
        f"REDIS_URL: the fleet's view is kept in {place}, the app's {app.setting} is {app.address}; unset "
        "REDIS_URL to keep it there, too"
    )


def is_broker(settings: Settings, conf: Any) -> bool:
    """Say whether the app's messages are in the server that the settings name."""
    server = address(settings.redis_url.get_secret_value()).partition("/")[0]
    return any(
        one.setting == "broker_url" and one.address.partition("/")[0] == server for one in _named(conf)
    )


def lost_while_away(*, is_broker: bool) -> str:
    """Say what is lost while the Redis of the fleet's view is away, for a log."""
    unseen = "the fleet is not seen and no history kept"
    if is_broker:
        return f"no message is taken or sent, {unseen}"
    return f"tasks run, but {unseen}, no kill is counted, and tasks that must not run twice wait"


def address(url: str) -> str:
    """Return host, port and database of a Redis URL, of the first of several, without any login."""
    parts = urlsplit(url.partition(";")[0])
    port = parts.port or (_SENTINEL_PORT if parts.scheme == "sentinel" else _PORT)
    return f"{parts.hostname or 'localhost'}:{port}/{parts.path.strip('/') or '0'}"


def _named(conf: Any) -> Iterator[AppRedis]:
    for setting, options, tls in (
        ("broker_url", "broker_transport_options", "broker_use_ssl"),
        ("result_backend", "result_backend_transport_options", "redis_backend_use_ssl"),
    ):
        url = conf.broker_write_url or conf.broker_url if setting == "broker_url" else conf.result_backend
        if isinstance(url, (list, tuple)):
            url = ";".join(url)
        if str(url or "").partition("://")[0] in _SCHEMES:
            yield _app_redis(setting, str(url), conf.get(options) or {}, conf.get(tls))


def _app_redis(setting: str, url: str, options: Mapping[str, Any], tls: Any) -> AppRedis:
    sentinel = options.get("sentinel_kwargs") or {}
    parts = [_with_tls(part, tls) if tls else part for part in url.split(";")]
    prefix = options.get("global_keyprefix") or ""
    master, password = options.get("master_name"), sentinel.get("password")
    return AppRedis(setting, ";".join(parts), master, password, prefix)


def _with_tls(url: str, tls: Any) -> str:
    """Return a URL that says what `broker_use_ssl` says; what the URL says itself wins, as in kombu."""
    chosen = {name: tls[name] for name in _TLS if name in tls} if isinstance(tls, Mapping) else {}
    query = urlsplit(url).query
    added = {name: _word(value) for name, value in chosen.items() if f"{name}=" not in query}
    base = f"rediss{url.removeprefix('redis')}" if url.startswith("redis://") else url
    if not added:
        return base
    return f"{base}{'&' if query else '?'}{urlencode(added, quote_via=quote)}"


def _word(value: Any) -> str:
    """Return an option's value as a URL has it: ssl.CERT_REQUIRED is `required`."""
    name = getattr(value, "name", str(value))
    return name.lower().removeprefix("cert_")
