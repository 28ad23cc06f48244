"""A server of one's own: what the host does when its client goes, and at its end.

What all bindings do is tested by tests/conformance, against docs/examples/own_server.py.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.threads import no_thread_is_left

from copilot_bindings.embedding import Host, NotStarted, open_host
from copilot_bindings.stores import SQLiteStore
from sansio_copilot import AgentContext, CopilotRuntime, Request

BASE = "/api/copilotkit"


class Client:
    """A client in memory; ``told`` is set once its response has begun."""

    def __init__(self, body: bytes = b"", failure: Exception | None = None) -> None:
        self.pieces = [body[:5], body[5:], b""] if body else [b""]
        self.failure = failure
        self.status = 0
        self.body = b""
        self.told = anyio.Event()

    async def receive(self) -> bytes:
        return self.pieces.pop(0)

    async def send_head(self, status: int, fields: Any) -> None:
        self.status = status

    async def send_body(self, data: bytes) -> None:
        self.body += data
        self.told.set()
        if self.failure is not None:
            raise self.failure


class Patient:
    """An agent that begins, and then waits until it is told to end."""

    def __init__(self) -> None:
        self.goes_on = anyio.Event()

    async def run(self, input: Any, context: AgentContext) -> AsyncIterator[Any]:
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        await self.goes_on.wait()
        yield {"type": "RUN_FINISHED", **ids}


def post(what: str, body: bytes) -> Request:
    return Request(
        "POST", f"{BASE}/agent/default/{what}", headers={"content-length": str(len(body))}
    )


def run_body() -> bytes:
    lists: dict[str, list[Any]] = {"messages": [], "tools": [], "context": []}
    return json.dumps({"threadId": "t", "runId": "r", **lists}).encode()


@pytest.fixture(params=["asyncio", "trio"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def history(host: Host) -> bytes:
    client = Client(run_body())
    assert await host.answer(post("connect", run_body()), client)
    return client.body


def test_a_response_is_complete_and_its_body_is_read_in_pieces(library: str) -> None:
    async def main() -> None:
        agent = Patient()
        agent.goes_on.set()
        async with open_host(CopilotRuntime({"default": agent})) as host:
            client = Client(run_body())
            assert await host.answer(post("run", run_body()), client)
            assert client.status == 200
            assert b"RUN_FINISHED" in client.body

    anyio.run(main, backend=library)


@pytest.mark.parametrize("failure", [OSError("reset"), LookupError("of the server")])
def test_a_run_outlives_a_client_that_takes_nothing_more(library: str, failure: Exception) -> None:
    async def main() -> None:
        agent = Patient()
        async with open_host(CopilotRuntime({"default": agent})) as host:
            client = Client(run_body(), failure)
            if isinstance(failure, OSError):
                assert not await host.answer(post("run", run_body()), client)
            else:
                with pytest.raises(LookupError, match="of the server"):
                    await host.answer(post("run", run_body()), client)
            assert host.runs == 1
            agent.goes_on.set()
            assert b"RUN_FINISHED" in await history(host)

    anyio.run(main, backend=library)


def test_a_client_that_goes_while_it_sends_is_not_answered(library: str) -> None:
    class Broken(Client):
        async def receive(self) -> bytes:
            raise ConnectionResetError

    async def main() -> None:
        async with open_host(CopilotRuntime({"default": Patient()})) as host:
            client = Broken()
            assert not await host.answer(post("run", run_body()), client)
            assert client.status == 0
            assert host.runs == 0

    anyio.run(main, backend=library)


def test_a_run_outlives_the_task_of_its_request(library: str) -> None:
    async def main() -> None:
        agent = Patient()
        async with open_host(CopilotRuntime({"default": agent})) as host:
            client = Client(run_body())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(host.answer, post("run", run_body()), client)
                await client.told.wait()
                tasks.cancel_scope.cancel()
            assert host.runs == 1
            agent.goes_on.set()
            assert b"RUN_FINISHED" in await history(host)

    anyio.run(main, backend=library)


@pytest.mark.parametrize("leave", [Host.close, None])
def test_the_end_of_a_host_ends_its_runs(
    library: str, leave: Callable[[Host], Awaitable[None]] | None
) -> None:
    client = None

    async def main() -> None:
        nonlocal client
        client = Client(run_body())
        runtime = CopilotRuntime({"default": Patient()})
        async with anyio.create_task_group() as tasks, open_host(runtime, grace_seconds=0) as host:
            tasks.start_soon(host.answer, post("run", run_body()), client)
            await client.told.wait()
            if leave is not None:
                await leave(host)
                assert host.runs == 0

    anyio.run(main, backend=library)
    assert client is not None
    assert b"RUN_ERROR" in client.body


def test_a_host_that_is_closed_leaves_its_store_closed(library: str, tmp_path: Path) -> None:
    async def main() -> None:
        runtime = CopilotRuntime({"default": Patient()}, store=SQLiteStore(tmp_path / "threads.db"))
        async with open_host(runtime) as host:
            await history(host)
        client = Client(run_body())
        assert await host.answer(post("connect", run_body()), client)
        assert (client.status, b"shutting down" in client.body) == (503, True)
        client = Client()
        assert await host.answer(Request("GET", "/healthz", headers={"host": "a"}), client)
        assert client.status == 200

    with no_thread_is_left():
        anyio.run(main, backend=library)


def test_a_host_that_cannot_start_is_not_opened(library: str) -> None:
    def fail() -> None:
        raise RuntimeError("no database")

    async def main() -> None:
        with pytest.raises(NotStarted, match="no database"):
            async with open_host(CopilotRuntime({}, on_start=fail)):
                raise AssertionError("it is not opened")

    anyio.run(main, backend=library)
