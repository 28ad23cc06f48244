"""Tests of trio's own part in the trio binding: nurseries, cancel scopes, streams, and agents.

Behaviour that it shares with the other bindings is tested in tests/conformance.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import pytest
import trio
import trio.lowlevel
import trio.testing
from conformance.client import Client
from support.owner import threads_of

from copilot_bindings.serving import shutdown
from copilot_bindings.trio import Server, open_server, serve
from sansio_copilot import CopilotRuntime, Hooks, Limits, MemoryStore, text_agent

BASE = "/api/copilotkit"
Test = Callable[[], Coroutine[Any, Any, None]]


def in_trio(test: Test) -> Callable[[], None]:
    """Run an async test in trio."""

    def run() -> None:
        async def bounded() -> None:
            with trio.fail_after(30):
                await test()

        trio.run(bounded)

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run


in_thread = trio.to_thread.run_sync


async def connect(server: Server) -> Client:
    return await in_thread(Client, server.port, BASE, {})


async def served(nursery: trio.Nursery, runtime: CopilotRuntime) -> Server:
    server = await nursery.start(functools.partial(serve, runtime, port=0, grace_seconds=0))
    assert isinstance(server, Server)
    return server


def run_of(input: Any) -> dict[str, Any]:
    return {"threadId": input.thread_id, "runId": input.run_id}


async def endless(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "RUN_STARTED", **run_of(input)}
    await trio.sleep_forever()


@in_trio
async def test_cancelling_the_scope_ends_every_run_well_formed_for_its_readers() -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        server = await served(nursery, CopilotRuntime({"default": endless}, store=store))
        clients = [await connect(server) for _ in range(3)]
        for number, client in enumerate(clients):
            client.stream("run", f"t{number}")
            await in_thread(client.next_event)
        nursery.cancel_scope.cancel()
    for client in clients:
        [last] = client.rest()
        assert (last["type"], last["message"]) == ("RUN_ERROR", "The server is shutting down")
        client.close()
    assert not store.open_runs
    assert len(threads_of(store)) == 3


@in_trio
async def test_close_ends_serve() -> None:
    async with trio.open_nursery() as nursery:
        server = await served(nursery, CopilotRuntime({"default": endless}))
        client = await connect(server)
        client.stream("run", "t")
        await in_thread(client.next_event)
        await server.close()
        assert [event["type"] for event in client.rest()] == ["RUN_ERROR"]
        client.close()


@in_trio
async def test_an_agent_may_use_trio_freely() -> None:
    """A nursery, a memory channel and a time-out inside of an agent."""

    async def agent(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "RUN_STARTED", **run_of(input)}
        send, receive = trio.open_memory_channel[str](0)

        async def work(name: str) -> None:
            with trio.move_on_after(0.01):
                await trio.sleep_forever()
            await send.send(name)

        async with trio.open_nursery() as nursery:
            for name in ("a", "b"):
                nursery.start_soon(work, name)
            names = sorted([await receive.receive(), await receive.receive()])
        yield {"type": "CUSTOM", "name": "names", "value": names}
        yield {"type": "RUN_FINISHED", **run_of(input)}

    async with trio.open_nursery() as nursery:
        server = await served(nursery, CopilotRuntime({"default": agent}))
        client = await connect(server)
        with client:
            events = await in_thread(client.stream("run", "t").rest)
        assert [event.get("value") for event in events] == [None, ["a", "b"], None]
        nursery.cancel_scope.cancel()


@in_trio
async def test_a_scope_that_an_agent_yields_in_and_that_expires_is_the_agents_own() -> None:
    """The time-out strikes the agent where it waits next, and nobody else meanwhile."""

    async def agent(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "RUN_STARTED", **run_of(input)}
        with trio.CancelScope() as scope:
            for number in range(200):
                if number == 3:
                    scope.cancel()
                yield {"type": "CUSTOM", "name": "n", "value": number}
            await trio.lowlevel.checkpoint()
        yield {"type": "CUSTOM", "name": "expired", "value": scope.cancelled_caught}
        yield {"type": "RUN_FINISHED", **run_of(input)}

    async with trio.open_nursery() as nursery:
        server = await served(nursery, CopilotRuntime({"default": agent}))
        with await connect(server) as client:
            events = await in_thread(client.stream("run", "t").rest)
        assert events[-2]["value"] is True
        assert len(events) == 203
        nursery.cancel_scope.cancel()


@in_trio
async def test_a_stop_cancels_the_agent_at_once_and_it_may_clean_up_under_a_shield() -> None:
    log: list[str] = []

    async def agent(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        try:
            yield {"type": "RUN_STARTED", **run_of(input)}
            await trio.sleep_forever()
        finally:
            log.append("cancelled")
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
                log.append("cleaned up")

    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        server = await served(nursery, CopilotRuntime({"default": agent}, store=store))
        with await connect(server) as client:
            client.stream("run", "t")
            await in_thread(client.next_event)
            assert store.request_stop("t", None)
            await trio.testing.wait_all_tasks_blocked()
            assert log[:1] == ["cancelled"]
            events = await in_thread(client.rest)
            assert [event["type"] for event in events] == ["RUN_FINISHED"]
        await server.close()
        assert log == ["cancelled", "cleaned up"]


@text_agent
async def by_anyio(input: Any, context: Any) -> AsyncIterator[str]:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    with anyio.move_on_after(0.001):
        await anyio.sleep_forever()
    yield "anyio"


def test_an_agent_written_for_anyio_runs_under_asyncio_and_trio_alike() -> None:
    import asyncio

    from copilot_bindings.asyncio import start_server

    runtime = CopilotRuntime({"default": by_anyio})

    def ask(port: int) -> str:
        with Client(port, BASE, {}) as client:
            events = client.stream("run", "t").rest()
            return "".join(event.get("delta", "") for event in events)

    async def on_asyncio() -> str:
        server = await start_server(runtime, port=0)
        try:
            return await asyncio.to_thread(ask, server.port)
        finally:
            await server.close()

    async def on_trio() -> str:
        async with trio.open_nursery() as nursery:
            server = await served(nursery, runtime)
            text = await in_thread(ask, server.port)
            nursery.cancel_scope.cancel()
            return text

    assert asyncio.run(on_asyncio()) == trio.run(on_trio) == "anyio"


@in_trio
async def test_an_accept_loop_of_ones_own_may_hand_its_streams_to_the_server() -> None:
    runtime = CopilotRuntime({"default": by_anyio})
    async with open_server(runtime) as server, trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, server.serve_stream, [listener])
        with await connect(server) as client:
            events = await in_thread(client.stream("run", "t").rest)
            assert events[-1]["type"] == "RUN_FINISHED"
        nursery.cancel_scope.cancel()


@in_trio
async def test_any_stream_of_trio_will_do() -> None:
    """A connection is whatever trio calls a stream, and not only a socket."""
    async with open_server(CopilotRuntime({"default": by_anyio})) as server:
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve_stream, theirs)
            await ours.send_all(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert (await ours.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")
            await ours.aclose()


@in_trio
async def test_a_task_that_serves_a_stream_is_cancelled_while_its_run_goes_on() -> None:
    store = MemoryStore()
    async with open_server(CopilotRuntime({"default": endless}, store=store)) as server:
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve_stream, theirs)
            body = b'{"threadId":"t","runId":"r","messages":[],"tools":[],"context":[],"state":{}}'
            head = f"POST {BASE}/agent/default/run HTTP/1.1\r\nhost: x\r\n"
            await ours.send_all(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            received = b""
            while b"RUN_STARTED" not in received:
                received += await ours.receive_some()
            nursery.cancel_scope.cancel()
        assert store.open_runs == 1
        assert not server.connections
        await server.close(grace_seconds=0)
        assert not store.open_runs


@in_trio
async def test_an_exception_in_the_block_ends_the_runs_at_once() -> None:
    store = MemoryStore()
    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        async with (
            trio.open_nursery() as nursery,
            open_server(
                CopilotRuntime({"default": endless}, store=store), grace_seconds=1000
            ) as server,
        ):
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve_stream, theirs)
            body = b'{"threadId":"t","runId":"r","messages":[],"tools":[],"context":[],"state":{}}'
            head = f"POST {BASE}/agent/default/run HTTP/1.1\r\nhost: x\r\n"
            await ours.send_all(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            while not store.open_runs:
                await trio.lowlevel.checkpoint()
            raise KeyError("mine")
    assert not store.open_runs


@in_trio
async def test_a_hook_is_cancelled_with_its_client() -> None:
    begun, cancelled = trio.Event(), trio.Event()

    async def hang(context: Any) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with trio.open_nursery() as nursery:
        runtime = CopilotRuntime({"default": by_anyio}, hooks=Hooks(on_request=hang))
        server = await served(nursery, runtime)
        client = await connect(server)
        client.send("GET", "/info")
        await begun.wait()
        client.cut()
        await cancelled.wait()
        nursery.cancel_scope.cancel()


@in_trio
async def test_a_stubborn_agent_cannot_hold_up_its_readers() -> None:
    release = trio.Event()

    async def stubborn(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "RUN_STARTED", **run_of(input)}
        with trio.CancelScope(shield=True):
            await release.wait()

    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        server = await served(nursery, CopilotRuntime({"default": stubborn}, store=store))
        with await connect(server) as client:
            client.stream("run", "t")
            await in_thread(client.next_event)
            store.request_stop("t", None)
            events = await in_thread(client.rest)
            assert [event["type"] for event in events] == ["RUN_FINISHED"]
            release.set()
        await server.close()


@pytest.mark.parametrize("method", ["open_run", "append", "close_run", "read"])
def test_a_store_that_hangs_cannot_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    hangs = trio.Event()

    async def hang(*args: Any) -> Any:
        hangs.set()
        await trio.sleep_forever()

    async def test() -> None:
        store = type("Hanging", (MemoryStore,), {method: staticmethod(hang)})()
        async with trio.open_nursery() as nursery:
            server = await served(nursery, CopilotRuntime({"default": by_anyio}, store=store))
            with await connect(server) as client:
                client.stream("run", "t")
                await hangs.wait()
                await server.close()

    monkeypatch.setattr(shutdown, "FLUSH_SECONDS", 0.1)
    trio.run(test)
    assert f"store method {method} does not return, and is given up" in caplog.messages


@in_trio
async def test_no_task_is_left_when_many_clients_were_cut() -> None:
    limits = Limits(heartbeat_seconds=0.01)
    async with trio.open_nursery() as nursery:
        server = await served(nursery, CopilotRuntime({"default": endless}, limits=limits))
        for number in range(20):
            client = await connect(server)
            client.stream("run", f"t{number}")
            await in_thread(client.next_event)
            client.cut()
        while server.connections:
            await trio.sleep(0.01)
        await server.close()
