"""Where settings come from: the environment, a `.env` file, and files that hold one secret each."""

import errno
import io
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

OWN_PREFIX = "CELERY_PYMONGO_"
FILE_BYTES = 1024 * 1024
PREFIXES = (OWN_PREFIX, "MONGODB_", "REDIS_", "SENTRY_")


class NoFileError(ValueError):
    """What a path names is no file that settings are kept in; `str()` says why."""


@dataclass
class Collected:
    """Raw values by variable, the variables among them that a file supplied, and what was wrong."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    from_file: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def collect(
    environ: Mapping[str, str],
    env_file: Path | None,
    *,
    secrets: Collection[str],
    given: Mapping[str, str] = MappingProxyType({}),
) -> Collected:
    """Read every variable with one of our prefixes; a blank value is no value.

    What is `given` wins over the environment, and that over `env_file`. Each of `secrets` may come from the
    file that `<NAME>_FILE` names.
    """
    found = Collected()
    for layer in (_ours(_read_env_file(env_file, found.problems)), _ours(environ), _ours(given)):
        for name in secrets:
            # One setting, two spellings: either wins over both of a layer below.
            if layer.keys() & {name, f"{name}_FILE"}:
                found.values.pop(name, None)
                found.values.pop(f"{name}_FILE", None)
        found.values |= layer
    for name in secrets:
        _resolve_secret(name, found)
    return found


def unknown_variables(names: Collection[str], known: Collection[str]) -> list[str]:
    """Return one line for each of `names` that looks like a setting of ours and is none."""
    allowed = set(known)
    return [line for name in sorted(names) if name not in allowed and (line := _unknown(name, known))]


def _ours(values: Mapping[str, str]) -> dict[str, str]:
    stripped = ((name, value.strip()) for name, value in values.items() if name.startswith(PREFIXES))
    return {name: value for name, value in stripped if value}


def _read_env_file(path: Path | None, problems: list[str]) -> dict[str, str]:
    try:
        text = _read(path) if path else ""
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path}: cannot be read ({_why(error)}); mend it or remove it")
        return {}
    return _parse_env_text(text, path, problems) if text else {}


def _parse_env_text(text: str, path: Path | None, problems: list[str]) -> dict[str, str]:
    # The parser alone: python-dotenv's front door expands $NAME from os.environ, which breaks passwords.
    from dotenv.parser import parse_stream  # 25 ms, paid where there is such a file

    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            problems.append(f"{path}: line {binding.original.line} is not NAME=value")
        elif binding.key and binding.value is not None:
            values[binding.key] = binding.value
    return values


def _resolve_secret(name: str, found: Collected) -> None:
    path = found.values.pop(f"{name}_FILE", None)
    if path is None:
        return
    if name in found.values:
        found.problems.append(f"{name} and {name}_FILE are both set: keep one of them")
        return
    if "://" in path:
        found.problems.append(
            f"{name}_FILE: it names a file; what it has looks like the value of {name} itself"
        )
        return
    # Readable by everyone is no warning: Docker and Kubernetes mount secrets like that.
    try:
        secret = _read(path).rstrip("\r\n")
    except (OSError, ValueError) as error:
        found.problems.append(f"{name}_FILE: {_named(path)} cannot be read ({_why(error)})")
        return
    if not secret.strip():
        found.problems.append(f"{name}_FILE: {_named(path)} is empty; it should hold the value of {name}")
        return
    found.values[name] = secret
    found.from_file.add(name)


def _read(path: Path | str) -> str:
    """Return a small regular file's text: what is none would keep the process waiting, or have no end."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise NoFileError("not a regular file")
        content = file.read(FILE_BYTES + 1)
    if len(content) > FILE_BYTES:
        raise NoFileError(f"more than {FILE_BYTES // 1024} KiB")
    return content.decode()


def _named(path: str) -> str:
    """Return a path as it may be shown: one below a folder that is there. Anything else may be the secret."""
    folders = Path(path).parts[:-1]
    is_below = len(folders) > (1 if path.startswith("/") else 0)
    is_place = is_below and "@" not in path and path.isprintable() and os.path.isdir(Path(*folders[:2]))
    return repr(path) if is_place else "what it names"


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "unreadable").lower()
    if isinstance(error, NoFileError):
        return str(error)
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "not a path"


def _unknown(name: str, known: Collection[str]) -> str | None:
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
    if prefix is None:
        return None
    close = _closest(
        name.removeprefix(prefix), [k.removeprefix(prefix) for k in known if k.startswith(prefix)]
    )
    if close:
        return f"{name}: unknown setting, did you mean {prefix}{close}?"
    # Other software, Docker's links and Kubernetes' services share the other prefixes: there, only a near
    # miss is a mistake.
    return f"{name}: unknown setting" if prefix == OWN_PREFIX else None


def _closest(name: str, known: list[str]) -> str | None:
    wanted = name.replace("_", "")
    plain = {candidate.replace("_", ""): candidate for candidate in known}
    # PASSWORD is no misspelt SENTINEL_PASSWORD: a slip changes a letter or two.
    similar = [candidate for candidate in plain if abs(len(candidate) - len(wanted)) <= 2]
    close = get_close_matches(wanted, similar, n=1, cutoff=0.65)
    return plain[close[0]] if close else None
