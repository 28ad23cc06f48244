"""A run's first event leaves in the turn of the loop in which its request has arrived.

The agents here wait for nothing before their first event, so that it is the server who could wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.turns import until
from support.wire import BASE, body_of

from copilot_bindings.asgi import CopilotASGI
from copilot_bindings.asyncio.connection import AsyncioConnection
from copilot_bindings.serving.asyncio_backend import AsyncioBackend
from copilot_bindings.serving.service import Service
from copilot_bindings.serving.shutdown import serve_until_closed
from sansio_copilot import CopilotRuntime, Hooks, MemoryStore

RUN = f"{BASE}/agent/default/run"
EAGER: Any = getattr(asyncio, "eager_task_factory", None)
FACTORIES = dict.fromkeys([None, EAGER])
EVENTS = [
    {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
    {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
]


async def waits(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    yield EVENTS[0]
    await asyncio.sleep(0.001)
    yield EVENTS[1]


async def hook(context: Any) -> None:
    """Is done at once."""


class Turns:
    """Counts the turns of the running loop from now on."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self.count += 1
        self._handle = self._loop.call_soon(self._tick)

    def end(self) -> None:
        self._handle.cancel()


class Transport(asyncio.Transport):
    """Keeps what is written, and in which turn the first event was."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.sent = b""
        self.first: int | None = None
        self._turns = turns

    def write(self, data: Any) -> None:
        self.sent += bytes(data)
        if self.first is None and b"RUN_STARTED" in self.sent:
            self.first = self._turns.count

    def pause_reading(self) -> None:
        """Nothing comes here unasked."""

    resume_reading = close = abort = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


def request(thread: str) -> bytes:
    """The bytes of a request for a run."""
    body = body_of(thread)
    head = f"POST {RUN} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def run_once(runtime: CopilotRuntime) -> None:
    """Serve one run on a connection, to the end of its response and of its agent."""
    service = Service(runtime, AsyncioBackend(), 0)
    connection = AsyncioConnection(service, AsyncioBackend())
    transport = Transport(Turns())
    connection.connection_made(transport)
    connection.data_received(request("t"))
    await until(lambda: b"RUN_FINISHED" in transport.sent and not service.runs)
    connection.connection_lost(None)
    service.begin_close(0)
    await serve_until_closed(service, lambda: None)


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda each: f"{each}"[:15])
def test_the_first_event_leaves_in_the_first_turn_on_a_connection(factory: Any) -> None:
    async def test() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        service = Service(CopilotRuntime({"default": waits}), AsyncioBackend(), 0)
        connection = AsyncioConnection(service, AsyncioBackend())
        turns = Turns()
        transport = Transport(turns)
        connection.connection_made(transport)
        for thread in ("one", "two"):
            transport.sent, transport.first = b"", None
            before = turns.count
            connection.data_received(request(thread))
            await until(lambda: b"RUN_FINISHED" in transport.sent)
            assert transport.first is not None
            assert transport.first == before
            # Head and event leave in one piece, and nothing behind them in the same turn.
            assert transport.sent.startswith(b"HTTP/1.1 200 OK\r\n")
        turns.end()
        connection.connection_lost(None)
        service.begin_close(0)
        await serve_until_closed(service, lambda: None)

    asyncio.run(test())


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda each: f"{each}"[:15])
def test_the_first_event_leaves_in_the_first_turn_in_an_application(factory: Any) -> None:
    async def test() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        app = CopilotASGI(CopilotRuntime({"default": waits}))
        turns = Turns()
        firsts: list[int] = []

        async def receive() -> dict[str, Any]:
            if not firsts and not received:
                received.append(1)
                return {"type": "http.request", "body": body_of("t"), "more_body": False}
            await asyncio.sleep(100)
            raise AssertionError

        async def send(message: Any) -> None:
            if not firsts and b"RUN_STARTED" in message.get("body", b""):
                firsts.append(turns.count - before)

        received: list[int] = []
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": RUN,
            "raw_path": RUN.encode(),
            "query_string": b"",
            "headers": [],
        }
        before = turns.count
        await app(scope, receive, send)
        assert firsts
        assert firsts[0] == 0
        turns.end()
        await app.close(grace_seconds=0)

    asyncio.run(test())


def test_only_the_servers_own_tasks_begin_at_once() -> None:
    """Tasks that an application makes begin as its loop says."""
    seen: list[str] = []

    async def agent(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        async def child() -> None:
            seen.append("child")

        yield EVENTS[0]
        task = asyncio.create_task(child())
        seen.append("agent")
        await task
        yield EVENTS[1]

    async def test() -> None:
        await run_once(CopilotRuntime({"default": agent}))

    asyncio.run(test())
    assert seen == ["agent", "child"]


def test_an_agent_that_stops_its_run_in_its_first_turn_is_cancelled() -> None:
    """The agent is cancelled although its task is not known by anything yet."""
    ended: list[str] = []

    async def test() -> None:
        store = MemoryStore()

        async def agent(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            store.request_stop(input.thread_id, None)
            try:
                yield EVENTS[0]
                await asyncio.sleep(100)
            finally:
                ended.append("agent")

        hooks = Hooks(on_request=hook)
        runtime = CopilotRuntime({"default": agent}, store=store, hooks=hooks)
        await run_once(runtime)

    asyncio.run(test())
    assert ended == ["agent"]
