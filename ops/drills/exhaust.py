"""A process of its own fills its pool, and what the fleet reports of it meanwhile; then it lets go."""

import json
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from redis import RedisError

from .ground import Ground, Terms, ground
from .interrupts import Caller
from .refused import Unreachable
from .site import HELD

_START_SECONDS = 15.0
_END_SECONDS = 8.0
_LOOK_SECONDS = 1.0


@dataclass
class Watched:
    """What the fleet reported of the process, second by second."""

    view: Any
    member: str
    started: float = field(default_factory=time.monotonic)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def look(self) -> dict[str, Any]:
        """Ask Redis what the fleet reports now, and what its own last verdict was."""
        sight = self.view.look()
        fleet = self.view.assess(sight, must_ask=False)
        process = next((each for each in fleet.processes if each.member == self.member), None)
        report: dict[str, Any] = {} if process is None else process.report
        pool = report.get("pool", {})
        judged = sight.before
        sample = {
            "seconds": round(time.monotonic() - self.started, 1),
            "state": None if process is None else str(process.state),
            **{name: pool.get(name) for name in ("size", "in_use", "waiting", "max", "usage")},
            "wait_p99_ms": report.get("wait", {}).get("p99"),
            "timeouts": report.get("count", {}).get("timeouts"),
            "circuit": report.get("circuit"),
            "verdict": judged.get("verdict"),
            "reasons": judged.get("reasons") or [],
            "judged_seconds_ago": round(max(0.0, fleet.at - judged["judged_at"]), 1) if judged else None,
        }
        self.samples.append(sample)
        return sample

    def to_dict(self) -> dict[str, Any]:
        """Return what was seen in all, as plain JSON types."""
        named = [s for s in self.samples if any(self.member in reason for reason in s["reasons"])]
        return {
            "was_full": any((s["usage"] or 0.0) >= 1 for s in self.samples),
            "most_waiting": max((s["waiting"] or 0 for s in self.samples), default=0),
            "was_judged": bool(named),
            "judged": None
            if not named
            else {"verdict": named[-1]["verdict"], "reasons": named[-1]["reasons"]},
        }


def run(
    mongo: Any, terms: Terms, caller: Caller, *, pool: int, queue_timeout_ms: int | None
) -> dict[str, Any]:
    """Run the drill and return its document; each second of it is told.

    `terms.threads` operations at once want one of `pool` connections. Raises Unreachable where Redis or
    MongoDB does not answer.
    """
    _ask_redis(mongo)
    options: dict[str, Any] = {"maxPoolSize": pool, "minPoolSize": 0}
    if queue_timeout_ms is not None:
        options["waitQueueTimeoutMS"] = queue_timeout_ms
    with ground(mongo, terms, name="exhaust") as found:
        watched = Watched(mongo.view, f"{found.drills.node}/0")
        with _process(found, options, watched.member, mongo.view) as child, caller.interrupts.allowed():
            told = _greeting(child)
            _watch(watched, caller, child, seconds=terms.seconds)
        last = _seen(watched)
        body = {
            "process": {"member": watched.member, "pid": told["pid"]},
            "pool": mongo.drills.own_pool(terms.threads) | options,
            "samples": watched.samples[:-1],
            **watched.to_dict(),
            "is_gone": last["state"] is None,
        }
    return found.to_dict() | body


def _ask_redis(mongo: Any) -> None:
    try:
        mongo.view.look()
    except (RedisError, OSError) as error:
        raise Unreachable(str(mongo.redis_problem(error))) from None


@contextmanager
def _process(
    found: Ground, options: dict[str, Any], member: str, view: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the process and end it, in order; where it does not end so its report goes all the same."""
    terms = found.terms
    child = found.drills.stand_in(
        options,
        database=found.site.name,
        collection=HELD,
        threads=terms.threads,
        hold_ms=terms.hold_ms,
        # It ends by itself, whatever becomes of this process.
        seconds=terms.seconds + _START_SECONDS,
    )
    try:
        yield child
    finally:
        # It ends with its stdin. A pipe that is broken belongs to a process that ended before.
        with suppress(OSError):
            child.stdin.close()
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
        # It has said so itself, unless it was killed.
        with suppress(RedisError, OSError):
            view.stores.registry.goodbye(member)


def _greeting(child: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Wait for the process's first word."""
    out: Any = child.stdout
    readable, _, _ = select.select([out], [], [], _START_SECONDS)
    line = out.readline() if readable else b""
    if not line:
        raise Unreachable("the drill's process did not start")
    told: dict[str, Any] = json.loads(line)
    return told


def _watch(watched: Watched, caller: Caller, child: "subprocess.Popen[bytes]", *, seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0 and child.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            child.wait(min(_LOOK_SECONDS, left))
        caller.tell(_seen(watched))


def _seen(watched: Watched) -> dict[str, Any]:
    try:
        return watched.look()
    except (RedisError, OSError) as error:
        raise Unreachable(f"Redis told no more ({type(error).__name__})") from None
