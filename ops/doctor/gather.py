"""Asks every source side by side, under one deadline; what is not seen is named, with the reason.

It knows the fleet by `app.mongo.view` alone and turns what that tells into the plain values of `facts`.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..deadline import Deadline, Seen
from .facts import Beat, Facts, Node, Process, Queue
from .own import own_settings
from .pasting import place_of

Consumers = Mapping[str, Collection[str]]
"""The nodes that consume a queue, by its name."""

# How long workers may take to say what they consume.
_ASK_SECONDS = 1.0
# What a late answer leaves for judging and printing.
_RESERVE_SECONDS = 0.3


@dataclass(frozen=True)
class Gathered:
    """The facts, and what the health's own rules judge: what Redis showed, the fleet, the queues that are
    asked for by name, and MongoDB.
    """

    facts: Facts
    sight: Seen[Any]
    fleet: Seen[Any]
    waiting: Seen[Any]
    server: Seen[Any]
    survey: Mapping[str, Any]
    """The document of `view.survey`."""


def gather(app: Any, deadline: Deadline) -> Facts:
    """Return what is known within the deadline. Never raises for what a server does."""
    return gathered(app, deadline).facts


def gathered(app: Any, deadline: Deadline) -> Gathered:
    """Return what is known within the deadline, and what it was made of."""
    view = app.mongo.view
    seconds = max(0.1, deadline.left - _RESERVE_SECONDS)
    # Those that need nothing of others first: all wait side by side.
    sight = deadline.ask(view.look)
    mongodb = deadline.ask(lambda: view.mongodb(seconds))
    asked = {
        "beats": deadline.ask(view.beats),
        "redis": deadline.ask(view.redis),
        "dead_letters": deadline.ask(view.dead_letters),
        "elsewhere": deadline.ask(view.queues_of_others),
        "last_counts": deadline.ask(view.last_counts),
    }
    looked = sight.seen()
    fleet = _then(looked, deadline, view.assess)()
    of_nodes = _then(fleet, deadline, lambda found: view.records(sorted(found.nodes)))
    of_mains = _then(fleet, deadline, lambda found: _answering(view, found))
    of_queues = _then(fleet, deadline, lambda found: view.waiting(found, bound=True))
    named = deadline.ask(lambda: view.waiting(fleet.value))
    beside = _then(fleet, deadline, lambda found: view.unreadable(sorted(found.nodes)))
    records, waiting, answering = of_nodes(), of_queues(), of_mains()
    consumers = _consumers(fleet.value)
    if waiting.value is not None and _unclaimed(waiting.value, consumers):
        # Workers that know nothing of this project may consume them.
        others = deadline.ask(lambda: view.ask("active_queues", nodes=(), seconds=_ASK_SECONDS)).seen()
        consumers = _with(consumers, others.value or {})
    seen = {name: pending.seen() for name, pending in asked.items()}
    seen["beats"] = _beats(seen["beats"], looked)
    server = mongodb.seen()
    connected = _connected(server)
    # A server that does not answer a ping would keep whoever asks more.
    seen["indexes"] = _then(connected, deadline, lambda _asked: view.collections(deadline.left))()
    seen |= {"nodes": fleet, "ping": server, "server": connected, "queues": waiting}
    beats = seen["beats"].value
    own_queues = named.seen()
    found = _survey(app, looked, fleet, own_queues, server)
    facts = Facts(
        at=fleet.value.at if fleet.value else time.time(),
        deployment=app.mongo.settings.deployment,
        settings=own_settings(app.mongo.settings),
        nodes=None if fleet.value is None else _nodes(fleet.value, records.value, answering.value),
        ping=None if server.value is None else _ping(server.value),
        members=_members(view, server.value, fleet.value),
        login=server.value.login.to_dict() if server.value and server.value.login else None,
        server=_server(server.value, fleet.value),
        last_counts=seen["last_counts"].value,
        replication=asdict(server.value.replication) if server.value and server.value.replication else None,
        indexes=seen["indexes"].value,
        queues=None if waiting.value is None else _queues(waiting.value, consumers),
        beats=None if beats is None else tuple(map(_beat, beats)),
        redis=seen["redis"].value,
        post_mortems=None if looked.value is None else tuple(looked.value.buried),
        dead_letters=seen["dead_letters"].value,
        elsewhere=seen["elsewhere"].value,
        unreadable=_unreadable(
            () if looked.value is None else looked.value.unreadable,
            () if records.value is None else records.value.unreadable,
            () if waiting.value is None else waiting.value.unreadable,
            beside().value or (),
        ),
        redis_refuses=_refuses(app.mongo, looked),
        refusal=None if looked.value is None else looked.value.refusal,
        lasting={} if looked.value is None else looked.value.before.get("lasting", {}),
        judged=None if looked.value is None else looked.value.before.get("judged_at"),
        check_arrived=None if looked.value is None else looked.value.before.get("arrived_at"),
        unseen=_unseen(seen, looked, view.broker),
        broker=view.broker,
        has_redis=app.mongo.has_redis,
        is_redis_the_broker=app.mongo.is_redis_the_broker,
        redis_places={
            "registry": place_of(app.mongo.redis_settings.redis_url.get_secret_value()),
            "broker": place_of(str(app.conf.broker_url or "")),
        },
        health={"verdict": found["verdict"], "reasons": found["reasons"]},
    )
    return Gathered(facts, looked, fleet, own_queues, server, found)


def _survey(
    app: Any, sight: Seen[Any], fleet: Seen[Any], waiting: Seen[Any], server: Seen[Any]
) -> Mapping[str, Any]:
    """Return what the rules of the health checks say of the same."""
    seen, unknown = sight.value, sight if fleet.value is None else fleet
    found: Mapping[str, Any] = app.mongo.view.survey(
        fleet=fleet.value,
        before=None if seen is None else seen.before,
        pulse=None if seen is None else seen.pulse,
        waiting=waiting.value,
        mongodb=server.value,
        why=None if unknown.why is None else why_unknown(app.mongo, unknown),
        unreadable=() if seen is None else seen.unreadable,
        refusal=None if seen is None else seen.refusal,
    )
    return found


def why_unknown(mongo: Any, seen: Seen[Any]) -> str:
    """Return what Redis does instead of telling, as a predicate."""
    does: str = f"does not answer ({seen.why})" if seen.error is None else mongo.redis_reason(seen.error)
    return does


def _then(before: Seen[Any], deadline: Deadline, ask: Callable[[Any], Any]) -> Callable[[], Seen[Any]]:
    """Ask now what needs an answer that came before, and return what waits for it; nothing without."""
    if before.value is None:
        return lambda: Seen(why=before.why)
    return deadline.ask(lambda: ask(before.value)).seen


def _unseen(seen: Mapping[str, Seen[Any]], looked: Seen[Any], broker: str) -> dict[str, str]:
    found = {name: answer.why for name, answer in seen.items() if answer.value is None}
    if looked.value is None:
        found |= {"nodes": looked.why, "post_mortems": looked.why}
    server = seen["server"]
    connections = server.value and server.value.connections
    is_refused = connections is not None and connections.fullest[1].source == "not permitted"
    found["limit"] = server.why or ("not permitted" if is_refused else "the server does not say")
    return {name: why or f"{broker} does not say" for name, why in found.items()}


def _refuses(mongo: Any, looked: Seen[Any]) -> str | None:
    """Return what Redis does where it answered and nothing could be seen; None where it is away, or told."""
    if looked.error is None or mongo.is_redis_away(looked.error):
        return None
    does: str = mongo.redis_reason(looked.error)
    return does


def _beats(beats: Seen[Any], looked: Seen[Any]) -> Seen[Any]:
    """Return the ticks of beats, or why nobody knows whether one ticks."""
    if beats.value is None:
        return beats
    if looked.value is not None and looked.value.refusal is not None:
        return Seen(why="Redis refuses writes")
    if beats.value.unreadable and not beats.value.found:
        return Seen(why="not readable")
    return Seen(beats.value.found)


def _unreadable(*told: Iterable[Any]) -> dict[str, tuple[str, ...]]:
    """Return the keys of records that cannot be read, by what they are."""
    found: dict[str, set[str]] = {}
    for record in (record for records in told for record in records):
        found.setdefault(record.kind, set()).add(record.key)
    return {kind: tuple(sorted(keys)) for kind, keys in sorted(found.items())}


def _connected(server: Seen[Any]) -> Seen[Any]:
    """Return what the server said, or why it said nothing."""
    if server.value is None or server.value.ping.verdict == "ok":
        return server
    return Seen(why="MongoDB does not answer here")


def _answering(view: Any, fleet: Any) -> Collection[str]:
    """Return the nodes without a present process whose main process answers."""
    silent = [name for name, node in fleet.nodes.items() if not node.present]
    answers: Collection[str] = view.ask("ping", nodes=silent, seconds=_ASK_SECONDS) if silent else ()
    return answers


def _nodes(fleet: Any, records: Any, answering: Collection[str] | None) -> tuple[Node, ...]:
    found: Mapping[str, Mapping[str, Any]] = {} if records is None else records.found
    return tuple(_node(node, found.get(name, {}), answering) for name, node in fleet.nodes.items())


def _node(node: Any, record: Mapping[str, Any], answering: Collection[str] | None) -> Node:
    processes = tuple(
        Process(each.member, node.name, str(each.state), each.silence, each.report, record)
        for each in node.processes
    )
    answers = None if node.present or answering is None else node.name in answering
    return Node(node.name, node.slots, processes, tuple(node.missing), record, answers)


def _ping(asked: Any) -> dict[str, Any]:
    """Return the ping as a health check tells it."""
    ping = asked.ping
    return {
        "verdict": str(ping.verdict),
        "latency_ms": ping.latency_ms,
        "error_class": None if ping.error_class is None else str(ping.error_class),
        # What follows are PyMongo's own limits.
        "reasons": [f"{ping.error_class}: {str(ping.error).partition(' (configured')[0]}"]
        if ping.error_class
        else [],
        "topology": asked.topology,
        "server": asked.server,
    }


def _members(view: Any, asked: Any, fleet: Any) -> tuple[dict[str, Any], ...]:
    return () if asked is None else tuple(map(asdict, view.member_problems(asked, fleet)))


def _server(asked: Any, fleet: Any) -> dict[str, Any] | None:
    """Return what the member with the least room left says of its connections; those of processes that report
    under `counted`.
    """
    connections = None if asked is None else asked.connections
    if connections is None:
        return None
    member, fullest = connections.fullest
    by_name = fullest.by_appname
    told = {
        "member": member,
        "current": fullest.current,
        "limit": fullest.limit,
        "source": fullest.source,
        "others": fullest.others,
    }
    if by_name is None or fleet is None:
        return told | {"counted": None, "strays": None}
    names = {process.report.get("appname") for process in fleet.present}
    counted = sum(number for name, number in by_name.items() if name in names)
    # This very program is connected under our name, too.
    strays = sum(number for name, number in by_name.items() if name not in {*names, connections.own})
    return told | {"counted": counted, "strays": strays}


def _consumers(fleet: Any) -> Consumers:
    """Return who consumes which queue, as processes report."""
    found: dict[str, set[str]] = {}
    for node in fleet.nodes.values() if fleet else ():
        for process in node.present:
            for name in process.report.get("queues") or ():
                found.setdefault(name, set()).add(node.name)
    return found


def _with(consumers: Consumers, told: Mapping[str, Any]) -> Consumers:
    """Return them with what workers answered to `active_queues`."""
    found = {name: set(nodes) for name, nodes in consumers.items()}
    for node, queues in told.items():
        # A worker that could not say answers with an error.
        for queue in queues if isinstance(queues, list) else ():
            found.setdefault(queue["name"], set()).add(node)
    return found


def _unclaimed(waiting: Any, consumers: Consumers) -> bool:
    return any(queue.depth and name not in consumers for name, queue in waiting.queues.items())


def _queues(waiting: Any, consumers: Consumers) -> dict[str, Queue]:
    return {
        name: Queue(queue.depth, queue.age, tuple(sorted(consumers.get(name, ()))))
        for name, queue in waiting.queues.items()
    }


def _beat(pulse: Any) -> Beat:
    return Beat(pulse.silence, pulse.age, pulse.host, pulse.pid, pulse.scheduler)
