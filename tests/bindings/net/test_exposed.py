"""A server knows whether others reach it, because its runtime warns of that if it has no users."""

from __future__ import annotations

import asyncio
import functools
import http.client
import logging
import socket
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
import trio

from copilot_bindings import asyncio as asyncio_binding
from copilot_bindings import sockets as sockets_binding
from copilot_bindings import trio as trio_binding
from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, User

BASE = "/api/copilotkit"
ELSEWHERE = "192.0.2.7"


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def warnings_in(caplog: pytest.LogCaptureFixture) -> int:
    return caplog.text.count("knows no users")


def status_at(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"{BASE}/threads")
        return connection.getresponse().status
    finally:
        connection.close()


def serve_asyncio(host: str, runtime: CopilotRuntime) -> int:
    async def serve() -> int:
        async with await asyncio_binding.start_server(runtime, host, 0) as server:
            return await asyncio.to_thread(status_at, server.port)

    return asyncio.run(serve())


def serve_trio(host: str, runtime: CopilotRuntime) -> int:
    async def serve() -> int:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trio_binding.serve, runtime, host, 0)
            status = await trio.to_thread.run_sync(status_at, server.port)
            await server.close()
            return status

    return trio.run(serve)


def serve_sockets(host: str, runtime: CopilotRuntime) -> int:
    with sockets_binding.start_server(runtime, host, 0) as server:
        return status_at(server.port)


def serve_accepted(host: str, runtime: CopilotRuntime) -> int:
    """An accept loop of one's own, which says no address."""
    with sockets_binding.open_server(runtime) as server, socket.create_server((host, 0)) as own:
        port = own.getsockname()[1]

        def accept() -> None:
            server.serve_socket(own.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        status = status_at(port)
        thread.join(60)
        return status


def serve_accepted_by_trio(host: str, runtime: CopilotRuntime) -> int:
    async def serve() -> int:
        async with trio_binding.open_server(runtime) as server, trio.open_nursery() as nursery:
            serve_tcp = functools.partial(trio.serve_tcp, host=host)
            [listener] = await nursery.start(serve_tcp, server.serve_stream, 0)
            port = listener.socket.getsockname()[1]
            status = await trio.to_thread.run_sync(status_at, port)
            nursery.cancel_scope.cancel()
        return status

    return trio.run(serve)


@pytest.mark.parametrize("serve", [serve_asyncio, serve_trio, serve_sockets])
class TestOwnSockets:
    def test_a_socket_on_all_addresses_is_exposed(
        self, serve: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert serve("0.0.0.0", CopilotRuntime({})) == 403
        assert warnings_in(caplog) == 1

    def test_unless_it_is_asked_for(self, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
        assert serve("0.0.0.0", CopilotRuntime({}, shared_threads=True)) == 200
        assert warnings_in(caplog) == 1

    def test_users_need_no_warning(self, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
        runtime = CopilotRuntime({}, identify_user=lambda request: User("ann"))
        assert serve("0.0.0.0", runtime) == 200
        assert warnings_in(caplog) == 0

    def test_loopback_is_for_oneself(self, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
        assert serve("127.0.0.1", CopilotRuntime({})) == 200
        assert warnings_in(caplog) == 0


@pytest.mark.parametrize("serve", [serve_accepted, serve_accepted_by_trio])
def test_a_loop_of_ones_own_is_known_by_its_connections(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The connections come to loopback here, because no test is reached from elsewhere."""
    assert serve("127.0.0.1", CopilotRuntime({})) == 200
    assert warnings_in(caplog) == 0


def test_a_unix_socket_is_of_this_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def serve() -> None:
        path = tmp_path / "s"
        async with await asyncio_binding.start_server(CopilotRuntime({}), unix=path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(f"GET {BASE}/threads HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert b" 200 " in await reader.readline()
            writer.close()
            await writer.wait_closed()

    asyncio.run(serve())
    assert warnings_in(caplog) == 0


class TestASGI:
    def status(self, *scopes: dict[str, Any]) -> list[int]:
        app = CopilotASGI(CopilotRuntime({}))
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def ask() -> None:
            for scope in scopes:
                http_scope = {
                    "type": "http",
                    "method": "GET",
                    "path": f"{BASE}/threads",
                    "headers": [],
                    "query_string": b"",
                    **scope,
                }
                await app(http_scope, receive, send)
            await app.close(grace_seconds=0)

        asyncio.run(ask())
        return statuses

    def test_a_connection_says_where_it_has_come_to_and_from(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        local = {"server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9)}
        scopes: list[dict[str, Any]] = [
            local,
            {},
            {"server": ("/run/s", None), "client": None},
            {"client": (ELSEWHERE, 9)},
            {"server": (ELSEWHERE, 80)},
            local,
        ]
        assert self.status(*scopes) == [200, 200, 200, 403, 403, 200]
        assert warnings_in(caplog) == 1


def test_under_wsgi_the_clients_address_says_it(caplog: pytest.LogCaptureFixture) -> None:
    app = CopilotWSGI(CopilotRuntime({}))

    def status(**environ: str) -> int:
        told: list[str] = []
        setup_testing_defaults(environ)
        environ["PATH_INFO"] = f"{BASE}/threads"
        list(app(environ, lambda line, fields: told.append(line)))
        return int(told[0][:3])

    assert status(REMOTE_ADDR="127.0.0.1", SERVER_NAME="waitress.invalid") == 200
    assert status() == 200
    assert status(REMOTE_ADDR=ELSEWHERE) == 403
    assert status(SERVER_NAME="0.0.0.0") == 403
    assert status(REMOTE_ADDR="::1") == 200
    assert warnings_in(caplog) == 1
    app.close(grace_seconds=0)
