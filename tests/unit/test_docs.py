"""What the documentation says of the code is true."""

from pathlib import Path

from celery import Celery

from ops.local.events_table import table
from worker.advice import advise

ROOT = Path(__file__).resolve().parents[2]


def between(text: str, name: str) -> str:
    """Return what stands between a section's markers."""
    return text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->", maxsplit=1)[0].strip()


def test_the_list_of_events_is_the_codes_own():
    """`python -m ops.local.events_table` prints it."""
    assert between((ROOT / "docs" / "architecture.md").read_text(), "events") == table()


def test_the_settings_that_the_readme_recommends_need_no_advice():
    """They are what a start without warnings takes."""
    readme = (ROOT / "README.md").read_text()
    (block,) = (part for part in readme.split("```python\n") if part.startswith("app.conf.update("))
    app = Celery("x", broker="redis://localhost", set_as_current=False)
    exec(block.split("```")[0], {"app": app})  # noqa: S102 - our own README
    assert advise(app.conf, app.conf.task_time_limit) == []
