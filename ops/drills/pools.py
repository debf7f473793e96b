"""Configurations of a pool to be compared: the guide's, the driver's own, the app's, and any other."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .refused import Refused

YOURS = "yours"
"""The app's own, against which all others are compared."""

_OPTIONS = {
    name.lower(): name
    for name in ("maxPoolSize", "minPoolSize", "maxConnecting", "maxIdleTimeMS", "waitQueueTimeoutMS")
}
_PAIR = re.compile(r"([A-Za-z]+)=(\d{1,7})")


@dataclass(frozen=True)
class Configuration:
    """A name and the options of a client that it stands for; those of the app where it has none."""

    name: str
    options: Mapping[str, Any]
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"name": self.name, "source": self.source, "options": dict(self.options)}


# The connection pooling guide compares these three, in its words by a sequence of reads; its recommended
# client is the last one. None of them bounds the wait but by waitQueueTimeoutMS.
GUIDE: tuple[Configuration, ...] = (
    Configuration("low-resource", {"maxPoolSize": 5, "minPoolSize": 1, "waitQueueTimeoutMS": 5000}, "guide"),
    Configuration("medium", {"maxPoolSize": 20, "minPoolSize": 5, "waitQueueTimeoutMS": 5000}, "guide"),
    Configuration(
        "high-performance",
        {"maxPoolSize": 50, "minPoolSize": 10, "maxIdleTimeMS": 30_000, "waitQueueTimeoutMS": 5000},
        "guide",
    ),
)
DRIVER = Configuration(
    "driver-default", {"maxPoolSize": 100, "minPoolSize": 0, "waitQueueTimeoutMS": None}, "driver"
)


def chosen(own: Mapping[str, Any], texts: Sequence[str]) -> list[Configuration]:
    """Return the configurations to compare: the app's own first, then the known ones, or those of `texts`.

    Raises Refused for a text that is none.
    """
    named = [parse(text) for text in texts] or [DRIVER, *GUIDE]
    return [Configuration(YOURS, dict(own), "settings"), *named]


def parse(text: str) -> Configuration:
    """Return the configuration that `maxPoolSize=8,minPoolSize=2` names, or one that is known by its name.

    What it does not name is the driver's: minPoolSize 0, and no limit of a wait but a drill's own.
    """
    known = {each.name: each for each in (DRIVER, *GUIDE)}
    if text in known:
        return known[text]
    options: dict[str, Any] = {"minPoolSize": 0, "waitQueueTimeoutMS": None}
    for part in text.split(","):
        pair = _PAIR.fullmatch(part.strip())
        if pair is None or pair[1].lower() not in _OPTIONS:
            raise Refused(
                f"{text!r} is no configuration: write OPTION=NUMBER,… with {', '.join(_OPTIONS.values())}, "
                f"or one of {', '.join(known)}"
            )
        options[_OPTIONS[pair[1].lower()]] = int(pair[2])
    most = options.get("maxPoolSize")
    if most is None or not 1 <= most <= 1000:
        raise Refused(f"{text!r} needs a maxPoolSize of 1 to 1000")
    if options["minPoolSize"] > most:
        raise Refused(f"{text!r} has a minPoolSize above its maxPoolSize")
    return Configuration(text.replace(" ", ""), options, "named")
