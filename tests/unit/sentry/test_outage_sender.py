"""One sender for a fleet on one Redis: also where the sender dies, and where Redis goes away."""

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.fleet.registry import Reading, Seen
from worker.sentry.outages.ledger import LOCK_SECONDS, Counts
from worker.sentry.outages.sender import Own, Teller
from worker.sentry.outages.state import Outage, Terms

START = 1_700_000_000.0


class World:
    """A fleet on one Redis, by one clock; `reports` is who says what."""

    def __init__(self) -> None:
        self.now = START
        self.is_away = False
        self.holder: tuple[str, float] | None = None
        self.state: Outage | None = None
        self.counted: Counter[str] = Counter()
        self.members: set[str] = set()
        self.down_since: dict[str, float] = {}
        self.heard: dict[str, float] = {}
        self.sent: list[dict[str, Any]] = []
        self.processes: dict[str, Process] = {}

    # -- what a ledger does

    def take(self, owner: str) -> bool:
        self._ask()
        if self.holder and self.holder[0] != owner and self.holder[1] > self.now:
            return False
        self.holder = (owner, self.now + LOCK_SECONDS)
        return True

    def read(self) -> Outage | None:
        self._ask()
        return self.state

    def write(self, owner: str, outage: Outage, *, hastily: bool = False) -> bool:
        self._ask()
        if self.holder is None or self.holder[0] != owner:
            return False
        self.state = outage
        return True

    def add(self, outage_id: str, *, requeued: int = 0, errors: Any = None, hastily: bool = False) -> None:
        self._ask()
        self.counted.update({"requeued": requeued, **(errors or {})})

    def touch(self, outage_id: str, members: Any) -> None:
        self.members |= set(members)

    def counts(self, outage_id: str) -> Counts:
        numbers = dict(self.counted)
        return Counts(numbers.pop("requeued", 0), numbers, frozenset(self.members))

    # -- what a registry does

    def fleet(self) -> Reading:
        self._ask()
        seen = [Seen(member, at, self._report(member, at)) for member, at in self.heard.items()]
        return Reading(self.now, 0.0, seen)

    def _report(self, member: str, at: float) -> dict[str, Any]:
        since = self.down_since.get(member)
        return {"circuit": "closed"} if since is None else {"circuit": "open", "outage": at - since}

    def _ask(self) -> None:
        if self.is_away:
            raise RedisConnectionError("away")

    # -- time goes by

    def add_process(self, member: str) -> "Process":
        self.processes[member] = Process(self, member)
        return self.processes[member]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            for process in list(self.processes.values()):
                if not self.is_away:
                    self.heard[process.member] = self.now
                process.tick()
            self.now += 2

    def cut_off(self, *members: str) -> None:
        for member in members or list(self.processes):
            self.down_since[member] = self.now

    def mend(self) -> None:
        self.down_since.clear()

    @property
    def told(self) -> list[str]:
        return [event["tags"]["celery_pymongo.event"] for event in self.sent]


class Process:
    """One of them; the lowest of its node that is there leads it."""

    def __init__(self, world: World, member: str) -> None:
        self.world = world
        self.member = member
        self.node = member.partition("/")[0]
        fake = cast("Any", world)
        self.teller = Teller(
            fake,
            fake,
            Terms(5.0, 3600.0),
            deployment="shop",
            send=world.sent.append,
            flight=list,
            wall=lambda: world.now,
        )

    @property
    def own(self) -> Own:
        world = self.world
        mates = sorted(member for member in world.processes if member.startswith(f"{self.node}/"))
        since = world.down_since.get(self.member)
        return Own(
            self.member,
            f"{self.member}:1",
            0.0 if since is None else max(world.now - since, 1e-3),
            leads=mates[0] == self.member,
            node_down=tuple(member for member in mates if member in world.down_since),
            node_size=len(mates),
            error="gone",
        )

    def tick(self) -> None:
        self.teller.tick(self.world.now, self.own, is_redis_away=self.world.is_away)


@pytest.fixture
def world() -> World:
    made = World()
    for member in ("a/0", "a/1", "b/0", "b/1"):
        made.add_process(member)
    made.run(10)
    return made


def test_an_outage_of_a_whole_fleet_is_two_events_with_what_it_cost(world: World) -> None:
    world.cut_off()
    world.run(8)
    for process in world.processes.values():
        process.teller.count(requeued=2, errors={"shop.sell": 1})
    world.run(52)
    world.mend()
    world.run(30)
    assert world.told == ["outage.opened", "outage.recovered"]
    opened, recovered = world.sent
    assert opened["fingerprint"] == recovered["fingerprint"] == ["celery-pymongo", "shop", "outage"]
    assert "4 of 4 processes on 2 of 2 nodes" in opened["message"]
    told = recovered["contexts"]["celery_pymongo"]
    assert told["seconds"] == 58
    assert (told["processes_affected"], told["nodes_affected"]) == (4, 2)
    assert (told["tasks_returned_to_the_broker"], told["errors_counted"]) == (8, 4)
    assert told["errors_by_task"] == {"shop.sell": 4}
    assert (opened["level"], recovered["level"]) == ("error", "info")


