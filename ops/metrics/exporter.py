"""The exporter: looks at the deployment in the background and serves what it saw, at once and always.

A scrape asks nobody: it is answered from the last look within milliseconds, whatever hangs. Where Redis is
away the last truth is served, with `celery_pymongo_redis_up 0`.
"""

import gzip
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from .samples import Known, Samples, Truth, samples
from .series import COUNTER, GAUGE, SERIES, Series

logger = logging.getLogger("celery_pymongo.exporter")

# What a client may take to send its request.
_REQUEST_SECONDS = 5.0


class Exporter:
    """Serves `/metrics`, and `/live` for the exporter itself. `look` returns what is known, within its own
    deadline; it is asked every `interval` seconds.
    """

    def __init__(self, look: Callable[[], Known], deployment: str, *, interval: float) -> None:
        self._look = look
        self._deployment = deployment
        self._interval = interval
        self._truth = Truth()
        self._served: Samples = {}
        self._bounds: list[str] = []
        self._failed: type[Exception] | None = None
        self._formats: dict[Callable[[CollectorRegistry], bytes], str] = {}
        self._pages: dict[Callable[[CollectorRegistry], bytes], _Page] = {}
        self._ended = threading.Event()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def look_once(self) -> None:
        """Look now; what it raises is logged, and the last truth stays."""
        try:
            known = self._truth.remember(self._look())
        except Exception as error:
            # Whatever a source does, the exporter answers.
            if type(error) is not self._failed:
                logger.exception("the deployment could not be looked at; the last numbers are served")
            self._failed = type(error)
            return
        self._failed = None
        self._bounds = [*(f"{bound:g}" for bound in known.bounds), "+Inf"]
        self._served = self._truth.take(samples(known), has_seen_redis=known.has_seen_redis)
        # Written once per look, not per scrape, in each format that was asked for.
        pages = {encode: _Page.of(encode(self._registry), kind) for encode, kind in self._formats.items()}
        self._pages = pages

    def serve(self, host: str, port: int, ready: Callable[[str], None]) -> None:
        """Look, then serve until `end()`. `ready` is called with the address once it answers.

        Raises OSError where the address cannot be had.
        """
        handler = type("Handler", (_Handler,), {"exporter": self, "timeout": _REQUEST_SECONDS})
        with ThreadingHTTPServer((host, port), handler) as server:
            server.daemon_threads = True
            self.look_once()
            threading.Thread(target=self._look_on, daemon=True).start()
            threading.Thread(target=self._stop_at_end, args=(server,), daemon=True).start()
            ready(f"http://{host}:{server.server_address[1]}/metrics")
            server.serve_forever(poll_interval=0.2)

    def end(self) -> None:
        """Stop serving."""
        self._ended.set()

    def _look_on(self) -> None:
        while not self._ended.wait(self._interval):
            self.look_once()

    def _stop_at_end(self, server: ThreadingHTTPServer) -> None:
        self._ended.wait()
        server.shutdown()

    def page(self, accept: str) -> "_Page":
        """Return the metrics in the format that a scraper accepts."""
        encode, content_type = choose_encoder(accept)
        self._formats[encode] = content_type
        return self._pages.get(encode) or _Page.of(encode(self._registry), content_type)

    # prometheus_client asks a collector by these two names.
    def describe(self) -> list[Metric]:
        """Name no series before the first look."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return every series of the last look."""
        for series in SERIES:
            yield self._family(series)

    def _family(self, series: Series) -> Metric:
        labels = ("deployment", *series.labels)
        found = self._served.get(series.name, [])
        if series.kind == GAUGE:
            gauge = GaugeMetricFamily(series.name, series.meaning, labels=labels)
            for sample in found:
                gauge.add_metric([self._deployment, *sample.labels], sample.value)
            return gauge
        if series.kind == COUNTER:
            counter = CounterMetricFamily(series.name, series.meaning, labels=labels)
            for sample in found:
                values = [self._deployment, *sample.labels]
                counter.add_metric(values, sample.value, created=sample.began)
            return counter
        histogram = HistogramMetricFamily(series.name, series.meaning, labels=labels)
        for sample in found:
            buckets = list(zip(self._bounds, sample.buckets, strict=True))
            histogram.add_metric([self._deployment, *sample.labels], buckets, sample.value)
        return histogram


@dataclass(frozen=True)
class _Page:
    """The metrics in one format, plain and packed: five hundred nodes are megabytes of text that repeats."""

    body: bytes
    packed: bytes
    content_type: str

    @classmethod
    def of(cls, body: bytes, content_type: str) -> "_Page":
        return cls(body, gzip.compress(body, compresslevel=1), content_type)


class _Handler(BaseHTTPRequestHandler):
    """GET alone: BaseHTTPRequestHandler answers 501 to every other method."""

    exporter: Exporter
    server_version = "celery-pymongo-exporter"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer /metrics, /live and /."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            page = self.exporter.page(self.headers.get("Accept", ""))
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                self._send(200, page.packed, page.content_type, encoding="gzip")
            else:
                self._send(200, page.body, page.content_type)
        elif path == "/live":
            self._send(200, json.dumps({"live": True}).encode(), "application/json")
        else:
            self._send(404, b"/metrics or /live\n", "text/plain; charset=utf-8")

    def _send(self, code: int, body: bytes, content_type: str, *, encoding: str | None = None) -> None:
        self.send_response(code)
        if encoding is not None:
            self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Log no request: a scrape each few seconds is no news."""
