"""`mongo schema`: what the documents of --json look like."""

from importlib import resources

import click

from .. import output
from ..frame import Command
from ..problems import UsageProblem


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=lambda _ctx, _param, begun: matching(begun))
def schema(name: str | None) -> None:
    """Print the JSON Schema of a command's document.

    Without NAME, the names there are. A document names its schema, as in "schema": "dead-list/1". Within a
    version names are added, and none is taken away or changes its meaning.

    Example: celery -A worker mongo schema dead-list/1
    """
    published = schemas()
    if name is None:
        output.show("\n".join(published))
        return
    # The newest version, where none is named.
    found = name if name in published else next((n for n in reversed(published) if _stem(n) == name), None)
    if found is None:
        raise UsageProblem(f"no schema {name}; there are {', '.join(published)}")
    output.show(_file(found).read_text(encoding="utf-8").rstrip())


def schemas() -> list[str]:
    """Return the names of the published schemas, in order."""
    files = [file.name.removesuffix(".json") for file in _folder().iterdir() if file.name.endswith(".json")]
    names = [f"{stem}/{version}" for stem, _, version in (file.rpartition("-") for file in files)]
    return sorted(names, key=lambda name: (_stem(name), int(name.rpartition("/")[2])))


def matching(begun: str) -> list[str]:
    """Return the names that begin so, for the shell."""
    return [name for name in schemas() if name.startswith(begun)]


def _stem(name: str) -> str:
    return name.rpartition("/")[0]


def _file(name: str) -> resources.abc.Traversable:
    return _folder() / f"{name.replace('/', '-')}.json"


def _folder() -> resources.abc.Traversable:
    return resources.files(__package__.rpartition(".")[0]) / "schemas"
