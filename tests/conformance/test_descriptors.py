"""A server that has no file descriptor left: it waits, and says so once."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

import pytest
from conformance.client import Client
from conformance.process import Server, wait_until

pytestmark = pytest.mark.owns_sockets

CLIENTS = 50
# The log has the one line about the shortage and little else, because a line for each attempt would
# fill the disk.
LOG_BYTES = 1000


@contextlib.contextmanager
def descriptors(server: Server, spare: int) -> Iterator[None]:
    """The server may open so many descriptors more than it has."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # The limit is one on the numbers of descriptors, and not on how many there are.
    room = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1 + spare
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def is_served(client: Client) -> bool:
    """Return whether there is an answer by now."""
    client.socket.settimeout(0.2)
    try:
        return client.socket.recv(12) == b"HTTP/1.1 200"
    except TimeoutError:
        return False


@pytest.mark.parametrize("spare", [0, 5])
def test_a_server_without_descriptors_waits_and_says_so_once(
    own_server: Server, thread: str, spare: int
) -> None:
    server = own_server
    request = f"GET {server.file.base_path}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with server.client() as reader, contextlib.ExitStack() as opened:
        reader.stream("run", thread)
        reader.events(2)
        with server.client() as steering:
            assert steering.request("GET", "/info").status == 200
            with descriptors(server, spare):
                logged = server.log_size()
                clients = [opened.enter_context(server.client()) for _ in range(CLIENTS)]
                for client in clients:
                    client.send_raw(request)
                wait_until(lambda: server.log_size() > logged, "it says so")
                # The stream that is open goes on, and what is said meanwhile has a bound: two
                # seconds of heartbeats.
                for _ in range(20):
                    reader.receive_until(b": keep-alive\n\n\r\n")
                steering.request("POST", f"/control/let?thread={thread}&steps=1")
                assert reader.next_event()["delta"] == "0"
                assert server.log_size() - logged < LOG_BYTES, server.log(logged)
                # The client that waits is served once others have gone, because it needs no more
                # descriptors than theirs.
                waiting, rest = clients[-1], clients[:-1]
                assert not is_served(waiting)
                for client in (*rest, steering):
                    client.close()
                wait_until(lambda: is_served(waiting), "it is served")
                assert server.log_size() - logged < LOG_BYTES, server.log(logged)
        server.let(thread)
        assert reader.rest()[-1]["type"] == "RUN_FINISHED"
    problems = server.end()
    assert not problems, problems[0]


def test_streams_begin_and_end_with_no_descriptor_left(own_server: Server, thread: str) -> None:
    """A connection that has been accepted needs no other descriptor for what it asks."""
    threads = [f"{thread}-{number}" for number in range(5)]
    # Python takes a descriptor for the moment in which it imports a module for the first time.
    own_server.request("GET", "/info", headers={"x-hooks": "async"})
    own_server.run("run", f"{thread}-before", agent="text")
    with own_server.clients(len(threads)) as clients, own_server.client() as steering:
        for client in (*clients, steering):
            assert client.request("GET", "/info").status == 200
        with descriptors(own_server, 0):
            for client, name in zip(clients, threads, strict=True):
                headers = {"x-hooks": "async"}
                assert client.stream("run", name, headers=headers).events(2)
            for name in threads:
                steering.request("POST", f"/control/let?thread={name}&steps=6")
            for client in clients:
                assert client.rest()[-1]["type"] == "RUN_FINISHED"
    problems = own_server.end()
    assert not problems, problems[0]
