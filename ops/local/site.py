"""`ops/docs`: the documentation as a site, with warnings as errors."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from .environment import ROOT, Environment, SetupError, ensure

DOCS = Environment(".venv-docs", ("docs",))
BUILT = ROOT / ".local" / "docs"


def main(arguments: Sequence[str]) -> int:
    """Build the site anew; return Sphinx' exit code, or 1 where its environment cannot be made."""
    parser = argparse.ArgumentParser(
        prog="ops/docs", description="Build the documentation's site into .local/docs, warnings as errors."
    )
    parser.parse_args(arguments)
    began = time.monotonic()
    try:
        ensure(DOCS)
    except SetupError as error:
        print(f"ops/docs: {error}", file=sys.stderr)
        return 1
    shutil.rmtree(BUILT, ignore_errors=True)
    command = [str(DOCS.python), "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(BUILT)]
    code = subprocess.run(
        command, cwd=ROOT, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ).returncode
    if code == 0:
        pages = len(list(BUILT.rglob("*.html")))
        print(f"{pages} pages in {time.monotonic() - began:.0f} s: {BUILT / 'index.html'}")
    return code
