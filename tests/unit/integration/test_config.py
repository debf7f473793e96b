"""Celery's settings: what they make of Redis, and that they give nothing away."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import celery
import pytest
import redis
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from kombu.exceptions import OperationalError
from redbeat.schedulers import RedBeatConfig, RedBeatScheduler, get_redis
from redis.sentinel import SentinelConnectionPool

from worker.integration import versions
from worker.integration.beat import Scheduler
from worker.integration.config import celery_config
from worker.settings.fields import load_settings
from worker.store import redis_server

SENTINELS = "sentinel://us%40er:p%40ss%2Fword@s1:26379/2;sentinel://us%40er:p%40ss%2Fword@s2:26380/2"
SENTINEL = {
    "REDIS_URL": SENTINELS,
    "REDIS_SENTINEL_MASTER": "main",
    "REDIS_SENTINEL_PASSWORD": "sentinels-own",
}


def config(**environ: str) -> dict[str, Any]:
    return celery_config(load_settings(environ, env_file=None))


@pytest.fixture
def apps() -> Iterator[list[Celery]]:
    made: list[Celery] = []
    yield made
    for app in made:
        app.close()


def make(apps: list[Celery], **environ: str) -> Celery:
    app = Celery("x", set_as_current=False)
    app.conf.update(config(**environ))
    apps.append(app)
    return app


def redbeat(app: Celery) -> dict[str, Any]:
    """Return the options of RedBeat's connections; it connects at its first command."""
    client = get_redis(app)
    options: dict[str, Any] = client.connection_pool.connection_kwargs
    return options


def test_celery_knows_every_setting() -> None:
    """A misspelt one would be ignored without a word."""
    known = {name for name, _ in flatten(NAMESPACES)}
    unknown = {name for name in config(**SENTINEL) if name not in known and not name.startswith("redbeat_")}
    # Said at start where it is not "fork", see `versions`.
    newer = set() if versions.parsed(celery.__version__) >= (5, 7) else {"worker_pool_start_method"}
    assert unknown == newer


def test_redbeat_knows_every_setting_of_its_own(apps: list[Celery]) -> None:
    app = make(apps)
    known = vars(RedBeatConfig(app))
    ours = {name for name in config() if name.startswith("redbeat_")}
    names = {"redbeat_key_prefix": "key_prefix", "redbeat_redis_url": "redis_url"}
    names |= {"redbeat_lock_key": "lock_key", "redbeat_lock_timeout": "lock_timeout"}
    for setting, attribute in names.items():
        assert known[attribute] == config()[setting]
    assert ours - set(names) == {"redbeat_redis_options"}


def test_a_message_outlives_the_process_that_runs_it() -> None:
    made = config(CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS="900")
    assert (made["task_acks_late"], made["task_reject_on_worker_lost"]) == (True, True)
    assert made["worker_prefetch_multiplier"] == 1
    assert made["broker_transport_options"]["visibility_timeout"] == 900
    assert made["result_expires"] > made["broker_transport_options"]["visibility_timeout"]
    assert made["result_expires"] > made["task_time_limit"] > made["task_soft_time_limit"]
    assert made["worker_cancel_long_running_tasks_on_connection_loss"] is False
    assert made["worker_deduplicate_successful_tasks"] is True


def test_only_json_is_spoken() -> None:
    made = config()
    assert made["accept_content"] == [made["task_serializer"]] == [made["result_serializer"]] == ["json"]


def test_nothing_waits_for_redis_for_ever(apps: list[Celery]) -> None:
    app = make(apps, REDIS_SOCKET_TIMEOUT_SECONDS="3")
    options = app.conf.broker_transport_options
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (3, 3)
    assert options["socket_keepalive"] is True
    for found in (app.backend.connparams, redbeat(app)):
        assert (found["socket_timeout"], found["socket_connect_timeout"]) == (3, 3)


