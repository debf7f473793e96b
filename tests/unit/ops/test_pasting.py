"""The lines of a fix are whole: the app's own -A, and how its Redis is reached."""

import pytest

from ops.doctor.pasting import filled, name_of_app, redis_cli


@pytest.mark.parametrize(
    ("arguments", "environment", "main", "expected"),
    [
        (["celery", "-A", "shop.app", "mongo", "doctor"], {}, "main", "shop.app"),
        (["celery", "-Ashop", "mongo"], {}, None, "shop"),
        (["celery", "--app", "shop:app", "mongo"], {}, None, "shop:app"),
        (["celery", "--app=shop", "mongo"], {"CELERY_APP": "other"}, None, "shop"),
        (["celery", "mongo"], {"CELERY_APP": "other"}, "main", "other"),
        (["python"], {}, "main", "main"),
        (["celery", "-A"], {}, None, "APP"),
    ],
)
def test_the_app_is_named_as_this_program_was_told(
    arguments: list[str], environment: dict[str, str], main: str | None, expected: str
) -> None:
    assert name_of_app(arguments, environment, main=main) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache:6380/2", "redis-cli -u redis://cache:6380/2"),
        ("redis://:secret@cache", "redis-cli -u redis://cache/0 --askpass"),
        (
            "rediss://ops:secret@cache:6380/0?ssl_cert_reqs=none",
            "redis-cli -u rediss://ops@cache:6380/0 --askpass",
        ),
        ("sentinel://a:26379;sentinel://b:26379", "redis-cli"),
    ],
)
def test_a_password_is_asked_for_and_not_shown(url: str, expected: str) -> None:
    assert redis_cli(url) == expected


def test_the_lines_of_fixes_alone_are_filled() -> None:
    fix = ["celery -A APP mongo size  # what", "redis-cli -u REDIS_URL ping"]
    finding = {"title": "REDIS_URL", "fix": fix, "explains": [{"fix": ["celery -A APP beat"]}]}
    assert filled([finding], app="shop", redis="redis-cli -u redis://a/0") == [
        {
            "title": "REDIS_URL",
            "fix": ["celery -A shop mongo size  # what", "redis-cli -u redis://a/0 ping"],
            "explains": [{"fix": ["celery -A shop beat"]}],
        }
    ]
