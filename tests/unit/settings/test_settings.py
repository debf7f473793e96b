"""Settings: what is read, what wins, what is refused, and that no secret is ever shown."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from pymongo import MongoClient

from worker.errors import SettingsError
from worker.settings import schedule
from worker.settings.fields import Settings, describe, load_settings, settings_warnings, unused_by_an_app
from worker.settings.redact import redact_uri
from worker.settings.sources import unknown_variables

ROOT = Path(__file__).parents[3]


def load(**environ: str) -> Settings:
    return load_settings(environ, env_file=None)


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(**environ)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return str(caught.value).splitlines()


def problem(**environ: str) -> str:
    (line,) = problems(**environ)
    return line


def client_takes(settings: Settings, concurrency: int = 1) -> bool:
    MongoClient(
        settings.mongodb_uri.get_secret_value(), connect=False, **settings.client_options(concurrency)
    ).close()
    return True


# Defaults and descriptions


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    assert load().client_options(1) == {
        "maxPoolSize": 50,
        "minPoolSize": 1,
        "maxIdleTimeMS": 30_000,
        "waitQueueTimeoutMS": 5000,
        "connectTimeoutMS": 4000,
        "socketTimeoutMS": 20_000,
        "heartbeatFrequencyMS": 2000,
        "serverSelectionTimeoutMS": 3000,
        "retryWrites": True,
        "retryReads": True,
        "readPreference": "primary",
        "w": "majority",
        "journal": True,
    }
    assert load().deployment == "default"
    assert load().scheduler == "redbeat"


def test_the_client_takes_the_defaults_and_the_defaults_pass_their_own_checks() -> None:
    defaults = {row.variable: row.default for row in describe() if row.default}
    assert (
        load(**defaults) == load().model_copy(update={}) or load(**defaults).redacted() == load().redacted()
    )
    assert client_takes(load(**defaults))


def test_a_setting_has_one_variable_a_unit_what_is_allowed_and_a_reason() -> None:
    rows = describe()
    assert [row.field for row in rows] == list(Settings.model_fields)
    assert len({row.variable for row in rows}) == len(rows)
    assert all(row.unit and row.allowed and row.reason.endswith(".") for row in rows)


# Where values come from


def test_the_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELERY_PYMONGO_DEPLOYMENT", "staging")
    assert load_settings().deployment == "staging"


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MONGODB_DATABASE=file\nexport CELERY_PYMONGO_DEPLOYMENT='staging' # why\nMONGODB_TLS\n")
    settings = load_settings({"MONGODB_DATABASE": "outer"}, path)
    assert (settings.mongodb_database, settings.deployment, settings.tls) == ("outer", "staging", False)


def test_a_blank_value_is_no_value(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MONGODB_DATABASE=file\n")
    assert load_settings({"MONGODB_DATABASE": " ", "MONGODB_URI_FILE": ""}, path).mongodb_database == "file"


def test_a_dollar_in_the_env_file_is_a_dollar(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MONGODB_URI=mongodb://u:a${HOME}$x@h/\n")
    assert load_settings({}, path).mongodb_uri.get_secret_value() == "mongodb://u:a${HOME}$x@h/"


def test_a_missing_env_file_is_no_problem(tmp_path: Path) -> None:
    assert load_settings({}, tmp_path / ".env") == load()


def test_an_env_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, why in ((tmp_path, "is a directory"), (binary, "not UTF-8 text")):
        with pytest.raises(SettingsError) as caught:
            load_settings({}, path)
        assert str(caught.value) == f"{path}: cannot be read ({why}); mend it or remove it"


def test_a_broken_line_of_the_env_file_is_named_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MONGODB_DATABASE=x\nMONGODB_URI='hunter2\n")
    with pytest.raises(SettingsError) as caught:
        load_settings({}, path)
    assert str(caught.value) == f"{path}: line 2 is not NAME=value"


# Secret files


def test_a_secret_may_come_from_a_file_and_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "uri"
    for password in ("one", "two"):
        path.write_text(f"mongodb://u:{password}@h/\r\n")
        settings = load(MONGODB_URI_FILE=str(path))
        assert settings.mongodb_uri.get_secret_value() == f"mongodb://u:{password}@h/"


def test_every_secret_has_a_file_variable() -> None:
    assert [row.file_variable for row in describe() if row.file_variable] == [
        "MONGODB_URI_FILE",
        "REDIS_URL_FILE",
        "REDIS_SENTINEL_PASSWORD_FILE",
        "SENTRY_DSN_FILE",
    ]


def test_a_secret_and_its_file_are_one_too_many() -> None:
    line = problem(REDIS_URL="redis://h", REDIS_URL_FILE="/run/secret")
    assert line == "REDIS_URL and REDIS_URL_FILE are both set: keep one of them"


def test_the_file_variable_of_the_environment_wins_over_the_value_in_the_env_file(tmp_path: Path) -> None:
    (tmp_path / "uri").write_text("mongodb://secret-file/")
    (tmp_path / ".env").write_text("MONGODB_URI=mongodb://env-file/\n")
    settings = load_settings({"MONGODB_URI_FILE": str(tmp_path / "uri")}, tmp_path / ".env")
    assert str(settings.mongodb_uri) == "mongodb://secret-file/"


def test_a_secret_file_that_is_missing_empty_or_unreadable_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    expected = {
        "nope": "cannot be read (no such file or directory)",
        ".": "cannot be read (is a directory)",
        "empty": "is empty; it should hold the value of SENTRY_DSN",
    }
    for name, why in expected.items():
        path = str(tmp_path / name)
        assert problem(SENTRY_DSN_FILE=path) == f"SENTRY_DSN_FILE: {path!r} {why}"


def test_a_bad_secret_from_a_file_names_the_file_variable(tmp_path: Path) -> None:
    path = tmp_path / "uri"
    path.write_text("mysql://u:hunter2@h")
    line = problem(MONGODB_URI_FILE=str(path))
    assert line.startswith("MONGODB_URI (from MONGODB_URI_FILE): '***://***@h' is not")


# Bad values


def test_all_problems_are_told_at_once_one_line_each() -> None:
    lines = problems(
        MONGODB_MAX_POOL_SIZE="0",
        MONGODB_JOURNAL="maybe",
        MONGODB_URI="http://h",
        REDIS_URL_FILE="/nonexistent",
        CELERY_PYMONGO_BACKOFF_CAP_SECONDS="0.1",
    )
    assert [line.split(":")[0] for line in lines] == [
        "REDIS_URL_FILE",
        "MONGODB_URI",
        "MONGODB_MAX_POOL_SIZE",
        "MONGODB_JOURNAL",
        "CELERY_PYMONGO_BACKOFF_CAP_SECONDS",
    ]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MONGODB_DATABASE", "a.b"),
        ("MONGODB_DATABASE", "é" * 32),
        ("MONGODB_MAX_POOL_SIZE", "many"),
        ("MONGODB_MIN_POOL_SIZE", "-1"),
        ("MONGODB_HEARTBEAT_FREQUENCY_MS", "499"),
        ("MONGODB_READ_PREFERENCE", "fastest"),
        ("MONGODB_WRITE_CONCERN", "-1"),
        ("MONGODB_TLS_CA_FILE", "/nonexistent"),
        ("MONGODB_TLS_CA_FILE", "/"),
        ("MONGODB_COMPRESSORS", "lzma"),
        ("MONGODB_APPNAME", "é" * 17),
        ("CELERY_PYMONGO_DEPLOYMENT", "Production"),
        ("CELERY_PYMONGO_DEPLOYMENT", "a:b"),
        ("CELERY_PYMONGO_KEY_PREFIX", "a b"),
        ("CELERY_PYMONGO_SCHEDULER", "cron"),
        ("CELERY_PYMONGO_INCLUDE", "shop.tasks,shop-tasks"),
        ("CELERY_PYMONGO_GATED_QUEUES", "mongo.data,a queue"),
        ("CELERY_PYMONGO_GATED_QUEUES", "q" * 65),
        ("CELERY_PYMONGO_GATED_QUEUES", ",".join(map(str, range(21)))),
        ("CELERY_PYMONGO_GIVE_UP_SECONDS", "0"),
        ("CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS", "0"),
        ("CELERY_PYMONGO_OPERATION_DEADLINE_SECONDS", "nan"),
        ("CELERY_PYMONGO_BACKOFF_CAP_SECONDS", "inf"),
        ("CELERY_PYMONGO_LOG_FORMAT", "xml"),
        ("SENTRY_ENVIRONMENT", "a/b"),
        ("SENTRY_TRACES_SAMPLE_RATE", "1.1"),
    ],
)
def test_a_bad_value_is_refused_with_its_variable_its_value_and_what_is_allowed(
    variable: str, value: str
) -> None:
    allowed = {row.variable: row.allowed for row in describe()}[variable]
    assert problem(**{variable: value}).startswith(f"{variable}: {value!r} is not {allowed}")


@pytest.mark.parametrize("queue", ["mongo.health", "mongo.ops"])
def test_what_must_run_in_an_outage_cannot_be_gated(queue: str) -> None:
    line = problem(CELERY_PYMONGO_GATED_QUEUES=f"mongo.data,{queue}")
    assert line.endswith(f"{queue} carries what must run in an outage")
    assert queue in schedule.QUEUES


@pytest.mark.parametrize(
    ("text", "queues"), [("", ("mongo.data",)), ("none", ()), ("bills, mongo.data", ("bills", "mongo.data"))]
)
def test_any_other_queue_may_be_gated_or_none(text: str, queues: tuple[str, ...]) -> None:
    assert load(CELERY_PYMONGO_GATED_QUEUES=text).gated_queues == queues


def test_a_bound_is_named_with_its_limits() -> None:
    assert (
        problem(MONGODB_MAX_POOL_SIZE="0")
        == "MONGODB_MAX_POOL_SIZE: '0' is not a whole number from 1 to 10000"
    )
    line = problem(CELERY_PYMONGO_LOG_FORMAT="xml")
    assert line == "CELERY_PYMONGO_LOG_FORMAT: 'xml' is not text or json"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS": "270"},
            "CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS: 270 must exceed the soft limit, 270",
        ),
        (
            {"CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS": "300"},
            "CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS: 300 must exceed the hard time limit, 300",
        ),
        (
            {"CELERY_PYMONGO_BACKOFF_BASE_SECONDS": "40"},
            "CELERY_PYMONGO_BACKOFF_CAP_SECONDS: 30 must not be below the base, 40",
        ),
        (
            {"MONGODB_MIN_POOL_SIZE": "51"},
            "MONGODB_MIN_POOL_SIZE: 51 must not exceed the maximum pool size, 50",
        ),
        (
            {"MONGODB_URI": "mongodb://h/?minPoolSize=51"},
            "MONGODB_URI: minPoolSize 51 must not exceed the maximum pool size, 50",
        ),
        (
            {"MONGODB_WRITE_CONCERN": "0", "MONGODB_JOURNAL": "true"},
            "MONGODB_JOURNAL: a write that is not acknowledged (write concern 0) cannot be journaled",
        ),
        (
            {"MONGODB_TLS": "false", "MONGODB_TLS_CA_FILE": __file__},
            f"MONGODB_TLS_CA_FILE: {__file__!r} needs TLS, which is switched off",
        ),
        (
            {"MONGODB_URI": "mongodb://h/?readPreferenceTags=dc:ny"},
            "MONGODB_READ_PREFERENCE: primary does not go with readpreferencetags, which MONGODB_URI sets",
        ),
        (
            {"REDIS_URL": "sentinel://a:26379;sentinel://b:26379"},
            "REDIS_SENTINEL_MASTER: a sentinel:// URL needs the name of the Redis to use",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(environ: dict[str, str], expected: str) -> None:
    assert problem(**environ) == expected


def test_a_contradiction_is_not_told_of_a_value_that_is_refused_already() -> None:
    environ = {
        "CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS": "no",
        "CELERY_PYMONGO_TASK_SOFT_TIME_LIMIT_SECONDS": "300",
    }
    assert len(problems(**environ)) == 1


def test_a_compressor_is_refused_where_its_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.settings.types.find_spec", lambda name: None)
    line = problem(MONGODB_COMPRESSORS="zlib")
    assert line.endswith("the Python package for zlib is not installed")


def test_a_compressor_whose_parent_package_is_missing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.settings.types._COMPRESSORS", {"zstd": ("no_such_parent.zstd",)})
    assert problem(MONGODB_COMPRESSORS="zstd").endswith("the Python package for zstd is not installed")


def test_good_values_of_every_kind_are_taken() -> None:
    settings = load(
        MONGODB_COMPRESSORS="zlib",
        MONGODB_READ_PREFERENCE="secondarypreferred",
        MONGODB_WRITE_CONCERN="2",
        MONGODB_MIN_POOL_SIZE="3",
        CELERY_PYMONGO_INCLUDE="shop.tasks, billing",
        CELERY_PYMONGO_OPERATION_DEADLINE_SECONDS="1.5",
        SENTRY_DSN="https://abc@o1.ingest.sentry.io/42",
    )
    assert (settings.compressors, settings.include) == (("zlib",), ("shop.tasks", "billing"))
    assert (settings.read_preference, settings.write_concern) == ("secondaryPreferred", 2)
    assert (settings.operation_deadline_seconds, settings.min_pool_size_for(20)) == (1.5, 3)
    assert str(settings.sentry_dsn) == "https://***@o1.ingest.sentry.io/42"
    assert settings.client_options(1)["compressors"] == "zlib"
    assert client_takes(settings)


# Unknown variables


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("MONGODB_MAXPOOLSIZE", "MONGODB_MAXPOOLSIZE: unknown setting, did you mean MONGODB_MAX_POOL_SIZE?"),
        ("MONGODB_URL", "MONGODB_URL: unknown setting, did you mean MONGODB_URI?"),
        ("CELERY_PYMONGO_FOO", "CELERY_PYMONGO_FOO: unknown setting"),
    ],
)
def test_a_misspelt_variable_is_a_warning_and_in_strict_mode_a_problem(name: str, line: str) -> None:
    assert settings_warnings({name: "1"}, env_file=None) == [line]
    assert problem(**{name: "1", "CELERY_PYMONGO_STRICT": "true"}) == line
    assert load(**{name: "1"}) == load()


@pytest.mark.parametrize(
    "name", ["MONGODB_PORT_27017_TCP", "MONGODB_SERVICE_HOST", "REDIS_PASSWORD", "SENTRY_AUTH_TOKEN", "PATH"]
)
def test_variables_of_other_software_are_left_alone(name: str) -> None:
    assert settings_warnings({name: "1"}, env_file=None) == []
    assert unknown_variables([name], ["MONGODB_URI"]) == []


def test_known_variables_are_no_warnings() -> None:
    names = [name for row in describe() for name in (row.variable, row.file_variable) if name]
    assert unknown_variables(names, names) == []


# What the URI says


def test_options_of_the_uri_win_over_defaults_and_variables_and_are_shown_as_such() -> None:
    uri = "mongodb://h/?MAXPOOLSIZE=5&w=1&journal=false&ssl=true&replicaSet=rs&waitQueueTimeoutMS=9"
    settings = load(MONGODB_URI=uri, MONGODB_MAX_POOL_SIZE="7", MONGODB_CONNECT_TIMEOUT_MS="99")
    keywords = settings.client_options(20)
    assert not {"maxPoolSize", "w", "journal", "tls", "waitQueueTimeoutMS"} & keywords.keys()
    assert keywords["minPoolSize"] == 5
    shown = {name: (value, source) for name, value, source in settings.effective_options(20)}
    assert shown["maxPoolSize"] == (5, "URI")
    assert shown["tls"] == (True, "URI")
    assert shown["replicaset"] == ("rs", "URI")
    assert shown["connectTimeoutMS"] == (99, "environment")
    assert shown["retryReads"] == (True, "default")
    assert client_takes(settings, 20)


def test_an_application_name_in_the_uri_alone_is_no_warning() -> None:
    """Atlas writes one into the URIs that it hands out."""
    environ = {"MONGODB_URI": "mongodb://h/?appName=Cluster0"}
    assert settings_warnings(environ, env_file=None) == []
    assert load_settings(environ, env_file=None).appname == "Cluster0"


def test_what_only_the_service_reads_is_named_with_what_to_set_instead() -> None:
    environ = {"CELERY_PYMONGO_LOG_FORMAT": "json", "CELERY_PYMONGO_TASK_TIME_LIMIT_SECONDS": "600"}
    assert unused_by_an_app(load_settings(environ, env_file=None)) == [
        f"CELERY_PYMONGO_{name}: only the service reads it (-A worker, -A celery_pymongo); here set {instead}"
        for name, instead in (
            ("LOG_FORMAT", "your own logging (Celery's after_setup_logger signal)"),
            ("TASK_TIME_LIMIT_SECONDS", "task_time_limit"),
        )
    ]
    assert unused_by_an_app(load_settings({}, env_file=None)) == []


def test_a_variable_that_the_uri_overrides_is_a_warning() -> None:
    environ = {"MONGODB_URI": "mongodb://h/?maxPoolSize=5", "MONGODB_MAX_POOL_SIZE": "7"}
    assert settings_warnings(environ, env_file=None) == [
        "MONGODB_MAX_POOL_SIZE: is set, but MONGODB_URI sets maxPoolSize, which wins"
    ]


def test_the_uri_names_the_database_unless_a_variable_does() -> None:
    assert load(MONGODB_URI="mongodb://h/shop").mongodb_database == "shop"
    assert load(MONGODB_URI="mongodb://h/shop", MONGODB_DATABASE="app2").mongodb_database == "app2"
    assert load(MONGODB_URI="mongodb://h/?w=1").mongodb_database == "app"


def test_the_application_name_of_the_uri_begins_ours() -> None:
    settings = load(MONGODB_URI=f"mongodb://h/?appName={'é' * 20}", MONGODB_APPNAME="mine")
    assert settings.appname == "é" * 16
    assert "appname" not in settings.client_options(1)


def test_tls_of_an_srv_uri_is_not_switched_off_by_our_default() -> None:
    settings = load(MONGODB_URI="mongodb+srv://cluster.example.org/shop?retryWrites=false")
    assert "tls" not in settings.client_options(1)
    assert ("tls", True, "URI") in settings.effective_options(1)
    assert ("retryWrites", False, "URI") in settings.effective_options(1)
    assert settings.mongodb_database == "shop"


def test_tls_is_passed_on_where_it_is_asked_for_and_implied_by_its_files() -> None:
    assert load(MONGODB_TLS="true").client_options(1)["tls"] is True
    settings = load(MONGODB_TLS_CA_FILE=__file__)
    assert settings.client_options(1)["tlsCAFile"] == __file__
    assert ("tls", True, "environment") in settings.effective_options(1)
    assert ("tls", False, "default") in load().effective_options(1)


def test_an_unacknowledged_write_is_not_journaled_by_default() -> None:
    for settings in (load(MONGODB_WRITE_CONCERN="0"), load(MONGODB_URI="mongodb://h/?w=0")):
        assert "journal" not in settings.client_options(1)
        assert client_takes(settings)


def test_a_maximum_of_zero_in_the_uri_means_none() -> None:
    settings = load(MONGODB_URI="mongodb://h/?maxPoolSize=0", MONGODB_MIN_POOL_SIZE="60")
    assert client_takes(settings)


def test_a_secret_option_of_the_uri_is_shown_by_name_only() -> None:
    settings = load(MONGODB_URI="mongodb://h/?tls=true&tlsCertificateKeyFilePassword=hunter2")
    assert ("tlscertificatekeyfilepassword", "***", "URI") in settings.effective_options(1)


def test_tag_sets_of_the_uri_are_all_shown() -> None:
    uri = "mongodb://h/?readPreference=nearest&readPreferenceTags=dc:ny&readPreferenceTags=dc:la"
    settings = load(MONGODB_URI=uri)
    assert ("readpreferencetags", "dc:ny;dc:la", "URI") in settings.effective_options(1)
    assert client_takes(settings)


def test_the_minimum_pool_grows_with_the_tasks_that_a_process_runs() -> None:
    assert [load().min_pool_size_for(c) for c in (0, 1, 4, 10, 500)] == [1, 1, 4, 10, 10]
    assert load(MONGODB_MAX_POOL_SIZE="3").min_pool_size_for(10) == 3


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("localhost:27017", "it must begin with mongodb:// or mongodb+srv://"),
        ("mongodb://", "host or port cannot be read"),
        ("mongodb://h:99999", "host or port cannot be read"),
        ("mongodb://u:p/x@h", "escape reserved characters"),
        ("mongodb://u:p:x@h", "escape reserved characters"),
        ("mongodb://u:p%zz@h", "escape reserved characters"),
        ("mongodb+srv://a.example.org:27017/", "mongodb+srv:// takes one host and no port"),
        ("mongodb+srv://a.example.org/?directConnection=maybe", "its option directConnection has a value"),
        ("mongodb://h/?maxPoolSiz=5", "unknown option maxPoolSiz, did you mean maxpoolsize?"),
        ("mongodb://h/?j=true", "unknown option j, did you mean journal?"),
        ("mongodb://h/?zzz=true", "PyMongo does not know its option zzz"),
        ("mongodb://h/?tls=true&z%7=1", "PyMongo does not know option 2"),
        (
            "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:ab&ef=",
            "PyMongo does not know option 2",
        ),
        ("mongodb://h/?w=1&journal", "option 2 has no value"),
        ("mongodb://h/?maxPoolSize=x", "its option maxPoolSize has a value that PyMongo does not take"),
        ("mongodb://h/?tlsCAFile=/nonexistent", "the file named by its option tlsCAFile cannot be read"),
        ("mongodb://h/?ssl=true&tls=false", "its options contradict each other"),
        ("mongodb://a,b/?directConnection=true", "its options contradict each other"),
        ("mongodb://h/a%20b", "its database name is not allowed"),
    ],
)
def test_a_uri_that_pymongo_would_not_take_is_one_line_with_the_reason(uri: str, reason: str) -> None:
    line = problem(MONGODB_URI=uri)
    assert line.startswith("MONGODB_URI: ")
    assert reason in line


def test_uris_of_every_shape_are_taken() -> None:
    for uri in (
        "mongodb://a:1,b:2/?replicaSet=rs",
        "mongodb://[::1]:27017/",
        "mongodb://%2Ftmp%2Fmongodb-27017.sock/app",
        "mongodb://u:p%40ss%2F@h/?authSource=admin",
        "mongodb+srv://u:p@cluster.example.org/?srvMaxHosts=2&compressors=snappy",
    ):
        assert load(MONGODB_URI=uri).mongodb_uri.get_secret_value() == uri


# Redis and Sentry


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:p%40ss@h:6379/3",
        "rediss://u:p@h:6380/0?ssl_cert_reqs=required",
        "redis://[::1]:6379",
        "sentinel://a:26379;sentinel://:pw@b:26379/0",
    ],
)
def test_redis_tls_and_sentinel_are_taken(url: str) -> None:
    settings = load(REDIS_URL=url, REDIS_SENTINEL_MASTER="main")
    assert settings.redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url", ["redis+cluster://h:6379", "rediss+cluster://h", "redis://a:6379,b:6379/0", "redis://a,redis://b"]
)
def test_redis_cluster_is_refused_with_the_reason(url: str) -> None:
    assert "several keys in one operation, which a cluster refuses" in problem(REDIS_URL=url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("amqp://h", "it must begin with"),
        ("h:6379", "it must begin with"),
        ("redis://", "host or port"),
        ("redis://h:0", "host or port"),
        ("redis://h/zero", "the database after the host is a number"),
        ("redis://:p#w@h", "escape reserved characters"),
        ("redis://:p/w@h", "escape reserved characters"),
        ("redis://:p[w@h", "escape reserved characters"),
        ("sentinel://a;sentinel://", "host or port"),
    ],
)
def test_a_bad_redis_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    assert reason in problem(REDIS_URL=url, REDIS_SENTINEL_MASTER="main")


@pytest.mark.parametrize("dsn", ["abc", "https://h/1", "https://k@h/x", "ftp://k@h/1", "https://@h/1"])
def test_a_bad_dsn_is_refused(dsn: str) -> None:
    assert problem(SENTRY_DSN=dsn).startswith("SENTRY_DSN: ")


# The object


def test_keys_carry_prefix_and_deployment() -> None:
    settings = load(CELERY_PYMONGO_DEPLOYMENT="staging", CELERY_PYMONGO_KEY_PREFIX="shop")
    assert settings.key("report", 7) == "shop:staging:report:7"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().strict = True


def test_settings_survive_a_pickle() -> None:
    settings = load(MONGODB_URI="mongodb://u:p@h/")
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


def test_importing_the_settings_reads_nothing_and_imports_no_driver() -> None:
    code = (
        "import sys, os; before = dict(os.environ); import worker.settings.fields as s;"
        " s.load_settings({}, None);"
        "print([m for m in ('pymongo', 'celery', 'redis', 'sentry_sdk', 'dotenv') if m in sys.modules])"
    )
    environ = os.environ | {"MONGODB_MAX_POOL_SIZE": "broken", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# Secrets

# Every letter of it is telling: a part of three that turns up somewhere is a leak.
MARK = "Zq7Xk"
secret_text = st.text(st.sampled_from("@/:?#&=;%[], aé"), max_size=4).map(
    lambda middle: f"{MARK}{middle}{MARK}"
)


@st.composite
def uris(draw: st.DrawFn) -> str:
    """A URI with secrets in the places for secrets, escaped or not, right or wrong around them."""
    scheme = draw(st.sampled_from(["mongodb", "mongodb+srv", "redis", "rediss", "sentinel", "https", "nope"]))
    secret = secret_text.map(quote_plus) if draw(st.booleans()) else secret_text
    user, password = draw(secret), draw(secret)
    host = draw(st.sampled_from(["h", "h:1", "h:x", "", "a,b"]))
    path = draw(st.sampled_from(["", "/", "/app", "/1", "/a b"]))
    options = draw(
        st.lists(
            st.sampled_from(
                [
                    "tlsCertificateKeyFilePassword=",
                    "authMechanismProperties=AWS_SESSION_TOKEN:",
                    "password=",
                    "w=1",
                ]
            ),
            max_size=2,
        )
    )
    query = "&".join(o if o == "w=1" else o + draw(secret) for o in options)
    userinfo = draw(st.sampled_from([f"{user}:{password}@", f":{password}@", f"{user}@", ""]))
    return f"{scheme}://{userinfo}{host}{path}{'?' + query if query else ''}"


def outcome(environ: dict[str, str]) -> Settings | SettingsError:
    try:
        return load_settings(environ, env_file=None)
    except SettingsError as error:
        return error


def shown_of(environ: dict[str, str]) -> str:
    """Everything that is shown to people about these settings, or about why they are refused."""
    settings = outcome(environ)
    if isinstance(settings, SettingsError):
        assert settings.__context__ is None
        return f"{settings} {settings!r}"
    parts = [repr(settings), str(settings), settings.redacted(), settings.effective_options(4)]
    parts += [settings.model_dump_json(), f"{settings.mongodb_uri}", f"{settings.redis_url!r}"]
    return " ".join(map(str, parts))


@given(uris(), st.sampled_from(["MONGODB_URI", "REDIS_URL", "SENTRY_DSN", "MONGODB_DATABASE"]))
@example(f"mongodb://u:{MARK}?{MARK}=1@h", "MONGODB_URI")
@example(f"mongodb://h/?tlsCertificateKeyFilePassword={MARK}&{MARK}=1", "MONGODB_URI")
@example(f"mongodb://h/?tlsCertificateKeyFilePassword={MARK}@{MARK}", "MONGODB_URI")
@example(f"mongodb://u:{MARK}/{MARK}@h", "MONGODB_URI")
@example(f"{MARK}", "MONGODB_URI")
@example(f"u:{MARK}@h:27017", "MONGODB_URI")
@example(f"mongodb://u:{MARK}@h/?tls=true&tlsCertificateKeyFilePassword={MARK}", "MONGODB_URI")
@example(f"mongodb://u:{MARK}@h/?authMechanismProperties=SERVICE_NAME:{MARK}", "MONGODB_URI")
@example(f"sentinel://:{MARK};{MARK}@h", "REDIS_URL")
def test_no_secret_is_ever_shown(uri: str, variable: str) -> None:
    environ = {variable: uri}
    assert MARK not in shown_of(environ)
    assert MARK not in "".join(settings_warnings(environ, env_file=None))
    assert MARK not in redact_uri(uri)


@given(secret_text)
def test_the_sentinel_password_is_never_shown(secret: str) -> None:
    assert MARK not in shown_of({"REDIS_SENTINEL_PASSWORD": secret})


@given(st.text(max_size=60))
def test_any_text_is_taken_or_refused_a_line_for_each_reason(text: str) -> None:
    """Nothing that a variable can hold makes a traceback."""
    for row in describe():
        result = outcome({row.variable: text})
        if isinstance(result, SettingsError):
            assert len(result.problems) == len(str(result).splitlines()) >= 1


@pytest.mark.parametrize(
    ("value", "connections"), [("M10", 1500), ("flex", 500), ("m0", 500), ("M300", 128_000), ("2500", 2500)]
)
def test_the_servers_limit_is_a_number_or_the_tier_that_one_pays_for(value: str, connections: int) -> None:
    settings = load_settings({"CELERY_PYMONGO_SERVER_CONNECTIONS": value}, env_file=None)
    assert settings.server_connections == connections


@pytest.mark.parametrize("value", ["M7", "0", "many", "1.5"])
def test_a_limit_that_is_neither_is_refused(value: str) -> None:
    result = outcome({"CELERY_PYMONGO_SERVER_CONNECTIONS": value})
    assert isinstance(result, SettingsError)
    assert "an Atlas tier" in str(result)
