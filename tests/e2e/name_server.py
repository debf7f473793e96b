"""A name server on a loopback port that knows one SRV record, and can be made to fail."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

CLUSTER = "cluster0.shop.test"
MEMBER = "m0.shop.test"


class NameServer:
    """Answers for `CLUSTER` that its member listens on `port`; a context manager.

    `answer` is what it does: "well", "SERVFAIL", "NXDOMAIN", or "nothing", as where packets are dropped.
    """

    def __init__(self, member_port: int) -> None:
        self.answer = "well"
        self._member_port = member_port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="name server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It reads an empty packet and ends.
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(4096)
            if not packet:
                return
            if self.answer != "nothing":
                self._socket.sendto(self._reply(packet), peer)

    def _reply(self, packet: bytes) -> bytes:
        query = dns.message.from_wire(packet)
        reply = dns.message.make_response(query)
        question = query.question[0]
        if self.answer != "well":
            reply.set_rcode(dns.rcode.from_text(self.answer))
        elif question.rdtype == dns.rdatatype.SRV:
            record = f"0 0 {self._member_port} {MEMBER}."
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "SRV", record))
        return reply.to_wire()
