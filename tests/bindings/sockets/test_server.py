"""The binding on plain sockets: what the conformance suite does not ask of every server."""

from __future__ import annotations

import contextlib
import contextvars
import http.client
import logging
import math
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from conformance.client import Client
from conformance.process import wait_until
from support.driver import hello
from support.threads import begun, no_thread_is_left
from support.wire import BASE, body_of

from copilot_bindings.net.listeners import Listeners
from copilot_bindings.serving.pool import ThreadPool
from copilot_bindings.sockets import Server, open_server, serve, start_server
from copilot_bindings.sockets.acceptor import Acceptor
from copilot_bindings.sockets.wake import Wake
from sansio_copilot import CopilotRuntime, Hooks, Limits, MemoryStore, text_agent

RUN = f"{BASE}/agent/default/run"


class Gate:
    """A plain agent that goes on when the test lets it."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def run(self, input: Any, context: Any) -> Iterator[dict[str, Any]]:
        run = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **run}
        self.opened.wait(30)
        yield {"type": "RUN_FINISHED", **run}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with no_thread_is_left():
        yield


@contextlib.contextmanager
def serving(runtime: CopilotRuntime, **options: Any) -> Iterator[Server]:
    server = start_server(runtime, port=0, grace_seconds=0, **options)
    try:
        yield server
    finally:
        server.close()


def client_of(server: Server) -> Client:
    return Client(server.port, BASE, {})


class TestThreads:
    """Functions are called in the thread that their kind has."""

    def test_plain_hooks_that_may_take_for_ever_are_called_in_the_thread_of_the_connection(
        self,
    ) -> None:
        local = threading.local()
        variable = contextvars.ContextVar("variable", default="nothing")
        seen: list[Any] = []

        def on_request(context: Any) -> None:
            local.user = "ada"
            variable.set("set")

        async def on_before_handler(context: Any) -> None:
            seen.append((threading.current_thread().name, variable.get()))

        def on_response(context: Any) -> None:
            seen.append((threading.current_thread().name, variable.get(), local.user))

        hooks = Hooks(
            on_request=on_request, on_before_handler=on_before_handler, on_response=on_response
        )
        limits = Limits(hook_seconds=math.inf)
        with serving(CopilotRuntime({"default": hello}, hooks=hooks, limits=limits)) as server:
            with client_of(server) as client:
                assert client.request("GET", "/info").status == 200
        assert seen == [("copilot-loop", "set"), ("copilot-connection", "set", "ada")]

    def test_a_hook_may_block_its_thread_and_no_other(self) -> None:
        blocked = threading.Barrier(11)

        def on_request(context: Any) -> None:
            blocked.wait(30)

        runtime = CopilotRuntime({"default": hello}, hooks=Hooks(on_request=on_request))
        with serving(runtime) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(client_of(server)) for _ in range(10)]
            for client in clients:
                client.send("GET", "/info")
            blocked.wait(30)
            assert [client.receive().status for client in clients] == [200] * 10

    def test_a_thread_is_used_again(self) -> None:
        with serving(CopilotRuntime({"default": hello})) as server:
            for _ in range(20):
                with client_of(server) as client:
                    assert client.request("GET", "/info").status == 200
            assert begun().count("copilot-connection") < 10

    def test_fifty_clients_ask_for_a_run_of_one_thread_and_one_gets_it(self) -> None:
        store, agent = MemoryStore(), Gate()
        begin = threading.Barrier(50)

        def on_before_handler(context: Any) -> None:
            begin.wait(30)

        hooks = Hooks(on_before_handler=on_before_handler)
        runtime = CopilotRuntime({"default": agent}, store=store, hooks=hooks)
        with serving(runtime) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(client_of(server)) for _ in range(50)]
            for number, client in enumerate(clients):
                client.stream("run", "t", run_id=f"run-{number}")
            with ThreadPoolExecutor(50) as pool:
                statuses = list(pool.map(_status, clients))
            assert sorted(statuses) == [200] + [409] * 49
            agent.opened.set()

    def test_a_hook_that_raises_no_exception_but_an_exit_fails_its_request_only(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def on_request(context: Any) -> None:
            if context.request.query == "exit":
                raise SystemExit("not the server")

        runtime = CopilotRuntime({"default": hello}, hooks=Hooks(on_request=on_request))
        with serving(runtime) as server:
            with client_of(server) as client:
                assert client.request("GET", "/info?exit").status == 500
                assert client.request("GET", "/info").status == 200
        [message] = caplog.messages
        assert message.endswith("/info failed in hook on_request")


def _status(client: Client) -> int:
    while b"\r\n\r\n" not in (head := client.socket.recv(65536)):
        pass
    return int(head.split()[1])


class TestRoom:
    """Clients open more connections than there are threads."""

    def test_one_connection_too_many_is_told_so(self) -> None:
        with serving(CopilotRuntime({"default": hello}), threads=2) as server:
            with client_of(server) as one, client_of(server) as two:
                assert one.request("GET", "/info").status == 200
                assert two.request("GET", "/info").status == 200
                for _ in range(100):
                    with client_of(server) as three:
                        # The request is sent in one piece, because the server has closed its side
                        # before it arrives.
                        answer = three.request("POST", "/agent/default/run", b"x" * 1000)
                        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                        assert answer.headers["connection"] == "close"
                        assert three.socket.recv(1) == b""
                assert one.request("GET", "/info").status == 200

            def is_served() -> bool:
                with client_of(server) as client:
                    return client.request("GET", "/info").status == 200

            wait_until(is_served, "there is room again")

    def test_clients_that_linger_hold_nobody_up(self) -> None:
        with serving(CopilotRuntime({"default": hello}), threads=1) as server:
            with contextlib.ExitStack() as stack:
                served = stack.enter_context(client_of(server))
                assert served.request("GET", "/info").status == 200
                refused = [stack.enter_context(client_of(server)) for _ in range(200)]
                assert {client.receive().status for client in refused} == {503}
                assert served.request("GET", "/info").status == 200

    def test_a_runtime_may_allow_fewer(self) -> None:
        runtime = CopilotRuntime({"default": hello}, limits=Limits(connections=1))
        with serving(runtime, threads=5) as server:
            with client_of(server) as one, client_of(server) as two:
                assert one.request("GET", "/info").status == 200
                assert two.receive().status == 503

    def test_a_pool_that_has_no_thread_left_says_so(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        pool = ThreadPool(1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            assert not pool.submit(lambda: None)
        assert caplog.records
        done = threading.Event()
        assert pool.submit(done.set)
        assert done.wait(30)
        pool.close(30)
        assert not pool.submit(done.set)

    def test_a_thread_that_has_nothing_to_do_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("copilot_bindings.serving.pool.IDLE_SECONDS", 0.01)
        pool = ThreadPool(2)
        for _ in range(3):
            assert pool.submit(lambda: None)
            wait_until(lambda: not begun(), "the thread has ended")
        pool.close(30)

    def test_an_accept_that_fails_is_tried_again(self, caplog: pytest.LogCaptureFixture) -> None:
        class Full(socket.socket):
            failures = 1

            def accept(self) -> Any:
                if self.failures:
                    self.failures -= 1
                    raise OSError("too many open files")
                return super().accept()

        listeners = Listeners("127.0.0.1", 0)
        address = listeners.sockets[0].getsockname()
        listeners.sockets = [Full(fileno=listeners.sockets[0].detach())]
        accepted = threading.Event()

        def close(sock: socket.socket) -> None:
            sock.close()
            accepted.set()

        acceptor = Acceptor(listeners, close)
        with socket.create_connection(address):
            assert accepted.wait(30)
        acceptor.stop()
        assert "no connection can be accepted until there is room: too many open" in caplog.text


class TestStreams:
    """Clients go, or do not read, while they are sent events."""

    def test_a_client_that_goes_is_noticed_at_once(self) -> None:
        agent = Gate()
        runtime = CopilotRuntime({"default": agent}, limits=Limits(heartbeat_seconds=1000))
        with serving(runtime) as server:
            for leave in (Client.cut, Client.close, Client.half_close):
                client = client_of(server)
                client.stream("run", leave.__name__).next_event()
                leave(client)
                wait_until(lambda: not server.connections, "it is noticed")
                client.close()
            agent.opened.set()

    def test_a_request_that_arrives_during_a_stream_is_answered_after_it(self) -> None:
        agent = Gate()
        with serving(CopilotRuntime({"default": agent})) as server, client_of(server) as client:
            client.stream("run", "t").next_event()
            client.send_raw(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n".encode())
            time.sleep(0.05)
            client.send_raw(b"connection: close\r\n\r\n")
            agent.opened.set()
            data = client.receive_all()
            assert data.index(b"RUN_FINISHED") < data.index(b'"version"')

    def test_a_client_that_takes_nothing_is_dropped(self) -> None:
        runtime = CopilotRuntime({"default": chatty}, limits=Limits(write_seconds=0.2))
        with serving(runtime) as server:
            with client_of(server) as client:
                client.stream("run", "t").next_event()
                wait_until(lambda: not server.connections, "it is dropped")
                with pytest.raises(ConnectionError):
                    client.rest()

    @pytest.mark.parametrize("eventfd", [True, False])
    def test_a_wake_up_is_kept_until_it_is_cleared(
        self, eventfd: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not eventfd:
            monkeypatch.delattr(os, "eventfd", raising=False)
        wake = Wake()
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        assert poll.poll(0) == []
        for _ in range(100_000 if not eventfd else 2):
            wake.set()
        assert len(poll.poll(1000)) == 1
        while poll.poll(0):
            wake.clear()
        wake.clear()
        wake.close()
        wake.set()
        wake.close()


@text_agent
async def chatty(input: Any, context: Any) -> Any:
    for _ in range(1000):
        yield "x" * 10_000


class TestClosing:
    """The end of a server."""

    def test_an_idle_connection_is_closed_at_once(self) -> None:
        server = start_server(CopilotRuntime({"default": hello}), port=0, grace_seconds=100)
        with client_of(server) as client, client_of(server) as silent:
            assert client.request("GET", "/info").status == 200
            wait_until(lambda: server.connections == 2, "both are there")
            closing = threading.Thread(target=server.close)
            closing.start()
            # The end does not take the hundred seconds of grace.
            closing.join(30)
            assert not closing.is_alive()
            assert client.socket.recv(1) == silent.socket.recv(1) == b""

    def test_a_hook_that_does_not_return_cannot_hold_it_up(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("copilot_bindings.serving.shutdown.FLUSH_SECONDS", 0.05)
        entered, leave = threading.Event(), threading.Event()

        def on_request(context: Any) -> None:
            entered.set()
            leave.wait(30)

        runtime = CopilotRuntime({"default": hello}, hooks=Hooks(on_request=on_request))
        with serving(runtime) as server, client_of(server) as client:
            client.send("GET", "/info")
            assert entered.wait(30)
            server.close()
            # The first is said if the thread of the connection is slow to notice its end.
            given_up = "hook on_request does not return, and is given up"
            left = "left 1 calls of hook on_request that do not return"
            assert [message for message in caplog.messages if message != given_up] == [left]
            leave.set()
            wait_until(lambda: not begun(), "its thread has ended")

    def test_an_async_hook_that_does_not_return_is_cancelled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import asyncio

        monkeypatch.setattr("copilot_bindings.serving.shutdown.FLUSH_SECONDS", 0.05)
        entered = threading.Event()

        async def on_request(context: Any) -> None:
            entered.set()
            await asyncio.sleep(100)

        runtime = CopilotRuntime({"default": hello}, hooks=Hooks(on_request=on_request))
        with serving(runtime) as server, client_of(server) as client:
            client.send("GET", "/info")
            assert entered.wait(30)
            server.close()

    def test_a_stream_that_never_ends_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("copilot_bindings.serving.shutdown.FLUSH_SECONDS", 0.05)
        with serving(CopilotRuntime({"default": hello}, debug=True)) as server:
            with client_of(server) as client:
                client.send("GET", "/cpk-debug-events")
                client.receive_until(b": connected\n\n")
                server.close()
                with contextlib.suppress(ConnectionError):
                    assert b"0\r\n\r\n" not in client.receive_all()

    def test_a_server_may_be_closed_by_any_number_of_threads(self) -> None:
        with serving(CopilotRuntime({"default": hello})) as server:
            with ThreadPoolExecutor(5) as pool:
                for closing in [pool.submit(server.close) for _ in range(5)]:
                    closing.result()

    def test_serve_outside_the_main_thread_ends_when_its_server_is_closed(self) -> None:
        servers: list[Server] = []
        begun = threading.Event()

        def ready(server: Server) -> None:
            servers.append(server)
            begun.set()

        runtime = CopilotRuntime({"default": hello})
        thread = threading.Thread(target=serve, args=(runtime,), kwargs={"port": 0, "ready": ready})
        thread.start()
        assert begun.wait(30)
        with client_of(servers[0]) as client:
            assert client.request("GET", "/info").status == 200
        servers[0].begin_close()
        thread.join(30)
        assert not thread.is_alive()

    def test_an_address_that_is_taken_is_refused(self) -> None:
        with serving(CopilotRuntime({"default": hello})) as server:
            with pytest.raises(OSError, match="cannot listen"):
                start_server(CopilotRuntime({"default": hello}), port=server.port)


def test_events_are_not_held_back_until_the_one_before_has_arrived() -> None:
    with (
        open_server(CopilotRuntime({"default": hello})) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), 30) as theirs,
    ):
        ours, _ = listener.accept()
        serving_it = threading.Thread(target=server.serve_socket, args=(ours,))
        serving_it.start()
        theirs.sendall(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert theirs.recv(65536)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        theirs.close()
        serving_it.join(30)


class TestUnix:
    def test_a_unix_socket_is_served(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        with serving(CopilotRuntime({"default": hello}), unix=str(path)) as server:
            assert server.port == 0
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(f"GET {BASE}/info HTTP/1.0\r\n\r\n".encode())
                assert b" 200 " in _receive_all(sock)
        assert not path.exists()


def _receive_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
    return bytes(data)


class TestOwnAcceptLoop:
    """A server that gives some of its sockets to a runtime."""

    def test_a_socket_is_served_in_the_thread_that_gives_it(self) -> None:
        def on_request(context: Any) -> None:
            names.append(threading.current_thread().name)

        names: list[str] = []
        runtime = CopilotRuntime(
            {"default": hello},
            hooks=Hooks(on_request=on_request),
            limits=Limits(hook_seconds=math.inf),
        )
        with open_server(runtime, grace_seconds=0) as server:
            ours, theirs = socket.socketpair()
            thread = threading.Thread(target=server.serve_socket, args=(ours,), name="mine")
            thread.start()
            with theirs:
                body = body_of("t")
                head = f"POST {RUN} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
                theirs.sendall(head.encode() + body)
                received = b""
                while b"0\r\n\r\n" not in received:
                    received += theirs.recv(65536)
                assert b"RUN_FINISHED" in received
                # The connection is kept, until its client closes it.
                assert thread.is_alive()
            thread.join(30)
            assert not thread.is_alive()
            assert ours.fileno() == -1
        assert names == ["mine"]

    def test_the_end_of_the_server_ends_its_connections(self) -> None:
        with open_server(CopilotRuntime({"default": hello})) as server:
            ours, theirs = socket.socketpair()
            thread = threading.Thread(target=server.serve_socket, args=(ours,))
            thread.start()
            wait_until(lambda: server.connections == 1, "it is served")
        thread.join(30)
        assert not thread.is_alive()
        with theirs:
            assert theirs.recv(1) == b""

    def test_a_socket_that_comes_too_late_is_told_so(self) -> None:
        with open_server(CopilotRuntime({"default": hello})) as server:
            pass
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            theirs.shutdown(socket.SHUT_WR)
            server.serve_socket(ours)
            assert b" 503 " in _receive_all(theirs)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class TestTls:
    def test_requests_and_streams_are_served_over_tls(
        self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        with serving(CopilotRuntime({"default": hello}), ssl=server_tls) as server:
            client = http.client.HTTPSConnection("127.0.0.1", server.port, context=client_tls)
            for _ in range(3):
                client.request("GET", f"{BASE}/info")
                assert client.getresponse().read().startswith(b"{")
                client.request("POST", RUN, body_of("t"))
                assert b"RUN_FINISHED" in client.getresponse().read()
            client.close()

    def test_a_large_body_gets_a_large_response(
        self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        with serving(CopilotRuntime({"default": chatty}), ssl=server_tls) as server:
            client = http.client.HTTPSConnection("127.0.0.1", server.port, context=client_tls)
            props = {"text": "x" * 3_000_000}
            client.request("POST", RUN, body_of("t", forwardedProps=props))
            assert len(client.getresponse().read()) > 10_000_000
            client.close()

    def test_events_arrive_one_by_one_and_a_client_that_goes_is_noticed(
        self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        agent = Gate()
        runtime = CopilotRuntime({"default": agent}, limits=Limits(heartbeat_seconds=1000))
        with serving(runtime, ssl=server_tls) as server:
            client = http.client.HTTPSConnection("127.0.0.1", server.port, context=client_tls)
            client.request("POST", RUN, body_of("t"))
            response = client.getresponse()
            assert b"RUN_STARTED" in response.readline() + response.readline()
            response.close()
            client.close()
            wait_until(lambda: not server.connections, "it is noticed")
            agent.opened.set()

    def test_the_end_of_a_connection_is_told(
        self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        with serving(CopilotRuntime({"default": hello}), ssl=server_tls) as server:
            plain = socket.create_connection(("127.0.0.1", server.port), 30)
            with client_tls.wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as sock:
                sock.sendall(f"GET {BASE}/info HTTP/1.0\r\n\r\n".encode())
                assert b" 200 " in _receive_all(sock)

    def test_bytes_that_are_not_tls_are_dropped_without_a_word(
        self, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
    ) -> None:
        with serving(CopilotRuntime({"default": hello}), ssl=server_tls) as server:
            for sent in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"", b"\x16\x03\x01"):
                with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
                    sock.sendall(sent)
                    # The server may have hung up by now.
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_WR)
                        assert b"HTTP" not in _receive_all(sock)
                with client_of(server) as client:
                    client.send_raw(sent)
                    client.cut()
            wait_until(lambda: not server.connections, "they are dropped")
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_a_client_that_says_nothing_is_dropped(self, server_tls: ssl.SSLContext) -> None:
        runtime = CopilotRuntime({"default": hello}, limits=Limits(header_seconds=0.05))
        with serving(runtime, ssl=server_tls) as server:
            with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
                with contextlib.suppress(ConnectionError):
                    assert sock.recv(1) == b""

    def test_one_connection_too_many_is_told_so(
        self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        with serving(CopilotRuntime({"default": hello}), ssl=server_tls, threads=1) as server:
            served = http.client.HTTPSConnection("127.0.0.1", server.port, context=client_tls)
            served.request("GET", f"{BASE}/info")
            assert served.getresponse().read()
            refused = http.client.HTTPSConnection("127.0.0.1", server.port, context=client_tls)
            refused.request("GET", f"{BASE}/info")
            response = refused.getresponse()
            assert (response.status, bool(response.read())) == (503, True)
            refused.close()
            served.close()

    def test_a_socket_of_the_application_is_served_over_tls(
        self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        with open_server(CopilotRuntime({"default": hello}), grace_seconds=0) as server:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
                client = http.client.HTTPSConnection("127.0.0.1", port, context=client_tls)

                def accept() -> None:
                    sock, _ = listener.accept()
                    server.serve_socket(server_tls.wrap_socket(sock, server_side=True))

                thread = threading.Thread(target=accept)
                thread.start()
                client.request("GET", f"{BASE}/info")
                assert client.getresponse().status == 200
                client.close()
                thread.join(30)
                assert not thread.is_alive()
