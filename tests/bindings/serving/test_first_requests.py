"""A server that ends waits a moment for the first request of those who have connected."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
import trustme
import uvloop

from copilot_bindings.asyncio import serve as serve_asyncio
from copilot_bindings.serving import shutdown
from copilot_bindings.sockets import serve as serve_sockets
from copilot_bindings.trio import serve as serve_trio
from sansio_copilot import CopilotRuntime, Limits, text_agent

INFO = b"GET /api/copilotkit/info HTTP/1.1\r\nhost: x\r\n\r\n"
LONG = 60.0


@text_agent
async def hello(input: Any, context: Any) -> Any:
    yield "hello"


def in_asyncio(runtime: CopilotRuntime, **options: Any) -> None:
    asyncio.run(serve_asyncio(runtime, **options))


def in_uvloop(runtime: CopilotRuntime, **options: Any) -> None:
    uvloop.run(serve_asyncio(runtime, **options))


def in_trio(runtime: CopilotRuntime, **options: Any) -> None:
    trio.run(functools.partial(serve_trio, runtime, **options))


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=[in_asyncio, in_trio, serve_sockets])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server in another thread, with a long grace period; it has ended after the test."""
    with serving(request.param) as server:
        yield server


@contextlib.contextmanager
def serving(by: Callable[..., None], **options: Any) -> Iterator[Any]:
    ready: queue.Queue[Any] = queue.Queue()
    serve: Callable[..., None] = functools.partial(
        by,
        CopilotRuntime({"default": hello}, limits=Limits(write_seconds=10 * LONG)),
        port=0,
        grace_seconds=10 * LONG,
        ready=ready.put,
        **options,
    )
    thread = threading.Thread(target=serve)
    thread.start()
    server = ready.get(timeout=LONG)
    yield server
    server.begin_close()
    thread.join(LONG)
    assert not thread.is_alive()


def connected(server: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), LONG)


def received(client: socket.socket) -> bytes:
    """Return everything that the server sends until it closes the connection."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def has_begun_to_end(server: Any, used: socket.socket) -> None:
    """Return when ``server`` ends; ``used`` has had an answer, so that it is closed then."""
    used.sendall(INFO)
    while not used.recv(65536).endswith(b"}"):
        pass
    server.begin_close()
    assert received(used) == b""


def listens_no_more(server: Any) -> None:
    """Return when nobody can connect any more; an idle connection may be closed just before."""
    until = time.monotonic() + LONG
    with contextlib.suppress(ConnectionRefusedError):
        while time.monotonic() < until:
            connected(server).close()
            time.sleep(0.01)
        raise AssertionError("it still listens")


def test_a_first_request_after_the_end_has_begun_is_answered(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "FIRST_REQUEST_SECONDS", 5 * LONG)
    with connected(server) as used, connected(server) as client, connected(server) as slow:
        slow.sendall(INFO[:10])
        has_begun_to_end(server, used)
        listens_no_more(server)
        for each, data in (client, INFO), (slow, INFO[10:]):
            # A second request is behind the last answer of the connection.
            each.sendall(data + INFO)
            answer = received(each)
            assert answer.count(b"HTTP/1.1 200 OK\r\n") == answer.count(b"HTTP/") == 1
            assert b"\r\nconnection: close\r\n" in answer.lower()


def test_a_client_that_sends_nothing_is_not_waited_for(server: Any) -> None:
    with contextlib.ExitStack() as opened:
        used, *silent = [opened.enter_context(connected(server)) for _ in range(5)]
        has_begun_to_end(server, used)
        # The grace period is ten times as long as these wait for the end of their connections.
        assert [received(each) for each in silent] == [b""] * 4


@pytest.mark.parametrize("by", [in_asyncio, in_trio, serve_sockets])
def test_a_client_that_never_begins_to_speak_tls_is_not_waited_for(by: Callable[..., None]) -> None:
    with serving(by, ssl=tls()) as server, connected(server) as silent:
        server.begin_close()
        # Some send an alert of TLS, whose record type is 21 (RFC 8446 section 5.1).
        assert received(silent)[:1] in (b"", b"\x15")


@pytest.mark.parametrize("requests", [0, 1])
@pytest.mark.parametrize("by", [in_asyncio, in_uvloop, in_trio, serve_sockets])
def test_a_client_that_does_not_answer_the_end_of_tls_is_not_waited_for(
    by: Callable[..., None], requests: int
) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with serving(by, ssl=tls()) as server:
        idle = context.wrap_socket(connected(server))
        for _ in range(requests):
            idle.sendall(INFO)
            while not idle.recv(65536).endswith(b"}"):
                pass
    # The server has ended though the client has not, long before the grace period is over.
    idle.close()
