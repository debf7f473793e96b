"""The parts of a bundle: most are commands, asked as a person would; each is there or says why not."""

import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from .. import flights, output
from ..deadline import Deadline
from ..frame import SECONDS, Answer, Call, problem_of

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("doctor",),
    ("processes",),
    ("size",),
    ("snapshot",),
    ("leaks",),
    ("dead", "list"),
    ("history", "--since", "6h", "--metric", "all"),
)
"""What is asked, and how; a command that this version does not have is said to be missing."""

FLIGHTS = 50
"""Of how many processes the flight recorders are asked for, those in trouble first."""

_PACKAGES = (
    "celery-pymongo",
    "celery",
    "kombu",
    "billiard",
    "pymongo",
    "redis",
    "celery-redbeat",
    "pydantic",
    "rich",
    "sentry-sdk",
    "gevent",
)
# Of Celery's own settings those that decide what is lost or doubled. None of them can hold a secret but the
# transport's options, of which numbers alone are kept.
_CELERY = (
    "task_acks_late",
    "task_acks_on_failure_or_timeout",
    "task_reject_on_worker_lost",
    "task_soft_time_limit",
    "task_time_limit",
    "task_default_queue",
    "worker_prefetch_multiplier",
    "worker_concurrency",
    "worker_pool",
    "worker_max_tasks_per_child",
    "worker_max_memory_per_child",
    "worker_proc_alive_timeout",
    "worker_deduplicate_successful_tasks",
    "worker_cancel_long_running_tasks_on_connection_loss",
    "result_expires",
    "task_ignore_result",
    "beat_scheduler",
)


@dataclass(frozen=True)
class Part:
    """Files of the bundle, or why there are none; `code` is the exit code of the command they come from."""

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    why: str | None = None
    code: int | None = None
    seconds: float = 0.0


def gather(call: Call, commands: click.Group) -> list[Part]:
    """Return all parts, asked side by side, each within the time that a command has."""
    call = replace(call, deadline=Deadline(min(SECONDS, call.deadline.left)))
    asks: dict[str, Callable[[], Part]] = {
        **{_name(words): _command(call, commands, words) for words in COMMANDS},
        "flights": lambda: _flights(call),
        "settings": lambda: _json("settings", _settings(call.app)),
        "versions": lambda: _json("versions", versions()),
    }
    pending = {name: call.deadline.ask(_timed(ask)) for name, ask in asks.items()}
    parts = []
    for name, asked in pending.items():
        seen = asked.seen()
        took = round(call.deadline.seconds - call.deadline.left, 2)
        parts.append(seen.value or Part(name, why=seen.why or "it found nothing", seconds=took))
    return parts


def _name(words: tuple[str, ...]) -> str:
    named = (word for word in words if not word.startswith("-"))
    return "-".join(list(named)[: 2 if words[0] == "dead" else 1])


def _timed(ask: Callable[[], Part]) -> Callable[[], Part]:
    def timed() -> Part:
        started = time.monotonic()
        return replace(ask(), seconds=round(time.monotonic() - started, 2))

    return timed


def _command(call: Call, commands: click.Group, words: tuple[str, ...]) -> Callable[[], Part]:
    name = _name(words)

    def ask() -> Part:
        try:
            answer = asked(call, commands, words)
        except click.ClickException as problem:
            return Part(name, why=problem.format_message(), code=problem.exit_code)
        except Exception as error:
            told = problem_of(call.app, error)
            if told is None:
                raise
            return Part(name, why=told.message, code=told.exit_code)
        if answer is None:
            return Part(name, why="this version has no such command")
        return Part(name, _files(name, answer), code=answer.code)

    return ask


def asked(call: Call, commands: click.Group, words: tuple[str, ...]) -> Answer | None:
    """Return the answer of a command; None where there is no such command."""
    command: Any = commands
    rest = list(words)
    context = click.Context(commands)
    while rest and isinstance(command, click.Group):
        command = command.get_command(context, rest.pop(0))
    answer: Answer | None = None if command is None else command.ask(call, *rest)
    return answer


def _files(name: str, answer: Answer) -> dict[str, str]:
    """Return the document, and what a person would have read of it."""
    document = answer.document
    text = output.render(answer.render(output.shown(document)), on_terminal=False, has_color=False)
    return {
        f"{name}.json": output.to_json(document, indent=1) + "\n",
        f"{name}.txt": text + "\n",
    }


def _json(name: str, found: Any) -> Part:
    return Part(name, {f"{name}.json": output.to_json(found, indent=1) + "\n"})


def _flights(call: Call) -> Part:
    """Return the last events of each process, of those in trouble first, and the post-mortems."""
    view = call.app.mongo.view
    sight = view.look()
    processes = sorted(view.assess(sight).processes, key=_is_well)
    members = [process.member for process in processes[:FLIGHTS]]
    records = flights.ask(view, call.deadline, members)
    silent = [member for member in members if member not in records]
    answered = {member.rpartition("/")[0] for member in records}
    found = {
        "asked": len(members),
        "left_out": len(processes) - len(members),
        "silent": silent,
        "silent_nodes": sorted({member.rpartition("/")[0] for member in silent} - answered),
        "flights": records,
        "post_mortems": sight.buried,
    }
    return _json("flights", found)


def _is_well(process: Any) -> tuple[bool, str]:
    return (str(process.state) == "live" and process.report.get("circuit") == "closed", process.member)


def _settings(app: Any) -> dict[str, Any]:
    """Return the settings as they may be shown, and where each option of the client comes from."""
    mongo = app.mongo
    options = mongo.settings.effective_options(mongo.place.concurrency)
    transport = app.conf.broker_transport_options or {}
    numbers = {name: value for name, value in transport.items() if isinstance(value, (bool, int, float))}
    return {
        "settings": mongo.settings.redacted(),
        "client_options": [{"name": n, "value": v, "source": s} for n, v, s in options],
        "warnings": mongo.settings_warnings(),
        "celery": {name: app.conf.get(name) for name in _CELERY} | {"broker_transport_options": numbers},
    }


def versions() -> dict[str, Any]:
    """Return which versions run here; null where a package is not there."""
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