def test_one_process_that_is_cut_off_is_an_outage_of_one(world: World) -> None:
    world.cut_off("b/1")
    world.run(10)
    assert world.told == ["outage.opened"]
    assert "1 of 4 processes on 1 of 2 nodes" in world.sent[0]["message"]


def test_another_takes_over_from_a_sender_that_died_and_opens_nothing_anew(world: World) -> None:
    world.cut_off()
    world.run(14)
    assert world.holder is not None
    sender = world.holder[0].partition(":")[0]
    del world.processes[sender], world.down_since[sender]
    world.run(30)
    assert world.holder[0].partition(":")[0] != sender
    world.mend()
    world.run(30)
    assert world.told == ["outage.opened", "outage.recovered"]


def test_what_a_sender_died_of_sending_has_the_same_id_when_it_comes_again(world: World) -> None:
    world.cut_off()
    while not world.sent:
        world.run(2)
    assert world.holder is not None
    sender = world.holder[0].partition(":")[0]
    del world.processes[sender], world.down_since[sender]
    world.run(30)
    assert world.told == ["outage.opened", "outage.opened"]
    assert world.sent[0]["event_id"] == world.sent[1]["event_id"]


def test_a_sender_that_ends_in_order_leaves_nothing_to_send_again(world: World) -> None:
    world.cut_off()
    while not world.sent:
        world.run(2)
    assert world.holder is not None
    sender = world.processes[world.holder[0].partition(":")[0]]
    sender.teller.count(requeued=3)
    sender.teller.leave(sender.own)
    del world.processes[sender.member], world.down_since[sender.member]
    world.run(30)
    assert world.told == ["outage.opened"]
    assert world.counted["requeued"] == 3


def test_a_fleet_that_is_new_since_tells_the_end(world: World) -> None:
    """A deployment in the middle of an outage that is over when the new processes start."""
    world.cut_off()
    world.run(20)
    world.processes.clear()
    world.heard.clear()
    world.mend()
    world.now += 20
    world.add_process("c/0")
    world.run(40)
    assert world.told == ["outage.opened", "outage.recovered"]


def test_one_that_lost_the_lock_while_it_was_stopped_sends_nothing(world: World) -> None:
    world.cut_off()
    first = world.processes["a/0"].teller
    world.run(4)
    read = world.fleet

    def stopped() -> Reading:
        found = read()
        world.holder = ("b/0:1", world.now + LOCK_SECONDS)
        return found

    world.fleet = stopped  # type: ignore[method-assign] # in the middle of its look
    world.now += 4
    first.tick(world.now, world.processes["a/0"].own, is_redis_away=False)
    assert world.sent == []
    assert world.state is None


def test_without_redis_each_node_tells_once(world: World) -> None:
    world.is_away = True
    world.cut_off()
    world.run(60)
    world.mend()
    world.run(30)
    assert world.told == ["outage.opened"] * 2 + ["outage.recovered"] * 2
    assert {event["contexts"]["celery_pymongo"]["seen_by"] for event in world.sent} == {
        "one node, Redis is away"
    }
    assert "2 of 2 processes on 1 of 1 node" in world.sent[0]["message"]
    world.is_away = False
    world.run(30)
    assert len(world.sent) == 4


def test_a_node_that_told_alone_is_believed_once_redis_is_back(world: World) -> None:
    world.is_away = True
    world.cut_off()
    world.run(20)
    assert world.told == ["outage.opened"] * 2
    world.is_away = False
    world.run(20)
    world.mend()
    world.run(60)
    assert world.told == ["outage.opened"] * 2 + ["outage.recovered"]


def test_an_end_that_was_told_alone_is_not_told_again(world: World) -> None:
    world.cut_off()
    world.run(20)
    world.is_away = True
    world.run(20)
    world.mend()
    world.run(30)
    world.is_away = False
    world.run(60)
    assert world.told == ["outage.opened", "outage.recovered", "outage.recovered"]
    assert world.state is not None
    assert world.state.is_over


def test_one_late_answer_of_redis_is_no_reason_to_tell_alone(world: World) -> None:
    world.cut_off()
    world.run(6)
    world.is_away = True
    world.processes["b/0"].tick()
    world.is_away = False
    world.now += 2
    world.run(10)
    assert world.told == ["outage.opened"]


def test_what_was_counted_against_no_outage_is_forgotten(world: World) -> None:
    process = world.processes["a/0"]
    process.teller.count(requeued=5)
    world.run(4)
    world.cut_off()
    world.run(10)
    assert world.counted["requeued"] == 0


def test_an_outage_is_its_own_whatever_else_is_known(world: World) -> None:
    world.state = replace(Outage(START - 9000, START - 8000, START - 8000), is_over=True)
    world.cut_off()
    world.run(10)
    assert world.told == ["outage.opened"]
