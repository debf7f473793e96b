"""Virtual environments made from the hash-pinned locks: made once, mended when broken, instant when there.

Run by any Python from 3.11 on, with nothing installed. An environment's stamp lists what was installed into
it; while something is being installed there is an `.installing` mark instead, so an installation that was
cut off, even by SIGKILL, is seen and begun again.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .child import Child
from .locks import FolderLock

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".local" / "setup"
INSTALL_SECONDS = 1800.0

PIN = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]*))?", re.M
)

LIST = """
from importlib.metadata import distributions
print(*{f"{d.name.lower().replace('_', '-')}=={d.version}" for d in distributions()}, sep="\\n")
"""


class SetupError(RuntimeError):
    """An environment cannot be made; the sentence says what to do."""


@dataclass(frozen=True)
class Environment:
    """One environment of the checkout and the locks that it is made from."""

    name: str
    locks: tuple[str, ...]
    has_checkout: bool = False
    """Whether the checkout itself is installed too, so that `celery … mongo` finds its commands."""
    newest: tuple[int, int] | None = None
    """The newest Python that every pinned package has wheels for, where that is known to matter."""

    @property
    def folder(self) -> Path:
        return ROOT / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def lock_files(self) -> list[Path]:
        return [ROOT / "locks" / f"{lock}.txt" for lock in self.locks]

    @property
    def stamp(self) -> Path:
        return self.folder / ".installed"

    @property
    def mark(self) -> Path:
        return STATE / f"{self.name}.installing"

    def pins(self) -> set[str]:
        """Every requirement of the locks, without its hashes."""
        found = (match for path in self.lock_files for match in PIN.finditer(path.read_text()))
        pins = {f"{m['name']}=={m['version']};{(m['marker'] or '').strip()}" for m in found}
        return pins | {self._checkout_pin()} if self.has_checkout else pins

    def _checkout_pin(self) -> str:
        # What is installed of the checkout is what this file says of it: its commands.
        digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
        return f"celery-pymongo=={digest};"


RUN = Environment(".venv", ("run", "demo"), has_checkout=True)
DEVELOPMENT = Environment(".venv", ("dev", "demo"), has_checkout=True)
LOWEST = Environment(".venv-lowest", ("lowest",), has_checkout=True)
BESIDE = Environment(".venv-beside", ("beside",), has_checkout=True)
MONGOD = Environment(".venv-mongod", ("mongod",))
VALKEY = Environment(".venv-valkey", ("valkey",))
SECANTUS = Environment(".venv-secantus", ("secantus",), newest=(3, 13))


def ensure(environment: Environment) -> None:
    """Have the environment there with what its locks pin.

    Raises:
        SetupError: it cannot be made.
    """
    try:
        if _is_ready(environment):
            return
        with FolderLock(STATE / "lock") as lock:
            if not lock.acquire():
                print("waiting for another set-up of this checkout to end", flush=True)
                lock.acquire(wait=True)
            if not _is_ready(environment):
                _make(environment, lock=lock.descriptor)
    except OSError as error:
        raise SetupError(f"{error.filename or environment.folder}: {error.strerror}") from None


def _is_ready(environment: Environment) -> bool:
    if environment.mark.exists() or not _works(environment.python):
        return False
    if environment.stamp.exists():
        return environment.pins() <= _installed(environment)
    return _adopt(environment)


def _works(python: Path) -> bool:
    try:
        command = [str(python), "-I", "-c", "import sys; sys.exit(sys.prefix == sys.base_prefix)"]
        return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _installed(environment: Environment) -> set[str]:
    try:
        return set(environment.stamp.read_text().splitlines())
    except FileNotFoundError:
        return set()


def _adopt(environment: Environment) -> bool:
    """Stamp an environment that somebody made by hand, if it holds every pin that applies to it."""
    listed = subprocess.run(
        [str(environment.python), "-I", "-c", LIST], check=False, capture_output=True, text=True
    )
    there = dict(line.split("==", 1) for line in listed.stdout.split())
    pinned: dict[str, set[str]] = {}
    for pin in environment.pins():
        name, _, rest = pin.partition("==")
        version, _, marker = rest.partition(";")
        # A pin with a marker may not apply here; evaluating it would take a package.
        pinned.setdefault(name, set()).update({version, ""} if marker else {version})
    if any(there.get(name, "") not in versions for name, versions in pinned.items()):
        return False
    environment.stamp.write_text("\n".join(sorted(environment.pins())) + "\n")
    return True


def _make(environment: Environment, *, lock: int) -> None:
    """Install under the lock, whose descriptor every installer has as its input: what an installer leaves
    running when all else is killed still holds the lock.
    """
    installer = _Installer(environment, lock)
    if environment.mark.exists() or not _works(environment.python):
        _remove(environment)
        environment.mark.touch()
        installer.create()
    environment.mark.touch()
    before = _installed(environment)
    environment.stamp.unlink(missing_ok=True)
    wanted = environment.pins()
    if wanted:
        installer.install()
    if environment.has_checkout:
        installer.install_checkout()
    names = {_name(pin) for pin in wanted}
    kept = {pin for pin in before if _name(pin) not in names}
    environment.stamp.write_text("\n".join(sorted(kept | wanted)) + "\n")
    environment.mark.unlink()


def _name(pin: str) -> str:
    return pin.partition("==")[0]


def _remove(environment: Environment) -> None:
    if environment.folder.is_symlink():
        raise SetupError(f"{environment.name} is a link to an environment that does not work: remove it")
    if environment.folder.exists():
        print(f"{environment.name} is broken or half made: making it again", flush=True)
        shutil.rmtree(environment.folder)


class _Installer:
    """uv where it is on the PATH, else Python's own venv and pip."""

    def __init__(self, environment: Environment, lock: int) -> None:
        self._environment = environment
        self._lock = lock
        self._uv = shutil.which("uv")
        self._log = STATE / f"{environment.name.lstrip('.')}.log"

    def create(self) -> None:
        python = base_python(self._environment.newest)
        if self._uv:
            command = [self._uv, "venv", "--quiet", "--python", python, str(self._environment.folder)]
        else:
            command = [python, "-m", "venv", "--without-pip", str(self._environment.folder)]
        if not self._run(command):
            advice = "" if self._uv else "; on Debian and Ubuntu install python3-venv"
            raise SetupError(f"could not make {self._environment.name}, see {self._log}{advice}")

    def install(self) -> None:
        locks = [argument for path in self._environment.lock_files for argument in ("-r", str(path))]
        tool = "uv" if self._uv else "pip"
        what = " and ".join(self._environment.locks)
        print(f"installing {what} into {self._environment.name} with {tool}", flush=True)
        if not self._uv and not any(self._environment.folder.glob("lib/python*/site-packages/pip")):
            self._run([str(self._environment.python), "-m", "ensurepip"])
        # The locks are closed under dependency; the demo's data set must come without its own.
        if not self._run([*self._pip(), "--require-hashes", "--no-deps", *locks]):
            advice = "no network, or no wheels for this Python or machine?"
            raise SetupError(f"could not install into {self._environment.name}: {advice} See {self._log}")

    def install_checkout(self) -> None:
        """Install the checkout in place, with the setuptools that the locks pin: nothing is downloaded."""
        if not self._run([*self._pip(), "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]):
            raise SetupError(f"could not install the checkout into {self._environment.name}, see {self._log}")

    def _pip(self) -> list[str]:
        python = str(self._environment.python)
        if self._uv:
            return [self._uv, "pip", "install", "--quiet", "--python", python]
        return [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]

    def _run(self, command: Sequence[str]) -> bool:
        child = Child("installer", command, log=self._log, stdin=self._lock)
        child.start()
        try:
            return child.wait(INSTALL_SECONDS) and child.returncode == 0
        finally:
            child.stop(5)


def base_python(newest: tuple[int, int] | None) -> str:
    """A Python to make an environment with: the running one, or an older one that is new enough.

    Raises:
        SetupError: there is none.
    """
    if newest is None or sys.version_info[:2] <= newest:
        base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
        return str(base) if base.exists() else sys.executable
    for minor in range(newest[1], 10, -1):
        found = shutil.which(f"python3.{minor}")
        if found and _runs(found):
            return found
    wanted = f"Python 3.11 to {newest[0]}.{newest[1]}"
    raise SetupError(f"SecantusDB needs {wanted}: install one, or a mongod, or set MONGODB_URI")


def _runs(python: str) -> bool:
    return subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0
