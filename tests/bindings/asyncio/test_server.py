"""Tests of asyncio's own part in the asyncio binding; the rest is in tests/conformance."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import h11
import pytest
import trustme
from support.driver import hello
from support.wire import BASE, Connection, body_of, serving

from copilot_bindings.asyncio import connection as asyncio_connection
from copilot_bindings.asyncio import open_server, start_server
from copilot_bindings.asyncio.server import ServerStart
from copilot_bindings.serving.asyncio_backend import AsyncioBackend
from copilot_bindings.serving.service import Service
from sansio_copilot import CopilotRuntime, Hooks, Limits, MemoryStore, RunRefused, text_agent
from sansio_copilot.stores import Cancel, NotifyOwner, RunKey, Signal

Test = Callable[[], Coroutine[Any, Any, None]]


def in_loop(test: Test) -> Callable[[object], None]:
    """Run an async test in an event loop of its own."""

    def run(self: object) -> None:
        asyncio.run(asyncio.wait_for(test(), 60))

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run


class Gate:
    """An agent that yields an event each time the test lets it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.steps = asyncio.Semaphore(0)
        self.unwound = asyncio.Event()

    async def run(self, input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
        run = {"threadId": input.thread_id, "runId": input.run_id}
        try:
            yield {"type": "RUN_STARTED", **run}
            yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
            self.begun.set()
            for number in range(1_000_000):
                await self.steps.acquire()
                if number == 5:
                    break
                yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": str(number)}
            yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
            yield {"type": "RUN_FINISHED", **run}
        finally:
            self.unwound.set()

    def let(self, steps: int) -> None:
        for _ in range(steps):
            self.steps.release()


RUN = f"{BASE}/agent/default/run"
CONNECT = f"{BASE}/agent/default/connect"


def stop(thread_id: str) -> str:
    return f"{BASE}/agent/default/stop/{thread_id}"


def recorded(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    """Return the calls of the method ``name`` of asyncio's protocols on every connection."""
    told: list[tuple[Any, ...]] = []
    method = getattr(asyncio_connection.AsyncioConnection, name)

    def record(self: asyncio.Protocol, *args: Any) -> None:
        told.append(args)
        method(self, *args)

    monkeypatch.setattr(asyncio_connection.AsyncioConnection, name, record)
    return told


class TestHttp:
    """Connections: RFC 9112."""

    @in_loop
    async def test_a_head_request_gets_no_content() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            async with await Connection.open(server.port) as client:
                answer = await client.request("HEAD", f"{BASE}/info")
                assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET", b"")
                assert int(answer.headers["content-length"]) > 0
                assert (await client.request("GET", f"{BASE}/info")).status == 200

    @in_loop
    async def test_a_short_body_that_nobody_reads_costs_no_connection() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            async with await Connection.open(server.port) as client:
                for _ in range(2):
                    answer = await client.request("POST", f"{BASE}/nope", b"x" * 1000)
                    assert answer.status == 404

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_responses_that_nobody_reads_do_not_pile_up(
        self, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transports = recorded(monkeypatch, "connection_made")
        pauses = recorded(monkeypatch, "pause_writing")

        async def test() -> None:
            async with serving(CopilotRuntime({"default": hello})) as server:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                one = f"{method} {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode()
                while not transports:
                    await asyncio.sleep(0)
                [(transport,)] = transports
                # The client sends until the server reads no more.
                while not pauses or transport.is_reading():
                    writer.write(one * 200)
                    await asyncio.sleep(0)
                assert transport.get_write_buffer_size() < 200_000
                writer.transport.abort()

        asyncio.run(test())

    def test_a_last_response_that_nobody_reads_holds_no_connection(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transports = recorded(monkeypatch, "connection_made")

        async def large(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            yield {"type": "CUSTOM", "name": "n", "value": "x" * 20_000_000}
            yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}

        limits = Limits(write_seconds=0.2)

        async def test() -> None:
            async with serving(CopilotRuntime({"default": large}, limits=limits)) as server:
                async with await Connection.open(server.port) as client:
                    await client.request("GET", f"{BASE}/info")
                    [(transport,)] = transports
                    # All of it is in the transport's buffer when the connection is closed.
                    transport.set_write_buffer_limits(high=100_000_000)
                    await client.send("POST", RUN, body_of("t"), {"connection": "close"})
                    await client.begin()
                    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                    async with asyncio.timeout(30):
                        while server.connections:
                            await asyncio.sleep(0.01)

        asyncio.run(test())

    def test_a_client_of_tls_that_takes_the_last_response_late_gets_all_of_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transports = recorded(monkeypatch, "connection_made")
        looks = recorded(monkeypatch, "_time_out")
        authority = trustme.CA()
        server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(server_tls)
        client_tls = ssl.create_default_context()
        authority.configure_trust(client_tls)
        text = b"x" * 40_000

        @text_agent
        def speaker(input: Any, context: Any) -> Any:
            yield text.decode()

        def begin(port: int) -> ssl.SSLSocket:
            plain = socket.socket()
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.settimeout(30)
            plain.connect(("127.0.0.1", port))
            client = client_tls.wrap_socket(plain, server_hostname="localhost")
            client.sendall(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            while not client.recv(65536).endswith(b"}"):
                pass
            return client

        def rest(client: ssl.SSLSocket) -> bytes:
            return b"".join(iter(functools.partial(client.recv, 65536), b""))

        async def test() -> None:
            runtime = CopilotRuntime({"default": speaker})
            async with await start_server(runtime, port=0, ssl=server_tls) as server:
                with await asyncio.to_thread(begin, server.port) as client:
                    [(transport,)] = transports
                    # The kernel takes so little that the rest lies in the transport under TLS's.
                    sock = transport.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
                    body = body_of("t")
                    head = f"POST {RUN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
                    client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
                    async with asyncio.timeout(30):
                        while not transport.is_closing():
                            await asyncio.sleep(0.01)
                        assert transport.get_write_buffer_size() == 0
                        begun = len(looks)
                        while len(looks) < begun + 5:
                            await asyncio.sleep(0.01)
                    answer = await asyncio.to_thread(rest, client)
                    assert text in answer
                    assert answer.endswith(b"\r\n0\r\n\r\n")

        asyncio.run(test())


class TestStreams:
    """Events arrive as the agent yields them, and runs outlive requests."""

    @in_loop
    async def test_a_stop_cancels_the_agent_within_a_turn_of_the_loop() -> None:
        gate = Gate()
        store = MemoryStore()
        async with serving(CopilotRuntime({"default": gate}, store=store)) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                await gate.begun.wait()
                await asyncio.sleep(0)
                assert store.request_stop("t", None)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert gate.unwound.is_set()
                assert [event["type"] for event in await client.rest()] == [
                    "RUN_STARTED",
                    "TEXT_MESSAGE_START",
                    "TEXT_MESSAGE_END",
                    "RUN_FINISHED",
                ]

    @in_loop
    async def test_a_follow_up_run_while_the_agent_still_cleans_up() -> None:
        release = asyncio.Event()
        cleaned: list[str] = []

        async def agent(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            run = {"threadId": input.thread_id, "runId": input.run_id}
            yield {"type": "RUN_STARTED", **run}
            yield {"type": "RUN_FINISHED", **run}
            await release.wait()
            cleaned.append(input.run_id)
            yield {"type": "RUN_ERROR", "message": "too late"}

        async with serving(CopilotRuntime({"default": agent})) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
            ):
                await first.send("POST", RUN, body_of("t", "a"))
                await first.next_event()
                await first.next_event()
                await second.send("POST", RUN, body_of("t", "b"))
                assert (await second.next_event() or {})["runId"] == "b"
                assert await first.rest() == []
                assert cleaned == []
                release.set()
                assert [event["type"] for event in await second.rest()] == [
                    "RUN_FINISHED",
                    "RUN_ERROR",
                ]
                assert cleaned == ["a", "b"]

    @in_loop
    async def test_a_second_run_supersedes_the_first() -> None:
        gate = Gate()
        store = MemoryStore(on_concurrent_run="supersede")
        async with serving(CopilotRuntime({"default": gate}, store=store)) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
            ):
                await first.send("POST", RUN, body_of("t", "a"))
                await first.next_event()
                await second.send("POST", RUN, body_of("t", "b"))
                assert (await second.next_event() or {})["runId"] == "b"
                assert (await first.rest())[-1]["type"] == "RUN_FINISHED"
                gate.let(6)
                await second.rest()
                replay = await first.request("POST", CONNECT, body_of("t"))
                started = [e["runId"] for e in replay.events() if e["type"] == "RUN_STARTED"]
                assert started == ["a", "b"]


class TestAgents:
    """Every shape of agent."""

    @in_loop
    async def test_a_plain_generator_blocks_nobody() -> None:
        release = threading.Event()

        def plain(input: Any, context: Any) -> Iterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            release.wait(60)
            yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}

        async with serving(CopilotRuntime({"default": plain})) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
            ):
                await first.send("POST", RUN, body_of("t"))
                await first.next_event()
                assert (await second.request("GET", f"{BASE}/info")).status == 200
                release.set()
                assert [event["type"] for event in await first.rest()] == ["RUN_FINISHED"]

    @pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, BaseException])
    def test_an_exception_that_is_none_ends_its_own_run_only(
        self, kind: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        async def panics(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            raise kind("panic")

        async def test() -> None:
            gate = Gate()
            runtime = CopilotRuntime({"default": gate, "panics": panics})
            async with serving(runtime) as server:
                async with (
                    await Connection.open(server.port) as first,
                    await Connection.open(server.port) as second,
                ):
                    await first.send("POST", RUN, body_of("t"))
                    await first.next_event()
                    path = f"{BASE}/agent/panics/run"
                    events = (await second.request("POST", path, body_of("p"))).events()
                    assert events[-1]["message"] == "panic"
                    gate.let(6)
                    assert (await first.rest())[-1]["type"] == "RUN_FINISHED"

        asyncio.run(asyncio.wait_for(test(), 60))
        assert "agent 'panics' failed" in caplog.text

    @pytest.mark.parametrize("waits", [asyncio.create_task, asyncio.gather, "thread"])
    def test_a_call_that_an_agent_awaits_may_raise_a_generator_exit(self, waits: Any) -> None:
        def exits() -> None:
            raise GeneratorExit("panic")

        async def panics() -> None:
            exits()

        async def agent(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            await (asyncio.to_thread(exits) if waits == "thread" else waits(panics()))

        async def test() -> None:
            # The server ends only when it knows that its runs have ended.
            async with serving(CopilotRuntime({"default": agent})) as server:
                async with await Connection.open(server.port) as connection:
                    for thread in ("a", "b"):
                        events = (await connection.request("POST", RUN, body_of(thread))).events()
                        assert events[-1]["type"] == "RUN_ERROR"

        asyncio.run(asyncio.wait_for(test(), 60))


class _AsyncStore:
    """A store whose every answer comes a turn of the loop later."""

    blocking = False

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.watch = self.memory.watch
        self.owners: list[NotifyOwner] = []
        """How the owners of runs are told of signals."""

    def watch_run(self, key: RunKey, notify: NotifyOwner) -> Cancel:
        self.owners.append(notify)
        return self.memory.watch_run(key, notify)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.memory, name)

        async def later(*args: Any) -> Any:
            await asyncio.sleep(0)
            outcome = method(*args)
            await asyncio.sleep(0)
            return outcome

        return later


class TestStores:
    """Stores that take their time."""

    @pytest.mark.parametrize("broken", ["watch", "watch_run", "read", "append", "open_run"])
    def test_a_store_that_fails_brings_nothing_else_down(
        self, broken: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken(MemoryStore):
            pass

        def fail(*args: Any) -> Any:
            raise OSError("the disk is gone")

        async def test() -> None:
            gate = Gate()
            store = Broken()
            async with serving(CopilotRuntime({"default": gate}, store=store)) as server:
                async with await Connection.open(server.port) as client:
                    setattr(Broken, broken, fail)
                    await client.send("POST", RUN, body_of("t"))
                    with contextlib.suppress(h11.RemoteProtocolError, OSError):
                        await client.receive()
                delattr(Broken, broken)
                store.request_stop("t", None)
                async with await Connection.open(server.port) as client:
                    await client.send("POST", RUN, body_of("t", "next"))
                    gate.let(6)
                    assert (await client.rest())[-1]["type"] == "RUN_FINISHED"

        asyncio.run(asyncio.wait_for(test(), 60))
        assert "the disk is gone" in caplog.text

    @in_loop
    async def test_a_hook_is_cancelled_with_its_client() -> None:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def hang(context: Any) -> None:
            begun.set()
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        runtime = CopilotRuntime({"default": hello}, hooks=Hooks(on_request=hang))
        async with serving(runtime) as server:
            async with await Connection.open(server.port) as client:
                await client.send("GET", f"{BASE}/info")
                await begun.wait()
                client.cut()
                await asyncio.wait_for(cancelled.wait(), 30)

    @in_loop
    async def test_a_client_that_goes_during_a_hook_that_will_not_die_leaves_no_run() -> None:
        begun = asyncio.Event()

        async def hang(context: Any) -> None:
            begun.set()
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise ValueError("not now") from None

        hooks = Hooks(on_response=hang)
        store = _AsyncStore()
        async with serving(CopilotRuntime({"default": hello}, hooks=hooks, store=store)) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                await begun.wait()
                client.cut()
            while store.memory.open_runs:
                await asyncio.sleep(0)

    @in_loop
    async def test_a_stop_ends_the_run_while_a_slow_store_answers_something_else() -> None:
        gate = Gate()
        store = _AsyncStore()
        async with serving(CopilotRuntime({"default": gate}, store=store)) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
            ):
                await first.send("POST", RUN, body_of("t"))
                await gate.begun.wait()
                [notify] = store.owners
                notify(Signal.CONTINUE)
                await asyncio.sleep(0)
                await second.request("POST", stop("t"))
                async with asyncio.timeout(30):
                    assert (await first.rest())[-1]["type"] == "RUN_FINISHED"


class TestShutdown:
    """A shutdown loses no event and leaves no task."""

    @in_loop
    async def test_runs_end_well_formed_whatever_a_slow_store_is_doing() -> None:
        async def chatty(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            while True:
                yield {"type": "CUSTOM", "name": "n", "value": 1}

        store = _AsyncStore()
        async with serving(CopilotRuntime({"default": chatty}, store=store)) as server:
            clients = [await Connection.open(server.port) for _ in range(5)]
            for number, client in enumerate(clients):
                await client.send("POST", RUN, body_of(f"t{number}"))
                await client.next_event()
            closing = asyncio.ensure_future(server.close())
            for client in clients:
                assert (await client.rest())[-1]["type"] == "RUN_ERROR"
                client.close()
            await closing
        assert not store.memory.open_runs

    @in_loop
    async def test_responses_finish_within_the_grace_period() -> None:
        gate = Gate()
        async with serving(CopilotRuntime({"default": gate}), grace_seconds=10) as server:
            async with (
                await Connection.open(server.port) as client,
                await Connection.open(server.port) as idle,
            ):
                await client.send("POST", RUN, body_of("t"))
                await client.next_event()
                server.begin_close()
                assert await idle.reader.read() == b""
                with pytest.raises(OSError):
                    await Connection.open(server.port)
                gate.let(6)
                assert (await client.rest())[-1]["type"] == "RUN_FINISHED"
            await asyncio.wait_for(server.serve_until_closed(), 30)

    @in_loop
    async def test_an_agent_that_swallows_its_cancellation_is_told_again() -> None:
        told: list[int] = []

        async def stubborn(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            while len(told) < 2:
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    told.append(1)

        async with serving(CopilotRuntime({"default": stubborn})) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                await client.next_event()
                await server.close()
                assert (await client.rest())[-1]["type"] == "RUN_ERROR"
        assert told == [1, 1]

    @in_loop
    async def test_no_run_begins_once_the_runs_have_ended() -> None:
        service = Service(CopilotRuntime({"default": hello}), AsyncioBackend(), 0)
        service.end_runs()
        run: Any = None
        with pytest.raises(RunRefused, match="shutting down"):
            service.start_run(run)


def test_an_agent_that_does_not_end_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The ends of the server and of the loop do not wait for the agent."""
    monkeypatch.setattr("copilot_bindings.serving.shutdown.AGENT_SECONDS", 0)

    @text_agent
    async def endless(input: Any, context: Any) -> AsyncIterator[str]:
        yield "a"
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)

    async def main() -> None:
        async with serving(CopilotRuntime({"default": endless})) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                await client.next_event()
                await server.close()
                assert (await client.rest())[-1]["type"] == "RUN_ERROR"
            assert server.runs == 0

    asyncio.run(main())
    assert any("left behind an agent" in message for message in caplog.messages)


def test_a_task_that_is_cancelled_before_it_begins_is_forgotten() -> None:
    """The end of a server would wait for the task for ever if it were not forgotten."""

    async def main() -> None:
        backend = AsyncioBackend()
        backend.spawn(asyncio.sleep, 0).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert backend.cancel_all() == []

    asyncio.run(main())


def test_the_client_of_these_tests_reads_json() -> None:
    """The helper and the real thing agree on what a body is."""
    assert json.loads(body_of("t"))["threadId"] == "t"


class TestStart:
    """A start is used once, so that no server is without an end."""

    @pytest.mark.parametrize(
        "start", [functools.partial(start_server, port=0), open_server], ids=["start", "open"]
    )
    def test_a_second_use_is_refused(self, start: Callable[[CopilotRuntime], ServerStart]) -> None:
        async def test() -> None:
            starting = start(CopilotRuntime({"default": Gate()}))
            async with starting:
                with pytest.raises(RuntimeError, match="already awaited"):
                    await starting
                with pytest.raises(RuntimeError, match="already awaited"):
                    async with starting:
                        pass
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(test())

    @in_loop
    async def test_python_warns_of_a_start_that_is_not_awaited() -> None:
        starting = [start_server(CopilotRuntime({"default": Gate()}))]
        with pytest.warns(RuntimeWarning, match="never awaited"):
            starting.clear()
