"""A RabbitMQ node of our own on loopback ports, and the Erlang port mapper that it registers with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from .child import Child
from .servers import LocalServer, ServerError, free_port

_USER = "guest"
_STOP_SECONDS = 5.0


class RabbitServer(LocalServer):
    """One node with virtual hosts that share nothing, `/` and `vhosts`; `url(name)` is the URL of one.

    The port mapper (epmd) is a child like the node: a node that found none would start one that outlives it.
    """

    def __init__(self, data: Path, *, vhosts: Sequence[str] = ()) -> None:
        script, epmd = _program(), shutil.which("epmd")
        if script is None or epmd is None:
            raise ServerError("no RabbitMQ here: install rabbitmq-server")
        data.mkdir(parents=True, exist_ok=True)
        self._data = data.resolve()
        port, epmd_port = free_port(), free_port()
        super().__init__(
            "rabbitmq", [str(script)], uri=f"amqp://{_USER}:{_USER}@127.0.0.1:{port}/", port=port, data=data
        )
        env = _environment(self._data, port, epmd_port)
        self.child = Child(self.name, [str(script)], log=self._data / "rabbitmq.log", env=env)
        mapper = [epmd, "-port", str(epmd_port), "-address", "127.0.0.1"]
        self._mapper = Child("epmd", mapper, log=self._data / "epmd.log")
        _write_configuration(self._data, ["/", *vhosts])

    def url(self, vhost: str) -> str:
        """Return the broker URL of one of the virtual hosts."""
        return self.uri + ("" if vhost == "/" else vhost)

    def launch(self) -> None:
        """Start the port mapper, then the node."""
        self._mapper.start()
        super().launch()

    def stop(self) -> bool:
        """End the node in order, then the port mapper; say whether SIGTERM was enough."""
        try:
            return super().stop()
        finally:
            self._mapper.stop(_STOP_SECONDS)

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except BaseException:
            self._mapper.stop(_STOP_SECONDS)
            raise


def is_installed() -> bool:
    """Whether there is a RabbitMQ on the PATH."""
    return _program() is not None and shutil.which("epmd") is not None


def _program() -> Path | None:
    found = shutil.which("rabbitmq-server")
    # Debian's is a link to a wrapper that serves root and the user rabbitmq only, beside the real one.
    return None if found is None else Path(found).resolve().with_name("rabbitmq-server")


def _environment(data: Path, port: int, epmd_port: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
    return inherited | {
        # The cookie lies in the home folder.
        "HOME": str(data),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"n{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
        "RABBITMQ_LOG_BASE": str(data / "log"),
        "RABBITMQ_CONF_ENV_FILE": str(data / "env.conf"),
        "RABBITMQ_CONFIG_FILE": str(data / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
        # Idle schedulers do not spin, and the node listens on loopback alone.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
        ),
        # The script then becomes the node: its pid, and nothing between a signal and it.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def _write_configuration(data: Path, vhosts: Sequence[str]) -> None:
    definitions = {
        "users": [{"name": _USER, "password": _USER, "tags": "administrator"}],
        "vhosts": [{"name": name} for name in vhosts],
        "permissions": [
            {"user": _USER, "vhost": name, "configure": ".*", "write": ".*", "read": ".*"} for name in vhosts
        ],
    }
    (data / "definitions.json").write_text(json.dumps(definitions))
    # A test machine's disk may be small, and its memory is not the node's alone.
    lines = [
        f"load_definitions = {data / 'definitions.json'}",
        "log.file.level = warning",
        "disk_free_limit.absolute = 10MB",
        "vm_memory_high_watermark.absolute = 400MB",
    ]
    (data / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
    for empty in ("env.conf", "enabled_plugins"):
        (data / empty).write_text("")
