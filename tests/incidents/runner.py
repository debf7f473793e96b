"""Has an incident happen, asks the doctor until he is right, and again once it is mended."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops.commands.status import look
from ops.deadline import Deadline
from ops.frame import EXITS, Call
from tests.e2e.clinic import Clinic
from tests.e2e.workers import wait_until
from tests.incidents.incident import Incident
from tests.incidents.scene import Stage

_ASK_SECONDS = 6.0


@dataclass(frozen=True)
class Result:
    """What was said first of an incident, and how long after it had happened that was right."""

    incident: str
    finding: str
    title: str
    verdict: str
    seconds: float


def run(incident: Incident, stage: Stage) -> Result:
    """Let it happen and be mended. Raises AssertionError with what the doctor said at last."""
    with stage.scene(incident.name) as scene:
        steps = incident.happen(scene)
        ward = next(steps)
        began = time.monotonic()
        told = _wait(
            ward, lambda told: _is_right(incident, told), incident.seconds, f"{incident.finding} first"
        )
        seconds = time.monotonic() - began
        _check_status(ward, told)
        mended = next(steps, ward)
        if not incident.lasts:
            _wait(
                mended,
                lambda told: incident.finding not in _ids(told),
                incident.mend_seconds,
                "the end of it",
            )
        steps.close()
    first = told["findings"][0]
    return Result(incident.name, first["id"], first["title"], told["verdict"], seconds)


def ask(ward: Clinic) -> dict[str, Any]:
    """Return what the doctor says of this deployment."""
    return ward.ask()


def status(ward: Clinic) -> dict[str, Any]:
    """Return what `mongo status` says of it."""
    answer = look(Call(ward.app, Deadline(_ASK_SECONDS)))
    return dict(answer.document)


def _ids(told: dict[str, Any]) -> list[str]:
    return [found["id"] for found in told["findings"]]


def _is_right(incident: Incident, told: dict[str, Any]) -> bool:
    if _ids(told)[:1] != [incident.finding] or told["verdict"] != incident.verdict:
        return False
    first = told["findings"][0]
    text = "\n".join([first["title"], *first["evidence"]])
    return all(word in text for word in incident.words) and bool(re.search(r"\d", "".join(first["evidence"])))


def _wait(ward: Clinic, is_so: Callable[[dict[str, Any]], bool], seconds: float, what: str) -> dict[str, Any]:
    told: list[dict[str, Any]] = []

    def asked() -> bool:
        told.append(ask(ward))
        return is_so(told[-1])

    try:
        wait_until(asked, what=what, seconds=seconds)
    except TimeoutError as error:
        last = {"verdict": told[-1]["verdict"], "findings": told[-1]["findings"]}
        raise AssertionError(f"{error}; at last: {json.dumps(last, indent=1)}") from None
    return told[-1]


def _check_status(ward: Clinic, told: dict[str, Any]) -> None:
    """Check that `status` says the same: the verdict, and the first finding in its words."""
    first, found = _without_numbers(told["findings"][0]), _without_numbers(status(ward))
    assert found["verdict"] == told["verdict"], (found["verdict"], found["reasons"], first)
    assert found["finding"] == {name: first[name] for name in ("id", "severity", "title")}
    if first["severity"] != "note":
        assert first["title"] in found["reasons"], (found["reasons"], first["title"])
    assert EXITS[found["verdict"]] == EXITS[told["verdict"]]


def _without_numbers(told: dict[str, Any]) -> dict[str, Any]:
    """Return it without the numbers in its texts: seconds have gone by between two questions."""
    found: dict[str, Any] = json.loads(re.sub(r"\d+(\.\d+)?", "0", json.dumps(told, ensure_ascii=False)))
    return found
