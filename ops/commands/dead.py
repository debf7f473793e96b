"""`mongo dead …`: what must not run again before a person decides. Needs Redis alone."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..frame import Answer, Call, command
from ..group import Group
from ..problems import Problem, UsageProblem
from ..text import count

if TYPE_CHECKING:
    from rich.console import RenderableType

_all = click.option("--all", "is_all", is_flag=True, help="Every dead letter.")
_ids = click.argument("ids", nargs=-1, metavar="ID…")


@click.group(cls=Group)
def dead() -> None:
    """See to messages that must not run again by themselves.

    A message goes there where its process was killed in the middle of it too often, or where its task must
    not run twice and may have written. It stays until it is sent again or dropped.

    Example: celery -A worker mongo dead list
    """


@command(group=dead, name="list")
def list_letters(call: Call) -> Answer:
    """List the dead letters, the oldest first, without their documents.

    Example: celery -A worker mongo dead list --json
    """
    bad: list[Any] = []
    found = [letter.to_dict() for letter in _deliveries(call).letters.letters(bad)]
    return Answer("dead-list/1", {"letters": found}, render_list, unseen=_unseen(call, bad))


@command(group=dead, name="show")
@click.argument("letter_id", metavar="ID")
@click.option("--body", is_flag=True, help="The message itself, with its arguments and documents.")
def show_letter(call: Call, letter_id: str, body: bool) -> Answer:
    """Show one dead letter: why it is here, and what is known of its process.

    Example: celery -A worker mongo dead show 5f0c… --body
    """
    letters = _deliveries(call).letters
    letter = letters.find(letter_id)
    if letter is None:
        raise Problem(_unknown([letter_id]))
    told = letter.to_dict()
    if body:
        told["body"] = letters.describe(letter_id)
    return Answer("dead-show/1", {"letter": told}, render_letter)


@command(group=dead)
@_ids
@_all
def requeue(call: Call, ids: tuple[str, ...], is_all: bool) -> Answer:
    """Send dead letters again, under their ids and to their queues, as they were but for `expires`.

    A letter goes once the broker has its message.

    Example: celery -A worker mongo dead requeue 5f0c…
    """
    deliveries = _deliveries(call)
    bad: list[Any] = []
    done: list[str] = []
    missing: list[str] = []
    for one in _chosen(deliveries, ids, bad, is_all=is_all):
        try:
            (done if deliveries.send_again(call.app, one) else missing).append(one)
        except ValueError as error:
            # It is there and cannot be read; the others can still be sent.
            bad.append(record_of(error))
    return _told("dead-requeue/1", done, missing, unseen=_unseen(call, bad))


@command(group=dead)
@_ids
@_all
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(call: Call, ids: tuple[str, ...], is_all: bool, yes: bool) -> Answer:
    """Forget dead letters: their messages are gone.

    Example: celery -A worker mongo dead drop 5f0c… --yes
    """
    deliveries = _deliveries(call)
    bad: list[Any] = []
    chosen = _chosen(deliveries, ids, bad, is_all=is_all)
    missing = [one for one in chosen if not _is_there(deliveries, one)]
    there = [one for one in chosen if one not in missing]
    if there and not yes and not _is_sure(len(there)):
        raise Problem("nothing was dropped; --yes says so without being asked")
    deliveries.letters.drop(there)
    return _told("dead-drop/1", there, missing, unseen=_unseen(call, bad))


def _deliveries(call: Call) -> Any:
    return call.app.mongo.deliveries


def record_of(error: ValueError) -> Any:
    """Return the record that cannot be read; any other error is raised."""
    record = getattr(error, "record", None)
    if record is None:
        raise error
    return record


def _is_there(deliveries: Any, letter_id: str) -> bool:
    """Say whether there is such a letter; one that cannot be read can be dropped by its name."""
    try:
        return deliveries.letters.find(letter_id) is not None
    except ValueError as error:
        return record_of(error) is not None


def _unseen(call: Call, bad: Sequence[Any]) -> dict[str, str | None]:
    return {"dead letters": call.app.mongo.unreadable(bad)}


def _chosen(deliveries: Any, ids: Sequence[str], bad: list[Any], *, is_all: bool) -> list[str]:
    if bool(ids) == is_all:
        raise UsageProblem("name the letters by their ids, or all of them by --all")
    return list(ids) or [letter.id for letter in deliveries.letters.letters(bad)]


def _is_sure(number: int) -> bool:
    if not sys.stdin.isatty():
        return False
    return click.confirm(f"drop {count(number, 'dead letter')} for good?", err=True)


def _told(
    schema: str, done: Sequence[str], missing: Sequence[str], *, unseen: Mapping[str, str | None]
) -> Answer:
    code = int(bool(missing or any(unseen.values())))
    return Answer(schema, {"done": done, "missing": missing}, render_done, unseen=unseen, exit_code=code)


def render_list(told: Mapping[str, Any]) -> "RenderableType":
    """Return a line per letter."""
    from .. import tables

    rows = [_row(letter) for letter in told["letters"]]
    head = ("ID", "TASK", "REASON", "AT", "PROCESS", "PID", "ERROR")
    return tables.table(head, rows) if rows else "no dead letters"


def render_letter(told: Mapping[str, Any]) -> "RenderableType":
    """Return all that is known of a letter, a line each."""
    from .. import tables

    letter = told["letter"] | {"at": tables.moment(told["letter"]["at"])}
    shown = {name: value for name, value in letter.items() if value not in (None, {}, "")}
    return tables.facts({n: v if isinstance(v, str) else json.dumps(v) for n, v in shown.items()})


def render_done(told: Mapping[str, Any]) -> str:
    """Return what was done, and to which letters it could not be."""
    verb = {"dead-requeue/1": "sent again", "dead-drop/1": "dropped"}[told["schema"]]
    line = f"{count(len(told['done']), 'dead letter')} {verb}"
    return line + (f"\n{_unknown(told['missing'])}" if told["missing"] else "")


def _row(letter: Mapping[str, Any]) -> tuple[str, ...]:
    from .. import tables

    reason = letter["reason"] + (f" ({count(letter['forced'], 'time')})" if letter["forced"] else "")
    # The one that was killed; where none was, or a version before wrote the letter, the one that wrote it.
    process = letter.get("killed") or letter.get("post_mortem") or letter
    member, pid = f"{process['node']}/{process['slot']}", str(process["pid"])
    at = tables.moment(letter["at"])
    return (letter["id"], letter["task"], reason, at, member, pid, letter["error"] or "")


def _unknown(ids: Sequence[str]) -> str:
    return f"no dead letter {', '.join(ids)}; `mongo dead list` names those there are"
