"""Clients that are slow, that vanish, or that come in crowds: they cost nothing but themselves."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import h11
import pytest
from conformance.client import Client
from conformance.process import Server, wait_until

from sansio_copilot.events import verify_events
from sansio_copilot.testing import run_input

pytestmark = pytest.mark.one_a_binding

CROWD = 100
"""The number of clients that each server can take which has a thread for each connection."""
POOL = 160
"""The number of threads that those clients may take."""
HELLO = "Hello from Python"


@contextmanager
def nothing_is_kept(server: Server) -> Iterator[None]:
    """The server keeps no descriptor and no thread of what is done meanwhile."""
    before = server.held()
    # The server that a binding is plugged in decides how many threads its pool has.
    threads = before.threads if server.file.owns_sockets else max(before.threads, POOL)
    yield
    wait_until(lambda: server.held().descriptors <= before.descriptors, "descriptors are closed")
    wait_until(lambda: server.held().threads <= threads, "threads have ended")


@contextmanager
def no_object_is_left(server: Server) -> Iterator[None]:
    """The server keeps no object of what is done meanwhile, once its threads are forgotten."""
    with server.nothing_is_left("Gate"):
        yield
        for config in ("main", "calm"):
            assert server.request("POST", "/threads/clear", config=config).status == 204


def twice(server: Server, attack: Callable[[str], None], thread: str) -> None:
    """A pool keeps the threads that it needed once. It does not need more the second time."""
    # A server that has only just begun has not opened all that it needs.
    server.run("run", f"{thread}-before", agent="text")
    descriptors = server.held().descriptors
    attack(f"{thread}-first")
    wait_until(lambda: server.held().descriptors <= descriptors, "descriptors are closed")
    with nothing_is_kept(server), no_object_is_left(server):
        attack(f"{thread}-second")


def text_of(client: Client) -> str:
    events = client.rest()
    verify_events(events)
    assert events[-1]["type"] == "RUN_FINISHED"
    return "".join(event.get("delta", "") for event in events)


def run_request(client: Client, thread: str) -> bytes:
    body = json.dumps(run_input(thread)).encode()
    return client.request_bytes("POST", "/agent/text/run", body)


# --- Slow ones --------------------------------------------------------------------------------


def slow_readers(server: Server, thread: str, count: int, deltas: int, size: int) -> None:
    """They have read one byte when a fast reader has read everything.

    And that one keeps its pace: it has each event before the next one is made.
    """
    props = {"events": deltas, "size": size}
    with ExitStack() as stack:
        runner, fast = (stack.enter_context(server.client("calm")) for _ in range(2))
        runner.stream("run", thread, agent="paced", forwardedProps=props)
        runner.events(2)
        slow = [
            stack.enter_context(server.client("calm", receive_buffer=4096)) for _ in range(count)
        ]
        for client in slow:
            client.stream("connect", thread).receive_bytes(1)
        fast.stream("connect", thread).events(2)
        for number in range(deltas):
            server.let(thread, steps=1)
            assert fast.next_event()["delta"] == f"{number},".ljust(size)
        assert fast.rest()[-1]["type"] == "RUN_FINISHED"
        assert server.run("run", f"{thread}-other", agent="text").types()[-1] == "RUN_FINISHED"
        assert sum(len(event.get("delta", "")) for event in runner.rest()) == deltas * size
        for client in slow:
            client.cut()


def test_slow_readers_delay_nobody(server: Server, thread: str) -> None:
    """The log has more than the buffers of a socket hold, which is 3 MB."""
    twice(server, lambda name: slow_readers(server, name, 30, 40, 100_000), thread)


@pytest.mark.once
@pytest.mark.needs("a-thousand-streams")
def test_a_thousand_slow_readers_delay_nobody(own_server: Server, thread: str) -> None:
    """The readers have 200 kB each to read: for 3 MB each the system would have no memory."""
    with nothing_is_kept(own_server):
        slow_readers(own_server, thread, 1000, 10, 20_000)
    problems = own_server.end()
    assert not problems, problems[0]


def test_runs_whose_clients_never_read_are_recorded_to_their_end(
    server: Server, thread: str
) -> None:
    props = {"events": 100, "size": 10_000}

    def attack(name: str) -> None:
        clients = [server.client(receive_buffer=4096) for _ in range(20)]
        names = [f"{name}-{number}" for number in range(len(clients))]
        for client, each in zip(clients, names, strict=True):
            client.stream("run", each, agent="says", forwardedProps=props).receive_bytes(1)
        for each in names:
            with server.client() as reader:
                assert len(text_of(reader.stream("connect", each))) == 1_000_000
        for client in clients:
            client.cut()

    twice(server, attack, thread)


def test_a_slow_reader_of_a_deleted_thread_is_broken_off(server: Server, thread: str) -> None:
    """The reader keeps nothing in memory, and does not take what it has got for the whole."""
    props = {"events": 100, "size": 100_000}
    server.run("run", thread, agent="says", forwardedProps=props)
    with server.client(receive_buffer=65536) as client:
        client.stream("connect", thread).next_event()
        begun = server.log_size()
        assert server.request("DELETE", f"/threads/{thread}").status == 200
        with pytest.raises((ConnectionError, h11.RemoteProtocolError)):
            client.rest()
    told = "/agent/default/connect was broken off: what was to be sent has been evicted or deleted"
    wait_until(lambda: told in server.log(begun), "it is logged")
    assert server.run("connect", thread).events() == []


# --- Some that vanish -------------------------------------------------------------------------


def test_connections_may_be_cut_at_any_byte(server: Server, thread: str) -> None:
    """Requests and responses are cut, by a close or a reset; no run suffers from it."""

    def attack(name: str) -> None:
        chance = random.Random(4)
        for number in range(60):
            each = f"{name}-{number}"
            with server.client() as client:
                request = run_request(client, each)
                if chance.random() < 0.4:
                    client.send_raw(request[: chance.randrange(len(request))])
                    begun = False
                else:
                    client.send_raw(request)
                    client.receive_bytes(chance.randrange(1, 1000))
                    begun = True
                chance.choice([Client.cut, Client.close])(client)
            with server.client() as reader:
                reader.stream("connect", each)
                if begun:
                    assert text_of(reader) == HELLO
                else:
                    assert reader.rest() == []

    twice(server, attack, thread)


@pytest.mark.needs("notices-leaving")
def test_readers_of_a_live_run_may_be_cut_at_any_byte(server: Server, thread: str) -> None:
    """No object of the readers stays with the run, which goes on."""

    def attack(name: str) -> None:
        chance = random.Random(5)
        with server.client() as runner:
            runner.stream("run", name)
            seen = runner.events(2)
            wait_until(lambda: server.objects()["_Watch"] > 0, "the runner waits for more")
            with server.nothing_is_left():
                for _ in range(30):
                    with server.client() as reader:
                        reader.stream("connect", name).receive_bytes(chance.randrange(1, 500))
                        chance.choice([Client.cut, Client.close])(reader)
            server.let(name)
            events = seen + runner.rest()
        verify_events(events)
        assert "".join(event.get("delta", "") for event in events) == "01234"

    twice(server, attack, thread)


# --- And many at once -------------------------------------------------------------------------


def test_a_flood_of_connects_to_one_thread(server: Server, thread: str) -> None:
    def attack(name: str) -> None:
        expected = server.run("run", name, agent="text").events()
        with ExitStack() as stack:
            clients = [stack.enter_context(server.client()) for _ in range(CROWD)]
            for _ in range(3):
                for client in clients:
                    client.stream("connect", name)
                replays = [client.rest() for client in clients]
                assert all(replay == replays[0] for replay in replays)
                assert replays[0][-1] == expected[-1]
                if "keep-alive" in server.file.cannot:
                    break

    twice(server, attack, thread)


def test_a_flood_of_connects_to_a_live_run(server: Server, thread: str) -> None:
    def attack(name: str) -> None:
        with ExitStack() as stack:
            runner = stack.enter_context(server.client())
            seen = runner.stream("run", name).events(2)
            clients = [stack.enter_context(server.client()) for _ in range(CROWD)]
            for client in clients:
                client.stream("connect", name)
            for client in clients[: CROWD // 2]:
                client.cut()
            stayed = clients[CROWD // 2 :]
            assert all(client.events(2) == seen for client in stayed)
            server.let(name)
            rest = runner.rest()
            assert all(client.rest() == rest for client in stayed)

    twice(server, attack, thread)
