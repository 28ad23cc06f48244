"""HTTP/1.1 without TLS: how a request is framed, where a response ends, and what is kept."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from support.turns import counted_turns
from support.upstream import Step, Upstream, upstream

from copilot_bindings.agents import http_client, http_socket
from copilot_bindings.agents.http import is_cleartext
from copilot_bindings.agents.http_client import CleartextPool, CleartextResponse
from copilot_bindings.agents.http_socket import ClientConnection

pytestmark = pytest.mark.parametrize("library", ["asyncio", "trio"])


def ok(headers: str, body: bytes = b"", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body


async def get(pool: CleartextPool, **more: Any) -> tuple[CleartextResponse, bytes]:
    """Make a request; returns the response and its body, which was read to its end."""
    given: dict[str, Any] = {"headers": {}, "body": b"", "silence": 30.0, **more}
    response = await pool.send("POST", b"/", connect_seconds=30.0, **given)
    try:
        return response, b"".join([piece async for piece in response.aiter_raw()])
    finally:
        await response.aclose()


def with_pool(
    library: str, server: Upstream, use: Callable[[CleartextPool], Awaitable[Any]]
) -> Any:
    async def main() -> Any:
        pool = CleartextPool(httpx.URL(server.url))
        try:
            return await use(pool)
        finally:
            await pool.aclose()

    return anyio.run(main, backend=library)


ENDS = {
    "with its length": ok("content-length: 5\r\n", b"hello"),
    "with a length that is said twice": ok("content-length: 5, 5\r\n", b"hello"),
    "with white space around its length": ok("content-length: \t 5 \t\r\n", b"hello"),
    "in chunks": ok(
        "transfer-encoding: chunked\r\n", b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\na: b\r\n\r\n"
    ),
    "with its connection": ok("", b"hello"),
    "behind an interim response": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    + ok("content-length: 5\r\n", b"hello"),
    "of HTTP/1.0": b"HTTP/1.0 200\r\n\r\nhello",
}


@pytest.mark.parametrize("reply", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("size", [1, 1_000_000], ids=["byte by byte", "at once"])
def test_a_body_is_read_to_its_end_however_that_is_told(
    library: str, reply: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_socket, "READ_BYTES", size)
    with upstream([reply]) as server:
        response, body = with_pool(library, server, get)
    assert (response.status_code, body) == (200, b"hello")


WRONG = {
    "two lengths": ok("content-length: 5\r\ncontent-length: 6\r\n", b"hello"),
    "a length of no digits": ok("content-length: +5\r\n", b"hello"),
    "less than its length": ok("content-length: 9\r\n", b"hello"),
    "no status": b"HTTP/1.1 twenty OK\r\n\r\n",
    "another version": b"HTTP/2 200 OK\r\n\r\n",
    "another protocol": ok("upgrade: x\r\n", status="101 Switching"),
    "no header": ok("a header\r\n"),
    "a folded header": ok("a: b\r\n c\r\n"),
    "a space before the colon": ok("a : b\r\n"),
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000,
    "endless interim responses": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 5_000
    + ok("content-length: 0\r\n"),
    "a chunk of no size": ok("transfer-encoding: chunked\r\n", b"x\r\n"),
    "a chunk without an end": ok("transfer-encoding: chunked\r\n", b"5\r\nhello"),
    "no last chunk": ok("transfer-encoding: chunked\r\n", b"5\r\nhello\r\n"),
    "half a head": b"HTTP/1.1 200 OK\r\na: b\r\n",
}


@pytest.mark.parametrize("reply", WRONG.values(), ids=WRONG)
def test_bytes_that_are_no_response_are_an_error(library: str, reply: bytes) -> None:
    with upstream([reply]) as server, pytest.raises(httpx.RemoteProtocolError):
        with_pool(library, server, get)


KEPT = ok("content-length: 5\r\n", b"hello")
BOTH = ok("content-length: 5\r\ntransfer-encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n")
NOTHING = ok("", status="204 No Content")
CONNECTIONS: dict[str, tuple[int, list[Sequence[Step]]]] = {
    "that has ended its response": (1, [[KEPT, "request", KEPT, "end"]]),
    "without a body": (1, [[NOTHING, "request", KEPT, "end"]]),
    "that says close": (2, [[ok("connection: Close\r\ncontent-length: 0\r\n")], [KEPT]]),
    "of HTTP/1.0": (2, [[b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"], [KEPT]]),
    "whose body has two lengths": (2, [[BOTH], [KEPT]]),
    "that has said more": (2, [[KEPT + b"HTTP/1.1 200 OK\r\n\r\n"], [KEPT]]),
    "that the server has closed": (2, [[KEPT], [KEPT]]),
}


@pytest.mark.parametrize("connections", CONNECTIONS.values(), ids=CONNECTIONS)
def test_a_connection_is_kept_or_not(
    library: str, connections: tuple[int, list[Sequence[Step]]]
) -> None:
    expected, replies = connections
    accepted: list[int] = []

    async def twice(pool: CleartextPool) -> None:
        await get(pool)
        # The end of the connection has to arrive before it can be seen.
        while expected == 2 and pool.kept and pool.kept[0].is_usable():
            await anyio.sleep(0.001)
        response, body = await get(pool)
        assert (response.status_code, body) == (200, b"hello")
        accepted.append(len(replies))

    with upstream(*replies) as server:
        with_pool(library, server, twice)
        assert len(server.asked) == 2
    assert accepted == [expected]


def test_a_connection_is_not_kept_for_long(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "KEPT_SECONDS", 0.0)

    async def twice(pool: CleartextPool) -> None:
        for _ in range(2):
            await get(pool)
            await anyio.sleep(0.001)

    with upstream([KEPT, "end"], [KEPT, "end"]) as server:
        with_pool(library, server, twice)
        assert len(server.asked) == 2
        assert all(asked.gone.wait(30) for asked in server.asked)


def test_no_more_connections_are_kept_than_that(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "MOST_KEPT", 1)

    async def two(pool: CleartextPool) -> int:
        async with anyio.create_task_group() as group:
            group.start_soon(get, pool)
            group.start_soon(get, pool)
        return len(pool.kept)

    with upstream([KEPT, "end"], [KEPT, "end"]) as server:
        assert with_pool(library, server, two) == 1


def test_a_request_is_framed_and_has_the_name_of_the_host(library: str) -> None:
    body = b"x" * 3_000_000
    headers = {"x-name": "Grüße", "x-empty": ""}
    with upstream([KEPT]) as server:
        with_pool(library, server, lambda pool: get(pool, body=body, headers=headers))
        (request,) = server.asked
    port = httpx.URL(server.url).port
    assert request.head.split(b"\r\n") == [
        b"POST / HTTP/1.1",
        f"host: localhost:{port}".encode(),
        "x-name: Grüße".encode("latin-1"),
        b"x-empty: ",
        b"content-length: 3000000",
    ]
    assert request.body == body


@pytest.mark.parametrize(
    "headers",
    [{"a": "b\r\nc: d"}, {"a": "b\nc"}, {"a\r\nb": "c"}, {"a b": "c"}, {"": "c"}, {"a": "\u2028"}],
)
def test_a_header_that_would_be_two_is_refused(library: str, headers: dict[str, str]) -> None:
    with upstream([KEPT]) as server, pytest.raises(httpx.LocalProtocolError):
        with_pool(library, server, lambda pool: get(pool, headers=headers))


def test_white_space_in_a_header_costs_no_more_than_letters(library: str) -> None:
    """A pattern that tries white space in several ways would take hours for this."""
    value = f"a{' ' * 1_000_000}b"
    with upstream([KEPT]) as server:
        with_pool(library, server, lambda pool: get(pool, headers={"x-name": value}))
        assert server.asked[0].header("x-name") == value


def test_a_server_that_sends_all_the_time_leaves_turns_to_others(library: str) -> None:
    async def main() -> int:
        async with counted_turns() as turns:
            for _ in range(1000):
                assert await connection.read(30.0) == b"x"
        return turns.count

    there, here = socket.socketpair()
    with there, here:
        here.setblocking(False)
        there.sendall(b"x" * 1000)
        connection = ClientConnection(here)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(http_socket, "READ_BYTES", 1)
            assert anyio.run(main, backend=library) >= 900


def test_a_server_that_takes_nothing_is_not_waited_for(library: str) -> None:
    """A server that reads the head and no more, until the buffers of both sides are full."""
    head = threading.Event()

    class Deaf(Upstream):
        def _read(self, connection: Any) -> Any:
            head.wait(30)
            raise ConnectionResetError

    server = Deaf([KEPT])
    try:
        with pytest.raises(httpx.WriteTimeout):
            with_pool(library, server, lambda pool: get(pool, body=b"x" * 50_000_000, silence=0.2))
    finally:
        head.set()
        server.close()


def test_a_cancelled_request_leaves_no_connection(library: str) -> None:
    async def cancelled(pool: CleartextPool) -> int:
        with anyio.move_on_after(0.05) as scope:
            await get(pool)
        assert scope.cancelled_caught
        return len(pool.kept)

    with upstream([threading.Event()]) as server:
        assert with_pool(library, server, cancelled) == 0
        # The server may not have been sent anything in that time on a busy machine.
        assert all(asked.gone.wait(30) for asked in server.asked)


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://agents.internal:8000/a", {}, True),
        ("https://agents.internal/a", {}, False),
        ("http://me:secret@agents.internal/a", {}, False),
        ("http://agents.internal/a", {"http_proxy": "http://proxy:1"}, False),
        ("http://agents.internal/a", {"all_proxy": "http://proxy:1"}, False),
        ("http://agents.internal/a", {"https_proxy": "http://proxy:1"}, True),
        ("http://agents.internal/a", {"http_proxy": "http://p:1", "no_proxy": ".internal"}, True),
    ],
)
def test_the_client_is_chosen_unless_another_is_asked_for(
    library: str,
    url: str,
    environment: dict[str, str],
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_cleartext(httpx.URL(url)) is expected
