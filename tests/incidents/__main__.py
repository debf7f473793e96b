"""Run incidents, write what was said first of each: `python -m tests.incidents [NAME …] [--page FILE]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ops.local.servers import mongo_server, redis_server
from tests.e2e.workers import ROOT
from tests.incidents.catalogue import incidents
from tests.incidents.runner import Result, run
from tests.incidents.scene import Stage

_HEAD = """# Incidents

What `mongo doctor` says first of each of these incidents, on real servers, its verdict, which is that of
`mongo status`, too, and how many seconds after the incident had happened both were right. Each is gone again
after its mend, unless it is one of what was. Written by `python -m tests.incidents --page docs/incidents.md`,
on {servers}.

| incident | first finding | it says | verdict | seconds |
|---|---|---|---|---|
"""


def main(arguments: Sequence[str]) -> int:
    """Run them one after the other; return 1 where one was not right."""
    parser = argparse.ArgumentParser(prog="python -m tests.incidents", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of incidents; all where none is named")
    parser.add_argument("--page", type=Path, help="the file to write the table to")
    options = parser.parse_args(arguments)
    wanted = [each for each in incidents() if not options.names or each.name in options.names]
    results: list[Result] = []
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="incidents-") as path, ExitStack() as stack:
        folder = Path(path)
        mongo = stack.enter_context(mongo_server(folder / "mongo"))
        redis = stack.enter_context(redis_server(folder / "redis"))
        stage = Stage(mongo, redis, folder, stack)
        for incident in wanted:
            try:
                results.append(run(incident, stage))
                print(f"right  {_line(results[-1])}", flush=True)  # noqa: T201 - it is a program
            except Exception as error:  # noqa: BLE001 - whatever keeps one from being right, the others are run
                wrong += 1
                print(f"WRONG  {incident.name}: {error}", flush=True)  # noqa: T201 - as above
        servers = f"{mongo.label} and {redis.label}"
    if options.page is not None:
        options.page.write_text(_HEAD.format(servers=servers) + "".join(f"{_line(one)}\n" for one in results))
    print(f"{len(results)} of {len(wanted)} right")  # noqa: T201 - as above
    return 1 if wrong else 0


def _line(one: Result) -> str:
    title = one.title.replace("|", "\\|").replace(f"{ROOT}/", "")
    return f"| {one.incident} | `{one.finding}` | {title} | {one.verdict} | {one.seconds:.1f} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
