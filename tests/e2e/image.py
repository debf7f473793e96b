"""What a Dockerfile makes, in a folder and without a daemon: its own instructions, followed in order.

An absolute path in an instruction is one below the folder. Each stage has the folder under the same name
while it is built, so that what a virtual environment says of its place is true in the stage that copies it.
The base image is a Python of this machine, and `useradd` is not carried out: its uid runs without a name.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ops.local.environment import base_python
from tests.e2e.workers import Worker

UID = 10001
_ABSOLUTE = re.compile(r"(?<![\w.$}/*-])/(?=\w)")
# What Compose asks for beside another user: cap_drop ALL and no-new-privileges.
_UNPRIVILEGED = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"]
_UNPRIVILEGED += ["--bounding-set=-all", "--inh-caps=-all", "--pdeathsig=KILL"]


def unprivileged() -> list[str]:
    """Return what a command begins with to run as the image's user; nothing where this one is not root."""
    return _UNPRIVILEGED if os.geteuid() == 0 else []


def python_for_image() -> str | None:
    """Return a Python that the image's user may run, with venv and pip; None where there is none.

    One below root's home is root's alone: its program may start for others, with another's library.
    """
    program = (
        "import sys, ensurepip; assert sys.version_info >= (3, 11); print(sys.version, ensurepip.__file__)"
    )
    for candidate in (base_python(None), "/usr/bin/python3", "/usr/local/bin/python3"):
        mine, theirs = (_output([*before, candidate, "-c", program]) for before in ([], unprivileged()))
        if mine and mine == theirs:
            return candidate
    return None


def _output(command: Sequence[str]) -> str:
    """Return what a command prints, "" where it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, check=True, cwd="/", text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


class Image:
    """The last stage of a Dockerfile, built into `folder`/root from `context`."""

    def __init__(self, dockerfile: Path, *, context: Path, folder: Path, python: str) -> None:
        self.root = folder / "root"
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.user = ""
        self._folder = folder
        self._context = context
        self._python = python
        self._stages: list[str] = []
        self._begin()
        steps: Mapping[str, Callable[[str], None]] = {
            "FROM": self._from,
            "WORKDIR": self._workdir,
            "COPY": self._copy,
            "RUN": self._run,
            "ENV": self._env,
            "USER": self._set_user,
            "ENTRYPOINT": self._set_entrypoint,
            "CMD": self._set_command,
        }
        for name, rest in instructions(dockerfile.read_text()):
            steps[name](rest)

    def _begin(self) -> None:
        base = self.root / "usr" / "local" / "bin"
        base.mkdir(parents=True)
        (base / "python").symlink_to(self._python)
        scratch = self.root / "tmp"
        scratch.mkdir()
        scratch.chmod(0o1777)
        self.cwd = self.root
        self.env = {"PATH": f"{base}:/usr/bin:/bin", "HOME": str(self.root / "home" / "worker")}
        self.env["TMPDIR"] = str(scratch)
        # Where this machine's pip finds its index.
        self.env |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}

    def _from(self, rest: str) -> None:
        if self._stages:
            self.root.rename(self._folder / self._stages[-1])
            self._begin()
        _, _, name = rest.partition(" AS ")
        self._stages.append(name or "last")

    def _below(self, text: str) -> str:
        return _ABSOLUTE.sub(f"{self.root}/", text)

    def _workdir(self, rest: str) -> None:
        self.cwd = self.root / rest.lstrip("/")
        self.cwd.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        *sources, target = shlex.split(rest)
        into = Path(self._below(target)) if target.startswith("/") else self.cwd / target
        if sources[0].startswith("--from="):
            stage = self._folder / sources.pop(0).removeprefix("--from=")
            paths, ignored = [stage / source.lstrip("/") for source in sources], None
        else:
            paths, ignored = [self._context / source for source in sources], self._is_ignored
        for path in paths:
            is_folder = target.endswith("/") or len(paths) > 1
            self._put(path, into / path.name if is_folder and not path.is_dir() else into, ignored)

    def _put(self, path: Path, into: Path, ignored: Callable[[str, list[str]], set[str]] | None) -> None:
        into.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy(path, into)

    def _is_ignored(self, folder: str, names: list[str]) -> set[str]:
        patterns = (self._context / ".dockerignore").read_text().split()
        inside = Path(folder).relative_to(self._context)
        return {name for name in names if any(_matches(inside / name, pattern) for pattern in patterns)}

    def _run(self, rest: str) -> None:
        if rest.startswith("useradd "):
            assert f"--uid {UID} " in rest
            return
        done = subprocess.run(
            ["/bin/sh", "-c", self._below(rest)],
            cwd=self.cwd,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _env(self, rest: str) -> None:
        for assignment in shlex.split(rest):
            name, _, value = assignment.partition("=")
            self.env[name] = self._below(value).replace("$PATH", self.env["PATH"])

    def _set_user(self, rest: str) -> None:
        self.user = rest

    def _set_entrypoint(self, rest: str) -> None:
        self.entrypoint = json.loads(rest)

    def _set_command(self, rest: str) -> None:
        self.command = json.loads(rest)

    def argv(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line of a container with these arguments."""
        program, *rest = [*self.entrypoint, *(arguments or self.command)]
        found = shutil.which(program, path=self.env["PATH"])
        assert found, f"{program} is not in the image"
        return [*unprivileged(), found, *rest]

    def run(self, *arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a container that ends by itself."""
        return subprocess.run(
            self.argv(arguments),
            cwd=self.cwd,
            env=self.env | dict(env),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def _matches(path: Path, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatch(path.name, pattern.removeprefix("**/"))
    return fnmatch.fnmatch(str(path), pattern)


def instructions(text: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions, without comments, each on one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    parted = [line.partition(" ") for line in joined if line.strip()]
    return [(name, rest.strip()) for name, _, rest in parted]


class Container(Worker):
    """A container of the image that goes on: a worker or a beat."""

    def __init__(self, image: Image, *arguments: str, log: Path, env: Mapping[str, str]) -> None:
        super().__init__(app="image", log=log, env=env, name=log.stem, cwd=image.cwd)
        self._image = image
        self._arguments = arguments

    @property
    def command(self) -> list[str]:
        """The command line."""
        return self._image.argv(self._arguments)

    def environment(self) -> dict[str, str]:
        """The image's own, and what the deployment adds: nothing of this machine's."""
        return self._image.env | {name: value for name, value in self.env.items() if value is not None}
