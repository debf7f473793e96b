"""What the documentation says of the code is true."""

from pathlib import Path

from celery import Celery

from ops.doctor.checks import CHECKS
from ops.local import checks_table
from ops.local.events_table import table
from worker.integration.advice import advise

ROOT = Path(__file__).resolve().parents[2]


def between(text: str, name: str) -> str:
    """Return what stands between a section's markers."""
    return text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->", maxsplit=1)[0].strip()


def test_the_list_of_events_is_the_codes_own():
    """`python -m ops.local.events_table` prints it."""
    assert between((ROOT / "docs" / "architecture.md").read_text(), "events") == table()


def test_the_list_of_checks_is_the_codes_own():
    """`python -m ops.local.checks_table` writes it."""
    assert between((ROOT / "docs" / "architecture.md").read_text(), "checks") == checks_table.table()


def test_every_best_practice_of_connection_pooling_is_a_check():
    """Those of the usual guides, in their words."""
    practices = {check.practice for check in CHECKS if check.practice}
    assert practices == {
        "Set maxPoolSize based on expected load",
        "Use an appropriate minPoolSize for the application",
        "Set reasonable timeout values",
        "Enable retryWrites and retryReads",
        "Number of active/available connections",
        "Monitor number of active connections",
        "Track connection wait times",
        "Monitor connection create/close rate",
        "Database response time",
        "Use smart retries",
        "Close connections safely on shutdown",
        "Regularly check connection health",
        "Share a single client across the application",
        "Avoid creating unnecessary multiple clients",
        "Use appropriate read preferences",
        "Adjust write concern as needed",
    }


def test_the_settings_that_the_readme_recommends_need_no_advice():
    """They are what a start without warnings takes."""
    readme = (ROOT / "README.md").read_text()
    (block,) = (part for part in readme.split("```python\n") if part.startswith("app.conf.update("))
    app = Celery("x", broker="redis://", backend="redis://", set_as_current=False)
    exec(block.split("```")[0], {"app": app})  # noqa: S102 - our own README
    assert advise(app.conf, app.conf.task_time_limit, broker="redis") == []
