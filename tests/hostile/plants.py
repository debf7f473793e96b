"""What somebody may put into Redis in place of our records, key by key."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.hostile.crafted import TEXTS

NODE = "w1@h"

Plant = Callable[[Any, Callable[..., str]], Any]
"""Takes a client of Redis, and what makes a key of the deployment."""


def texts(*parts: str) -> list[Plant]:
    """Every text that is no record, and every other type, in place of a text."""
    name = parts

    def text(odd: bytes) -> Plant:
        return lambda client, key: [client.delete(key(*name)), client.set(key(*name), odd)][0]

    return [*map(text, TEXTS), *others(*parts, but="string")]


def others(*parts: str, but: str) -> list[Plant]:
    """Every type of value but one."""
    made: dict[str, Callable[[Any, str], Any]] = {
        "string": lambda client, name: client.set(name, "x"),
        "list": lambda client, name: client.rpush(name, "x"),
        "hash": lambda client, name: client.hset(name, "x", "y"),
        "set": lambda client, name: client.sadd(name, "x"),
        "zset": lambda client, name: client.zadd(name, {"x": 1}),
        "stream": lambda client, name: client.xadd(name, {"x": "y"}),
    }

    def plant(kind: str) -> Plant:
        def put(client: Any, key: Callable[..., str]) -> None:
            client.delete(key(*parts))
            made[kind](client, key(*parts))

        return put

    return [plant(kind) for kind in made if kind != but]


def member(name: bytes | str, at: float) -> Plant:
    return lambda client, key: client.zadd(key("members"), {name: at})


def tick(text: bytes) -> Plant:
    return lambda client, key: [client.delete(key("beats")), client.hset(key("beats"), "h:7", text)][0]


def message(odd: bytes) -> Plant:
    return lambda client, key: client.hset(key("dead-letter", "7"), mapping={"body": odd, "message": odd})


def consumers(kind: str, odd: bytes) -> Plant:
    """In place of who consumes the broker's queues: its key is not of the deployment, so it is the last."""

    def put(client: Any, _key: Callable[..., str]) -> None:
        for name in client.scan_iter("*:consumers:*"):
            client.delete(name)
            client.sadd(name, odd) if kind == "set" else client.zadd(name, {odd: time.time()})

    return put


SOON = time.time() + 10**6
BEAT = b'{"host": "h", "pid": 7, "scheduler": "S"}'

PLANTS: dict[str, list[Plant]] = {
    "report": texts("report", f"{NODE}/1"),
    "members": [
        *others("members", but="zset"),
        member(b"\xff\xfe/0", time.time()),
        member("no slot", time.time()),
        member(f"{NODE}/x", time.time()),
        member(f"{NODE}/1", float("inf")),
        member(f"{NODE}/1", -5.0),
        member(f"{NODE}/1", SOON),
    ],
    "silence": [
        *others("silent-until", but="string"),
        *[
            lambda client, key, odd=odd: client.set(key("silent-until"), odd)
            for odd in ("x", "inf", "nan", "-1", "9e99", str(SOON))
        ],
    ],
    "verdict": texts("document", "verdict"),
    "post-mortem": [
        *others("post-mortems", but="zset"),
        *[lambda client, key, odd=odd: client.zadd(key("post-mortems"), {odd: SOON}) for odd in TEXTS if odd],
    ],
    "beat": [
        *others("beats", but="hash"),
        *map(tick, (b"", b"x", b"1 2", b"1 x " + BEAT, b"1 inf " + BEAT, b"nan nan " + BEAT, b"1 2 {}")),
        *map(tick, (b"1 %f " % SOON + BEAT, b"1 2 " + b"[" * 100_000, b"\xff \xff \xff")),
    ],
    "node": texts("node", NODE),
    "counters": texts("counters", NODE),
    "paused": texts("document", f"paused:{NODE}"),
    "history": [
        *others("history", but="stream"),
        *[
            lambda client, key, odd=odd: client.xadd(key("history"), odd)
            for odd in ({"x": "y"}, {"snapshot": "x"}, {"snapshot": b"[" * 8000}, {"snapshot": b"\xff"})
        ],
    ],
    "letter": [
        *others("dead-letter", "7", but="hash"),
        *[lambda client, key, odd=odd: client.hset(key("dead-letter", "7"), "letter", odd) for odd in TEXTS],
    ],
    "message": [message(odd) for odd in TEXTS],
    "letters": [
        *others("dead-letters", but="zset"),
        lambda client, key: client.zadd(key("dead-letters"), {b"\xff": 1}),
    ],
    "outage": texts("outage"),
    "consumers": [
        consumers(kind, odd) for kind, odd in [("set", b"x"), *(("zset", odd) for odd in TEXTS if odd)]
    ],
}
"""By kind of record what is put in its place."""

HEALTH = ("report", "members", "silence", "verdict", "post-mortem", "beat")
"""The kinds that a verdict is made of."""
