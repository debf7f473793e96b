"""Which server answers at an address, and making a fresh mongod ready to answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import amqp
import pymongo
import redis
from amqp.exceptions import AMQPError
from pymongo.errors import OperationFailure


def ask_mongo(uri: str) -> str:
    """Which server answers at `uri`, once it takes writes.

    Raises:
        PyMongoError: not yet.
    """
    with pymongo.MongoClient[dict[str, Any]](
        uri, directConnection=True, serverSelectionTimeoutMS=2000, timeoutMS=2000
    ) as client:
        hello = client.admin.command("hello")
        if not hello.get("isWritablePrimary"):
            _initiate(client)
            raise OperationFailure("not primary yet")
        build = client.admin.command("buildInfo")
    if version := build.get("secantusVersion"):
        return f"SecantusDB {version} (not mongod)"
    return f"mongod {build['version']}"


def ask_member(uri: str) -> str:
    """Which mongod answers at `uri`, whatever its state in its replica set.

    Raises:
        PyMongoError: not yet.
    """
    with pymongo.MongoClient[dict[str, Any]](uri, directConnection=True, timeoutMS=2000) as client:
        return f"mongod {client.admin.command('buildInfo')['version']}"


def _initiate(client: pymongo.MongoClient[dict[str, Any]]) -> None:
    """Make a fresh mongod a replica set of one, or move an old one to its new port."""
    host, port = client.address or ("127.0.0.1", 0)
    members = [{"_id": 0, "host": f"{host}:{port}"}]
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure:
        client.admin.command("replSetInitiate", {"_id": "local", "members": members})
        return
    if config["members"][0]["host"] != members[0]["host"]:
        config |= {"members": members, "version": config["version"] + 1}
        client.admin.command("replSetReconfig", config, force=True)


def ask_redis(uri: str) -> str:
    """Which server answers at `uri`.

    Raises:
        RedisError: not yet.
    """
    with redis.Redis.from_url(uri, socket_timeout=2, socket_connect_timeout=2) as client:
        client.ping()
        info = client.info("server")
    if version := info.get("valkey_version"):
        return f"Valkey {version}"
    return f"Redis {info['redis_version']}"


def ask_rabbit(uri: str) -> str:
    """Which server answers at `uri`.

    Raises:
        OSError: not yet.
    """
    parts = urlsplit(uri)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port}", parts.username, parts.password, connect_timeout=2, read_timeout=2
    )
    try:
        with connection:
            about = connection.server_properties
    except AMQPError as error:
        raise ConnectionError("it listens and does not serve yet") from error
    return f"{about['product']} {about['version']}"


ASK: dict[str, Callable[[str], str]] = {"mongo": ask_mongo, "redis": ask_redis, "rabbitmq": ask_rabbit}
