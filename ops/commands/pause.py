"""`mongo pause`: gated queues, by hand."""

import click

from ..frame import Answer, Call, command
from ..gating import gate
from ..rounds import node_option


@command()
@click.argument("queue", required=False)
@node_option
def pause(call: Call, queue: str | None, node: str | None) -> Answer:
    """Leave gated queues alone, on every node, until `resume`.

    Their messages wait in the broker; tasks that run end as they would. It lasts over restarts, and holds for
    nodes that start later under any name; with --node for the nodes of these names. QUEUE is one of
    CELERY_PYMONGO_GATED_QUEUES; by default all of them. Waits until each node does so.

    Exit codes: 0 every node did, 1 some did, 3 none is known to.

    Example: celery -A worker mongo pause mongo.data
    """
    return gate(call, queue, node, pause=True)
