"""The costs of one client for a server that reads HTTP itself: sansio_copilot/limits.py.

The servers of these tests have small limits, and are given ten times as long to apply them.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import time
from collections.abc import Callable, Iterable

import h11
import pytest
from conformance.agents import CHATTY
from conformance.client import TIMEOUT, Client
from conformance.contract import ServerFile
from conformance.process import Server, Servers, wait_until
from conformance.resources import is_open
from conformance.runtimes import LIMITS_OF_A_SERVER
from support.hostile_requests import GET, POST, responses

pytestmark = pytest.mark.owns_sockets

PAUSE = 0.02
CORS = b"\r\naccess-control-allow-origin: *\r\n"


@pytest.fixture
def impatient(server_file: ServerFile, servers: Servers) -> Server:
    return servers.get(server_file, "times")


@pytest.fixture
def crowded(server_file: ServerFile, servers: Servers) -> Server:
    return servers.get(server_file, "counts")


def to(client: Client, data: bytes) -> bytes:
    return data.replace(b"{base}", client.base.encode())


def drip(client: Client, pieces: Iterable[bytes]) -> bytes:
    """Send a piece now and then, until the server answers or hangs up; all that it sends."""
    deadline = time.monotonic() + TIMEOUT
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            client.send_raw(piece)
            if select.select([client.socket], [], [], PAUSE)[0]:
                break
            assert time.monotonic() < deadline, "the server is too patient"
    # A server that hangs up under what is being sent resets the connection.
    with contextlib.suppress(ConnectionResetError):
        return client.receive_all()
    return b""


class TestTimes:
    def test_a_connection_on_which_nothing_is_sent_is_closed(self, impatient: Server) -> None:
        with impatient.client() as client:
            assert client.receive_all() == b""

    def test_a_connection_on_which_nothing_more_is_sent_is_closed(self, impatient: Server) -> None:
        with impatient.client() as client:
            for _ in range(2):
                assert client.request("GET", "/info").status == 200
            assert client.receive_all() == b""

    def test_empty_lines_are_no_request(self, impatient: Server) -> None:
        with impatient.client() as client:
            assert drip(client, itertools.repeat(b"\r\n")) == b""

    @pytest.mark.parametrize("before", [b"", b"\r\n", GET + b"\r\n"], ids=["", "line", "request"])
    def test_a_head_that_comes_now_and_then_runs_out_of_time(
        self, impatient: Server, before: bytes
    ) -> None:
        with impatient.client() as client:
            client.send_raw(to(client, before))
            if before.startswith(GET):
                client.receive_until(b"\r\n\r\n")
            data = drip(client, itertools.chain([b"GET / HTTP/1.1\r\n"], itertools.repeat(b"a")))
        assert b"HTTP/1.1 408 " in data
        assert b"\r\nconnection: close\r\n" in data.lower()

    @pytest.mark.parametrize(
        ("framing", "piece"),
        [(b"content-length: 1000", b" "), (b"transfer-encoding: chunked", b"1\r\n \r\n")],
        ids=["length", "chunks"],
    )
    def test_a_body_that_comes_now_and_then_runs_out_of_time(
        self, impatient: Server, framing: bytes, piece: bytes
    ) -> None:
        with impatient.client() as client:
            client.send_raw(to(client, POST) + framing + b"\r\n\r\n")
            data = drip(client, itertools.repeat(piece))
        [answer] = responses(data)
        assert (answer.status, answer.closes) == (408, True)
        assert CORS in data

    def test_a_body_that_does_not_come_runs_out_of_time(self, impatient: Server) -> None:
        with impatient.client() as client:
            client.send_raw(to(client, POST) + b"content-length: 5\r\n\r\n")
            [answer] = responses(client.receive_all())
        assert (answer.status, answer.closes) == (408, True)

    def test_a_body_that_nobody_wants_runs_out_of_time(self, impatient: Server) -> None:
        with impatient.client() as client:
            head = to(client, POST).replace(b"/agent", b"/nope") + b"content-length: 1000\r\n\r\n"
            client.send_raw(head)
            data = client.receive_until(b"}") + drip(client, itertools.repeat(b" "))
        assert [answer.status for answer in responses(data)] == [404]

    def test_a_run_may_take_its_time(self, impatient: Server, thread: str) -> None:
        with impatient.client() as client:
            client.stream("run", thread)
            client.events(2)
            for _ in range(10):
                client.receive_until(b": keep-alive\n\n")
            impatient.let(thread)
            assert client.receive_until(b"RUN_FINISHED").endswith(b"RUN_FINISHED")

    def test_a_reader_that_takes_nothing_is_dropped_and_the_run_goes_on(
        self, impatient: Server, thread: str
    ) -> None:
        with impatient.client(receive_buffer=4096) as client:
            client.stream("run", thread, agent="chatty")
            wait_until_dropped(impatient, client)
            with pytest.raises((OSError, h11.RemoteProtocolError)):
                client.rest()
        events = impatient.run("connect", thread).events()
        assert len(events) == CHATTY + 2
        assert events[-1]["type"] == "RUN_FINISHED"

    def test_responses_that_nobody_takes_run_out_of_time(self, impatient: Server) -> None:
        with impatient.client(receive_buffer=4096) as client:
            client.socket.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                client.send_raw((to(client, GET) + b"\r\n") * 100_000)
            wait_until_dropped(impatient, client)

    def test_a_reader_that_takes_a_little_is_not_dropped(
        self, impatient: Server, thread: str
    ) -> None:
        """Much less than it takes for the system to say that there is room."""
        patience = LIMITS_OF_A_SERVER["times"].write_seconds
        with impatient.client(receive_buffer=4096) as client:
            client.stream("run", thread, agent="chatty", headers={"connection": "close"})
            begun, received = time.monotonic(), bytearray()
            while time.monotonic() - begun < 4 * patience:
                received += client.socket.recv(5000)
                time.sleep(10 * PAUSE)
            assert len(received) < CHATTY * 10_000 / 4, "it was not slow"
            received += client.receive_all()
        assert len(received) > CHATTY * 10_000
        assert received.endswith(b"\r\n0\r\n\r\n")
        assert b"RUN_FINISHED" in received[-1000:]


class TestSizes:
    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (GET + b"a: " + b"x" * 1500 + b"\r\n\r\n", 200),
            (GET + b"a: " + b"x" * 2000 + b"\r\n\r\n", 431),
            (GET + b"a: b\r\n" * 400 + b"\r\n", 431),
            (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n", 414),
        ],
        ids=["small enough", "long value", "many fields", "long target"],
    )
    def test_a_head_has_a_limit(self, impatient: Server, head: bytes, status: int) -> None:
        with impatient.client() as client:
            client.send_raw(to(client, head))
            assert responses(client.receive_all())[0].status == status

    @pytest.mark.parametrize("expects", [b"", b"expect: 100-continue\r\n"], ids=["", "expects"])
    def test_a_body_of_a_gigabyte_is_refused_before_it_is_sent(
        self, impatient: Server, expects: bytes
    ) -> None:
        with impatient.client() as client:
            client.send_raw(to(client, POST) + expects + b"content-length: 1000000000\r\n\r\n")
            data = client.receive_all()
        [answer] = responses(data)
        assert (answer.status, answer.closes) == (413, True)
        assert b" 100 " not in data
        assert CORS in data


class TestCounts:
    def test_connections_have_a_limit(self, crowded: Server) -> None:
        room = LIMITS_OF_A_SERVER["counts"].connections
        clients = [served(crowded) for _ in range(room)]
        for send in (b"", to(clients[0], GET) + b"\r\n"):
            with crowded.client() as refused:
                refused.send_raw(send)
                data = refused.receive_all()
            [answer] = responses(data)
            assert (answer.status, answer.closes) == (503, True)
            assert b"\r\nretry-after: 1\r\n" in data
        for client in clients:
            assert client.request("GET", "/info").status == 200
        clients.pop().close()
        clients.append(served(crowded))
        for client in clients:
            client.close()

    @pytest.mark.parametrize("leave", [Client.cut, Client.close])
    @pytest.mark.parametrize("sent", [b"", b"POST ", GET, POST], ids=["", "word", "line", "head"])
    def test_a_client_that_leaves_in_the_middle_of_a_request_leaves_its_place(
        self, crowded: Server, sent: bytes, leave: Callable[[Client], None]
    ) -> None:
        for _ in range(3 * LIMITS_OF_A_SERVER["counts"].connections):
            with crowded.client() as client, contextlib.suppress(ConnectionError):
                client.send_raw(to(client, sent))
                leave(client)
        served(crowded).close()

    def test_runs_have_a_limit(self, crowded: Server, thread: str) -> None:
        threads = [f"{thread}-{number}" for number in range(LIMITS_OF_A_SERVER["counts"].runs)]
        for name in threads:
            with served(crowded) as runner:
                runner.stream("run", name).events(2)
                # A run counts as long as it lives, whoever listens.
                runner.cut()
        with served(crowded) as client:
            for _ in range(2):
                answer = client.stream("run", thread, agent="text").receive()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert answer.headers["access-control-allow-origin"] == "*"
                assert answer.json()["message"] == "The server has too many runs"
            crowded.let(threads[0])
            wait_until(
                lambda: client.stream("run", thread, agent="text").receive().status == 200,
                "there is room again",
            )
        crowded.let(threads[1])
        crowded.wait_unwound(threads[1])


def served(server: Server) -> Client:
    """A client that there is room for; that another has gone the server may not know yet."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        client = server.client()
        if client.request("GET", "/info").status == 200:
            return client
        client.close()
        assert time.monotonic() < deadline, "there is no room"


def wait_until_dropped(server: Server, client: Client) -> None:
    address = (server.port, client.socket.getsockname()[1])
    wait_until(lambda: not is_open(*address), "the client is dropped")
