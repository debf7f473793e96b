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

# A module imports from its own level and from those before it. What is not named here has no level yet.
LEVELS: list[set[str]] = [
    {
        "errors",
        "broker",
        "receivers",
        "log_text",
        "events",
        "dumps",
        "exact_json",
        "memory",
        "text",
        "report",
        "pauses",
        "post_mortem",
        "redact",
        "uris",
        "settings_types",
        "settings_sources",
        "settings_table",
        "settings_checks",
        "client_options",
        "settings",
        "app_redis",
        "schedule",
        "secret_values",
        "redis_words",
    },
    {"mongo"},
    {"attribution", "denials", "ending", "exhaustion", "findings"},
    {"original", "recovery", "requeue", "time_limits"},
    {"failures"},
    {"redis_server", "records", "record_shapes"},
    {"redis_client", "registry", "publisher", "history", "drill_notes", "past", "queues", "attempts"},
    {"message", "amqp_queues", "versions"},
    {"dead_letters"},
    {
        "fleet",
        "totals",
        "bounded",
        "layers",
        "strain",
        "doubts",
        "verdicts",
        "servers",
        "snapshot",
        "beat_pulse",
    },
    {"process_identity", "double_buffer", "board_file", "board_row", "board", "siblings", "node_view"},
    {"inquiry", "burial", "expired"},
    {"process"},
    {"advice", "merging", "sentry", "logs", "config", "fixes", "node_record", "own_collections"},
    {"shared_queues"},
    {"stores", "deliveries", "survey", "own_queues", "copies", "request"},
    {"audit"},
    {"view", "drills"},
    {"watch"},
    {"headcount", "gate", "presence", "reporter", "run"},
    {"overrides"},
    {"stand_in"},
    {"addressed"},
    {"control", "signals", "task", "beat"},
    {"installer"},
    {"celery"},
]
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


def relatives(path: Path, package: Path) -> set[str]:
    """Return the modules of `package` that a module imports relatively, for more than its types."""
    found: set[str] = set()
    depth = len(path.relative_to(package).parts)
    for node in real_imports(ast.parse(path.read_text())):
        if node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.split(".")[0] for name in names}
    return found


def real_imports(tree: ast.AST) -> list[ast.ImportFrom]:
    """Return the relative imports that are executed: none of those under TYPE_CHECKING."""
    found: list[ast.ImportFrom] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append(node)
        found += real_imports(node)
    return found


def level_of(name: str) -> int:
    return next(number for number, level in enumerate(LEVELS) if name in level)


def top_names() -> set[str]:
    paths = (path for path in WORKER.iterdir() if not path.name.startswith("_"))
    return {path.stem for path in paths if path.suffix == ".py" or (path / "__init__.py").exists()}


def test_every_module_has_a_level() -> None:
    assert top_names() == set().union(*LEVELS)


@pytest.mark.parametrize("path", modules(WORKER), ids=lambda path: str(path.relative_to(WORKER)))
def test_imports_go_downward_only(path: Path) -> None:
    own = path.relative_to(WORKER).parts[0].removesuffix(".py")
    upward = {name for name in relatives(path, WORKER) if level_of(name) > level_of(own)}
    assert upward == set()


@pytest.mark.parametrize("path", modules(WORKER / "mongo"), ids=lambda path: path.name)
def test_the_pymongo_part_knows_neither_celery_nor_redis_nor_sentry(path: Path) -> None:
    assert tops(path) & NOT_FOR_PYMONGO == set()


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
from worker.settings import load_settings
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
