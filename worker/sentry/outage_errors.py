"""Which errors an outage of this process's own MongoDB explains."""

import re
from collections.abc import Collection, Iterator

from pymongo.errors import PyMongoError

from ..mongo.classify import may_be_outage

# A name of a host is read once, from its beginning, and is no longer than such names are.
_SERVER = re.compile(r"(?<![\w.-])\[?([\w.-]{1,253}+|[0-9A-Fa-f:]{2,45})\]?:(\d{2,5})\b")
# Characters of an error: the driver describes each member of a deployment in it.
_READ = 32_768
_PLACE = re.compile(r"\('([^']+)', (\d{1,5})\)")


def is_explained(error: BaseException | None, servers: Collection[str]) -> bool:
    """Say whether an error, or one that it was raised *from*, is that MongoDB cannot be reached.

    `servers` are ours, as "host:port": an error that names others alone is about another MongoDB. What was
    raised while such an error was handled is not explained by it: it is a fault of the handling.
    """
    return any(
        isinstance(one, PyMongoError) and may_be_outage(one) and not _is_about_others(str(one), servers)
        for one in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _is_about_others(text: str, servers: Collection[str]) -> bool:
    read = text[:_READ]
    named = {f"{host}:{port}" for pattern in (_SERVER, _PLACE) for host, port in pattern.findall(read)}
    return bool(named and servers) and named.isdisjoint(servers)
