"""What an incident is: how it comes about, and what the doctor must say first of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from tests.e2e.clinic import Clinic
from tests.incidents.scene import Scene

Steps = Generator[Clinic, None, None]
Happen = Callable[[Scene], Steps]
"""Injects, yields the deployment once it has happened, and mends what it injected when it goes on. Where the
mend changes the settings it yields the deployment with the new ones; else the same is asked again.
"""


@dataclass(frozen=True)
class Incident:
    """`finding` is the id of the first finding, `words` are in its title or evidence, `verdict` is that of
    `doctor` and of `status`. `seconds` is how long the finding may take to be right, `mend_seconds` to be
    gone.

    `is_cheap`: it runs for every change, not with `ops/test --full` alone. `lasts`: the mend leaves the
    finding behind, as where what was lost cannot come back.
    """

    name: str
    finding: str
    words: tuple[str, ...]
    happen: Happen
    verdict: str = "degraded"
    seconds: float = 30.0
    mend_seconds: float = 45.0
    is_cheap: bool = False
    lasts: bool = False
