"""The service's Celery configuration: no message lost with Redis, nothing hangs for ever.

For the service only: `install(app)` leaves the settings of an app that exists already alone.
"""

import re
import ssl
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..errors import SettingsError
from ..settings import uris

if TYPE_CHECKING:
    from ..settings.fields import Settings

# A stand-by takes over once the leader's lock has expired and its own loop has come round: 8 s + 2 s.
_BEAT_LOCK_SECONDS = 8
_BEAT_LOOP_SECONDS = 2

_NO_CERTIFICATE = re.compile("ssl_cert_reqs=(cert_)?none", re.IGNORECASE)

# Half a second apart on average: half a minute of Redis being away, and a reader still gets its error.
_RESULT_RETRIES = 60


def celery_config(settings: "Settings") -> dict[str, Any]:
    """Return Celery's settings for these settings of ours; SettingsError where it would not take them."""
    return _delivery(settings) | _redis(settings) | _beat(settings) | _work(settings)


def _delivery(settings: "Settings") -> dict[str, Any]:
    return {
        # A message is acknowledged when its task is done, and given back when its process dies.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # Cancelling running tasks when Redis goes away makes callers see TaskRevokedError for work that
        # runs again; remembering finished ones instead makes each message run once.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_deduplicate_successful_tasks": True,
        # Deduplication sees a result only while it is stored: longer than the longest redelivery.
        "result_expires": 2 * settings.visibility_timeout_seconds,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
    }


def _redis(settings: "Settings") -> dict[str, Any]:
    url = settings.redis_url.get_secret_value()
    if problem := uris.transport_problem(url):
        raise SettingsError([f"REDIS_URL: {str(settings.redis_url)!r}: {problem}"])
    prefix = {"global_keyprefix": settings.key("")}
    sentinel = _sentinel_options(settings)
    timeout = settings.redis_socket_timeout_seconds
    timeouts = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "socket_keepalive": True}
    return {
        "broker_url": url,
        "result_backend": url,
        # Without timeouts a publisher waits for ever on a half-open connection.
        "broker_transport_options": timeouts
        | prefix
        | sentinel
        | {
            "visibility_timeout": settings.visibility_timeout_seconds,
            # A sweep for the messages of workers that died: every 10 s rather than every 100 s.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
        },
        # A publisher subscribes to its result first: by default 20 times over, two minutes where Redis hangs.
        "result_backend_transport_options": prefix | sentinel | {"retry_policy": {"timeout": timeout}},
        # A result that is not stored is lost for the caller, and its message, redelivered, would run again.
        "result_backend_always_retry": True,
        "result_backend_max_retries": _RESULT_RETRIES,
        "result_backend_max_sleep_between_retries_ms": 1000,
        "redis_socket_timeout": timeout,
        "redis_socket_connect_timeout": timeout,
        "redis_socket_keepalive": True,
        **_sentinel_user(settings),
    } | _redis_tls(url)


def _redis_tls(url: str) -> dict[str, Any]:
    if not url.startswith("rediss://"):
        return {}
    # What the URL says (ssl_cert_reqs, ssl_ca_certs) wins in redis-py, kombu and Celery alike.
    verified: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    if not _NO_CERTIFICATE.search(url):
        # redis-py's default since 6.0; where no certificate is asked for it would be refused.
        verified["ssl_check_hostname"] = True
    return {
        "broker_use_ssl": verified,
        "redis_backend_use_ssl": verified,
        "redbeat_redis_use_ssl": verified,
    }


def _sentinel_user(settings: "Settings") -> dict[str, Any]:
    """Return the user of a Sentinel's master: from the URL Celery below 5.7 takes the password alone."""
    user = _without_login(settings.redis_url.get_secret_value())[1].get("username")
    return {} if user is None or settings.redis_sentinel_master is None else {"redis_username": user}


def _sentinel_options(settings: "Settings") -> dict[str, Any]:
    if settings.redis_sentinel_master is None:
        return {}
    password = settings.redis_sentinel_password
    kwargs = {} if password is None else {"password": password.get_secret_value()}
    return {"master_name": settings.redis_sentinel_master, "sentinel_kwargs": kwargs}


def _beat(settings: "Settings") -> dict[str, Any]:
    if settings.scheduler == "plain" or not has_redbeat():
        return {}
    timeout = settings.redis_socket_timeout_seconds
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    # Celery's report masks passwords by the name of the setting, and knows no RedBeat: none in the URL.
    url, login = _without_login(settings.redis_url.get_secret_value())
    options |= login
    if settings.redis_sentinel_master is not None:
        options, url = _redbeat_sentinel(settings, options), "redis-sentinel://"
    return {
        "beat_scheduler": f"{__package__}.beat:Scheduler",
        "beat_max_loop_interval": _BEAT_LOOP_SECONDS,
        "redbeat_redis_url": url,
        "redbeat_redis_options": options,
        "redbeat_key_prefix": settings.key("redbeat", ""),
        "redbeat_lock_key": settings.key("redbeat", "lock"),
        "redbeat_lock_timeout": _BEAT_LOCK_SECONDS,
    }


def has_redbeat() -> bool:
    """Say whether RedBeat is installed: it is an extra, `celery-pymongo[redbeat]`."""
    return find_spec("redbeat") is not None


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL without user and password, and these by name; of several URLs, those of the first."""
    parts = urlsplit(url.partition(";")[0])
    login = {"username": parts.username, "password": parts.password}
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare, {name: unquote(value) for name, value in login.items() if value}


def _redbeat_sentinel(settings: "Settings", options: dict[str, Any]) -> dict[str, Any]:
    parts = [urlsplit(part) for part in settings.redis_url.get_secret_value().split(";")]
    return options | {
        "sentinels": [(part.hostname, part.port or 26379) for part in parts],
        "service_name": settings.redis_sentinel_master,
        "db": int(parts[0].path.strip("/") or 0),
        "sentinel_kwargs": _sentinel_options(settings)["sentinel_kwargs"],
    }


def _work(settings: "Settings") -> dict[str, Any]:
    return {
        "worker_pool_start_method": settings.pool_start_method,
        # Its 4 s are for processes that connect at their start, which ours do not. On a busy host a spawned
        # one needs longer to import everything, and would be killed again and again.
        "worker_proc_alive_timeout": 30.0,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_soft_time_limit": settings.task_soft_time_limit_seconds,
        "task_time_limit": settings.task_time_limit_seconds,
        "include": list(settings.include),
        "timezone": "UTC",
    }
