"""Bodies of every size, however they are framed and cut, and streams of the same sizes back."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator

import pytest
from conformance.agents import measured
from conformance.client import Answer, Client
from conformance.contract import ServerFile
from conformance.process import Server, Servers, wait_until
from conformance.runtimes import BODY_BYTES, LARGE_BODY_BYTES

from sansio_copilot.testing import run_input

KB = 1024
# The sizes lie around those of buffers, reads and limits of the bindings, because mistakes by one
# byte show there.
SIZES = (
    *(60 * KB, 64 * KB - 1, 64 * KB, 64 * KB + 1, 128 * KB - 1, 128 * KB, 128 * KB + 1),
    *(200 * KB, 256 * KB, 1024 * KB, LARGE_BODY_BYTES),
)
CONFIG = "large-bodies"
FRAMINGS = [
    "length",
    pytest.param("chunked", marks=pytest.mark.needs("chunked-body")),
]

_numbers = itertools.count(1)


def body_of(size: int) -> tuple[bytes, str]:
    """The body of a run, of exactly so many bytes, and what the agent is told by it."""

    def body(text: str) -> bytes:
        message = {"id": "m", "role": "user", "content": text}
        fields = run_input(f"bodies-{size}-{number}", "run-1", messages=[message])
        return json.dumps(fields).encode()

    number = next(_numbers)
    text = "x" * (size - len(body("")))
    return body(text), text


def small_body() -> tuple[bytes, str]:
    return body_of(len(body_of(1000)[0]) + 1)


def framed(body: bytes, framing: str, piece: int) -> Iterator[bytes]:
    """``body`` in pieces; as chunks if it is chunked."""
    for at in range(0, len(body), piece):
        data = body[at : at + piece]
        yield b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" else data
    if framing == "chunked":
        yield b"0\r\n\r\n"


def head_of(client: Client, body: bytes, framing: str, *fields: str) -> bytes:
    length = f"content-length: {len(body)}" if framing == "length" else "transfer-encoding: chunked"
    lines = [
        f"POST {client.base}/agent/measures/run HTTP/1.1",
        "host: x",
        f"x-conformance-config: {CONFIG}",
        length,
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def assert_measured(answer: Answer, text: str) -> None:
    assert answer.status == 200, answer.body[:1000]
    said = "".join(event.get("delta", "") for event in answer.events())
    assert said == measured(text)


class TestRequests:
    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_body_arrives_whole(self, server: Server, framing: str) -> None:
        for size in SIZES:
            body, text = body_of(size)
            with server.client() as client:
                client.expect_answer()
                client.send_raw(head_of(client, body, framing))
                for piece in framed(body, framing, size):
                    client.send_raw(piece)
                assert_measured(client.receive(), text)

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_body_that_comes_with_its_head_in_one_piece_is_read_whole(
        self, server: Server, framing: str
    ) -> None:
        for size in SIZES:
            body, text = body_of(size)
            with server.client() as client:
                client.expect_answer()
                head = head_of(client, body, framing)
                client.send_raw(head + b"".join(framed(body, framing, size)))
                assert_measured(client.receive(), text)

    @pytest.mark.parametrize("piece", [1000, 40_000, 65_537])
    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_body_that_comes_in_pieces_is_read_whole(
        self, server: Server, framing: str, piece: int
    ) -> None:
        for size in (60 * KB, 128 * KB + 1, 200 * KB, LARGE_BODY_BYTES):
            body, text = body_of(size)
            with server.client() as client:
                client.expect_answer()
                client.send_raw(head_of(client, body, framing))
                for data in framed(body, framing, piece):
                    client.send_raw(data)
                assert_measured(client.receive(), text)

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_body_arrives_a_byte_at_a_time(self, server: Server, framing: str) -> None:
        body, text = small_body()
        with server.client() as client:
            client.expect_answer()
            client.send_raw(head_of(client, body, framing))
            for piece in framed(body, framing, 7):
                for at in range(len(piece)):
                    client.send_raw(piece[at : at + 1])
            assert_measured(client.receive(), text)

    def test_a_body_of_one_byte_is_read(self, server: Server) -> None:
        answer = server.request("POST", "/agent/measures/run", b"1", config=CONFIG)
        assert answer.status == 400

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_body_of_one_byte_more_than_the_limit_is_refused(
        self, server: Server, framing: str
    ) -> None:
        body, _ = body_of(LARGE_BODY_BYTES + 1)
        headers = {"transfer-encoding": "chunked"} if framing == "chunked" else {}
        with server.client(CONFIG) as client:
            answer = client.request_refused("POST", "/agent/measures/run", body, headers)
        assert answer is None or answer.status == 413

    @pytest.mark.needs("keep-alive")
    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_several_bodies_on_one_connection_are_read_whole(
        self, server: Server, framing: str
    ) -> None:
        headers = {"transfer-encoding": "chunked"} if framing == "chunked" else {}
        with server.client(CONFIG) as client:
            for size in SIZES:
                body, text = body_of(size)
                answer = client.request("POST", "/agent/measures/run", body, headers)
                assert_measured(answer, text)

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_body_announced_by_a_client_that_does_not_wait(
        self, server: Server, framing: str
    ) -> None:
        for size in SIZES:
            body, text = body_of(size)
            with server.client() as client:
                client.expect_answer()
                client.send_raw(head_of(client, body, framing, "expect: 100-continue"))
                for piece in framed(body, framing, size):
                    client.send_raw(piece)
                assert_measured(client.receive(), text)

    @pytest.mark.owns_sockets
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_client_that_announces_its_body_is_told_to_send_it(
        self, server: Server, framing: str
    ) -> None:
        for size in SIZES:
            body, text = body_of(size)
            with server.client() as client:
                client.expect_answer()
                client.send_raw(head_of(client, body, framing, "expect: 100-continue"))
                assert client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                for piece in framed(body, framing, size):
                    client.send_raw(piece)
                assert_measured(client.receive(), text)

    @pytest.mark.owns_sockets
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_bodies_sent_behind_each_other_are_answered_in_their_order(
        self, server: Server, framing: str
    ) -> None:
        with server.client(CONFIG) as client:
            told, sent = [], b""
            for size in (1000, *SIZES, 1000):
                body, text = body_of(size)
                told.append(text)
                sent += head_of(client, body, framing) + b"".join(framed(body, framing, size))
            client.send_raw(sent)
            for text in told:
                client.expect_answer()
                assert_measured(client.receive(), text)


class TestStreams:
    @pytest.mark.parametrize("count", [1, 100])
    def test_streams_of_every_size_arrive_whole_and_are_replayed(
        self, server: Server, thread: str, count: int
    ) -> None:
        for size in (1, *SIZES):
            answer = server.run(
                "run",
                f"{thread}-{size}",
                agent="speaks",
                config=CONFIG,
                forwardedProps={"count": count, "size": max(size // count, 1)},
            )
            said = [event["delta"] for event in answer.events() if "delta" in event]
            expected = [chr(ord("a") + n % 26) * max(size // count, 1) for n in range(count)]
            # A finished run may be told with its deltas joined.
            assert "".join(said) == "".join(expected)
            again = server.run("connect", f"{thread}-{size}", agent="speaks", config=CONFIG)
            said = [event["delta"] for event in again.events() if "delta" in event]
            assert "".join(said) == "".join(expected)


@pytest.fixture
def full(server_file: ServerFile, servers: Servers) -> Server:
    """A server that has room for three of the largest bodies."""
    return servers.get(server_file, "bodies")


@pytest.mark.one_a_binding
class TestRoom:
    """Limits.bodies_bytes."""

    def begin(self, server: Server, framing: str) -> tuple[Client, list[bytes]]:
        """An upload that lacks its end, and that."""
        client = server.client()
        client.expect_answer()
        body, _ = body_of(BODY_BYTES)
        pieces = list(framed(body, framing, BODY_BYTES - 1000))
        head = head_of(client, body, framing).replace(CONFIG.encode(), b"main")
        client.send_raw(head + pieces[0])
        return client, pieces[1:]

    def announce(self, server: Server) -> Answer | None:
        """The answer to a large body that is announced and not sent; None if it is waited for."""
        with server.client() as client:
            client.expect_answer()
            head = head_of(client, b"x" * BODY_BYTES, "length")
            client.send_raw(head.replace(CONFIG.encode(), b"main"))
            client.socket.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                return client.receive()
        return None

    def refused(self, server: Server) -> Answer:
        """The answer to such a body once there is no more room."""
        answers: list[Answer | None] = [None]

        def is_refused() -> bool:
            answers.append(self.announce(server))
            return answers[-1] is not None

        wait_until(is_refused, "there is no more room")
        assert answers[-1] is not None
        return answers[-1]

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_bodies_that_arrive_together_have_a_limit(self, full: Server, framing: str) -> None:
        uploads = [self.begin(full, framing) for _ in range(3)]
        answer = self.refused(full)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["access-control-allow-origin"] == "*"
        for client, rest in uploads[:2]:
            for piece in rest:
                client.send_raw(piece)
            assert client.receive().status == 200
            client.close()
        uploads[:2] = [self.begin(full, framing) for _ in range(2)]
        self.refused(full)
        # A client that goes leaves its room to others.
        for client, _ in uploads:
            client.cut()
        body, text = body_of(BODY_BYTES)
        answers = [answer]

        def is_taken() -> bool:
            answers.append(full.request("POST", "/agent/measures/run", body))
            return answers[-1].status != 503

        wait_until(is_taken, "there is room again")
        assert_measured(answers[-1], text)

    def test_a_stream_holds_no_body(self, full: Server, thread: str) -> None:
        threads = [f"{thread}-{number}" for number in range(5)]
        with full.clients(len(threads)) as clients:
            for client, name in zip(clients, threads, strict=True):
                body = json.dumps(run_input(name)).encode().rjust(BODY_BYTES)
                client.send("POST", "/agent/default/run", body)
                assert client.events(2)[0]["type"] == "RUN_STARTED"
            for client, name in zip(clients, threads, strict=True):
                full.let(name)
                assert client.rest()[-1]["type"] == "RUN_FINISHED"


@pytest.mark.owns_sockets
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_uploads_are_held_once_and_given_back(own_server: Server, framing: str) -> None:
    """The system's figure for the process counts, which is more than Python's own."""
    size, count, piece = 8 * 1024 * KB, 6, b" " * 64 * KB
    # The server is new, since what others have left on the heap of a server goes with the first
    # body.
    server = own_server
    assert server.run("run", "t", agent="text").status == 200
    before = server.held().resident
    for _ in range(3):
        with server.clients(count) as clients:
            for client in clients:
                head = head_of(client, b" " * size, framing).replace(CONFIG.encode(), b"calm")
                client.send_raw(head)
            # All bodies arrive side by side up to their last pieces, so that the server has to hold
            # all of them.
            for _ in range(size // len(piece) - 1):
                for client in clients:
                    client.send_raw(next(framed(piece, framing, len(piece))))
            sent = count * (size - len(piece))
            wait_until(lambda: server.held().resident - before > 0.75 * sent, "it has arrived")  # noqa: B023
            assert server.held().resident - before < 1.3 * sent
        # The first MiB of each was on the heap of its thread, and the C library may keep that.
        kept = 0.25 * sent + count * 1024 * KB
        wait_until(lambda: server.held().resident - before < kept, "it is given back")  # noqa: B023
