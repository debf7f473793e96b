"""The proxy of the fault tests: every fault does what it says, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psutil
import pymongo
import pytest
from pymongo.errors import AutoReconnect, NetworkTimeout, ServerSelectionTimeoutError

from ops.local.servers import LocalServer, free_port
from tests.e2e.proxy import WatchingProxy
from tests.faults.lane import dice
from tests.faults.proxy import FaultProxy
from tests.faults.route import Route

DEADLINE_SECONDS = 10.0


class Echo:
    """A server that sends back what it receives, and keeps it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", free_port()))
        self.uri = f"echo://127.0.0.1:{self.listener.getsockname()[1]}"
        self.received = b""
        self.ends: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self.listener.accept()[:1], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while chunk := client.recv(65536):
                    self.received += chunk
                    client.sendall(chunk)
                self.ends.append("end")
            except OSError as error:
                self.ends.append(type(error).__name__)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy(seed=7) as proxy:
        yield proxy


@pytest.fixture
def route(proxy: FaultProxy, echo: Echo) -> Route:
    return proxy.route(echo.uri)


@pytest.fixture
def client(route: Route) -> Iterator[socket.socket]:
    with connect(route) as client:
        yield client


def connect(route: Route) -> socket.socket:
    return socket.create_connection(("127.0.0.1", route.port), timeout=DEADLINE_SECONDS)


def exactly(client: socket.socket, count: int) -> bytes:
    """Receive so many bytes, or those that come before the end."""
    received = b""
    while len(received) < count and (chunk := client.recv(count - len(received))):
        received += chunk
    return received


