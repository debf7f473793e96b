"""A Sentry of the tests' own: kent, which keeps what it is sent, and tells it."""

from __future__ import annotations

import http.client
import json
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ops.local.child import Child
from ops.local.servers import free_port, port_is_free
from tests.e2e.workers import wait_until


class FakeSentry:
    """What kent has; it keeps the last 100 envelopes."""

    def __init__(self, port: int, log: Path) -> None:
        self.dsn = f"http://public@127.0.0.1:{port}/1"
        self._port = port
        self._log = log
        self._forgotten = 0

    def events(self) -> list[dict[str, Any]]:
        """The bodies of the error events that have arrived, the oldest first."""
        return self.bodies("event")

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the events, transactions or check_ins that have arrived, the oldest first."""
        listed = self._ask("GET", "/eventlist/")["events"]
        payloads = [self._ask("GET", f"/event/{event['event_id']}")["payload"] for event in listed]
        return [payload["body"] for payload in payloads if payload["header"].get("type") == kind]

    @property
    def count(self) -> int:
        """How much it was sent since it was emptied, kept or not; reports of the SDK on itself count too."""
        return self._counted() - self._forgotten

    def flush(self) -> None:
        """Forget everything."""
        self._forgotten = self._counted()
        self._ask("POST", "/flush/")

    def _counted(self) -> int:
        return len(re.findall(r": summary: ", self._log.read_text(errors="replace")))

    def _ask(self, method: str, path: str) -> Any:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)) as connection:
            connection.request(method, f"/api{path}")
            return json.load(connection.getresponse())


@contextmanager
def kent_server(folder: Path) -> Iterator[FakeSentry]:
    """Run one on a free port."""
    port, log = free_port(), folder / "kent.log"
    argv = [str(Path(sys.executable).with_name("kent-server")), "run", "--port", str(port)]
    server = Child("kent", argv, log=log)
    server.start()
    try:
        wait_until(lambda: not port_is_free(port), what="a fake Sentry", seconds=20)
        yield FakeSentry(port, log)
    finally:
        server.stop(2)
