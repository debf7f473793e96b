"""What is not known since a record in Redis is unreadable: no verdict is better than that. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from ..server.pings import Verdict
from ..store import records
from ..store.records import Unreadable
from .layers import Layer, Since

_OF_FLEET = ("liveness", "reachability", "permissions", "pool", "consuming")
_TELLS = {
    records.REPORT.name: _OF_FLEET,
    records.MEMBER: _OF_FLEET,
    records.SILENT: ("liveness",),
    records.POST_MORTEM.name: ("liveness",),
    records.VERDICT.name: ("liveness", "pool"),
    records.BEAT.name: ("beat",),
    records.QUEUE: ("consuming",),
}
"""The layers that a kind of record tells of."""

_UNREAD = "unread"

REMEMBERED_SECONDS = 60.0
"""How long the last verdict's loss counts: it said since when something lasts, for a minute at most."""


def layers_of(unreadable: Collection[Unreadable], since: Since) -> set[str]:
    """Return the layers that these records would have told of, and those that were lost a moment ago."""
    kinds = {record.kind for record in unreadable} | since.get(_UNREAD, {}).keys()
    return {layer for kind in kinds for layer in _TELLS.get(kind, ())}


def doubted(layer: Layer) -> Layer:
    """Return a layer of which not all is known."""
    return Layer(Verdict.UNKNOWN) if layer.verdict is Verdict.OK else layer


def of_whole(whole: Layer, unreadable: Sequence[Unreadable], since: Since) -> Layer:
    """Return the verdict of the whole, with the records that would have told more."""
    if not layers_of(unreadable, since):
        return whole
    telling = [record for record in unreadable if record.kind in _TELLS]
    reasons = [*whole.reasons, records.words(telling) if telling else "the last verdict was not readable"]
    verdict = Verdict.UNKNOWN if whole.verdict is Verdict.OK else whole.verdict
    return replace(whole, verdict=verdict, reasons=reasons)


def remembered(at: float, before: Since, unreadable: Collection[Unreadable]) -> dict[str, dict[str, float]]:
    """Return when the last verdict could not be read, for as long as that matters; by kind, unix seconds."""
    known = {kind: then for kind, then in before.get(_UNREAD, {}).items() if at - then <= REMEMBERED_SECONDS}
    name = records.VERDICT.name
    found = known | ({name: at} if any(record.kind == name for record in unreadable) else {})
    return {_UNREAD: found} if found else {}
