"""What a readable record has: names, types and bounds of all that processes leave each other in Redis.

A bound is far above what is ever written; what is beyond it was not written by us. A field that is not named
here is ignored, so that a version that writes more is read; a field that may be missing is one that some
version does not write.
"""

from typing import (
    Annotated,
    Any,
    NotRequired,  # pydantic's own: it refuses typing's before Python 3.12
)

from pydantic import AfterValidator, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from ..pool.histogram import BUCKETS

MOST_SLOTS = 4096
"""Of a node: memory is taken for each slot that a report claims."""

RULES = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")
_OPEN = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")

# 2^53: whole numbers beyond it are not the same in every program that reads JSON.
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Slot = Annotated[int, Field(ge=0, lt=MOST_SLOTS)]
Slots = Annotated[int, Field(ge=0, le=MOST_SLOTS)]
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Seconds = Annotated[float, Field(ge=0, le=1e10)]
Moment = Annotated[float, Field(ge=0, le=1e11)]
"""Unix seconds."""
_LONGEST_NAME = 500
Name = Annotated[str, Field(max_length=_LONGEST_NAME)]
Line = Annotated[str, Field(max_length=10_000)]
Rate = Annotated[float, Field(ge=0, le=1e7)]
"""Per second."""
Milliseconds = Annotated[
    Annotated[int, Field(ge=0, le=10**12)] | Annotated[float, Field(ge=0, le=1e12, strict=False)],
    Field(union_mode="left_to_right"),
]
"""Of an option of the client; a URI may have written it as a text."""
Names = Annotated[list[Name], Field(max_length=MOST_SLOTS)]

_DEPTH, _MOST_WHOLE = 12, 1 << 53


def plain(value: Any, depth: int = _DEPTH) -> Any:
    """Return a value of JSON that others can take as well, MongoDB among them.

    Raises ValueError for one that is too deep, a number that is too large and a name with a zero byte.
    """
    if isinstance(value, dict):
        if any(len(name) > _LONGEST_NAME or "\0" in name for name in value):
            raise ValueError("a name is too long, or has a zero byte")
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        if isinstance(value, (int, float)) and not -_MOST_WHOLE <= value <= _MOST_WHOLE:
            raise ValueError("a number is out of bounds")
        return value
    if not depth:
        raise ValueError("too deep")
    for item in inner:
        plain(item, depth - 1)
    return value


Plain = Annotated[Any, AfterValidator(plain)]
Document = Annotated[dict[str, Any], AfterValidator(plain)]


@with_config(RULES)
class TaskShape(TypedDict, total=False):
    """The task that a process runs, and how many it runs; `seconds` is for how long."""

    name: Name | None
    id: Line | None
    seconds: Seconds | None
    running: Count


@with_config(RULES)
class PoolShape(TypedDict, total=False):
    """Gauges: connections, and operations that wait for one."""

    size: Count
    in_use: Count
    idle: Count
    waiting: Count
    min: Count
    max: Count | None
    usage: Annotated[float, Field(ge=0, le=1e6)] | None


@with_config(RULES)
class TimesShape(TypedDict, total=False):
    """Times of the last minute: how many, and milliseconds."""

    n: Count
    avg: Amount | None
    p50: Amount | None
    p99: Amount | None
    max: Amount | None


def _whole(times: TimesShape) -> TimesShape:
    """Return times that are whole: of some there is an average and a longest."""
    if times.get("n") and None in (times.get("avg"), times.get("max")):
        raise ValueError("times without an average")
    return times


Minute = Annotated[TimesShape, AfterValidator(_whole)]


@with_config(RULES)
class MemoryShape(TypedDict, total=False):
    """Bytes."""

    uss: Count | None
    server: Count


@with_config(RULES)
class CountersShape(TypedDict, total=False):
    """What was counted since the process began."""

    created: Count
    closed: Count
    checked_out: Count
    failed: Count
    timeouts: Count
    cleared: Count
    heartbeats_failed: Count
    drift: Count
    long_holds: Count
    leaks: Count
    false_alarms: Count
    requeued: Count
    expired: Count
    overloads: Count