def ask(client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    return exactly(client, len(request))


def is_silent(client: socket.socket) -> bool:
    """Nothing has come for a moment. Never wrong where something should not come."""
    client.settimeout(0.1)
    try:
        client.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        client.settimeout(DEADLINE_SECONDS)
    return False


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_everything_passes_unchanged_and_is_counted(route: Route, client: socket.socket, echo: Echo) -> None:
    sent = os.urandom(1_000_000)
    sender = threading.Thread(target=client.sendall, args=(sent,))
    sender.start()
    assert exactly(client, len(sent)) == sent
    sender.join()
    stats = route.stats()
    assert (stats.bytes_up, stats.bytes_down) == (len(sent), len(sent))
    assert (stats.accepted, stats.open) == (1, 1)


def test_an_end_passes_as_an_end_and_what_was_sent_before_it_is_still_answered(
    route: Route, client: socket.socket, echo: Echo
) -> None:
    client.sendall(b"last words")
    client.shutdown(socket.SHUT_WR)
    assert exactly(client, 100) == b"last words"
    assert echo.ends == ["end"]
    assert eventually(lambda: route.stats().open == 0)


def test_latency_is_added_in_each_direction(route: Route, client: socket.socket) -> None:
    route.delay(0.1)
    assert seconds(lambda: ask(client, b"x")) >= 0.2
    route.delay(0.1, ways=["up"])
    route.delay(0.0, ways=["down"])
    assert seconds(lambda: ask(client, b"x")) >= 0.1


def test_latency_delays_and_does_not_throttle(route: Route, client: socket.socket) -> None:
    """Twenty chunks under way at once take one latency, not twenty."""
    route.delay(0.3, ways=["up"])
    began = time.monotonic()
    for _ in range(20):
        client.sendall(b"x")
        time.sleep(0.005)  # so that they are chunks of their own
    assert exactly(client, 20) == b"x" * 20
    assert time.monotonic() - began < 20 * 0.3 / 2


def test_jitter_is_the_same_for_the_same_seed_connection_and_direction() -> None:
    def draws(*key: Any) -> list[float]:
        source = dice(*key)
        return [source.random() for _ in range(5)]

    assert draws(7, 1, "up") == draws(7, 1, "up")
    assert (
        len({tuple(draws(*key)) for key in [(7, 1, "up"), (8, 1, "up"), (7, 2, "up"), (7, 1, "down")]}) == 4
    )


def test_jitter_keeps_the_order(route: Route, client: socket.socket) -> None:
    route.delay(0.0, jitter=0.02)
    for number in range(30):
        client.sendall(bytes([number]))
    assert exactly(client, 30) == bytes(range(30))


def test_bandwidth_bounds_one_direction_alone(route: Route, client: socket.socket, echo: Echo) -> None:
    route.throttle(200_000, ways=["down"])
    sent = bytes(60_000)
    began = time.monotonic()
    client.sendall(sent)
    assert eventually(lambda: len(echo.received) == len(sent))
    there = time.monotonic() - began
    assert exactly(client, len(sent)) == sent
    back = time.monotonic() - began
    assert back >= (len(sent) - 16_384) / 200_000  # the last chunk is not waited for
    assert there < back


def test_a_blackhole_holds_bytes_and_delivers_them_in_order_when_it_is_cleared(
    route: Route, client: socket.socket, echo: Echo
) -> None:
    route.blackhole()
    client.sendall(b"one ")
    with connect(route) as late:
        late.sendall(b"of a new connection")
        client.sendall(b"two")
        assert is_silent(client)
        assert echo.received == b""
        route.clear()
        assert exactly(client, 7) == b"one two"
        assert exactly(late, 19) == b"of a new connection"


def test_what_a_client_sent_into_a_blackhole_and_gave_up_still_arrives(route: Route, echo: Echo) -> None:
    """Why a timeout says nothing of a write."""
    route.blackhole()
    with connect(route) as client:
        client.sendall(b"write this")
        assert is_silent(client)
    route.clear()
    assert eventually(lambda: echo.received == b"write this")


def test_a_reply_is_held_for_what_it_is_and_no_other_connection_waits(
    route: Route, client: socket.socket
) -> None:
    route.hold(b"secret")
    assert ask(client, b"before") == b"before"
    client.sendall(b"a secret")
    assert eventually(lambda: route.stats().caught == 1)
    client.sendall(b" and after")
    assert is_silent(client)
    with connect(route) as other:
        assert ask(other, b"no such word") == b"no such word"
    route.clear()
    assert exactly(client, 18) == b"a secret and after"


def test_half_open_lets_requests_pass_and_holds_the_replies(
    route: Route, client: socket.socket, echo: Echo
) -> None:
    route.half_open()
    client.sendall(b"request")
    assert eventually(lambda: echo.received == b"request")
    assert is_silent(client)
    route.clear()
    assert exactly(client, 7) == b"request"


def test_a_reset_ends_both_sides_by_rst_and_new_connections_work(
    route: Route, client: socket.socket, echo: Echo
) -> None:
    ask(client, b"x")
    assert route.reset() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert eventually(lambda: echo.ends == ["ConnectionResetError"])
    with connect(route) as another:
        assert ask(another, b"y") == b"y"
    assert route.stats().resets == 1


def test_a_storm_of_resets_meets_connections_that_are_being_made(
    route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    """None keeps a socket that another one gets: asyncio would log it."""
    ends_at = time.monotonic() + 1.0
    with ThreadPoolExecutor(4) as pool:
        storm = [pool.submit(_connect_until, route, ends_at) for _ in range(3)]
        while time.monotonic() < ends_at:
            route.reset()
    assert sum(future.result() for future in storm) > 0
    assert caplog.records == []
    assert eventually(lambda: route.stats().open == 0)
    with connect(route) as client:
        assert ask(client, b"x") == b"x"


def _connect_until(route: Route, ends_at: float) -> int:
    count = 0
    while time.monotonic() < ends_at:
        with suppress(OSError), connect(route):
            count += 1
    return count


def test_a_reset_ends_what_is_held(route: Route, client: socket.socket) -> None:
    route.blackhole()
    client.sendall(b"x")
    assert eventually(lambda: route.stats().open == 1)
    route.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert eventually(lambda: route.stats().open == 0)


def test_who_refuses_does_not_listen_and_keeps_what_is_open(route: Route, client: socket.socket) -> None:
    ask(client, b"x")
    route.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(route)
    assert ask(client, b"y") == b"y"
    route.clear()
    with connect(route) as another:
        assert ask(another, b"z") == b"z"


def test_a_cut_delivers_so_many_bytes_and_resets_each_connection(route: Route, client: socket.socket) -> None:
    ask(client, b"before")
    route.cut(after_bytes=5)
    for one in (client, connect(route)):
        with one:
            one.sendall(b"0123456789")
            assert exactly(one, 5) == b"01234"
            with pytest.raises(ConnectionResetError):
                one.recv(1)
    assert route.stats().cuts == 2
    route.clear()
    with connect(route) as another:
        assert ask(another, b"0123456789") == b"0123456789"


def test_a_cut_on_the_way_up_lets_the_server_see_a_part(
    route: Route, client: socket.socket, echo: Echo
) -> None:
    route.cut(after_bytes=3, ways=["up"])
    client.sendall(b"0123456789")
    assert eventually(lambda: echo.ends)
    assert echo.received in (b"", b"012")  # a reset may overtake what the server has not read


def test_a_server_that_is_away_is_a_reset(proxy: FaultProxy) -> None:
    route = proxy.route(f"echo://127.0.0.1:{free_port()}")
    with pytest.raises(ConnectionResetError), connect(route) as client:
        client.recv(1)
    assert eventually(lambda: route.stats().open == 0)
    assert route.stats().unreachable == 1


def test_routes_fail_one_by_one(proxy: FaultProxy, echo: Echo) -> None:
    one, other = proxy.route(echo.uri), proxy.route(echo.uri)
    one.refuse()
    with connect(other) as client:
        assert ask(client, b"x") == b"x"


def test_an_isolated_process_is_reset_now_and_whenever_it_comes_again(
    route: Route, client: socket.socket
) -> None:
    ask(client, b"x")
    route.isolate(os.getpid())
    with connect(route) as another:
        for one in (client, another):
            with pytest.raises(ConnectionResetError):
                one.recv(1)
    route.clear()
    with connect(route) as last:
        assert ask(last, b"y") == b"y"


def test_a_silently_isolated_process_hears_nothing_until_it_is_reset(
    route: Route, client: socket.socket, echo: Echo
) -> None:
    ask(client, b"before")
    route.isolate(os.getpid(), silently=True)
    with connect(route) as another:
        for one in (client, another):
            one.sendall(b"lost")
            assert is_silent(one)
        route.clear()
        for one in (client, another):
            with pytest.raises(ConnectionResetError):
                one.recv(1)
    assert echo.received == b"before"


def test_other_processes_than_the_isolated_ones_notice_nothing(route: Route, client: socket.socket) -> None:
    route.isolate(os.getppid(), silently=True)
    with connect(route) as another:
        for one in (client, another):
            assert ask(one, b"x") == b"x"


def test_the_proxy_leaves_no_thread_and_no_socket(echo: Echo) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with FaultProxy() as proxy:
        routes = [proxy.route(echo.uri) for _ in range(3)]
        clients = [connect(route) for route in routes]
        for client in clients:
            ask(client, b"x")
        routes[0].blackhole()
        routes[1].refuse()
        ports = {route.port for route in routes}
    for client in clients:
        client.close()
    assert "fault-proxy" not in {thread.name for thread in threading.enumerate()} - before
    open_ports = {
        connection.laddr.port
        for connection in psutil.Process().net_connections(kind="tcp")
        if connection.status in (psutil.CONN_LISTEN, psutil.CONN_ESTABLISHED)
    }
    assert not ports & open_ports


def test_a_uri_keeps_user_database_and_options(proxy: FaultProxy) -> None:
    route = proxy.route("mongodb://user:secret@127.0.0.1:1/app?w=majority")
    assert route.uri == f"mongodb://user:secret@127.0.0.1:{route.port}/app?w=majority&directConnection=true"
    assert proxy.route("redis://127.0.0.1:1/3").uri.endswith("/3")


# A real client, to which the faults are what they are to a task.

Client = pymongo.MongoClient[dict[str, Any]]


def works(client: Client) -> bool:
    """Not at the first try, perhaps: a reset of the heartbeat's connection clears the pool once more."""
    try:
        client.app.facts.find_one()
    except AutoReconnect:
        return False
    return True


@pytest.fixture
def to_mongo(proxy: FaultProxy, mongo: LocalServer) -> Route:
    return proxy.route(mongo.uri)


@pytest.fixture
def through(to_mongo: Route) -> Iterator[Client]:
    limits = {"serverSelectionTimeoutMS": 3000, "connectTimeoutMS": 1000, "heartbeatFrequencyMS": 500}
    with Client(to_mongo.uri, **limits) as client:  # type: ignore[arg-type]  # options of several types
        client.admin.command("ping")
        yield client


def test_a_client_stays_with_the_proxy(through: Client, to_mongo: Route) -> None:
    before = to_mongo.stats().bytes_down
    through.app.facts.insert_one({"text": "x" * 10_000})
    assert through.app.facts.find_one({"text": {"$exists": True}})
    assert to_mongo.stats().bytes_down - before > 10_000
    assert through.address == ("127.0.0.1", to_mongo.port)


def test_what_passes_can_be_read_along_behind_it(proxy: FaultProxy, mongo: LocalServer) -> None:
    with WatchingProxy(mongo.uri) as watching:
        route = proxy.route(watching.uri)
        with Client(route.uri) as client:
            client.app.facts.find_one()
            route.reset()
            assert eventually(lambda: works(client))
        finds = [wire.commands.count("find") for wire in watching.wires()]
        assert eventually(lambda: not any(wire.is_open for wire in watching.wires()))
    assert sum(finds) >= 2


def test_a_client_gets_over_any_number_of_resets(through: Client, to_mongo: Route) -> None:
    for _ in range(5):
        assert to_mongo.reset() > 0
        assert eventually(lambda: works(through))


def test_a_write_whose_reply_is_lost_is_applied_once_although_the_driver_sends_it_again(
    through: Client, to_mongo: Route, mongo_client: Client
) -> None:
    through.app.counts.insert_one({"_id": 1, "n": 0})
    to_mongo.half_open()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(through.app.counts.update_one, {"_id": 1}, {"$inc": {"n": 1}})
        assert eventually(lambda: mongo_client.app.counts.find_one({"_id": 1, "n": 1}))
        to_mongo.reset()
        to_mongo.clear()
        # The heartbeat's own reset may clear the pool under the second attempt.
        assert isinstance(writing.exception(DEADLINE_SECONDS), AutoReconnect | None)
    assert mongo_client.app.counts.find_one({"_id": 1}) == {"_id": 1, "n": 1}


def test_a_blackhole_ends_an_operation_at_its_deadline_and_heals(through: Client, to_mongo: Route) -> None:
    to_mongo.blackhole()
    with pytest.raises((NetworkTimeout, ServerSelectionTimeoutError)), pymongo.timeout(0.5):
        through.app.facts.find_one()
    to_mongo.clear()
    assert eventually(lambda: works(through))


def test_refused_and_reset_a_client_finds_no_server_until_it_is_cleared(
    through: Client, to_mongo: Route
) -> None:
    to_mongo.refuse()
    to_mongo.reset()
    with pytest.raises((AutoReconnect, ServerSelectionTimeoutError)), pymongo.timeout(0.5):
        through.admin.command("ping")
    to_mongo.clear()
    assert eventually(lambda: works(through))


def test_a_reply_that_is_cut_off_is_a_lost_connection(to_mongo: Route, through: Client) -> None:
    through.app.facts.insert_one({"_id": "long", "text": "x" * 100_000})
    to_mongo.cut(after_bytes=50_000)
    with pytest.raises(AutoReconnect), pymongo.timeout(2):
        through.app.facts.find_one({"_id": "long"})
    assert to_mongo.stats().cuts >= 1
