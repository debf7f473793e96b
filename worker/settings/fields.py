"""Every setting in one frozen object, read from the environment and an optional `.env`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from ..errors import SettingsError
from . import client_options as mongo
from . import uris
from .checks import conflicts
from .client_options import Source
from .redact import redact_uri, redact_value
from .sources import Collected, collect, unknown_variables
from .table import SettingDescription, describe_setting, setting_of
from .types import (
    APPNAME_BYTES,
    DEPLOYMENT_LENGTH,
    GATED_QUEUES,
    ExistingFile,
    Interval,
    MilliSeconds,
    SecretUri,
    Setting,
    bytes_within,
    check_compressors,
    check_dsn,
    check_gated,
    check_modules,
    check_mongo_uri,
    check_redis_url,
    connections_of_tier,
    cut_to_bytes,
    known_read_preference,
    split_gated,
    split_list,
)

__all__ = [
    "SettingDescription",
    "Settings",
    "SettingsError",
    "describe",
    "load_settings",
    "settings_warnings",
    "unused_by_an_app",
]


class Settings(BaseModel):
    """The settings of a process; made by `load_settings`, which also checks how they fit together."""

    # Lengths are not put into the patterns: `{1,200}` made compiling them, and so the import, twice as slow.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)

    # Of an app whose Redis is taken for ours; no setting names it.
    _app_prefix: str = PrivateAttr("")

    mongodb_uri: Annotated[
        SecretUri,
        AfterValidator(check_mongo_uri),
        Setting(
            "MONGODB_URI",
            "URI",
            "Where MongoDB is. Options in it win over the settings below.",
            "a mongodb:// or mongodb+srv:// URI",
        ),
    ] = SecretUri("mongodb://localhost:27017")
    mongodb_database: Annotated[
        str,
        Field(pattern=r'^[^/\\. "$\x00]+$'),
        bytes_within(63),
        Setting(
            "MONGODB_DATABASE",
            "name",
            "What `self.db` is. Not set: the database that the URI names, if it names one.",
            'a database name: 1 to 63 bytes without / \\ . " $ or a space',
        ),
    ] = "app"
    max_pool_size: Annotated[
        int,
        Field(ge=1, le=10_000),
        Setting(
            "MONGODB_MAX_POOL_SIZE",
            "connections",
            "The most connections of one process to one server; the server's own limit is shared by all.",
            option="maxPoolSize",
        ),
    ] = 50
    min_pool_size: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=0, le=10_000)],
        Setting(
            "MONGODB_MIN_POOL_SIZE",
            "connections",
            "Kept open while idle; by a worker to the member that takes writes alone. `auto` is 1 where a "
            "process runs one task at a time, up to 10 where it runs many: more would only cost the server.",
            "auto, or a whole number from 0 to 10000 that is not above the maximum",
            option="minPoolSize",
        ),
    ] = "auto"
    max_idle_time_ms: Annotated[
        int,
        Field(ge=1000, le=86_400_000),
        Setting(
            "MONGODB_MAX_IDLE_TIME_MS",
            "ms",
            "Closes connections before a firewall or load balancer drops them unseen.",
            option="maxIdleTimeMS",
        ),
    ] = 30_000
    wait_queue_timeout_ms: Annotated[
        MilliSeconds,
        Setting(
            "MONGODB_WAIT_QUEUE_TIMEOUT_MS",
            "ms",
            "How long an operation waits for a connection of a full pool; the driver would wait for ever.",
            option="waitQueueTimeoutMS",
        ),
    ] = 5000
    connect_timeout_ms: Annotated[
        MilliSeconds,
        Setting(
            "MONGODB_CONNECT_TIMEOUT_MS",
            "ms",
            "How long one connection may take to open, TLS included, and how late a heartbeat may be before "
            "the driver gives the server up.",
            option="connectTimeoutMS",
        ),
    ] = 4000
    socket_timeout_ms: Annotated[
        MilliSeconds,
        Setting(
            "MONGODB_SOCKET_TIMEOUT_MS",
            "ms",
            "How long an operation waits for the server's answer; the driver would wait for ever.",
            option="socketTimeoutMS",
        ),
    ] = 20_000
    heartbeat_frequency_ms: Annotated[
        int,
        Field(ge=500, le=3_600_000),
        Setting(
            "MONGODB_HEARTBEAT_FREQUENCY_MS",
            "ms",
            "How often each server is checked; PyMongo takes no less than 500. One that hangs is noticed "
            "after this and a ping's timeout.",
            option="heartbeatFrequencyMS",
        ),
    ] = 2000
    server_selection_timeout_ms: Annotated[
        MilliSeconds,
        Setting(
            "MONGODB_SERVER_SELECTION_TIMEOUT_MS",
            "ms",
            "How long an operation waits for a server. The usual 30000 would block a task's slot, and the "
            "health checks behind it, that long in an outage.",
            option="serverSelectionTimeoutMS",
        ),
    ] = 3000
    retry_writes: Annotated[
        bool,
        Setting(
            "MONGODB_RETRY_WRITES",
            "switch",
            "The driver repeats a write once after a failover.",
            option="retryWrites",
        ),
    ] = True
    retry_reads: Annotated[
        bool,
        Setting(
            "MONGODB_RETRY_READS",
            "switch",
            "The driver repeats a read once after a failover.",
            option="retryReads",
        ),
    ] = True
    read_preference: Annotated[
        Literal["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"],
        BeforeValidator(known_read_preference),
        Setting(
            "MONGODB_READ_PREFERENCE",
            "mode",
            "Which member answers reads; only the primary always has the latest writes.",
            option="readPreference",
        ),
    ] = "primary"
    write_concern: Annotated[
        Annotated[int, Field(ge=0, le=50)]
        | Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=64)],
        Setting(
            "MONGODB_WRITE_CONCERN",
            "members",
            "How many members hold a write before it counts; a majority survives a failover.",
            "majority, a whole number from 0 to 50, or the name of a tag set",
            option="w",
        ),
    ] = "majority"
    journal: Annotated[
        bool,
        Setting(
            "MONGODB_JOURNAL",
            "switch",
            "A write counts once it is on disk, so that it survives a power cut.",
            option="journal",
        ),
    ] = True
    tls: Annotated[
        bool,
        Setting(
            "MONGODB_TLS", "switch", "Encrypts the connections; mongodb+srv:// does so anyway.", option="tls"
        ),
    ] = False
    tls_ca_file: Annotated[
        ExistingFile | None,
        Setting(
            "MONGODB_TLS_CA_FILE",
            "path",
            "Certificates of the authorities that sign the server's; not set: the system's.",
            "an existing file",
            option="tlsCAFile",
        ),
    ] = None
    tls_certificate_key_file: Annotated[
        ExistingFile | None,
        Setting(
            "MONGODB_TLS_CERTIFICATE_KEY_FILE",
            "path",
            "The client's own certificate and key, where the server asks for one.",
            "an existing file",
            option="tlsCertificateKeyFile",
        ),
    ] = None
    compressors: Annotated[
        tuple[str, ...],
        BeforeValidator(split_list),
        AfterValidator(check_compressors),
        Setting(
            "MONGODB_COMPRESSORS",
            "list",
            "Compression on the wire, the preferred first: less traffic for more CPU time.",
            "a comma-separated list of zlib, snappy and zstd whose Python packages are installed",
            option="compressors",
        ),
    ] = ()
    appname: Annotated[
        str,
        Field(min_length=1),
        bytes_within(APPNAME_BYTES),
        Setting(
            "MONGODB_APPNAME",
            "name",
            "Begins the application name that the server's logs show; deployment, node, slot and pid follow.",
            f"1 to {APPNAME_BYTES} bytes",
            option="appname",
        ),
    ] = "celery-pymongo"
    redis_url: Annotated[
        SecretUri,
        AfterValidator(check_redis_url),
        Setting(
            "REDIS_URL",
            "URL",
            "Broker, results, registry and locks. Several Sentinels are joined by semicolons. Not set, in an "
            "app of your own: the Redis of its broker, else of its result backend, else none.",
            "a redis://, rediss:// or sentinel:// URL",
        ),
    ] = SecretUri("redis://localhost:6379/0")
    redis_sentinel_master: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=64),
        Setting(
            "REDIS_SENTINEL_MASTER",
            "name",
            "The name under which Sentinel knows the Redis to use.",
            "1 to 64 letters, digits, dots, dashes and underscores",
        ),
    ] = None
    redis_sentinel_password: Annotated[
        SecretStr | None,
        Setting(
            "REDIS_SENTINEL_PASSWORD",
            "secret",
            "The Sentinels' own password, where they ask for one.",
            "text",
        ),
    ] = None
    redis_socket_timeout_seconds: Annotated[
        float,
        Field(ge=0.1, le=300),
        Setting(
            "REDIS_SOCKET_TIMEOUT_SECONDS",
            "s",
            "How long Redis may take to connect or answer; publishing would hang for ever without.",
            instead="broker_transport_options['socket_timeout'] and redis_socket_timeout",
        ),
    ] = 5.0
    deployment: Annotated[
        str,
        Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=DEPLOYMENT_LENGTH),
        Setting(
            "CELERY_PYMONGO_DEPLOYMENT",
            "name",
            "Prefixes every key, lock and metric, so that staging and production may share a Redis.",
            f"1 to {DEPLOYMENT_LENGTH} lower-case letters, digits, dots, dashes and underscores",
        ),
    ] = "default"
    key_prefix: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64),
        Setting(
            "CELERY_PYMONGO_KEY_PREFIX",
            "name",
            "Begins every key in Redis, before the deployment; access rules can name it.",
            "1 to 64 letters, digits, dots, dashes and underscores",
        ),
    ] = "celery-pymongo"
    strict: Annotated[
        bool,
        Setting(
            "CELERY_PYMONGO_STRICT",
            "switch",
            "Refuses to start where it would otherwise only warn.",
        ),
    ] = False
    scheduler: Annotated[
        Literal["redbeat", "plain"],
        Setting(
            "CELERY_PYMONGO_SCHEDULER",
            "name",
            "`redbeat` keeps one leader among several beats; `plain` is Celery's own, of which one may run.",
            instead="beat_scheduler",
        ),
    ] = "redbeat"
    pool_start_method: Annotated[
        Literal["fork", "spawn"],
        Setting(
            "CELERY_PYMONGO_POOL_START_METHOD",
            "name",
            "How a prefork pool makes its children; `spawn` is slower and shares no memory.",
            instead="worker_pool_start_method",
        ),
    ] = "fork"
    include: Annotated[
        tuple[str, ...],
        BeforeValidator(split_list),
        AfterValidator(check_modules),
        Setting(
            "CELERY_PYMONGO_INCLUDE",
            "list",
            "Your own task modules, imported by the worker.",
            "a comma-separated list of Python modules",
            instead="include, or imports",
        ),
    ] = ()
    gated_queues: Annotated[
        tuple[str, ...],
        BeforeValidator(split_gated),
        AfterValidator(check_gated),
        Setting(
            "CELERY_PYMONGO_GATED_QUEUES",
            "list",
            "Queues whose messages stay in the broker while no process of the node reaches MongoDB, and that "
            "an operator may pause; `none` gates none.",
            f"a comma-separated list of up to {GATED_QUEUES} queues, or none",
        ),
    ] = ("mongo.data",)
    health_interval_seconds: Annotated[
        Interval,
        Setting("CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS", "s", "Time between two of `mongo.health.check`."),
    ] = 10.0
    snapshot_interval_seconds: Annotated[
        Interval,
        Setting(
            "CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS", "s", "Time between two of `mongo.pool.snapshot`."
        ),
    ] = 15.0
    reconnect_interval_seconds: Annotated[
        Interval,
        Setting(
            "CELERY_PYMONGO_RECONNECT_INTERVAL_SECONDS", "s", "Time between two of `mongo.reconnect.attempt`."
        ),
    ] = 5.0
    ping_timeout_seconds: Annotated[
        float,
        Field(ge=0.05, le=60),
        Setting(
            "CELERY_PYMONGO_PING_TIMEOUT_SECONDS",
            "s",
            "The deadline of a health check's ping: slower than that is not healthy.",
        ),
    ] = 2.0
    operation_deadline_seconds: Annotated[
        Annotated[float, Field(ge=0.1, le=3600)] | None,
        Setting(
            "CELERY_PYMONGO_OPERATION_DEADLINE_SECONDS",
            "s",
            "A deadline for every operation of every task, in place of the selection and queue limits; "
            "not set: none.",
            "a number from 0.1 to 3600",
            option="timeoutMS",
        ),
    ] = None
    long_hold_seconds: Annotated[
        float,
        Field(ge=0.1, le=86_400),
        Setting(
            "CELERY_PYMONGO_LONG_HOLD_SECONDS",
            "s",
            "A task that holds a connection longer is named, with its stack; again when it lets go.",
        ),
    ] = 5.0
    command_statistics: Annotated[
        bool,
        Setting(
            "CELERY_PYMONGO_COMMAND_STATISTICS",
            "switch",
            "Times every command, by its name and outcome; costs some microseconds each.",
        ),
    ] = False
    server_connections: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        BeforeValidator(connections_of_tier),
        Setting(
            "CELERY_PYMONGO_SERVER_CONNECTIONS",
            "connections",
            "What one member of MongoDB takes, where it does not say or may not be asked; `mongo doctor` "
            "and `mongo size` hold the fleet against it.",
            "a whole number from 1 to 1000000, or an Atlas tier (M0, Flex, M10 to M300)",
        ),
    ] = None
    history_database: Annotated[
        str,
        Field(pattern=r'^[^/\\. "$\x00]+$'),
        bytes_within(63),
        Setting(
            "CELERY_PYMONGO_HISTORY_DATABASE",
            "name",
            "Where snapshots are kept for good; the user needs readWrite there.",
            'a database name: 1 to 63 bytes without / \\ . " $ or a space',
        ),
    ] = "celery_pymongo"
    history_days: Annotated[
        int,
        Field(ge=0, le=3650),
        Setting(
            "CELERY_PYMONGO_HISTORY_DAYS",
            "days",
            "How long they are kept in MongoDB; 0 keeps none there, and Redis still has the last two days.",
        ),
    ] = 30
    task_soft_time_limit_seconds: Annotated[
        float,
        Field(ge=0.1, le=604_800),
        Setting(
            "CELERY_PYMONGO_TASK_SOFT_TIME_LIMIT_SECONDS",
            "s",
            "After it a task gets an exception and may still clean up.",
            instead="task_soft_time_limit",
        ),
    ] = 270.0
    task_time_limit_seconds: Annotated[
        float,
        Field(ge=0.2, le=604_800),
        Setting(
            "CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS",
            "s",
            "After it a task's process is killed; above the soft limit.",
            instead="task_time_limit",
        ),
    ] = 300.0
    visibility_timeout_seconds: Annotated[
        float,
        Field(ge=1, le=604_800),
        Setting(
            "CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS",
            "s",
            "After it Redis gives an unacknowledged task to another worker; above the hard limit and your "
            "longest countdown, or tasks run twice; a week at most, as long as `once` keeps its markers.",
        ),
    ] = 3600.0
    backoff_base_seconds: Annotated[
        float,
        Field(ge=0.01, le=60),
        Setting(
            "CELERY_PYMONGO_BACKOFF_BASE_SECONDS",
            "s",
            "The longest first pause before a retry or reconnection.",
        ),
    ] = 0.5
    backoff_cap_seconds: Annotated[
        float,
        Field(ge=0.1, le=3600),
        Setting(
            "CELERY_PYMONGO_BACKOFF_CAP_SECONDS",
            "s",
            "The pauses double up to here; not below the base.",
        ),
    ] = 30.0
    poison_limit: Annotated[
        int,
        # A message that a shutdown gave back may count one kill too many: at one it would die of that alone.
        Field(ge=2, le=1000),
        Setting(
            "CELERY_PYMONGO_POISON_LIMIT",
            "count",
            "A message whose process was killed so often in the middle of it goes to the dead letters.",
        ),
    ] = 3
    give_up_seconds: Annotated[
        float,
        Field(ge=1, le=604_800),
        Setting(
            "CELERY_PYMONGO_GIVE_UP_SECONDS",
            "s",
            "An outage that lasts longer is an error in the log, once; trying goes on.",
        ),
    ] = 900.0
    log_format: Annotated[
        Literal["text", "json"],
        Setting(
            "CELERY_PYMONGO_LOG_FORMAT",
            "name",
            "`json` writes one object per line, for a log collector.",
            instead="your own logging (Celery's after_setup_logger signal)",
        ),
    ] = "text"
    sentry_dsn: Annotated[
        Annotated[SecretUri, AfterValidator(check_dsn)] | None,
        Setting(
            "SENTRY_DSN", "URL", "Where errors are reported; not set: nowhere.", "a DSN as Sentry shows it"
        ),
    ] = None
    sentry_environment: Annotated[
        str | None,
        Field(pattern=r"^[^\s/]+$", max_length=64),
        Setting(
            "SENTRY_ENVIRONMENT",
            "name",
            "Tells staging from production in Sentry.",
            "1 to 64 characters without spaces and /",
        ),
    ] = None
    sentry_release: Annotated[
        str | None,
        Field(pattern=r"^[^\s/\\]+$", max_length=200),
        Setting(
            "SENTRY_RELEASE",
            "name",
            "The version of your code that Sentry shows.",
            "1 to 200 characters without spaces and slashes",
        ),
    ] = None
    sentry_outage_seconds: Annotated[
        float,
        Field(ge=0.5, le=3600),
        Setting(
            "SENTRY_OUTAGE_SECONDS",
            "s",
            "An outage that lasts so long is told once per fleet; its errors are counted, not sent.",
        ),
    ] = 5.0
    sentry_crons: Annotated[
        bool,
        Setting(
            "SENTRY_CRONS",
            "switch",
            "Beat's entries show in Sentry Crons, a monitor each; those of short intervals minute by minute.",
        ),
    ] = True
    sentry_traces_sample_rate: Annotated[
        float,
        Field(ge=0, le=1),
        Setting(
            "SENTRY_TRACES_SAMPLE_RATE",
            "share",
            "The share of tasks that are traced; 1 doubles a task's cost.",
        ),
    ] = 0.0

    def __str__(self) -> str:
        return repr(self)

    def key(self, *parts: str | int) -> str:
        """Return the Redis key of `parts` in this deployment."""
        return self._prefixed(":".join((self.key_prefix, self.deployment, *map(str, parts))))

    def key_beside(self, *parts: str | int) -> str:
        """Return the Redis key of `parts` that deployments have in common; no deployment's name is empty."""
        return self._prefixed(":".join((self.key_prefix, "", *map(str, parts))))

    def _prefixed(self, own: str) -> str:
        # The service's own prefix is the beginning of its keys.
        return own if own.startswith(self._app_prefix) else f"{self._app_prefix}{own}"

    def within(self, prefix: str) -> Self:
        """Return these settings with every key under the prefix that an app has for its own."""
        found = self.model_copy()
        found._app_prefix = prefix
        return found

    def min_pool_size_for(self, concurrency: int) -> int:
        """Return the minimum pool of a process that runs `concurrency` tasks at a time."""
        return mongo.min_pool_size(self, concurrency)

    @property
    def effective_write_concern(self) -> int | str:
        """The write concern that holds: the URI's, where that has one."""
        return mongo.write_concern(self)

    def client_options(self, concurrency: int) -> dict[str, Any]:
        """Return MongoClient's keyword arguments, without those that the URI sets itself and the appname."""
        return mongo.keywords(self, concurrency)

    def effective_options(self, concurrency: int) -> list[tuple[str, Any, Source]]:
        """Return name, value and source of every option of the client, fit to be shown."""
        return mongo.effective(self, concurrency)

    def redacted(self) -> dict[str, Any]:
        """Return every setting by name, fit to be shown."""
        return {name: _shown(getattr(self, name)) for name in type(self).model_fields}