def test_two_deployments_share_no_key() -> None:
    names = ("redbeat_key_prefix", "redbeat_lock_key")
    one, other = (config(CELERY_PYMONGO_DEPLOYMENT=name) for name in ("one", "other"))
    for transport in ("broker_transport_options", "result_backend_transport_options"):
        prefix = one[transport]["global_keyprefix"]
        assert prefix == "celery-pymongo:one:"
        assert not other[transport]["global_keyprefix"].startswith(prefix)
    assert all("celery-pymongo:one:redbeat:" in one[name] and one[name] != other[name] for name in names)


def test_a_stand_by_takes_over_within_twelve_seconds() -> None:
    made = config()
    assert made["redbeat_lock_timeout"] + made["beat_max_loop_interval"] <= 12
    # The leader renews its lock once per loop: it must survive a few loops that come late.
    assert made["redbeat_lock_timeout"] >= 3 * made["beat_max_loop_interval"]


def test_without_redbeat_the_scheduler_is_celerys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra, and nothing else of the service needs it."""
    monkeypatch.setattr("worker.integration.config.find_spec", lambda _name: None)
    assert not any(name.startswith(("beat_", "redbeat_")) for name in config())


def test_the_plain_scheduler_leaves_celerys_own() -> None:
    made = config(CELERY_PYMONGO_SCHEDULER="plain")
    assert not any(name.startswith(("beat_", "redbeat_")) for name in made)


def test_your_modules_and_the_start_method_are_handed_on() -> None:
    made = config(CELERY_PYMONGO_INCLUDE="shop.tasks,shop.mail", CELERY_PYMONGO_POOL_START_METHOD="spawn")
    assert made["include"] == ["shop.tasks", "shop.mail"]
    assert made["worker_pool_start_method"] == "spawn"


# -- the server itself -----------------------------------------------------------------------------


class Broker:
    """An app and its connection, whose Redis answers with `info` or raises it."""

    def __init__(self, info: Any) -> None:
        self.info = info
        self.default_channel = SimpleNamespace(client=SimpleNamespace(info=self._ask))

    @contextmanager
    def connection_for_write(self) -> Iterator[Any]:
        yield self

    def ensure_connection(self, **limits: Any) -> None:
        assert limits["max_retries"] == 1

    def _ask(self, section: str) -> Any:
        assert section == "cluster"
        if isinstance(self.info, Exception):
            raise self.info
        return self.info


def test_a_redis_cluster_is_refused() -> None:
    refused = redis_server.refusal(Broker({"cluster_enabled": 1}))
    assert refused is not None
    assert refused.startswith("this Redis is a cluster")


def test_a_program_that_cannot_use_its_redis_ends_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        redis_server.refuse(Broker({"cluster_enabled": 1}))
    assert ended.value.code == 78
    (record,) = caplog.records
    assert record.getMessage().startswith("redis.refused: REDIS_URL: this Redis is a cluster")
    assert "\n" not in record.getMessage()
    redis_server.refuse(Broker({}))


@pytest.mark.parametrize("cluster", [0, 1])
def test_beat_asks_its_redis_before_it_writes_there(monkeypatch: pytest.MonkeyPatch, cluster: int) -> None:
    written: list[str] = []
    monkeypatch.setattr(RedBeatScheduler, "setup_schedule", lambda _self: written.append("entries"))
    scheduler = Scheduler.__new__(Scheduler)  # its constructor would connect
    scheduler.app = Broker({"cluster_enabled": cluster})
    with suppress(SystemExit):
        scheduler.setup_schedule()
    assert written == ([] if cluster else ["entries"])


@pytest.mark.parametrize(
    "info",
    [
        {"cluster_enabled": 0},
        {},
        ConnectionRefusedError(),
        redis.TimeoutError("slow"),
        redis.ResponseError("NOPERM"),
        OperationalError("kombu's word for any of these"),
    ],
)
def test_a_redis_that_does_not_answer_is_celerys_to_wait_for(info: Any) -> None:
    assert redis_server.refusal(Broker(info)) is None


# -- TLS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "required"), [("", ssl.CERT_REQUIRED), ("?ssl_cert_reqs=none", ssl.CERT_NONE)]
)
def test_rediss_is_verified_unless_the_url_says_otherwise(
    apps: list[Celery], query: str, required: ssl.VerifyMode
) -> None:
    app = make(apps, REDIS_URL=f"rediss://h:6390/1{query}")
    checked = {} if query else {"ssl_check_hostname": True}
    assert app.connection_for_write().ssl == {"ssl_cert_reqs": required, **checked}
    assert app.backend.connparams["ssl_cert_reqs"] in (required, required.name.removeprefix("CERT_").lower())
    assert redbeat(app)["ssl_cert_reqs"] in (required, required.name.removeprefix("CERT_").lower())


def test_without_tls_nothing_speaks_of_it() -> None:
    assert not any("ssl" in name for name in config(REDIS_URL="redis://h"))


# -- Sentinel --------------------------------------------------------------------------------------


def test_broker_and_results_find_the_master_through_every_sentinel(apps: list[Celery]) -> None:
    app = make(apps, **SENTINEL)
    connection = app.connection_for_write()
    assert connection.alt == SENTINELS.split(";")
    assert (connection.userid, connection.password) == ("us@er", "p@ss/word")
    assert connection.transport_options["master_name"] == "main"
    assert connection.transport_options["sentinel_kwargs"] == {"password": "sentinels-own"}
    params = app.backend.connparams
    assert [(host["host"], host["port"]) for host in params["hosts"]] == [("s1", 26379), ("s2", 26380)]
    assert (params["username"], params["password"], params["db"]) == ("us@er", "p@ss/word", 2)
    assert app.backend._transport_options["master_name"] == "main"


def test_redbeat_finds_the_same_master_with_the_same_password(apps: list[Celery]) -> None:
    app = make(apps, **SENTINEL)
    pool = get_redis(app).connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "main"
    options = pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("us@er", "p@ss/word", 2)
    asked = [client.connection_pool.connection_kwargs for client in pool.sentinel_manager.sentinels]
    assert [(s["host"], s["port"], s["password"]) for s in asked] == [
        ("s1", 26379, "sentinels-own"),
        ("s2", 26380, "sentinels-own"),
    ]


def test_broker_results_and_redbeat_use_the_same_database(apps: list[Celery]) -> None:
    """Of several URLs the first counts for Celery and kombu."""
    app = make(apps, REDIS_URL="sentinel://s1/3;sentinel://s2", REDIS_SENTINEL_MASTER="main")
    databases = {app.connection_for_write().virtual_host, str(app.backend.connparams["db"])}
    assert databases | {str(redbeat(app)["db"])} == {"3"}


def test_a_sentinel_without_port_password_or_database_has_the_usual_ones(apps: list[Celery]) -> None:
    app = make(apps, REDIS_URL="sentinel://s1", REDIS_SENTINEL_MASTER="main")
    options = app.conf.redbeat_redis_options
    assert options["sentinels"] == [("s1", 26379)]
    assert options["sentinel_kwargs"] == {}
    assert redbeat(app)["db"] == 0


# -- secrets ---------------------------------------------------------------------------------------


IS_SENTINEL_HIDDEN = versions.parsed(celery.__version__) >= (5, 7)
"""Before, Celery's report shows the logins of a second Sentinel's URL."""


@pytest.mark.parametrize(
    "environ",
    [
        {"REDIS_URL": "redis://hidden-user:hidden-password@h/1"},
        {"REDIS_URL": "rediss://:hidden-password@h/1"},
        *([SENTINEL] if IS_SENTINEL_HIDDEN else []),
    ],
)
def test_celerys_report_of_its_settings_gives_no_password_away(
    apps: list[Celery], environ: dict[str, str]
) -> None:
    """What `celery report` prints, and what people paste into tickets."""
    environ = environ | {"MONGODB_URI": "mongodb://u:hidden-mongo@h", "SENTRY_DSN": "https://hiddenkey@s/1"}
    report = make(apps, **environ).bugreport()
    secrets = ("hidden-password", "p%40ss", "p@ss", "sentinels-own", "hidden-mongo", "hiddenkey")
    assert [secret for secret in secrets if secret in report] == []
