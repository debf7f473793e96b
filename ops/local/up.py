"""`ops/up`: servers, a worker, beat and a data set in front of you, until Ctrl-C.

The first half needs nothing installed: it makes the environment and runs itself in it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .environment import DEVELOPMENT, ROOT, RUN, SetupError, ensure
from .interrupts import Ended, end_at_once, hold

INSTALLED = "OPS_UP_ENVIRONMENT"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; --help and mistakes end the program."""
    parser = argparse.ArgumentParser(
        prog="ops/up",
        allow_abbrev=False,
        description="Start MongoDB and Redis (unless MONGODB_URI and REDIS_URL name others, in the "
        "environment or in .env), a Celery worker and beat; send a public data set through the queue; show "
        "the health until Ctrl-C. A second Ctrl-C hurries the end. Data and logs are kept in .local/.",
    )
    parser.add_argument("--fresh", action="store_true", help="begin without the data of earlier runs")
    parser.add_argument("--once", action="store_true", help="load the data, show the health once, and stop")
    parser.add_argument("--no-data", action="store_true", help="do not send the data set")
    parser.add_argument("--concurrency", type=_positive, default=2, metavar="N", help="tasks at a time (2)")
    parser.add_argument("--pool", choices=["prefork", "threads", "gevent", "solo"], default="prefork")
    parser.add_argument("--mongo-port", type=_port, metavar="PORT", help="port of MongoDB (a free one)")
    parser.add_argument("--redis-port", type=_port, metavar="PORT", help="port of Redis (a free one)")
    return parser.parse_args(arguments)


def _number(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
    return int(text)


def _positive(text: str) -> int:
    return _number(text, 1, 1000)


def _port(text: str) -> int:
    return _number(text, 1, 65_535)


def main(arguments: Sequence[str]) -> int:
    """Make the environment and run in it; return the exit code."""
    try:
        end_at_once()
        os.chdir(ROOT)
        options = parse(arguments)
        if os.environ.get(INSTALLED) != str(RUN.python):
            # gevent is pinned with the development tools only.
            ensure(DEVELOPMENT if options.pool == "gevent" else RUN)
            _run_in_it(arguments)
        del os.environ[INSTALLED]
        from .session import run  # needs what was installed

        return run(options, Path(".local"))
    except SetupError as error:
        print(f"ops/up: {error}", file=sys.stderr)
    except Ended:
        print("ops/up: stopped", file=sys.stderr)
        return 130
    return 1


def _run_in_it(arguments: Sequence[str]) -> None:
    hold()
    environment = os.environ | {INSTALLED: str(RUN.python)}
    os.execve(RUN.python, [str(RUN.python), "-m", "ops.local.start", "up", *arguments], environment)  # noqa: S606
