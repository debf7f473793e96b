"""The doctor's whole answer: gathered, judged, and as a document."""

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from ..deadline import Deadline
from ..sizing import Plan, size
from .facts import Facts
from .gather import gather
from .judging import diagnose
from .pasting import filled, name_of_app, redis_cli

_SOURCES = {
    "nodes": "Redis",
    "ping": "MongoDB",
    "server": "server connections",
    "limit": "the server's limit of connections",
    "queues": "queues",
    "beats": "beat",
    "redis": "Redis' own figures",
    "indexes": "collections",
    "post_mortems": "post-mortems",
    "dead_letters": "dead letters",
    "elsewhere": "queues of other deployments",
}
"""What a person calls the facts."""


_SIZE_NEEDS = ("Redis", "MongoDB", "server connections", "the server's limit of connections")
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Examined:
    """The document's body, and what was not seen, by source."""

    body: dict[str, Any]
    unseen: dict[str, str]
    schema: str = "doctor/1"

    def to_dict(self) -> dict[str, Any]:
        """Return the document, as `--json` prints it."""
        return {"schema": self.schema, **self.body, "unseen": self.unseen}


def examine(app: Any, deadline: Deadline) -> Examined:
    """Gather and judge. Never raises for what a server does."""
    facts = gather(app, deadline)
    diagnosis = diagnose(facts)
    body = {
        "at": round(facts.at, 3),
        "deployment": facts.deployment,
        "server": (facts.ping or {}).get("server") or _told(facts),
        "processes": {"seen": len(facts.present), "nodes": len(facts.nodes or ())},
        **diagnosis.to_dict(),
    }
    redis = redis_cli(app.mongo.redis_settings.redis_url.get_secret_value())
    name = name_of_app(sys.argv, os.environ, main=app.main)
    body["findings"] = filled(body["findings"], app=name, redis=redis)
    return Examined(body, unseen_of(facts))


def sized(app: Any, deadline: Deadline, plan: Plan | None) -> Examined:
    """Gather and size; see `sizing.size`. Never raises for what a server does."""
    history = deadline.ask(lambda: _history(app))
    facts = gather(app, deadline)
    snapshots = history.seen()
    body = {"at": round(facts.at, 3), "deployment": facts.deployment}
    body |= size(facts, plan, snapshots.value or ())
    unseen = {name: why for name, why in unseen_of(facts).items() if name in _SIZE_NEEDS}
    if snapshots.why and plan is None:
        unseen["history"] = snapshots.why
    return Examined(body, unseen, "size/1")


def _history(app: Any) -> list[dict[str, Any]]:
    history = app.mongo.view.stores.history
    return [entry.snapshot for entry in history.read(since=time.time() - _DAY_SECONDS)]


def unseen_of(facts: Facts) -> dict[str, str]:
    """Return what was not seen, as a person calls it, and why."""
    told = {name: why for name, why in facts.unseen.items() if not (name == "limit" and facts.limit)}
    found = {_SOURCES[name]: why for name, why in told.items() if name in _SOURCES}
    ping = facts.ping
    if ping is not None and ping["verdict"] != "ok":
        found["MongoDB"] = "; ".join(ping["reasons"]) or "no answer"
    return found


def _told(facts: Facts) -> str | None:
    """Return which server it is, as a process says that reaches it."""
    return next((p.report["server"] for p in facts.present if p.report.get("server")), None)
