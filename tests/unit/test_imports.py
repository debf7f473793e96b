"""Imports: downward only, and without doing anything."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "worker"

# A room imports from itself and from those before it; every room from the files beside them.
ROOMS = [
    "settings",
    "tracking",
    "mongo",
    "pool",
    "server",
    "connection",
    "board",
    "store",
    "broker",
    "fleet",
    "process",
    "sentry",
    "delivery",
    "health",
    "node",
    "integration",
]
BESIDE = {"errors", "events", "log_text", "text"}
PLAIN_PYMONGO = ["tracking", "mongo", "pool", "server", "connection"]
MOST_FILES = 12
NOT_FOR_PYMONGO = {"celery", "kombu", "billiard", "redis", "redbeat", "sentry_sdk", "prometheus_client"}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")


def tops(path: Path) -> set[str]:
    """Return the top-level packages that a module imports absolutely, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


def targets(path: Path) -> set[tuple[str, ...]]:
    """Return what a module of worker/ imports of it, as parts of paths; not what only its types need."""
    package = path.relative_to(WORKER).parts[:-1]
    found: set[tuple[str, ...]] = set()
    for node in executed_imports(ast.parse(path.read_text())):
        above = package[: len(package) - node.level + 1]
        base = (*above, *(node.module.split(".") if node.module else ()))
        names = [(*base, alias.name) for alias in node.names]
        found |= {name if is_module(name) else base for name in names}
    return found


def executed_imports(tree: ast.AST) -> list[ast.ImportFrom]:
    """Return the relative imports that are executed: none of those under TYPE_CHECKING."""
    found: list[ast.ImportFrom] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append(node)
        found += executed_imports(node)
    return found


def is_module(parts: tuple[str, ...]) -> bool:
    path = WORKER.joinpath(*parts)
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def front_door(room: str) -> set[str]:
    """Return what a room's docstring names as its front door; what its `__init__` exports has no name."""
    docstring = ast.get_docstring(ast.parse((WORKER / room / "__init__.py").read_text())) or ""
    _, _, names = docstring.partition("Front door: ")
    return {name.strip(" .\n") for name in names.split(",")} if names else set()


def test_every_file_has_a_room() -> None:
    assert {path.parent.name for path in WORKER.glob("*/__init__.py")} == set(ROOMS)
    assert {path.stem for path in WORKER.glob("*.py")} == {"__init__", "celery", "mongoengine", *BESIDE}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_those_before_it_and_by_their_front_doors(room: str) -> None:
    before = ROOMS[: ROOMS.index(room)]
    for path in modules(WORKER / room):
        for own_or_other, *rest in targets(path):
            assert own_or_other in {room, *before, *BESIDE}, f"{path} imports {own_or_other}"
            if own_or_other in before and rest:
                assert rest[0] in front_door(own_or_other), f"{path} imports {own_or_other}.{rest[0]}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_its_front_door_exists(room: str) -> None:
    names = {path.stem for path in (WORKER / room).glob("*.py")} - {"__init__"}
    assert len(names) <= MOST_FILES
    assert front_door(room) <= names


@pytest.mark.parametrize("room", PLAIN_PYMONGO)
def test_the_pymongo_part_knows_neither_celery_nor_redis_nor_sentry(room: str) -> None:
    for path in modules(WORKER / room):
        assert tops(path) & NOT_FOR_PYMONGO == set(), path


@pytest.mark.parametrize("folder", ["worker", "tasks", "ops"])
def test_no_package_names_itself_or_its_neighbours(folder: str) -> None:
    """The same tree is imported as `worker` and as `celery_pymongo`: only relative imports are right."""
    development = {"local", "benchmarks"}  # not in the wheel
    for path in (ROOT / folder).rglob("*.py"):
        if not development & set(path.relative_to(ROOT).parts):
            assert tops(path) & {"worker", "tasks", "ops", "celery_pymongo"} == set(), path


def run(code: str, **environ: str) -> str:
    """Run code in a fresh Python in the checkout and return what it prints."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# What Celery, redis and others read of the environment at their own import is theirs.
OTHERS = """
import celery, celery.bin.celery, celery.worker.consumer, celery.worker.components, celery.backends.redis
import celery.concurrency.prefork, celery.concurrency.solo, celery.concurrency.thread, billiard
import kombu.transport.redis, redis, redbeat, pymongo, pymongo.uri_parser, bson.json_util, pydantic, dotenv
import mongoengine
"""

WATCH = """
import sys, threading, importlib, json, os
HERE, NAMES = tuple({here!r}), {names!r}
faults = []

