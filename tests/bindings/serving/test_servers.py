"""The objects that serve a runtime are used in the same way, whichever binding has made them."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

import anyio
import attrs
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from conformance.client import Client

from copilot_bindings import asyncio as on_asyncio
from copilot_bindings import sockets as on_sockets
from copilot_bindings import trio as on_trio
from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.embedding import Host, open_host
from copilot_bindings.serving.start_log import log_start
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, Request
from sansio_copilot.testing import run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"
BODY = json.dumps(run_input("t")).encode()
LENGTH = str(len(BODY))


class Endless:
    """An agent that goes on until it is cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    async def run(self, input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        self.begun.set()
        await anyio.sleep_forever()


@attrs.frozen
class Subject:
    """A server, with what differs in how it is called here."""

    server: Any
    call: Callable[..., Any]
    """Calls a method of the server where it lives, and waits for it."""
    post: Callable[[], Future[bytes]]
    """Begins a request for a run; the result is what was sent when the response has ended."""


def in_a_thread(function: Callable[..., bytes], *args: Any) -> Future[bytes]:
    future: Future[bytes] = Future()

    def call() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call).start()
    return future


def over_http(port: int) -> bytes:
    with Client(port, BASE, {}) as client:
        client.stream("run", "t")
        return client.receive_all()


def called(portal: BlockingPortal, method: Callable[..., Any], **options: Any) -> Any:
    async def call() -> Any:
        outcome = method(**options)
        return await outcome if inspect.isawaitable(outcome) else outcome

    return portal.call(call)


@contextlib.contextmanager
def with_sockets_of_its_own(module: Any, library: str, runtime: Any) -> Iterator[Subject]:
    with start_blocking_portal(library) as portal:
        start = module.start_server(runtime, port=0, grace_seconds=100)
        with portal.wrap_async_context_manager(start) as server:
            yield Subject(
                server,
                lambda method, **options: called(portal, method, **options),
                lambda: in_a_thread(over_http, server.port),
            )


@contextlib.contextmanager
def accepted_by_the_application(runtime: Any) -> Iterator[Subject]:
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(
            on_asyncio.open_server(runtime, grace_seconds=100)
        ) as server,
    ):

        async def listen() -> Any:
            import asyncio

            loop = asyncio.get_running_loop()
            return await loop.create_server(server.protocol, "127.0.0.1", 0)

        listening = portal.call(listen)
        port = listening.sockets[0].getsockname()[1]
        yield Subject(
            server,
            lambda method, **options: called(portal, method, **options),
            lambda: in_a_thread(over_http, port),
        )
        portal.call(listening.close)


@contextlib.contextmanager
def with_threads(runtime: Any) -> Iterator[Subject]:
    with on_sockets.start_server(runtime, port=0, grace_seconds=100) as server:
        yield Subject(
            server,
            lambda method, **options: method(**options),
            lambda: in_a_thread(over_http, server.port),
        )


@contextlib.contextmanager
def in_a_server_of_ones_own(library: str, runtime: Any) -> Iterator[Subject]:
    class ClientInMemory:
        def __init__(self) -> None:
            self.pieces, self.body = [BODY, b""], b""

        async def receive(self) -> bytes:
            return self.pieces.pop(0)

        async def send_head(self, status: int, fields: Any) -> None:
            assert status == 200

        async def send_body(self, data: bytes) -> None:
            self.body += data

    with (
        start_blocking_portal(library) as portal,
        portal.wrap_async_context_manager(open_host(runtime, grace_seconds=100)) as host,
    ):

        async def answer() -> bytes:
            client = ClientInMemory()
            request = Request("POST", RUN, headers={"content-length": LENGTH})
            assert await host.answer(request, client)
            return client.body

        yield Subject(
            host,
            lambda method, **options: called(portal, method, **options),
            lambda: portal.start_task_soon(answer),
        )


@contextlib.contextmanager
def under_asgi(library: str, runtime: Any) -> Iterator[Subject]:
    app = CopilotASGI(runtime, grace_seconds=100, close_on_signals=False)
    scope = {
        "type": "http",
        "method": "POST",
        "path": RUN,
        "query_string": b"",
        "headers": [(b"content-length", LENGTH.encode())],
    }

    async def answer() -> bytes:
        sent: list[Any] = []
        inbox = [{"type": "http.request", "body": BODY, "more_body": False}]

        async def receive() -> Any:
            if not inbox:
                await anyio.sleep_forever()
            return inbox.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return b"".join(message.get("body", b"") for message in sent)

    with start_blocking_portal(library) as portal:
        yield Subject(
            app,
            lambda method, **options: called(portal, method, **options),
            lambda: portal.start_task_soon(answer),
        )


@contextlib.contextmanager
def under_wsgi(runtime: Any) -> Iterator[Subject]:
    app = CopilotWSGI(runtime, grace_seconds=100)

    def answer() -> bytes:
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": RUN,
            "CONTENT_LENGTH": LENGTH,
            "wsgi.input": io.BytesIO(BODY),
        }
        body: Any = app(environ, lambda *head: None)
        try:
            return b"".join(body)
        finally:
            body.close()

    yield Subject(app, lambda method, **options: method(**options), lambda: in_a_thread(answer))


Open = Callable[[CopilotRuntime], AbstractContextManager[Subject]]
SUBJECTS: dict[str, Open] = {
    "asyncio": lambda runtime: with_sockets_of_its_own(on_asyncio, "asyncio", runtime),
    "asyncio-open": accepted_by_the_application,
    "trio": lambda runtime: with_sockets_of_its_own(on_trio, "trio", runtime),
    "sockets": with_threads,
    "host-asyncio": lambda runtime: in_a_server_of_ones_own("asyncio", runtime),
    "host-trio": lambda runtime: in_a_server_of_ones_own("trio", runtime),
    "asgi-asyncio": lambda runtime: under_asgi("asyncio", runtime),
    "asgi-trio": lambda runtime: under_asgi("trio", runtime),
    "wsgi": under_wsgi,
}


