"""The history as a picture, to be pasted into an incident. Needs matplotlib, the extra `plot`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import output
from ..problems import AppProblem, NoOutput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS = {
    "drill": ("#85c1e9", "a drill"),
    "gap": ("0.85", "no snapshot"),
    "partial": ("#f5b041", "some processes cut off from MongoDB"),
    "outage": ("#e74c3c", "all processes cut off from MongoDB"),
}
_INCHES = (11.0, 1.5)
_DPI = 110


def check(file: Path) -> None:
    """Raise a Problem where no picture can be drawn, or the file is there already; draws nothing."""
    try:
        import matplotlib as _  # noqa: F401 - whether it is there is the question
    except ImportError:
        raise AppProblem("--png needs matplotlib: pip install 'celery-pymongo[plot]'") from None
    if file.exists():
        raise NoOutput(f"{file} is there already; name a new file")
    if not file.absolute().parent.is_dir():
        raise NoOutput(f"there is no folder {file.absolute().parent}")


def draw(document: Mapping[str, Any], file: Path) -> None:
    """Write the document of `history` as a PNG."""
    from matplotlib.figure import Figure

    document = output.shown(document)
    known = [series for series in document["series"] if series["last"] is not None]
    rows = max(1, len(known))
    # A figure of its own and no pyplot: no window system, no state of the process.
    figure = Figure(figsize=(_INCHES[0], 0.9 + _INCHES[1] * rows), dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for ax, series in zip(axes, known, strict=False):
        _line(ax, series)
    for ax in axes:
        _mark(ax, document)
        ax.set_xlim(_day(document["since"]), _day(document["until"]))
        ax.xaxis_date(UTC)
    if not known:
        axes[0].text(0.5, 0.5, "no snapshot in this time", ha="center", transform=axes[0].transAxes)
    handles, labels = axes[0].get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    if by_label:
        figure.legend(by_label.values(), by_label.keys(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(_title(document), fontsize=11, parse_math=False)
    try:
        with file.open("xb") as out:
            figure.savefig(out, format="png")
    except OSError as error:
        raise NoOutput(f"{file} cannot be written ({error.strerror})") from None


def _line(ax: "Axes", series: Mapping[str, Any]) -> None:
    times = [_day(at) for at, _ in series["points"]]
    scale, unit = (1e6, "MB") if series["unit"] == "bytes" else (1.0, series["unit"])
    values = [float("nan") if value is None else value / scale for _, value in series["points"]]
    ax.step(times, values, where="post", linewidth=1.2, color="#1f618d")
    ax.fill_between(times, values, step="post", alpha=0.15, color="#1f618d")
    if series["limit"] is not None and series["max"] and series["limit"] <= 3 * series["max"]:
        ax.axhline(series["limit"], color="0.5", linestyle="--", linewidth=0.8)
    ax.set_ylim(0, None if series["max"] else 1)
    ax.set_title(f"{series['metric']} ({unit})", fontsize=9, loc="left", parse_math=False)
    ax.tick_params(labelsize=8)
    ax.grid(visible=True, alpha=0.25)


def _mark(ax: "Axes", document: Mapping[str, Any]) -> None:
    for span in document["spans"]:
        color, label = _MARKS[span["kind"]]
        end = document["until"] if span["until"] is None else span["until"]
        ax.axvspan(_day(span["since"]), _day(end), color=color, alpha=0.5, linewidth=0, label=label)


def _title(document: Mapping[str, Any]) -> str:
    first, last = (_time(document[name]).strftime("%Y-%m-%d %H:%M:%S") for name in ("since", "until"))
    return f"celery-pymongo {document['deployment']}: {first} to {last} UTC"


def _day(at: float) -> float:
    """Return unix seconds as matplotlib has moments: in days."""
    return at / 86_400


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
