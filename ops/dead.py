"""`celery -A app mongo dead …`: what must not run again before a person decides. Needs Redis alone."""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
from celery.bin.base import handle_preload_options

from .frame import Command, app_of, show
from .loading.problems import Problem, UsageProblem

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

_all = click.option("--all", "is_all", is_flag=True, help="Every dead letter.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ids = click.argument("ids", nargs=-1, metavar="ID…")
_HEAD = ("ID", "TASK", "REASON", "AT", "PROCESS", "ERROR")


@click.group()
def dead() -> None:
    """List, show, send again or drop messages that went to the dead letters.

    A message goes there where its process was killed in the middle of it too often, or where its task must
    not run twice and may have written. It stays until it is sent again or dropped.

    Example: celery -A worker mongo dead list
    """


@dead.command("list", cls=Command)
@_json
@click.pass_context
@handle_preload_options
def list_letters(ctx: click.Context, as_json: bool) -> None:
    """List the dead letters, the oldest first, without their documents.

    Example: celery -A worker mongo dead list --json
    """
    letters = _deliveries(app_of(ctx)).letters
    found = _asked(lambda: [letter.to_dict() for letter in letters.letters()])
    show(json.dumps(found) if as_json else _table(found))


@dead.command("show", cls=Command)
@click.argument("letter_id", metavar="ID")
@click.option("--body", is_flag=True, help="The message itself, with its arguments and documents.")
@_json
@click.pass_context
@handle_preload_options
def show_letter(ctx: click.Context, letter_id: str, body: bool, as_json: bool) -> None:
    """Show one dead letter: why it is here, and what is known of its process.

    Example: celery -A worker mongo dead show 5f0c… --body
    """
    letters = _deliveries(app_of(ctx)).letters
    letter = _asked(lambda: letters.find(letter_id))
    if letter is None:
        raise Problem(_unknown([letter_id]))
    told = letter.to_dict()
    if body:
        told["body"] = json.loads(_asked(lambda: letters.body(letter_id)) or "null")
    show(json.dumps(told) if as_json else "\n".join(_lines(told)))


@dead.command(cls=Command)
@_ids
@_all
@click.pass_context
@handle_preload_options
def requeue(ctx: click.Context, ids: tuple[str, ...], is_all: bool) -> None:
    """Send dead letters again, under their ids and to their queues, as they were but for `expires`.

    A letter goes once the broker has its message.

    Example: celery -A worker mongo dead requeue 5f0c…
    """
    app = app_of(ctx)
    deliveries = _deliveries(app)
    chosen = _chosen(deliveries, ids, is_all=is_all)
    missing = [one for one in chosen if not _asked(lambda one=one: deliveries.send_again(app, one))]  # type: ignore[misc]  # a lambda's default has no type
    _tell("sent again", len(chosen) - len(missing), missing)


@dead.command(cls=Command)
@_ids
@_all
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
@handle_preload_options
def drop(ctx: click.Context, ids: tuple[str, ...], is_all: bool, yes: bool) -> None:
    """Forget dead letters: their messages are gone.

    Example: celery -A worker mongo dead drop 5f0c… --yes
    """
    deliveries = _deliveries(app_of(ctx))
    chosen = _chosen(deliveries, ids, is_all=is_all)
    missing = [one for one in chosen if _asked(lambda one=one: deliveries.letters.find(one)) is None]  # type: ignore[misc]  # a lambda's default has no type
    there = [one for one in chosen if one not in missing]
    if there and not yes and not _is_sure(len(there)):
        raise Problem("nothing was dropped; --yes says so without being asked")
    _tell("dropped", _asked(lambda: deliveries.letters.drop(there)), missing)


def _deliveries(app: Any) -> Any:
    return app.mongo.deliveries


def _chosen(deliveries: Any, ids: Sequence[str], *, is_all: bool) -> list[str]:
    if bool(ids) == is_all:
        raise UsageProblem("name the letters by their ids, or all of them by --all")
    return list(ids) or _asked(lambda: [letter.id for letter in deliveries.letters.letters()])


def _asked(ask: Callable[[], T]) -> T:
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    try:
        return ask()
    except (RedisError, OperationalError, OSError) as error:
        raise Problem(f"Redis does not answer ({type(error).__name__}); what was done so far stays") from None


def _is_sure(count: int) -> bool:
    if not sys.stdin.isatty():
        return False
    return click.confirm(f"drop {_letters(count)} for good?", err=True)


def _tell(verb: str, count: int, missing: Sequence[str]) -> None:
    show(f"{_letters(count)} {verb}")
    if missing:
        raise Problem(_unknown(missing))


def _unknown(ids: Sequence[str]) -> str:
    return f"no dead letter {', '.join(ids)}; `mongo dead list` names those there are"


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _table(letters: "Iterable[dict[str, Any]]") -> str:
    rows = [_HEAD, *map(_row, letters)]
    if len(rows) == 1:
        return "no dead letters"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(letter: dict[str, Any]) -> tuple[str, ...]:
    reason = letter["reason"] + (f" ({letter['forced']} times)" if letter["forced"] else "")
    process = f"{letter['node']}/{letter['slot']}"
    return (letter["id"], letter["task"], reason, _moment(letter["at"]), process, letter["error"] or "")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00") + "Z"


def _lines(told: dict[str, Any]) -> list[str]:
    shown = told | {"at": _moment(told["at"])}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in shown.items()}
    return [f"{name:<12} {text}" for name, text in texts.items() if shown[name] not in (None, {}, "")]