def counts(subject: Subject) -> tuple[int, int]:
    return subject.server.connections, subject.server.runs


@pytest.mark.parametrize("is_begun_first", [False, True], ids=["close", "begin_close"])
@pytest.mark.parametrize("open_subject", SUBJECTS.values(), ids=SUBJECTS)
def test_every_server_counts_and_ends_in_the_same_way(
    open_subject: Open, is_begun_first: bool
) -> None:
    agent = Endless()
    with open_subject(CopilotRuntime({"default": agent})) as subject:
        assert counts(subject) == (0, 0)
        answered = subject.post()
        assert agent.begun.wait(60)
        assert counts(subject) == (1, 1)
        if is_begun_first:
            subject.call(subject.server.begin_close, grace_seconds=0)
            subject.call(subject.server.close)
        else:
            subject.call(subject.server.close, grace_seconds=0)
        assert subject.server.runs == 0
        sent = answered.result(60)
        assert b"RUN_ERROR" in sent
        assert b"The server is shutting down" in sent
        assert counts(subject) == (0, 0)


STARTING = {
    "asyncio": "a server of asyncio",
    "asyncio-open": "a server of asyncio",
    "trio": "a server of trio",
    "sockets": "a server of threads",
    "host-asyncio": "a host",
    "host-trio": "a host",
    "asgi-asyncio": "CopilotASGI",
    "asgi-trio": "CopilotASGI",
    "wsgi": "CopilotWSGI",
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_server_tells_of_its_beginning_its_runs_and_its_end(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    agent = Endless()
    with SUBJECTS[name](CopilotRuntime({"default": agent})) as subject:
        answered = subject.post()
        assert agent.begun.wait(60)
        subject.call(subject.server.close, grace_seconds=0)
        answered.result(60)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    operators = [text for level, text in lines if level == "INFO" and "serving on" not in text]
    what = "the agents are 'default', at /api/copilotkit, with threads in a MemoryStore"
    ids = "agent 'default', thread 't', run 'run-1'"
    assert operators[:2] == [f"starting {STARTING[name]}: {what}", f"run started: {ids}"]
    assert operators[2].startswith("shutting down: ")
    assert operators[3].startswith(f"run failed: {ids}, ")
    assert operators[4:] == ["shut down"]
    ways = [text for level, text in lines if level == "DEBUG"]
    assert f"POST {RUN}: taken as agent/run" in ways
    if name != "wsgi":
        # Under WSGI a request is a connection only once it waits, which may come after the end.
        begun = (" is accepted: 1 connections are open", " begins: 1 connections are open")
        assert any(text.endswith(begun) for text in ways)
        assert sum(" has ended: 0 connections are open" in text for text in ways) == 1


def test_a_server_of_many_agents_names_some_of_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = logging.getLogger("copilot_bindings")
    for runtime, agents in (
        (CopilotRuntime({}, base_path=None), "none, at any path"),
        (CopilotRuntime(lambda request: {}, base_path="/"), "picked by a function, at /, with"),
        (CopilotRuntime({str(each): Endless() for each in range(1000)}), "'19', and 980 more, at"),
    ):
        log_start(log, "x", runtime)
        assert agents in caplog.messages[-1]


SERVERS = (
    *(on_asyncio.Server, on_trio.Server, on_sockets.Server),
    *(Host, CopilotASGI, CopilotWSGI),
)


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@pytest.mark.parametrize("name", ["begin_close", "close"])
def test_every_server_takes_the_grace_period_by_name(kind: type, name: str) -> None:
    _, *parameters = inspect.signature(getattr(kind, name)).parameters.values()
    (grace_seconds,) = parameters
    assert grace_seconds.name == "grace_seconds"
    assert grace_seconds.kind is inspect.Parameter.KEYWORD_ONLY
    assert grace_seconds.default is None


def test_the_bindings_with_sockets_start_servers_by_the_same_arguments() -> None:
    for name in ("start_server", "open_server"):
        of_asyncio, of_trio, of_sockets = (
            dict(inspect.signature(getattr(module, name)).parameters)
            for module in (on_asyncio, on_trio, on_sockets)
        )
        # Only the binding of sockets takes a number of threads, because each connection needs one.
        of_sockets.pop("threads", None)
        assert of_asyncio == of_trio == of_sockets


def test_a_server_of_asyncio_is_awaited_or_entered() -> None:
    async def main() -> None:
        runtime = CopilotRuntime({})
        async with on_asyncio.start_server(runtime, port=0) as server:
            assert server.port
        async with await on_asyncio.start_server(runtime, port=server.port) as again:
            assert again.port == server.port
        third = await on_asyncio.open_server(runtime)
        assert third.port == 0
        await third.close()

    anyio.run(main)


def test_a_server_that_does_not_start_leaves_no_socket() -> None:
    async def fail() -> None:
        raise LookupError("no")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    runtime = CopilotRuntime({}, on_start=fail)

    async def main(module: Any) -> None:
        with pytest.raises(Exception, match="on_start") as caught:
            async with module.start_server(runtime, port=port):
                raise AssertionError
        assert type(caught.value).__name__ == "StartFailed"

    anyio.run(main, on_asyncio, backend="asyncio")
    anyio.run(main, on_trio, backend="trio")
    with pytest.raises(Exception, match="on_start"):
        on_sockets.start_server(runtime, port=port)
    socket.create_server(("127.0.0.1", port)).close()