def ours(*, also_through_others):
    frame = sys._getframe(2)
    while frame is not None and "importlib" not in frame.f_code.co_filename:
        name = frame.f_code.co_filename
        if name.startswith(HERE):
            return f"{{name}}:{{frame.f_lineno}}"
        if name != "<string>" and not also_through_others:
            return None
        frame = frame.f_back

def audit(event, arguments):
    watched = event.startswith(("socket.", "subprocess.", "os.fork", "os.system", "os.putenv", "os.mkdir"))
    if watched or (event == "open" and not str(arguments[0]).endswith((".py", ".pyc"))):
        place = ours(also_through_others=True)
        if place:
            faults.append(f"{{event}} {{arguments!r}} at {{place}}")

class Trap(dict):
    def _told(self, name):
        place = ours(also_through_others=False)  # what pydantic reads for our classes is its own
        if place:
            faults.append(f"environment {{name!r}} read at {{place}}")
    def __getitem__(self, name):
        self._told(name)
        return super().__getitem__(name)
    def get(self, name, default=None):
        self._told(name)
        return super().get(name, default)
    def __contains__(self, name):
        self._told(name)
        return super().__contains__(name)
    def copy(self):
        self._told("*")
        return dict(self)
    __iter__ = items = keys = lambda self: self._told("*") or iter({{}})

os.environ = Trap(os.environ)
os.getenv = os.environ.get
before = {{thread.name for thread in threading.enumerate()}}
sys.addaudithook(audit)
for name in NAMES:
    importlib.import_module(name)
threads = sorted({{thread.name for thread in threading.enumerate()}} - before)
print(json.dumps([faults, threads]))
"""

# Everything of a worker's start that comes before its pool.
WITHOUT_DSN = """
os.environ = dict(os.environ)
from worker.celery import create_app
from worker.settings.fields import load_settings
app = create_app(load_settings({{}}, env_file=None))
app.loader.import_default_modules()
from worker.sentry import Agent
agent = Agent(app.mongo, None, None, None)
agent.start("n")
agent.enter("n")
agent.tick(0.0, is_redis_away=True)
agent.end()
print("sentry_sdk" in sys.modules)
"""


def names() -> list[str]:
    paths = [path for folder in ("worker", "tasks") for path in modules(ROOT / folder)]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


def test_importing_does_nothing_and_without_a_dsn_there_is_no_sentry() -> None:
    """No module reads the environment or a file, opens a socket, or starts a thread or process."""
    code = (OTHERS + WATCH + WITHOUT_DSN).format(
        here=[f"{ROOT}/{name}/" for name in ("worker", "tasks", "ops")], names=names()
    )
    told, sentry = run(code).splitlines()
    assert json.loads(told) == [[], []]
    assert sentry == "False"


def test_the_trap_notices_what_it_is_for(tmp_path: Path) -> None:
    """The test above would otherwise pass for a trap that is broken."""
    (tmp_path / "guilty.py").write_text(
        "import os, socket, threading\n"
        "os.environ.get('MONGODB_URI'); os.environ['PATH']; 'X' in os.environ; open('/dev/null').close()\n"
        "socket.socket().close(); threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    code = WATCH.format(here=[f"{tmp_path}/"], names=["guilty"])
    faults, threads = json.loads(run(code, PYTHONPATH=str(tmp_path)))
    assert [fault.split()[0] for fault in faults] == ["environment"] * 3 + ["open", "socket.__new__"]
    assert len(threads) == 1


def test_the_front_of_the_package_costs_next_to_nothing() -> None:
    """Celery imports it at every start of its command line."""
    told = run("import sys, worker; print(*sorted({name.split('.')[0] for name in sys.modules}))").split()
    assert {"celery", "pymongo", "pydantic", "redis", "sentry_sdk", "rich"} & set(told) == set()


def test_a_worker_loads_no_diagnostics_before_one_is_asked_for() -> None:
    told = run(
        "import sys, worker.celery; print(*sorted(name for name in sys.modules if name.startswith('ops')))"
    )
    assert set(told.split()) <= {"ops", "ops.doctor", "ops.doctor.tasks", "ops.drills", "ops.drills.tasks"}
