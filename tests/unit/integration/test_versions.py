"""What is said of a version that works and has a defect."""

import pytest

from worker.integration.versions import doubts, parsed


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("4.20.0.dev1", (4, 20, 0)), ("5.6", (5, 6)), ("5.6.0rc1", (5, 6, 0)), ("unknown", ()), (None, ())],
)
def test_a_version_is_its_leading_numbers(version: str | None, numbers: tuple[int, ...]) -> None:
    assert parsed(version) == numbers


@pytest.mark.parametrize(
    ("celery", "start_method", "said"),
    [
        ("5.4.0", None, ["Celery 5.4.0 has defects"]),
        ("5.5.3", "fork", ["Celery 5.5.3 has defects"]),
        ("5.6.0", "fork", []),
        ("5.6.3", "spawn", ["worker_pool_start_method=spawn"]),
        ("5.7.0", "spawn", []),
    ],
)
def test_what_a_version_of_celery_does_not_do_is_said(
    celery: str, start_method: str | None, said: list[str]
) -> None:
    lines = doubts(celery, start_method=start_method)
    assert [line.startswith(start) for line, start in zip(lines, said, strict=True)] == [True] * len(said)
