"""Which Redis the fleet's view is kept in, by what an app's configuration and REDIS_URL say."""

import pickle
import ssl
from typing import Any

import pytest
from celery import Celery

from worker.settings.fields import Settings, load_settings
from worker.store import app_redis
from worker.store.redis_client import connect

PASSWORD = "s3cret"  # noqa: S105 - of no server


def conf(**options: Any) -> Any:
    app = Celery(set_as_current=False)
    app.conf.update(options)
    return app.conf


def settings(**environ: str) -> Any:
    return load_settings(environ, env_file=None)


def followed(app: Any) -> Settings:
    found = app_redis.effective(settings(), app)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("options", "setting", "address"),
    [
        ({"broker_url": "redis://:pw@one:7000/2"}, "broker_url", "one:7000/2"),
        ({"broker_url": "redis://one"}, "broker_url", "one:6379/0"),
        ({"broker_url": ["redis://one/1", "redis://two/1"]}, "broker_url", "one:6379/1"),
        ({"broker_url": "redis://one", "broker_write_url": "redis://two"}, "broker_url", "two:6379/0"),
        ({"broker_url": "amqp://r", "result_backend": "redis://two/3"}, "result_backend", "two:6379/3"),
        ({"broker_url": "redis://one", "result_backend": "redis://two"}, "broker_url", "one:6379/0"),
        ({"broker_url": "sentinel://a;sentinel://b"}, "broker_url", "a:26379/0"),
    ],
)
def test_the_broker_comes_first_and_then_the_result_backend(
    options: dict[str, Any], setting: str, address: str
) -> None:
    found = app_redis.of_app(conf(**options))
    assert found is not None
    assert (found.setting, found.address) == (setting, address)
    assert app_redis.address(followed(conf(**options)).redis_url.get_secret_value()) == address


@pytest.mark.parametrize("options", [{"broker_url": "amqp://r"}, {"broker_url": "memory://"}])
def test_an_app_without_any_redis_has_none_unless_redis_url_is_set(options: dict[str, Any]) -> None:
    assert app_redis.of_app(conf(**options)) is None
    assert app_redis.effective(settings(), conf(**options)) is None
    own = settings(REDIS_URL="redis://ours")
    assert app_redis.effective(own, conf(**options)) is own


def test_a_redis_url_that_is_set_wins_and_a_difference_is_one_line_without_a_secret() -> None:
    own = settings(REDIS_URL=f"redis://:{PASSWORD}@ours:6379/0")
    app = conf(broker_url=f"redis://u:{PASSWORD}@theirs:6380/1", result_backend="redis://third")
    assert app_redis.effective(own, app) == own
    line = app_redis.difference(own, app)
    assert line is not None
    assert line.startswith(
        "REDIS_URL: the fleet's view is kept in ours:6379/0, the app's broker_url is theirs:6380/1;"
    )
    assert PASSWORD not in line


@pytest.mark.parametrize(
    "options",
    [
        {"broker_url": "redis://ours/0"},
        {"broker_url": "redis://other", "result_backend": "redis://ours"},
        {"broker_url": "amqp://r"},
    ],
)
def test_a_redis_of_the_apps_own_or_none_at_all_is_no_difference(options: dict[str, Any]) -> None:
    assert app_redis.difference(settings(REDIS_URL="redis://ours:6379/0"), conf(**options)) is None
    assert app_redis.difference(settings(), conf(**options)) is None


def test_tls_is_that_of_the_broker_and_what_the_url_says_wins() -> None:
    tls = {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_ca_certs": "/ca file.pem"}
    app = conf(broker_url="redis://one:7000/2?ssl_cert_reqs=required", broker_use_ssl=tls)
    pool = connect(followed(app)).connection_pool
    assert pool.connection_class.__name__ == "SSLConnection"
    chosen = pool.connection_kwargs
    assert (chosen["host"], chosen["port"], chosen["db"]) == ("one", 7000, 2)
    assert (chosen["ssl_cert_reqs"], chosen["ssl_ca_certs"]) == ("required", "/ca file.pem")


def test_sentinel_is_that_of_the_broker() -> None:
    options = {"master_name": "prime", "sentinel_kwargs": {"password": PASSWORD}}
    app = conf(broker_url="sentinel://a:1/3;sentinel://b:2/3", broker_transport_options=options)
    found = followed(app)
    assert found.redis_sentinel_master == "prime"
    pool: Any = connect(found).connection_pool
    assert pool.service_name == "prime"
    assert PASSWORD not in repr(found)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"broker_url": "redis://one"}, "celery-pymongo:default:members"),
        (
            {"broker_url": "redis://one", "broker_transport_options": {"global_keyprefix": "shop:"}},
            "shop:celery-pymongo:default:members",
        ),
        (
            {
                "broker_url": "amqp://r",
                "broker_transport_options": {"global_keyprefix": "not-ours"},
                "result_backend": "redis://two",
                "result_backend_transport_options": {"global_keyprefix": "shop:"},
            },
            "shop:celery-pymongo:default:members",
        ),
        (
            {
                "broker_url": "redis://one",
                "broker_transport_options": {"global_keyprefix": "celery-pymongo:default:"},
            },
            "celery-pymongo:default:members",
        ),
    ],
)
def test_our_keys_are_under_the_prefix_that_the_app_has_for_its_own(
    options: dict[str, Any], expected: str
) -> None:
    """Access rules name it. The service's own prefix is the beginning of ours already."""
    found = followed(conf(**options))
    assert found.key("members") == expected
    assert pickle.loads(pickle.dumps(found)).key("members") == expected  # noqa: S301 - our own bytes


def test_where_redis_url_is_set_our_keys_stay_as_they_are() -> None:
    options = {"broker_url": "redis://one", "broker_transport_options": {"global_keyprefix": "shop:"}}
    found = app_redis.effective(settings(REDIS_URL="redis://one"), conf(**options))
    assert found is not None
    assert found.key("members") == "celery-pymongo:default:members"
