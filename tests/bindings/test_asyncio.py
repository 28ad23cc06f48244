"""The asyncio binding over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import h11
import pytest
from bindings.wire import BASE, Connection, body_of, serving

from sansio_copilot import CopilotRuntime, Hooks, Limits, MemoryStore, Reject, Response, text_agent

Test = Callable[[], Coroutine[Any, Any, None]]


def in_loop(test: Test) -> Callable[[object], None]:
    """Run an async test in an event loop of its own."""

    def run(self: object) -> None:
        asyncio.run(asyncio.wait_for(test(), 30))

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


@text_agent
async def hello(input: Any, context: Any) -> AsyncIterator[str]:
    for word in ("Hello", " from", " Python"):
        yield word


HELLO = [
    "RUN_STARTED",
    "TEXT_MESSAGE_START",
    *["TEXT_MESSAGE_CONTENT"] * 3,
    "TEXT_MESSAGE_END",
    "RUN_FINISHED",
]
RUN = f"{BASE}/agent/default/run"
CONNECT = f"{BASE}/agent/default/connect"


def stop(thread_id: str) -> str:
    return f"{BASE}/agent/default/stop/{thread_id}"


class TestHttp:
    """Connections: RFC 9112."""

    @in_loop
    async def test_keep_alive() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            async with await Connection.open(server.port) as client:
                for _ in range(3):
                    answer = await client.request("GET", f"{BASE}/info")
                    assert answer.json()["agents"]["default"]["className"] == "hello"
                    assert "connection" not in answer.headers
                    assert (await client.request("POST", RUN, body_of("t"))).types() == HELLO

    @in_loop
    async def test_pipelined_requests_are_answered_in_order() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = body_of("t")
            run = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s"
            info = b"GET %s/info HTTP/1.1\r\nhost: x\r\n\r\n" % BASE.encode()
            last = info.replace(b"host: x", b"host: x\r\nconnection: close")
            writer.write(run % (RUN.encode(), len(body), body) + info + last)
            data = await reader.read()
            writer.close()
            assert data.count(b"HTTP/1.1 200 OK") == 3
            assert data.index(b"RUN_FINISHED") < data.index(b'"version"')

    @in_loop
    async def test_http_1_0_gets_a_body_that_ends_with_the_connection() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = body_of("t")
            head = f"POST {RUN} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            head_bytes, _, stream = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            assert b"chunked" not in head_bytes.lower()
            assert b"connection: close" in head_bytes.lower()
            assert stream.endswith(b"\n\n")
            assert stream.count(b"data: ") == len(HELLO)

    @in_loop
    async def test_connection_close_is_honoured_on_streams() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            async with await Connection.open(server.port) as client:
                answer = await client.request("POST", RUN, body_of("t"), connection="close")
                assert answer.types() == HELLO
                assert answer.headers["connection"] == "close"
                assert await client.reader.read() == b""

    @in_loop
    async def test_100_continue_is_sent_when_the_body_is_wanted() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = body_of("t")
            head = f"POST {RUN} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode())
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()

    @in_loop
    async def test_a_hook_that_rejects_spares_the_upload() -> None:
        def deny(context: Any) -> None:
            raise Reject(Response(401, body="no"))

        runtime = CopilotRuntime({"default": hello}, hooks=Hooks(on_request=deny))
        async with serving(runtime) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"POST {RUN} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
            writer.write(f"{head}content-length: 1000\r\n\r\n".encode())
            data = await reader.read()
            writer.close()
            assert data.startswith(b"HTTP/1.1 401 ")
            assert b"connection: close" in data.lower()

    @in_loop
    async def test_head() -> None:
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

    @in_loop
    async def test_a_chunked_body() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            async with await Connection.open(server.port) as client:
                chunked = {"transfer-encoding": "chunked"}
                await client.send("POST", RUN, body_of("t"), chunked)
                assert (await client.receive()).types() == HELLO

    @pytest.mark.parametrize("announced", [True, False])
    def test_too_large_a_body(self, announced: bool) -> None:
        async def test() -> None:
            runtime = CopilotRuntime({"default": hello}, limits=Limits(body_bytes=100_000))
            async with serving(runtime) as server:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                length = "content-length: 1000000" if announced else "transfer-encoding: chunked"
                writer.write(f"POST {RUN} HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode())
                if not announced:
                    writer.write(b"%x\r\n%s\r\n" % (200_000, b" " * 200_000))
                data = await reader.read()
                writer.close()
                assert data.startswith(b"HTTP/1.1 413 ")
                assert b"longer than 100000 bytes" in data

        asyncio.run(test())

    @pytest.mark.parametrize(
        ("garbage", "status"),
        [
            (b"garbage\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"x" * 100_000, b"431"),
            (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", b"501"),
            (
                f"POST {RUN} HTTP/1.1\r\nhost: x\r\n".encode()
                + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
                b"400",
            ),
        ],
    )
    def test_what_is_not_http(self, garbage: bytes, status: bytes) -> None:
        async def test() -> None:
            async with serving(CopilotRuntime({"default": hello})) as server:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(garbage)
                data = await asyncio.wait_for(reader.read(), 5)
                writer.close()
                assert data.startswith(b"HTTP/1.1 " + status)
                assert b"connection: close" in data

        asyncio.run(test())

    @in_loop
    async def test_a_client_that_closes_its_side_is_answered() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            writer.write_eof()
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            writer.close()

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_responses_that_nobody_reads_do_not_pile_up(self, method: str) -> None:
        async def test() -> None:
            async with serving(CopilotRuntime({"default": hello})) as server:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                one = f"{method} {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        while True:
                            writer.write(one * 2000)
                            async with asyncio.timeout(0.5):
                                await writer.drain()
                [connection] = server._service.connections
                assert connection._transport.get_write_buffer_size() < 200_000
                writer.transport.abort()

        asyncio.run(test())

    @in_loop
    async def test_a_last_response_that_nobody_reads_holds_no_connection() -> None:
        async def large(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            yield {"type": "CUSTOM", "name": "n", "value": "x" * 20_000_000}
            yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}

        limits = Limits(write_seconds=0.2)
        async with serving(CopilotRuntime({"default": large}, limits=limits)) as server:
            async with await Connection.open(server.port) as client:
                await client.request("GET", f"{BASE}/info")
                [connection] = server._service.connections
                # All of it is in the transport's buffer when the connection is closed.
                connection._transport.set_write_buffer_limits(high=100_000_000)
                await client.send("POST", RUN, body_of("t"), {"connection": "close"})
                await client.begin()
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                async with asyncio.timeout(10):
                    while server._service.connections:
                        await asyncio.sleep(0.01)

    @in_loop
    async def test_bytes_that_nobody_reads_yet_do_not_pile_up() -> None:
        gate = Gate()
        async with serving(CopilotRuntime({"default": gate})) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                assert await client.next_event()
                client.writer.write(b"x" * 50_000_000)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.writer.drain(), 0.3)
                client.cut()


class TestStreams:
    """Events arrive as the agent yields them, and runs outlive requests."""

    @in_loop
    async def test_event_by_event() -> None:
        gate = Gate()
        async with serving(CopilotRuntime({"default": gate})) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                assert (await client.next_event() or {})["type"] == "RUN_STARTED"
                assert (await client.next_event() or {})["type"] == "TEXT_MESSAGE_START"
                for number in range(5):
                    gate.let(1)
                    assert (await client.next_event() or {})["delta"] == str(number)
                gate.let(1)
                assert [event["type"] for event in await client.rest()][-1] == "RUN_FINISHED"

    @in_loop
    async def test_a_run_survives_its_client_and_is_replayed() -> None:
        gate = Gate()
        async with serving(CopilotRuntime({"default": gate})) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                await client.next_event()
                client.cut()
            gate.let(6)
            async with await Connection.open(server.port) as client:
                events = (await client.request("POST", CONNECT, body_of("t"))).events()
                text = "".join(event.get("delta", "") for event in events)
                assert (text, events[-1]["type"]) == ("01234", "RUN_FINISHED")

    @in_loop
    async def test_connect_in_the_middle_and_resume_after_a_cut() -> None:
        gate = Gate()
        async with serving(CopilotRuntime({"default": gate})) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
                await Connection.open(server.port) as third,
            ):
                await first.send("POST", RUN, body_of("t"))
                gate.let(2)
                seen = [await first.next_event() for _ in range(4)]
                await second.send("POST", CONNECT, body_of("t"))
                assert [await second.next_event() for _ in range(4)] == seen
                last_id = second.parser.last_event_id
                second.cut()
                gate.let(4)
                resume = {"last-event-id": last_id}
                await third.send("POST", CONNECT, body_of("t"), resume)
                rest = await third.rest()
                assert rest == await first.rest()
                assert [event.get("delta") for event in rest] == ["2", "3", "4", None, None]

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
    async def test_stop_over_http_and_the_thread_is_free_at_once() -> None:
        gate = Gate()
        async with serving(CopilotRuntime({"default": gate})) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
            ):
                for run_id in ("a", "b", "c"):
                    await first.send("POST", RUN, body_of("t", run_id))
                    await first.next_event()
                    busy = await second.request("POST", RUN, body_of("t", "other"))
                    assert busy.status == 409
                    assert (await second.request("POST", stop("t"))).json()["stopped"] is True
                    assert (await first.receive()).status == 200
                    assert (await second.request("POST", stop("t"))).json()["stopped"] is False

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
    async def test_supersede() -> None:
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
                assert started == ["b"]

    @in_loop
    async def test_a_suggestion_dies_with_its_client() -> None:
        gate = Gate()
        async with serving(CopilotRuntime({"default": gate})) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", f"{BASE}/agent/default/suggest", body_of("t"))
                await client.next_event()
                client.cut()
                await asyncio.wait_for(gate.unwound.wait(), 5)

    @in_loop
    async def test_a_hundred_streams_at_once() -> None:
        async with serving(CopilotRuntime({"default": hello})) as server:

            async def one(number: int) -> list[str]:
                async with await Connection.open(server.port) as client:
                    answer = await client.request("POST", RUN, body_of(f"t{number}"))
                    return answer.types()

            assert await asyncio.gather(*map(one, range(100))) == [HELLO] * 100

    @in_loop
    async def test_a_silent_stream_carries_heartbeats() -> None:
        gate = Gate()
        limits = Limits(heartbeat_seconds=0.02)
        async with serving(CopilotRuntime({"default": gate}, limits=limits)) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                await asyncio.sleep(0.1)
                gate.let(6)
                body = (await client.receive()).body
                assert b": keep-alive\n\n: keep-alive\n\n" in body

    @in_loop
    async def test_a_reader_that_never_reads_delays_nobody() -> None:
        async def chatty(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            for number in range(2000):
                yield {"type": "CUSTOM", "name": str(number), "value": "x" * 10_000}
            yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}

        async with serving(CopilotRuntime({"default": chatty})) as server:
            async with (
                await Connection.open(server.port) as lazy,
                await Connection.open(server.port) as eager,
            ):
                await lazy.send("POST", RUN, body_of("t"))
                await lazy.begin()
                lazy.writer.transport.pause_reading()  # type: ignore[attr-defined]
                answer = await eager.request("POST", CONNECT, body_of("t"))
                assert answer.types()[-1] == "RUN_FINISHED"
                lazy.writer.transport.resume_reading()  # type: ignore[attr-defined]
                assert len(await lazy.rest()) == 2002


class TestAgents:
    """Every shape of agent."""

    @in_loop
    async def test_a_plain_generator_blocks_nobody() -> None:
        release = threading.Event()

        def plain(input: Any, context: Any) -> Iterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            release.wait(10)
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

    @in_loop
    async def test_a_plain_generator_that_is_stopped() -> None:
        release, closed = threading.Event(), threading.Event()
        seen: list[bool] = []

        def plain(input: Any, context: Any) -> Iterator[dict[str, Any]]:
            try:
                yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
                release.wait(10)
                seen.append(context.stop_requested)
                yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
            finally:
                closed.set()

        async with serving(CopilotRuntime({"default": plain})) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
            ):
                await first.send("POST", RUN, body_of("t"))
                await first.next_event()
                assert (await second.request("POST", stop("t"))).json()["stopped"] is True
                # Its stream ends although its thread is still busy.
                assert [event["type"] for event in await first.rest()] == ["RUN_FINISHED"]
                release.set()
                assert await asyncio.to_thread(closed.wait, 5)
                assert seen == [True]

    @in_loop
    async def test_a_fast_plain_generator_is_recorded_whole_and_in_order() -> None:
        @text_agent
        def numbers(input: Any, context: Any) -> Iterator[str]:
            for number in range(5000):
                yield f"{number},"

        async with serving(CopilotRuntime({"default": numbers})) as server:
            async with await Connection.open(server.port) as client:
                events = (await client.request("POST", RUN, body_of("t"))).events()
                text = "".join(event.get("delta", "") for event in events)
                assert text == "".join(f"{number}," for number in range(5000))

    @in_loop
    async def test_an_awaitable_of_an_iterator_and_a_list() -> None:
        events = [
            {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
            {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
        ]

        async def later(input: Any, context: Any) -> list[dict[str, Any]]:
            await asyncio.sleep(0)
            return events

        async with serving(CopilotRuntime({"default": later})) as server:
            async with await Connection.open(server.port) as client:
                answer = await client.request("POST", RUN, body_of("t"))
                assert answer.types() == ["RUN_STARTED", "RUN_FINISHED"]

    @pytest.mark.parametrize("kind", ["async", "plain", "call", "not events", "exit"])
    def test_failures_end_the_stream_well_formed(
        self, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def agent_async(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            raise RuntimeError("exploded")

        def agent_plain(input: Any, context: Any) -> Iterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            raise StopIteration("exploded") if kind == "stop" else RuntimeError("exploded")

        def agent_call(input: Any, context: Any) -> Any:
            raise RuntimeError("exploded")

        def agent_exit(input: Any, context: Any) -> Iterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            sys.exit("exploded")

        agents: dict[str, Any] = {
            "async": agent_async,
            "plain": agent_plain,
            "call": agent_call,
            "not events": lambda input, context: 5,
            "exit": agent_exit,
        }

        async def test() -> None:
            async with serving(CopilotRuntime({"default": agents[kind]})) as server:
                async with await Connection.open(server.port) as client:
                    for _ in range(2):
                        events = (await client.request("POST", RUN, body_of("t"))).events()
                        assert events[-1]["type"] == "RUN_ERROR"
                        assert "exploded" in events[-1]["message"] or kind == "not events"

        asyncio.run(test())
        assert "failed" in caplog.text

    @in_loop
    async def test_an_agent_that_ignores_cancellation_ends_for_its_readers() -> None:
        release = asyncio.Event()

        async def stubborn(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    yield {"type": "CUSTOM", "name": "no", "value": None}

        async with serving(CopilotRuntime({"default": stubborn})) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
            ):
                await first.send("POST", RUN, body_of("t"))
                await first.next_event()
                await second.request("POST", stop("t"))
                assert [event["type"] for event in await first.rest()] == ["RUN_FINISHED"]
                release.set()

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

        asyncio.run(asyncio.wait_for(test(), 30))
        assert "agent 'panics' failed" in caplog.text

    @in_loop
    async def test_the_order_rules_are_checked_and_the_agent_is_closed() -> None:
        closed = asyncio.Event()

        async def wrong(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            try:
                yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
                yield {"type": "TEXT_MESSAGE_END", "messageId": "m"}
                yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
            finally:
                await asyncio.sleep(0)
                closed.set()

        async with serving(CopilotRuntime({"default": wrong})) as server:
            async with await Connection.open(server.port) as client:
                events = (await client.request("POST", RUN, body_of("t"))).events()
                assert "No active text message found" in events[-1]["message"]
                await asyncio.wait_for(closed.wait(), 5)


class _AsyncStore:
    """A store whose every answer comes a turn of the loop later."""

    blocking = False

    def __init__(self) -> None:
        self.memory = MemoryStore()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.memory, name)
        if name.startswith("watch"):
            return method

        async def later(*args: Any) -> Any:
            await asyncio.sleep(0)
            outcome = method(*args)
            await asyncio.sleep(0)
            return outcome

        return later


class _BlockingStore:
    """A store whose methods block, and must not be called on the loop's thread."""

    blocking = True

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.lock = threading.RLock()
        self.loop_thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.memory, name)

        def locked(*args: Any) -> Any:
            assert name.startswith("watch") or threading.get_ident() != self.loop_thread
            with self.lock:
                return method(*args)

        return locked


