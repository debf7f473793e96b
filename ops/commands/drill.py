"""`mongo drill …`: loads that are really concurrent, in a database of their own."""

import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import problems
from ..frame import Answer, Call, command
from ..group import Group

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..drills.interrupts import Caller
    from ..drills.screen import Ticker

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group)
def drill() -> None:
    """Try this app's pool under a load that is really concurrent.

    A drill works in a database of its own, whose name ends in _drill: it makes and drops it, also when it
    fails or is interrupted. Where MongoDB is on another host, or CELERY_PYMONGO_DEPLOYMENT or
    SENTRY_ENVIRONMENT begins with "prod", it is refused without --yes. It needs readWrite on that database.

    Exit codes: 0 done; 1 with errors, or with something left behind; 3 MongoDB or Redis does not answer; 64
    refused; 75 another drill has the database; 128 + n signal n.

    Example: celery -A worker mongo drill compare
    """


def _options(*, threads: int, hold: int, seconds: int) -> Callable[[F], F]:
    """Return what gives a command the options of every drill."""
    options = (
        click.option(
            "--threads",
            default=threads,
            show_default=True,
            type=click.IntRange(1, 200),
            help="Operations at once.",
        ),
        click.option(
            "--hold",
            "hold_ms",
            default=hold,
            show_default=True,
            metavar="MS",
            type=click.IntRange(0, 5000),
            help="The server answers so much later; 0: a plain read.",
        ),
        click.option(
            "--seconds", default=seconds, show_default=True, type=click.IntRange(1, 300), help="At most."
        ),
        click.option("--database", metavar="NAME_drill", help="By default the app's with _drill behind it."),
        click.option("--yes", is_flag=True, help="Also where it looks like production."),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@command(group=drill, seconds=None)
@click.option(
    "--queries", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Of each thread."
)
@_options(threads=10, hold=0, seconds=10)
def concurrency(call: Call, queries: int, **terms: Any) -> Answer:
    """Run so many operations in so many threads through one client.

    It shows whether they really run at once, what they take and how long they wait for a connection.

    Example: celery -A worker mongo drill concurrency --threads 50 --queries 200
    """
    from ..drills import concurrency as the_drill
    from ..drills import screen

    body = _run(
        call, terms, lambda mongo, asked, caller: the_drill.run(mongo, asked, caller, queries=queries)
    )
    return _answer("drill-concurrency/1", body, screen.concurrency)


@command(group=drill, seconds=None)
@click.option(
    "--config",
    "configurations",
    multiple=True,
    metavar="OPTION=N,…",
    help="Compare with this; may be repeated. By default with the guide's and the driver's.",
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 20), help="Turns of each.")
@_options(threads=20, hold=20, seconds=20)
def compare(call: Call, configurations: tuple[str, ...], rounds: int, **terms: Any) -> Answer:
    """Compare several configurations of a pool under the same load.

    They take turns: the connection pooling guide's three (low-resource, medium, high-performance), the
    driver's default, and yours. What counts is the ratio to yours: rates say more about the server than about
    a pool. With --hold 0 the operations take no time, and no pool is ever short of connections.

    Example: celery -A worker mongo drill compare --config maxPoolSize=8,minPoolSize=2 --threads 16
    """
    from ..drills import compare as the_drill
    from ..drills import pools, screen

    def run(mongo: Any, asked: Any, caller: "Caller") -> dict[str, Any]:
        found = pools.chosen(mongo.drills.own_pool(asked.threads), configurations)
        return the_drill.run(mongo, asked, caller, configurations=found, rounds=rounds)

    ticker = _ticker(call)
    return _answer("drill-compare/1", _run(call, terms, run, ticker.turn), screen.compare)


@command(group=drill, seconds=None)
@click.option(
    "--writes",
    default=10,
    show_default=True,
    metavar="PERCENT",
    type=click.IntRange(0, 100),
    help="The share of updates.",
)
@_options(threads=10, hold=0, seconds=20)
def workload(call: Call, writes: int, **terms: Any) -> Answer:
    """Run a load for a while, with what the pool does each second.

    Example: celery -A worker mongo drill workload --threads 30 --hold 10 --seconds 60
    """
    from ..drills import screen
    from ..drills import workload as the_drill

    ticker = _ticker(call)
    body = _run(
        call,
        terms,
        lambda mongo, asked, caller: the_drill.run(mongo, asked, caller, writes=writes),
        ticker.second,
    )
    return _answer("drill-workload/1", body, screen.workload)


@command(group=drill, seconds=None)
@click.option(
    "--pool", default=5, show_default=True, type=click.IntRange(1, 100), help="Connections of its pool."
)
@click.option(
    "--queue-timeout",
    "queue_timeout_ms",
    metavar="MS",
    type=click.IntRange(10, 60_000),
    help="How long an operation waits for one; by default as the app.",
)
@_options(threads=10, hold=500, seconds=20)
def exhaust(call: Call, pool: int, queue_timeout_ms: int | None, **terms: Any) -> Answer:
    """Fill the pool of a process of its own, as the fleet sees it.

    The process is in the fleet as any other: health checks, alerts and dashboards see it. It shows what the
    fleet reports of it, lets go, and takes its leave. Needs Redis, too.

    Example: celery -A worker mongo drill exhaust --threads 20 --queue-timeout 300
    """
    from ..drills import exhaust as the_drill
    from ..drills import screen

    ticker = _ticker(call)
    body = _run(
        call,
        terms,
        lambda mongo, asked, caller: the_drill.run(
            mongo, asked, caller, pool=pool, queue_timeout_ms=queue_timeout_ms
        ),
        ticker.fleet,
    )
    return _answer("drill-exhaust/1", body, screen.exhaust)


def _ticker(call: Call) -> "Ticker":
    from ..drills.screen import Ticker

    # A program that reads the document has no use for it; a person at a terminal has.
    is_read = not call.as_json or (sys.stderr is not None and sys.stderr.isatty())
    return Ticker(quiet=call.is_quiet or not is_read)


def _run(
    call: Call,
    terms: Mapping[str, Any],
    run: Callable[[Any, Any, Any], dict[str, Any]],
    tell: Callable[[Mapping[str, Any]], object] = lambda _told: None,
) -> dict[str, Any]:
    from ..drills.ground import Terms
    from ..drills.interrupts import Caller, Interrupts
    from ..drills.refused import Refused, UnderWay, Unreachable

    interrupts = Interrupts()
    try:
        with interrupts:
            return run(call.app.mongo, Terms(**terms), Caller(interrupts, tell))
    except UnderWay as why:
        raise problems.UnderWay(str(why)) from None
    except Refused as why:
        raise problems.UsageProblem(str(why)) from None
    except Unreachable as why:
        raise problems.Unseen("; ".join([str(why), *getattr(why, "__notes__", [])])) from None
    except KeyboardInterrupt as interrupt:
        notes = "; ".join(getattr(interrupt, "__notes__", [])) or "nothing is left behind"
        problem = problems.Interrupted(f"interrupted; {notes}")
        problem.exit_code = 128 + (interrupts.number or signal.SIGINT)  # type: ignore[misc] # whatever click types say
        raise problem from None


def _answer(
    schema: str, body: Mapping[str, Any], render: "Callable[[Mapping[str, Any]], RenderableType]"
) -> Answer:
    sides = body.get("configurations", [body])
    is_well = body["database"]["dropped"] and not any(side.get("errors") for side in sides)
    return Answer(schema, body, render, exit_code=0 if is_well and body.get("is_gone", True) else 1)
