"""How settings fit together: what no single value can be blamed for."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from . import client_options

if TYPE_CHECKING:
    from .fields import Settings


def conflicts(settings: "Settings", refused: Collection[str]) -> list[str]:
    """Return one line per contradiction; fields that are `refused` already are left alone."""
    checks = (_time_limits, _pool, _reads, _writes, _tls, _sentinel)
    found = [conflict for check in checks for conflict in check(settings)]
    return [line for fields, line in found if not fields & set(refused)]


def _time_limits(settings: "Settings") -> list[tuple[set[str], str]]:
    soft, hard = settings.task_soft_time_limit_seconds, settings.task_time_limit_seconds
    seen, base, cap = (
        settings.visibility_timeout_seconds,
        settings.backoff_base_seconds,
        settings.backoff_cap_seconds,
    )
    found = []
    if hard <= soft:
        line = f"CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS: {hard:g} must exceed the soft limit, {soft:g}"
        found.append(({"task_time_limit_seconds", "task_soft_time_limit_seconds"}, line))
    if seen <= hard:
        line = (
            f"CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS: {seen:g} must exceed the hard time limit, {hard:g}"
        )
        found.append(({"visibility_timeout_seconds", "task_time_limit_seconds"}, line))
    if seen <= cap:
        line = f"CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS: {seen:g} must exceed the backoff's cap, {cap:g}"
        found.append(({"visibility_timeout_seconds", "backoff_cap_seconds"}, line))
    if cap < base:
        line = f"CELERY_PYMONGO_BACKOFF_CAP_SECONDS: {cap:g} must not be below the base, {base:g}"
        found.append(({"backoff_cap_seconds", "backoff_base_seconds"}, line))
    return found


def _pool(settings: "Settings") -> list[tuple[set[str], str]]:
    uri = client_options.from_uri(settings)
    chosen = uri.get("minpoolsize", settings.min_pool_size)
    largest = client_options.max_pool_size(settings)
    if chosen == "auto" or int(chosen) <= largest:
        return []
    name = "MONGODB_URI: minPoolSize" if "minpoolsize" in uri else "MONGODB_MIN_POOL_SIZE:"
    line = f"{name} {chosen} must not exceed the maximum pool size, {largest}"
    return [({"min_pool_size", "max_pool_size"}, line)]


def _reads(settings: "Settings") -> list[tuple[set[str], str]]:
    uri = client_options.from_uri(settings)
    refining = [name for name in ("readpreferencetags", "maxstalenessseconds") if uri.get(name, "-1") != "-1"]
    if not refining or uri.get("readpreference", settings.read_preference).lower() != "primary":
        return []
    line = f"MONGODB_READ_PREFERENCE: primary does not go with {refining[0]}, which MONGODB_URI sets"
    return [({"read_preference"}, line)]


def _writes(settings: "Settings") -> list[tuple[set[str], str]]:
    journal = client_options.from_uri(settings).get("journal")
    explicit = settings.journal and "journal" in settings.model_fields_set
    journaled = journal == "true" if journal else explicit
    if client_options.write_concern(settings) != 0 or not journaled:
        return []
    line = "MONGODB_JOURNAL: a write that is not acknowledged (write concern 0) cannot be journaled"
    return [({"journal", "write_concern"}, line)]


def _tls(settings: "Settings") -> list[tuple[set[str], str]]:
    files = {
        "tls_ca_file": settings.tls_ca_file,
        "tls_certificate_key_file": settings.tls_certificate_key_file,
    }
    uri = client_options.from_uri(settings)
    explicitly_off = "tls" in settings.model_fields_set and not settings.tls
    if not (uri["tls"] == "false" if "tls" in uri else explicitly_off):
        return []
    return [
        ({name, "tls"}, f"MONGODB_{name.upper()}: {str(path)!r} needs TLS, which is switched off")
        for name, path in files.items()
        if path
    ]


def _sentinel(settings: "Settings") -> list[tuple[set[str], str]]:
    fields = {"redis_url", "redis_sentinel_master"}
    sentinel = settings.redis_url.get_secret_value().startswith("sentinel://")
    if sentinel and not settings.redis_sentinel_master:
        return [(fields, "REDIS_SENTINEL_MASTER: a sentinel:// URL needs the name of the Redis to use")]
    return []
