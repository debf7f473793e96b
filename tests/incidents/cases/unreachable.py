"""MongoDB cannot be reached: killed, frozen, a name that is none, a port that nobody listens on."""

from __future__ import annotations

import os
import signal

from ops.local.servers import free_port
from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene


def killed(scene: Scene) -> Steps:
    """Kill the server, and start it again."""
    server = scene.mongod()
    ward = scene.ward(MONGODB_URI=server.uri)
    scene.fleet(ward).wait_for_log("client.warm")
    server.kill()
    yield ward
    server.start()


def frozen(scene: Scene) -> Steps:
    """Stop the server's process, and have it go on."""
    server = scene.mongod()
    ward = scene.ward(MONGODB_URI=server.uri)
    scene.fleet(ward).wait_for_log("client.warm")
    server.suspend()
    yield ward
    server.resume()


def hang_over(scene: Scene) -> Steps:
    """Stop the server's process for a while, with tasks at work, and ask once it is over."""
    server = scene.mongod()
    ward = scene.ward(MONGODB_URI=server.uri)
    node = scene.fleet(ward, pool="threads", concurrency=4)
    node.wait_for_log("client.warm")
    ward.send("read", 2000, times=4)
    server.suspend()
    node.wait_for_log("circuit.opened")
    server.resume()
    node.wait_for_log("circuit.closed")
    yield ward


def no_such_name(scene: Scene) -> Steps:
    """Name a host that the DNS does not know."""
    ward = scene.ward(MONGODB_URI="mongodb://mongo.invalid:27017/")
    node = scene.worker(ward)
    yield ward
    node.terminate()
    mended = scene.ward()
    scene.worker(mended)
    yield mended


def wrong_port(scene: Scene) -> Steps:
    """Name a port on which nobody listens."""
    ward = scene.ward(MONGODB_URI=f"mongodb://127.0.0.1:{free_port()}/")
    node = scene.worker(ward)
    yield ward
    node.terminate()
    mended = scene.ward()
    scene.worker(mended)
    yield mended


def one_node(scene: Scene) -> Steps:
    """Break the way of one of two nodes."""
    route = scene.route()
    ward = scene.ward()
    scene.fleet(ward, "w1", env={"MONGODB_URI": route.uri}).wait_for_log("client.warm")
    scene.worker(ward, "w2").wait_for_log("client.warm")
    route.refuse()
    route.reset()
    yield ward
    route.clear()


def one_process(scene: Scene) -> Steps:
    """Break the way of one of a node's two processes."""
    route = scene.route()
    ward = scene.ward()
    node = scene.fleet(ward, pool="prefork", concurrency=2, env={"MONGODB_URI": route.uri})
    node.wait_for_log("client.warm", count=2)
    route.isolate(node.children()[0])
    yield ward
    route.clear()


def main_killed(scene: Scene) -> Steps:
    """Kill a node's MAIN, its children end with it; the other goes on."""
    ward = scene.ward()
    scene.fleet(ward, "w1")
    node = scene.worker(ward, "w2", pool="prefork", concurrency=2)
    node.wait_for_log("client.warm", count=2)
    node.send_signal(signal.SIGKILL)
    for child in node.children():
        os.kill(child, signal.SIGKILL)
    yield ward


INCIDENTS = [
    Incident("mongodb-killed", "mongodb-down", ("1 of 1 process cut off", "refused"), killed, verdict="down"),
    Incident("mongodb-frozen", "mongodb-hangs", ("no answer for",), frozen, verdict="down"),
    Incident(
        "hang-is-over", "outage-over", ("all of them use it again",), hang_over, verdict="ok", lasts=True
    ),
    Incident(
        "name-does-not-resolve",
        "mongodb-down",
        ("does not resolve", "mongo.invalid"),
        no_such_name,
        verdict="down",
    ),
    Incident("nobody-listens", "mongodb-down", ("refused",), wrong_port, verdict="down"),
    Incident("one-node-cut-off", "node-cut-off", ("w1@localhost", "refused"), one_node, is_cheap=True),
    Incident("one-process-cut-off", "process-cut-off", ("w1@localhost/",), one_process),
    Incident(
        "main-killed",
        "node-lost",
        ("w2@localhost", "2 processes silent"),
        main_killed,
        seconds=45,
        lasts=True,
    ),
]