@with_config(RULES)
class RatesShape(TypedDict, total=False):
    """Of the last minute, per second."""

    created: Rate
    closed: Rate
    failed: Rate
    checked_out: Rate


@with_config(RULES)
class DoneShape(TypedDict):
    """What came of what an operator asked for."""

    n: Count
    ms: NotRequired[Amount | None]
    replaced: NotRequired[bool]
    error: NotRequired[Line | None]


@with_config(RULES)
class OrdersShape(TypedDict, total=False):
    """What came of each kind of order."""

    ping: DoneShape
    reconnect: DoneShape


@with_config(RULES)
class HeldShape(TypedDict):
    """Connections that are held for long."""

    n: Count
    seconds: Seconds
    task: NotRequired[Name | None]


@with_config(RULES)
class LeakShape(TypedDict):
    """What a task left open."""

    what: Line
    task: Name


@with_config(RULES)
class MostHeldShape(TypedDict):
    """The task that held connections for most of the time: seconds, how often, and the seconds of all."""

    task: Name
    seconds: Seconds
    n: Count
    of: Seconds


@with_config(RULES)
class MadeShape(TypedDict):
    """Clients that a line of somebody's makes: how many so far, which line, and of which task."""

    n: Count
    site: Line
    task: Name | None


_NamesOfDenials = Annotated[dict[Name, Line], Field(max_length=100)]
DeniedShape = TypedDict(
    "DeniedShape",
    {
        "n": Count,
        "code": Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)],
        "for": Seconds,  # a keyword, so this cannot be a class
        "ago": Seconds,
        "tasks": _NamesOfDenials,
    },
)
DeniedShape.__pydantic_config__ = RULES  # type: ignore[attr-defined] # where pydantic looks for it

OfServer = Annotated[list[Count], Field(min_length=3, max_length=3)]
"""size, in_use, waiting."""


@with_config(RULES)
class ReportShape(TypedDict):
    """What a process says of itself, see `report`."""

    pid: Count
    v: NotRequired[Count]
    node: NotRequired[Name]
    slot: NotRequired[Slot]
    host: NotRequired[Name]
    born: NotRequired[Count | None]
    started: NotRequired[Moment]
    version: NotRequired[Name]
    kind: NotRequired[Name]
    appname: NotRequired[Name]
    at: NotRequired[Moment]
    slots: NotRequired[Slots]
    queues: NotRequired[Names]
    task: NotRequired[TaskShape | None]
    circuit: NotRequired[Name]
    outage: NotRequired[Seconds]
    ok: NotRequired[Seconds | None]
    error: NotRequired[Line | None]
    server: NotRequired[Name | None]
    cluster: NotRequired[Line | None]
    busy: NotRequired[Annotated[list[Slot], Field(max_length=MOST_SLOTS)]]
    gate: NotRequired[Annotated[dict[Name, Name], Field(max_length=1000)]]
    done: NotRequired[OrdersShape]
    cause: NotRequired[Name]
    hung: NotRequired[Seconds]
    recovered: NotRequired[Seconds]
    held: NotRequired[HeldShape]
    leak: NotRequired[LeakShape]
    denied: NotRequired[DeniedShape]
    refused: NotRequired[DeniedShape]
    foreign: NotRequired[Line]
    made: NotRequired[MadeShape]
    most_held: NotRequired[MostHeldShape]
    overload: NotRequired[Seconds]
    pool: NotRequired[PoolShape]
    count: NotRequired[CountersShape]
    rate: NotRequired[RatesShape]
    wait: NotRequired[Minute]
    use: NotRequired[Minute]
    rtt: NotRequired[Minute]
    wait_buckets: NotRequired[Annotated[list[Count], Field(max_length=10 * BUCKETS)]]
    servers: NotRequired[Annotated[dict[Name, OfServer], Field(max_length=1000)]]
    memory: NotRequired[MemoryShape]


