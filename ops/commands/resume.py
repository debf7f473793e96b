"""`mongo resume`: gated queues, by hand."""

import click

from ..frame import Answer, Call, command
from ..gating import gate
from ..rounds import node_option


@command()
@click.argument("queue", required=False)
@node_option
def resume(call: Call, queue: str | None, node: str | None) -> Answer:
    """Consume the gated queues again that `pause` paused.

    A queue that a node leaves alone since MongoDB is away stays so until it is back. QUEUE is one of
    CELERY_PYMONGO_GATED_QUEUES; by default all of them. Waits until each node does so.

    Exit codes: 0 every node did, 1 some did, 3 none is known to.

    Example: celery -A worker mongo resume mongo.data
    """
    return gate(call, queue, node, pause=False)
