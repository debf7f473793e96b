"""What we ask for and what shops have beside us can be installed together: by the lock that uv resolved.

Resolving anew would need every package's metadata, which no machine has offline; bounds that the lock
does not keep fail here, and `ops/lock` says whether there is another way to keep them.
"""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ops.local.environment import PIN

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASKED = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
BESIDE = [Requirement(line) for line in PROJECT["dependency-groups"]["beside"]]


def pins(lock: str) -> dict[str, str]:
    found = PIN.finditer((ROOT / "locks" / f"{lock}.txt").read_text())
    return {canonicalize_name(pin["name"]): pin["version"] for pin in found}


@pytest.mark.parametrize("lock", ["run", "dev", "lowest", "beside"])
def test_a_lock_keeps_our_bounds(lock: str) -> None:
    pinned = pins(lock)
    broken = [str(one) for one in ASKED if not one.specifier.contains(pinned[canonicalize_name(one.name)])]
    assert broken == []


def test_the_neighbours_are_in_one_lock_with_us() -> None:
    pinned = pins("beside")
    assert {one.name for one in BESIDE} >= {"beanie", "celery", "mongoengine", "mongomock"}
    assert all(one.specifier.contains(pinned[canonicalize_name(one.name)]) for one in BESIDE)


def test_the_lowest_versions_are_the_bounds() -> None:
    pinned = pins("lowest")
    for name in ("celery", "pymongo", "redis"):
        (bound,) = (one for one in ASKED if one.name == name)
        least = next(each.version for each in bound.specifier if each.operator == ">=")
        assert pinned[name].startswith(least), name
