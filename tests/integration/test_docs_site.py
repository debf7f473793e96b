"""The documentation's site, made as people make it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.full
def test_the_site_is_made_without_a_warning() -> None:
    done = subprocess.run([ROOT / "ops" / "docs"], capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    built = ROOT / ".local" / "docs"
    for page, text in (
        ("reference/api", "celery_pymongo.once"),
        ("operate/commands", "mongo-status"),
        ("index", "survives forks"),
    ):
        assert text in (built / f"{page}.html").read_text()