@with_config(RULES)
class WayShape(TypedDict, total=False):
    """How a node goes to a server."""

    local: bool
    login: bool
    tls: bool
    verified: bool | None


@with_config(_OPEN)
class OptionsShape(TypedDict, total=False):
    """Options of the client: those that are reckoned with, and whatever others there are, to be compared."""

    maxPoolSize: Count | None
    minPoolSize: Count | None
    heartbeatFrequencyMS: Milliseconds | None
    serverSelectionTimeoutMS: Milliseconds | None
    waitQueueTimeoutMS: Milliseconds | None
    socketTimeoutMS: Milliseconds | None
    connectTimeoutMS: Milliseconds | None
    maxIdleTimeMS: Milliseconds | None
    timeoutMS: Milliseconds | None


@with_config(RULES)
class NodeCountersShape(TypedDict):
    """What all processes of a node have counted, see `node_counters`."""

    v: Count
    node: Name
    pid: Count
    kind: Name
    began: Moment
    at: Moment
    counts: Annotated[dict[Name, Amount], Field(max_length=500)]


@with_config(RULES)
class NodeShape(TypedDict, total=False):
    """What a node says of itself, see `node_record`."""

    v: Count
    kind: Name
    node: Name
    broker: Name
    concurrency: Annotated[int, Field(ge=0, le=100_000)] | None
    prefetch: Count | None
    max_tasks_per_child: Count | None
    began: Moment
    init_handlers: Names
    versions: Annotated[dict[Name, Name | None], Field(max_length=100)]
    options: Annotated[OptionsShape, AfterValidator(plain)]
    mongodb: WayShape
    redis: WayShape
    result_backend: Name | None
    longest_time_limit: Seconds | None
    shortest_time_limit: Seconds | None
    longest_tasks: Names
    visibility_timeout: Seconds | None
    alive_timeout: Seconds | None
    acks_late: bool
    nofile: Annotated[int, Field(ge=-1, le=1 << 63)]
    before_fork: Annotated[list[Line], Field(max_length=100)]
    risks: Annotated[list[Line], Field(max_length=100)]


@with_config(RULES)
class FlightEventShape(TypedDict):
    """A record of a flight recorder."""

    at: Moment
    kind: Name
    number: Number
    text: Line


@with_config(RULES)
class PostMortemShape(TypedDict):
    """What is known of a process that ended without a goodbye, see `post_mortem`."""

    member: Name
    node: Name
    slot: Slot
    pid: Count
    started: Moment
    seen: NotRequired[Moment | None]
    task: NotRequired[TaskShape | None]
    report: NotRequired[ReportShape | None]
    flight: NotRequired[Annotated[list[FlightEventShape], Field(max_length=10_000)]]


@with_config(RULES)
class VerdictShape(TypedDict):
    """What the last health check found, see `watch`."""

    verdict: Name
    since: NotRequired[Moment]
    judged_at: NotRequired[Moment]
    arrived_at: NotRequired[Moment | None]
    cut_off: NotRequired[bool]
    reasons: NotRequired[Annotated[list[Line], Field(max_length=10_000)]]
    layers: NotRequired[Annotated[dict[Name, Name], Field(max_length=100)]]
    lasting: NotRequired[Annotated[dict[Name, dict[Name, Amount]], Field(max_length=100)]]


@with_config(RULES)
class BeatShape(TypedDict):
    """A beat that ticked."""

    host: Name
    pid: Count
    scheduler: Name


@with_config(RULES)
class AttemptShape(TypedDict):
    """A run that began, see `attempts`."""

    node: Name
    slot: Slot
    pid: Count
    born: Count | None
    host: Name
    until: Moment
    main_pid: NotRequired[Count | None]
    main_born: NotRequired[Count | None]