class TestStores:
    """Stores that take their time."""

    @pytest.mark.parametrize("make", [_AsyncStore, _BlockingStore])
    def test_runs_connects_and_stops(self, make: Callable[[], Any]) -> None:
        async def test() -> None:
            gate = Gate()
            runtime = CopilotRuntime({"default": gate, "hello": hello}, store=make())
            async with serving(runtime) as server:
                async with (
                    await Connection.open(server.port) as first,
                    await Connection.open(server.port) as second,
                ):
                    path = f"{BASE}/agent/hello/run"
                    assert (await first.request("POST", path, body_of("h"))).types() == HELLO
                    await first.send("POST", RUN, body_of("t"))
                    gate.let(2)
                    seen = [await first.next_event() for _ in range(4)]
                    await second.send("POST", CONNECT, body_of("t"))
                    assert [await second.next_event() for _ in range(4)] == seen
                    async with await Connection.open(server.port) as third:
                        assert (await third.request("POST", stop("t"))).json()["stopped"] is True
                    rest = await first.rest()
                    assert [event["type"] for event in rest] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
                    assert await second.rest() == rest
                    await asyncio.wait_for(gate.unwound.wait(), 5)

        asyncio.run(test())

    @pytest.mark.parametrize("broken", ["watch", "watch_run", "read", "append", "open_run"])
    def test_one_that_fails_brings_nothing_else_down(
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

        asyncio.run(asyncio.wait_for(test(), 30))
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
                await asyncio.wait_for(cancelled.wait(), 5)

    @in_loop
    async def test_a_client_that_goes_during_a_hook_that_will_not_die() -> None:
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
            while store.memory._open:
                await asyncio.sleep(0)

    @in_loop
    async def test_a_stop_while_a_slow_store_answers_something_else() -> None:
        gate = Gate()
        store = _AsyncStore()
        async with serving(CopilotRuntime({"default": gate}, store=store)) as server:
            async with (
                await Connection.open(server.port) as first,
                await Connection.open(server.port) as second,
            ):
                await first.send("POST", RUN, body_of("t"))
                await gate.begun.wait()
                [run] = store.memory._open.values()
                assert run.notify_owner is not None
                run.notify_owner()
                await asyncio.sleep(0)
                await second.request("POST", stop("t"))
                async with asyncio.timeout(5):
                    assert (await first.rest())[-1]["type"] == "RUN_FINISHED"


class TestShutdown:
    """Nothing is lost and nothing is left."""

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
        assert not store.memory._open

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
            await asyncio.wait_for(server.serve_until_closed(), 5)

    @in_loop
    async def test_runs_that_outlast_it_end_well_formed() -> None:
        gate = Gate()
        async with serving(CopilotRuntime({"default": gate})) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                await client.next_event()
                await server.close()
                events = await client.rest()
                assert events[-1] == {
                    "type": "RUN_ERROR",
                    "message": "The server is shutting down",
                    "code": "INCOMPLETE_STREAM",
                }
                assert gate.unwound.is_set()

    @in_loop
    async def test_a_client_that_never_reads_cannot_hold_it_up() -> None:
        async def endless(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
            while True:
                yield {"type": "CUSTOM", "name": "n", "value": "x" * 100_000}
                await asyncio.sleep(0)

        async with serving(CopilotRuntime({"default": endless})) as server:
            async with await Connection.open(server.port) as client:
                await client.send("POST", RUN, body_of("t"))
                await client.begin()
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                begun = time.monotonic()
                await server.close()
                assert time.monotonic() - begun < 9

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
        async with serving(CopilotRuntime({"default": hello})) as server:
            async with await Connection.open(server.port) as client:
                server._service._ended = True
                answer = await client.request("POST", RUN, body_of("t"))
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_in_mid_stream(self, number: signal.Signals, tmp_path: Path) -> None:
        module = tmp_path / "app.py"
        module.write_text(
            "import asyncio\n"
            "from copilot_bindings.asyncio import serve\n"
            "from sansio_copilot import CopilotRuntime, text_agent\n"
            "@text_agent\n"
            "async def slow(input, context):\n"
            "    while True:\n"
            "        yield 'x'\n"
            "        await asyncio.sleep(0.01)\n"
            "asyncio.run(serve(CopilotRuntime({'default': slow}), port=0, grace_seconds=0.1,\n"
            "    ready=lambda server: print(server.port, flush=True)))\n"
        )

        async def test() -> None:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-X", "dev", str(module), stdout=pipe, stderr=pipe
            )
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            async with await Connection.open(port) as client:
                await client.send("POST", RUN, body_of("t"))
                await client.next_event()
                process.send_signal(number)
                assert (await client.rest())[-1]["type"] == "RUN_ERROR"
            _, errors = await asyncio.wait_for(process.communicate(), 10)
            assert (process.returncode, errors) == (0, b"")

        asyncio.run(test())


def test_the_client_of_these_tests_reads_json() -> None:
    """The helper and the real thing agree on what a body is."""
    assert json.loads(body_of("t"))["threadId"] == "t"
