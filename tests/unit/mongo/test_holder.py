"""The one client of a process: threads, forks, overrides."""

import contextlib
import gc
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from worker.errors import ClientClosedError
from worker.mongo.holder import Client, ClientHolder
from worker.tracking.guard import is_closed

# No deadline: a machine that is busy with other things is no fault.
QUICK = settings(max_examples=50, deadline=None)

Built = list[Client]


def build() -> Client:
    return MongoClient(connect=False)


@pytest.fixture
def built() -> Iterator[Built]:
    clients: Built = []
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def holder(built: Built) -> ClientHolder:
    def remember() -> Client:
        built.append(build())
        return built[-1]

    return ClientHolder(remember)


def in_child(answer: Callable[[], str]) -> str:
    """Return what `answer` gives in a forked child."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 on warns of a fork beside threads: that hazard is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        # A child that hangs ends by itself, whatever handler it has inherited.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)
        try:
            text = answer()
        except BaseException as error:  # noqa: BLE001 - the parent is told; a child must not run the tests on
            text = repr(error)
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


def test_nothing_is_built_before_the_first_use(holder: ClientHolder, built: Built) -> None:
    assert holder.client is None
    assert holder.state == "not open"
    assert built == []


def test_every_get_hands_out_the_same_client(holder: ClientHolder, built: Built) -> None:
    assert holder.get() is holder.get() is holder.client is holder.open()
    assert len(built) == 1
    assert repr(holder) == f"<ClientHolder open pid={os.getpid()}>"


def test_threads_that_race_for_the_first_client_get_one(built: Built) -> None:
    coming: list[int] = []
    all_here = threading.Event()

    def slow_build() -> Client:
        all_here.wait(5)
        built.append(build())
        return built[-1]

    holder = ClientHolder(slow_build)
    got: list[Any] = []

    def use() -> None:
        coming.append(1)
        if len(coming) == 8:
            all_here.set()
        got.append(holder.get())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert {id(client) for client in got} == {id(built[0])}


def test_closing_closes_once(holder: ClientHolder, built: Built) -> None:
    client = holder.get()
    assert holder.close() is True
    assert holder.close() is False
    assert is_closed(client)
    assert holder.state == "closed"


def test_a_use_after_closing_is_an_error_that_names_the_process(holder: ClientHolder) -> None:
    holder.close()
    with pytest.raises(ClientClosedError, match=f"process {os.getpid()} was closed"):
        holder.get()


def test_open_opens_again_after_closing(holder: ClientHolder, built: Built) -> None:
    first = holder.open()
    holder.close()
    assert holder.open() is not first
    assert holder.get() is holder.client
    assert len(built) == 2


def test_replacing_closes_the_old_client_and_hands_out_the_new(holder: ClientHolder, built: Built) -> None:
    old = holder.get()
    assert holder.replace() is True
    assert is_closed(old)
    assert holder.get() is built[1]
    assert not is_closed(built[1])


def test_of_many_that_replace_the_same_client_one_does(holder: ClientHolder, built: Built) -> None:
    old = holder.get()
    assert [holder.replace(old) for _ in range(3)] == [True, False, False]
    assert len(built) == 2


def test_nothing_is_replaced_after_closing(holder: ClientHolder, built: Built) -> None:
    """A reconnection that the shutdown overtakes must not leave an open client behind."""
    client = holder.get()
    holder.close()
    assert holder.replace(client) is False
    assert holder.replace() is False
    assert holder.state == "closed"
    assert len(built) == 1


def test_a_client_that_cannot_be_built_leaves_the_old_one_in_its_place() -> None:
    uris = ["mongodb://", "mongodb://h/?tlsCAFile=/gone", "mongodb://h"]
    holder = ClientHolder(lambda: MongoClient(uris.pop(), connect=False))
    client = holder.get()
    with pytest.raises(OSError, match="gone"):
        holder.replace()
    assert holder.get() is client
    assert not is_closed(client)
    holder.close()


def test_overrides_nest_and_restore_themselves_also_on_error(holder: ClientHolder, built: Built) -> None:
    with holder.use("outer") as outer:
        with contextlib.suppress(ZeroDivisionError), holder.use("inner"):
            assert holder.get() == "inner"
            raise ZeroDivisionError
        assert holder.get() == outer == "outer"
    assert built == []
    assert holder.get() is built[0]


def test_an_override_works_while_the_holder_is_closed(holder: ClientHolder) -> None:
    holder.close()
    with holder.use("fake"):
        assert holder.get() == "fake"
    with pytest.raises(ClientClosedError):
        holder.get()


@QUICK
@given(st.lists(st.sampled_from(["open", "get", "close", "replace"]), max_size=8))
def test_at_most_one_client_is_open_after_any_order_of_calls(calls: list[str]) -> None:
    built: Built = []

    def remember() -> Client:
        built.append(build())
        return built[-1]

    holder = ClientHolder(remember)
    for call in calls:
        try:
            getattr(holder, call)()
        except ClientClosedError:
            assert call == "get"
        alive = [client for client in built if not is_closed(client)]
        assert alive == ([holder.client] if holder.state == "open" else [])
    holder.close()


def test_a_forked_child_makes_its_own_client(holder: ClientHolder) -> None:
    parents = holder.get()
    answer = in_child(lambda: f"{holder.state} {holder.get() is parents} {is_closed(parents)}")
    assert answer == "not open False False"
    assert holder.get() is parents


def test_a_child_of_a_process_that_closed_its_client_may_open_one(holder: ClientHolder) -> None:
    holder.get()
    holder.close()
    assert in_child(lambda: f"{holder.state} {holder.get() is holder.client}") == "not open True"


def test_a_fork_while_another_thread_opens_the_client_does_not_block_the_child(built: Built) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def blocking_build() -> Client:
        inside.set()
        go_on.wait(5)
        return build()

    holder = ClientHolder(blocking_build)
    thread = threading.Thread(target=lambda: built.append(holder.get()))
    thread.start()
    inside.wait(5)

    def answer() -> str:
        go_on.set()
        return f"{holder.get() is not None}"

    assert in_child(answer) == "True"
    go_on.set()
    thread.join()


def test_a_holder_that_nobody_needs_is_not_kept_alive_for_forks() -> None:
    holder = ClientHolder(build)
    seen = weakref.ref(holder)
    del holder
    gc.collect()
    assert seen() is None
    assert in_child(lambda: "fine") == "fine"
