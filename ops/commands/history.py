"""`mongo history`: what the fleet was, as plots, a picture or series."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..frame import Answer, Call, command
from ..history.metrics import BY_NAME, METRICS, USUAL, fields
from ..history.span import When, parsed
from ..problems import UsageProblem

if TYPE_CHECKING:
    from rich.console import RenderableType

_ALL = "all"


@command()
@click.option(
    "--since",
    callback=parsed,
    default="1h",
    show_default=True,
    help="From when: 90s, 30m, 6h, 2d, 1w ago, or 2026-01-02T03:04Z.",
)
@click.option("--until", callback=parsed, default="now", show_default=True, help="Up to when; likewise.")
@click.option(
    "--metric",
    "names",
    multiple=True,
    type=click.Choice([*BY_NAME, _ALL]),
    help="Of these alone; may be repeated.",
)
@click.option(
    "--points", type=click.IntRange(2, 5000), default=240, show_default=True, help="Of a series, at most."
)
@click.option(
    "--png",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A picture, too: a new file.",
)
def history(call: Call, since: When, until: When, png: Path | None, **shown: Any) -> Answer:
    """Show what the fleet was: load, pools, waits, processes.

    The last two days come from Redis, also while MongoDB is down; what is older comes from MongoDB. The axis
    marks times without a snapshot (░), those in which some (▒) or all (█) processes could not reach MongoDB,
    and drills (▚). A value is what was worst in its step, or the average where that says more.

    Exit codes: 0 all of it was read; 1 a part; 3 nothing could be.

    Example: celery -A worker mongo history --since 6h --metric wait_p99 --metric in_use

    Example: celery -A worker mongo history --since 2d --png incident.png
    """
    from ..history import document

    chosen = _chosen(shown["names"])
    if png is not None:
        from ..history import picture

        picture.check(png)
    mongo = call.app.mongo

    def span(now: float) -> tuple[float, float]:
        first, last = since.at(now), min(until.at(now), now)
        if last - first < 1:
            raise UsageProblem("--since must be before --until, and before now, by a second at least")
        return first, last

    past = mongo.view.past(fields(chosen), span, seconds=max(0.2, call.deadline.left - 0.3))
    body = document.build(
        past,
        chosen,
        deployment=mongo.settings.deployment,
        interval=mongo.settings.snapshot_interval_seconds,
        points=shown["points"],
    )
    if png is not None:
        picture.draw(body, png)
    return Answer("history/1", body, render, unseen=document.unseen(past), exit_code=document.exit_code(past))


def _chosen(names: tuple[str, ...]) -> tuple[Any, ...]:
    if _ALL in names:
        return METRICS
    return tuple(BY_NAME[name] for name in dict.fromkeys(names or USUAL))


def render(document: Mapping[str, Any]) -> "RenderableType":
    """Return what a person reads."""
    from ..history.chart import Charts

    return Charts(document)
