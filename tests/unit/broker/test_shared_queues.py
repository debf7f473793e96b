"""What is one broker for all who share its queues, and who shares none."""

from typing import Any

import pytest
from celery import Celery

from worker.broker.shared_queues import broker_of
from worker.settings.fields import load_settings


def of(url: Any, redis_url: str = "redis://view/0", **options: Any) -> str | None:
    app = Celery(set_as_current=False)
    app.conf.update(broker_url=url, broker_transport_options=options)
    return broker_of(app.conf, load_settings({"REDIS_URL": redis_url}, env_file=None))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("redis://a/1",), ("rediss://ops:secret@A:6379/1?ssl_cert_reqs=none",)),
        (("amqp://guest:x@rabbit/shop",), ("amqps://rabbit:5672/shop",)),
        (("redis://a/1",), (["redis://a/1", "redis://b/1"],)),
        # The broker is where the fleet's view is kept: each may call it what it likes.
        (("redis://127.0.0.1/1", "redis://127.0.0.1/0"), ("redis://cache/1", "redis://cache/0")),
    ],
)
def test_a_broker_is_one_whatever_its_url_says_beside_it(one: Any, other: Any) -> None:
    assert of(*one) == of(*other) is not None


@pytest.mark.parametrize(
    "other",
    [
        of("redis://a/2"),
        of("redis://b/1"),
        of("redis://a:6380/1"),
        of("redis://a/1", global_keyprefix="shop:"),
        of("amqp://a/1"),
        of("redis://a/1", "redis://a/0"),
    ],
)
def test_another_server_database_or_prefix_is_another_broker(other: str | None) -> None:
    assert other is not None
    assert other != of("redis://a/1")


@pytest.mark.parametrize("url", ["memory://", "filesystem://", "sqla+sqlite:///x", ""])
def test_what_is_no_server_is_shared_by_nobody_else(url: str) -> None:
    assert of(url) is None


def test_a_digest_says_nothing_of_a_login() -> None:
    assert "secret" not in str(of("redis://ops:secret@a/1"))
