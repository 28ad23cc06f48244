"""A connection fails for a reason that nobody has thought of: one log line, and its own end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from conformance.client import Client

from copilot_bindings.asyncio import start_server as start_asyncio
from copilot_bindings.sockets import connection as sockets_connection
from copilot_bindings.sockets import start_server as start_sockets
from copilot_bindings.trio import connection as trio_connection
from copilot_bindings.trio import serve as serve_trio
from sansio_copilot import CopilotRuntime, Exchange, Request

BASE = "/api/copilotkit"
Try = Callable[[int], None]


class BrokenError(Exception):
    """An error that nobody has thought of."""


class BrokenRuntime(CopilotRuntime):
    """Makes no exchange for some requests."""

    def exchange(self, request: Request, now: float, *, closing: bool = False) -> Exchange:
        if request.path.endswith("/broken"):
            raise BrokenError
        return super().exchange(request, now, closing=closing)


def on_asyncio(runtime: CopilotRuntime, attempt: Try) -> None:
    async def main() -> None:
        server = await start_asyncio(runtime, port=0, grace_seconds=0)
        await asyncio.to_thread(attempt, server.port)
        await server.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def on_trio(runtime: CopilotRuntime, attempt: Try) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(
                    lambda task_status: serve_trio(
                        runtime, port=0, grace_seconds=0, task_status=task_status
                    )
                )
                await trio.to_thread.run_sync(attempt, server.port)
                nursery.cancel_scope.cancel()

    trio.run(main)


def on_sockets(runtime: CopilotRuntime, attempt: Try) -> None:
    server = start_sockets(runtime, port=0, grace_seconds=0)
    try:
        attempt(server.port)
    finally:
        server.close()


def assert_harms_nobody(port: int) -> None:
    with Client(port, BASE, {}) as beside, Client(port, BASE, {}) as broken:
        assert beside.request("GET", "/info").status == 200
        broken.send("GET", "/broken")
        # The connection is reset, lest a client take what has arrived for complete.
        with contextlib.suppress(ConnectionResetError):
            assert broken.receive_all() == b""
        assert beside.request("GET", "/info").status == 200


SERVERS = [on_asyncio, on_trio, on_sockets]


@pytest.mark.parametrize("serve", SERVERS)
def test_a_request_that_makes_no_exchange_ends_its_connection(
    serve: Callable[[CopilotRuntime, Try], None], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        serve(BrokenRuntime({}), assert_harms_nobody)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [error.getMessage() for error in errors] == ["a connection failed"]


@pytest.mark.parametrize("serve", SERVERS)
def test_bytes_that_cannot_be_sent_end_their_connection(
    serve: Callable[[CopilotRuntime, Try], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error comes from underneath, and is not one that a socket is known to have."""

    def breaking(send: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, data: bytes) -> Any:
            if b" 404 " in bytes(data[:20]):
                raise BrokenError
            return send(self, data)

        return call

    selector_events: Any = asyncio.selector_events
    transport = selector_events._SelectorSocketTransport  # noqa: SLF001 - asyncio tells no other
    for owner, name in (
        (transport, "write"),
        (trio_connection.TrioConnection, "_send"),
        (sockets_connection.SocketConnection, "_send"),
    ):
        monkeypatch.setattr(owner, name, breaking(getattr(owner, name)))
    with caplog.at_level(logging.ERROR):
        serve(CopilotRuntime({}), assert_harms_nobody)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [error.getMessage() for error in errors] == ["a connection failed"]
