"""`mongo exporter`: metrics for Prometheus, of the whole deployment, from one process."""

import signal
from typing import Any

import click

from ..deadline import Deadline
from ..frame import Call, command
from ..problems import Problem


@command(seconds=None)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=9540, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option(
    "--interval",
    default=15.0,
    show_default=True,
    type=click.FloatRange(1, 3600),
    help="Seconds between two looks at the deployment.",
)
@click.option(
    "--patience",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.1, 600),
    help="Seconds that a look may take; what does not answer by then is left out.",
)
def exporter(call: Call, host: str, port: int, interval: float, patience: float) -> None:
    """Serve metrics of the deployment for Prometheus.

    One per deployment, until Ctrl-C or SIGTERM. It looks every --interval seconds, for --patience seconds at
    most; a scrape is answered from the last look at once. Counters are sums over all processes that a node
    ever had: none falls where a child is recycled or killed. While Redis is away the last numbers are served,
    and celery_pymongo_redis_up is 0. Needs `pip install 'celery-pymongo[metrics]'`.

    Exit codes: 0 ended, 1 the address cannot be had, 78 refused settings.

    Example: celery -A worker mongo exporter --port 9540
    """
    try:
        from ..metrics.exporter import Exporter
    except ImportError as error:
        if error.name and error.name.startswith("prometheus_client"):
            raise Problem("needs prometheus-client: pip install 'celery-pymongo[metrics]'") from error
        raise
    from ..metrics.look import look

    app = call.app
    serving = Exporter(
        lambda: look(app, Deadline(patience)), app.mongo.settings.deployment, interval=interval
    )

    def end(_number: int, _frame: Any) -> None:
        serving.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        serving.serve(host, port, lambda address: click.echo(f"serving {address}"))
    except OSError as error:
        raise Problem(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