@with_config(RULES)
class KilledShape(TypedDict):
    """The process that was killed in the middle of a run."""

    node: Name
    slot: Slot
    pid: Count


@with_config(RULES)
class LetterShape(TypedDict):
    """What is told of a dead letter, see `dead_letters`."""

    id: Line
    task: Line
    queue: Line
    reason: Name
    at: Moment
    node: Name
    slot: Slot
    pid: Count
    forced: NotRequired[Count]
    error: NotRequired[Name | None]
    killed: NotRequired[KilledShape | None]
    headers: NotRequired[Document]
    post_mortem: NotRequired[Document | None]
    task_id: NotRequired[Line]
    message: NotRequired[Name]


@with_config(RULES)
class MessageShape(TypedDict):
    """A message beside its body, with the types that it came with, see `original`."""

    is_text: bool
    content_type: str | None
    content_encoding: str | None
    headers: dict[Any, Any]
    properties: dict[Any, Any]
    queue: str | None
    counts_returns: bool
    is_redelivered: bool
    exchange: NotRequired[str]
    routing_key: NotRequired[str]


@with_config(RULES)
class PendingShape(TypedDict):
    """What a sender was about to tell."""

    kind: Name
    by: Name


@with_config(RULES)
class OutageShape(TypedDict):
    """The fleet's last outage, see `sentry.outage`."""

    since: Moment
    last_down: Moment
    told_at: Moment
    relapses: NotRequired[Annotated[int, Field(ge=0, le=1_000_000)]]
    given_up: NotRequired[bool]
    is_over: NotRequired[bool]
    pending: NotRequired[PendingShape | None]


Paused = Annotated[dict[Name, tuple[bool, Moment]], Field(max_length=1000)]
"""By queue: whether an operator paused it, and when that was said."""


@with_config(RULES)
class DrillShape(TypedDict):
    """What a drill notes of itself."""

    id: Name
    name: Name
    seconds: Seconds


CronWindow = tuple[Name, Count, Annotated[int, Field(ge=1, le=10_000_000)], Document]
"""Slug, window, seconds, configuration."""

Consumer = tuple[Name, Name]
"""A deployment, and a queue that it consumes."""

Entry = dict[str, Any]
"""A snapshot in the history; who reads a number of it bounds it."""


# --- answers of remote control -------------------------------------------------------------------------


@with_config(RULES)
class AnswerShape(TypedDict, total=False):
    """What a command of control answers, or why it did nothing."""

    ok: Line
    error: Line
    queues: Names


@with_config(RULES)
class PoolOfShape(TypedDict):
    """A slot of a node's board: which process, and whether it lives."""

    slot: Slot
    pid: Count | None
    alive: bool


@with_config(RULES)
class PoolsShape(TypedDict, total=False):
    """The slots of a node."""

    error: Line
    slots: Annotated[list[PoolOfShape], Field(max_length=MOST_SLOTS)]


@with_config(RULES)
class FlightOfShape(TypedDict):
    """The flight recorder of a slot."""

    slot: Slot
    pid: Count | None
    records: Annotated[list[FlightEventShape], Field(max_length=10_000)]


@with_config(RULES)
class FlightsShape(TypedDict, total=False):
    """The flight recorders of a node."""

    error: Line
    slots: Annotated[list[FlightOfShape], Field(max_length=MOST_SLOTS)]


@with_config(RULES)
class ClosedShape(TypedDict):
    """Why a queue is left alone, and since when."""

    why: Name
    since: Moment


@with_config(RULES)
class HealthShape(TypedDict, total=False):
    """What a node says of its gates."""

    error: Line
    gate: Annotated[dict[Name, ClosedShape], Field(max_length=1000)]


@with_config(RULES)
class ActiveQueueShape(TypedDict):
    """A queue that a worker consumes."""

    name: Name


ActiveQueues = Annotated[list[ActiveQueueShape], Field(max_length=10_000)]
