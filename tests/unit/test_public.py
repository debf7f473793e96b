"""The public names, and that everything public says what it is."""

import ast
import inspect
from pathlib import Path

import pytest

import worker
from worker.process.process import Mongo

ROOT = Path(__file__).resolve().parents[2]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


CORE = [f"worker/{room}" for room in ("tracking", "mongo", "pool", "server", "connection")]


def test_every_public_name_resolves_to_something_with_a_docstring() -> None:
    for name in worker.__all__:
        assert inspect.getdoc(getattr(worker, name)), name


def test_the_public_names_are_those_that_are_loaded_and_those_that_types_see() -> None:
    tree = ast.parse((ROOT / "worker" / "__init__.py").read_text())
    typed = [
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    ]
    assert sorted(worker.__all__) == sorted(worker._HOMES) == sorted(name for name in typed if name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'worker' has no attribute 'nothing'"):
        worker.nothing  # noqa: B018 - reading it is the test


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def public(tree: ast.Module | ast.ClassDef) -> list[Definition]:
    """Return what is defined at the top of a module or public class, without the private."""
    found: list[Definition] = []
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            found.append(node)
            found += public(node) if isinstance(node, ast.ClassDef) else []
    return found


@pytest.mark.parametrize("path", sources("worker", "tasks"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_class_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module"
    classes = [node for node in public(tree) if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", sources(*CORE), ids=lambda path: path.name)
def test_every_public_function_of_the_core_says_what_it_does(path: Path) -> None:
    missing = [node.name for node in public(ast.parse(path.read_text())) if not ast.get_docstring(node)]
    assert missing == []


@pytest.mark.parametrize("kind", [worker.MongoTask, Mongo])
def test_every_public_member_that_people_meet_in_a_task_says_what_it_is(kind: type) -> None:
    members = {name: member for name, member in vars(kind).items() if not name.startswith("_")}
    described = (property, type(lambda: None))
    assert [n for n, m in members.items() if isinstance(m, described) and not inspect.getdoc(m)] == []
