"""Fleets that are well, and what is done to a fleet every day: the doctor has nothing to say of any."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from tests.e2e.clinic import Clinic, is_well
from tests.e2e.workers import wait_until
from tests.incidents.scene import Scene

Moments = Generator[Clinic, None, None]
"""Yields the deployment at each moment at which all is well."""


@dataclass(frozen=True)
class Shape:
    """A fleet that is well; `is_cheap` as of an incident."""

    name: str
    happen: Callable[[Scene], Moments]
    is_cheap: bool = False


def wait_well(ward: Clinic, processes: int) -> None:
    """Wait until so many processes report and nothing is found, as after any start."""
    wait_until(
        lambda: is_well(ward, processes=processes) and not ward.ask()["findings"], what="a start", seconds=40
    )


def after_a_deploy(scene: Scene) -> Moments:
    """Stop the whole fleet warmly, and start it again."""
    ward = scene.ward()
    node = scene.fleet(ward, pool="prefork", concurrency=2)
    wait_well(ward, 2)
    node.terminate()
    scene.worker(ward, pool="prefork", concurrency=2)
    yield ward


def rolling_restart(scene: Scene) -> Moments:
    """Restart one node after the other."""
    ward = scene.ward()
    nodes = [scene.fleet(ward, "w1"), scene.worker(ward, "w2")]
    wait_well(ward, 2)
    for node in nodes:
        node.terminate()
        yield ward
        scene.worker(ward, node.name)
        yield ward


def autoscale(scene: Scene) -> Moments:
    """Let a pool grow under load, and shrink again."""
    ward = scene.ward()
    scaled = ("--autoscale", "4,1", "--without-mingle", "--without-gossip")
    scene.fleet(ward, pool="prefork", concurrency=1, options=scaled)
    wait_well(ward, 1)
    ward.send("nap", 1.0, times=12)
    wait_until(lambda: ward.ask()["processes"]["seen"] >= 3, what="a pool that has grown", seconds=20)
    yield ward


def election(scene: Scene) -> Moments:
    """Have the primary step down; the set has another at once."""
    members = scene.stage.replica_set
    ward = scene.ward(MONGODB_URI=members.uri)
    scene.fleet(ward)
    wait_well(ward, 1)
    old = members.step_down()
    members.primary(other_than=old)
    members.wait_for_members()
    yield ward


def take_over(scene: Scene) -> Moments:
    """Stop the beat that leads; the other takes over."""
    ward = scene.ward()
    scene.fleet(ward)
    second = scene.beat(ward, "second")
    wait_well(ward, 1)
    second.terminate()
    yield ward


def monitoring_agent(scene: Scene) -> Moments:
    """Let somebody else have connections to the same server, and its clients come and go."""
    ward = scene.ward()
    scene.fleet(ward)
    wait_well(ward, 1)
    for _ in range(5):
        for number in range(6):
            client = scene.client(appname=f"mongodb-agent-{number}")
            client.admin.command("serverStatus")
        yield ward


def neighbours(scene: Scene) -> Moments:
    """Run another deployment beside it, on the same Redis and server."""
    ward, other = scene.ward(), scene.ward(name="beside")
    scene.fleet(ward)
    scene.fleet(other, "w2")
    wait_well(ward, 1)
    wait_well(other, 1)
    yield ward
    yield other


def many_small_tasks(scene: Scene) -> Moments:
    """Work through a thousand tasks, with an error of data among them and a duplicate key."""
    ward = scene.ward()
    scene.fleet(ward, pool="threads", concurrency=8)
    wait_well(ward, 1)
    results = ward.send("save", 1, times=200) + ward.send("read", 5, times=800)
    yield ward
    for result in results:
        with contextlib.suppress(Exception):
            result.get(timeout=30)
    yield ward


def long_tasks(scene: Scene) -> Moments:
    """Keep all slots busy for a while, and nothing waits."""
    ward = scene.ward()
    scene.fleet(ward, pool="prefork", concurrency=2)
    wait_well(ward, 2)
    ward.send("nap", 8.0)
    yield ward


def _pool(pool: str, concurrency: int, processes: int) -> Callable[[Scene], Moments]:
    def happen(scene: Scene) -> Moments:
        ward = scene.ward()
        scene.fleet(ward, pool=pool, concurrency=concurrency)
        wait_well(ward, processes)
        results: list[Any] = ward.send("read", 5, times=5)
        assert {result.get(timeout=20) for result in results} == {5}
        yield ward

    return happen


SHAPES = [
    Shape("after-a-deploy", after_a_deploy),
    Shape("rolling-restart", rolling_restart),
    Shape("autoscale", autoscale),
    Shape("election", election),
    Shape("beat-take-over", take_over),
    Shape("monitoring-agent", monitoring_agent),
    Shape("two-deployments-apart", neighbours),
    Shape("many-small-tasks", many_small_tasks),
    Shape("long-tasks", long_tasks),
    Shape("prefork", _pool("prefork", 2, 2)),
    Shape("threads", _pool("threads", 8, 1)),
    Shape("gevent", _pool("gevent", 20, 1)),
    Shape("solo", _pool("solo", 1, 1), is_cheap=True),
]
