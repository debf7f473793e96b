"""What the documentation says of the code is true."""

import re
from pathlib import Path

import pytest
from celery import Celery

from ops.doctor.checks import CHECKS
from ops.local.reference import REFERENCE, TABLES, with_table
from worker.integration.advice import advise

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)|!\[[^]]*\]\(([^)\s]+)\)")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", TABLES)
def test_a_table_of_the_reference_is_the_codes_own(page: str) -> None:
    """`python -m ops.local.reference` writes it."""
    text = (REFERENCE / f"{page}.md").read_text()
    assert with_table(page, text) == text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_to_a_file_and_a_heading_of_ours(path: Path) -> None:
    for found in LINK.findall(path.read_text()):
        target = "".join(found)
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def anchors(path: Path) -> set[str]:
    """Return what a page's headings are called in links."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_readme_fits_on_three_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


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


def test_the_settings_that_the_guide_recommends_need_no_advice():
    """They are what a start without warnings takes."""
    guide = (ROOT / "docs" / "start" / "library.md").read_text()
    (block,) = (part for part in guide.split("```python\n") if part.startswith("app.conf.update("))
    app = Celery("x", broker="redis://", backend="redis://", set_as_current=False)
    exec(block.split("```")[0], {"app": app})  # noqa: S102 - our own page
    assert advise(app.conf, app.conf.task_time_limit, broker="redis") == []