def load_settings(
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = Path(".env"),
    *,
    given: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings from `environ` (default: the process's) and `env_file`, secret files anew each time.

    `given` are variables that the app's code sets: they win over both. Raises SettingsError with every
    problem there is.
    """
    found = collect(os.environ if environ is None else environ, env_file, secrets=_SECRETS, given=given or {})
    settings, refused = _validate(found)
    problems = [*found.problems, *refused.values(), *conflicts(settings, refused)]
    if settings.strict:
        problems += unknown_variables(found.values, _known_variables())
    if problems:
        raise SettingsError(problems)
    return settings


def settings_warnings(
    environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")
) -> list[str]:
    """Return a line for each misspelt variable (refused in strict mode) and each that the URI overrides."""
    found = collect(os.environ if environ is None else environ, env_file, secrets=_SECRETS)
    settings, _ = _validate(found)
    return unknown_variables(found.values, _known_variables()) + [
        f"{variable}: is set, but MONGODB_URI sets {option}, which wins"
        for variable, option in mongo.overridden(settings).items()
        if variable in found.values  # an appName of the URI alone is a setting, too
    ]


def unused_by_an_app(settings: Settings) -> list[str]:
    """Return a line for each variable that is set and that only the service reads: what to set instead."""
    named = {name: setting_of(Settings.model_fields[name]) for name in sorted(settings.model_fields_set)}
    return [
        f"{setting.variable}: only the service reads it (-A worker, -A celery_pymongo); here set "
        f"{setting.instead}"
        for setting in named.values()
        if setting.instead
    ]


def describe() -> list[SettingDescription]:
    """Return what is to be known of each setting, in the order of the documentation."""
    return [describe_setting(name, field) for name, field in Settings.model_fields.items()]


_VARIABLES = {row.field: row.variable for row in describe()}
_SECRETS = [row.variable for row in describe() if row.file_variable]


def _known_variables() -> list[str]:
    return [*_VARIABLES.values(), *(f"{name}_FILE" for name in _SECRETS)]


def _validate(found: Collected) -> tuple[Settings, dict[str, str]]:
    """Return settings made of the valid values, and a line for each of the others, by field."""
    values = {name: found.values[v] for name, v in _VARIABLES.items() if v in found.values}
    refused: dict[str, str] = {}
    try:
        return Settings.model_validate(_with_uri_values(values)), refused
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            name, reason = str(detail["loc"][0]), detail.get("ctx", {}).get("error", "")
            if name in values:  # and not taken from a URI, which is refused itself
                refused.setdefault(name, _problem_line(name, found, reason=str(reason)))
    good = {name: value for name, value in values.items() if name not in refused}
    return Settings.model_validate(good), refused


def _with_uri_values(values: dict[str, str]) -> dict[str, str]:
    """Let the URI name the database where no variable does, and the application in any case."""
    uri = values.get("mongodb_uri", "")
    named = {"mongodb_database": values.get("mongodb_database") or uris.mongo_database(uri)}
    named["appname"] = cut_to_bytes(uris.mongo_options(uri).get("appname", ""), APPNAME_BYTES)
    return values | {name: value for name, value in named.items() if value}


def _problem_line(name: str, found: Collected, *, reason: str) -> str:
    row = describe_setting(name, Settings.model_fields[name])
    value = found.values[row.variable]
    shown = redact_uri(value) if row.file_variable else redact_value(value)
    source = f" (from {row.file_variable})" if row.variable in found.from_file else ""
    return f"{row.variable}{source}: {shown!r} is not {row.allowed}" + (f": {reason}" if reason else "")


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, (SecretStr, Path)) else value
