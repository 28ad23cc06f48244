"""The client for agents that really wait: the same tests under asyncio and trio."""

from __future__ import annotations

import asyncio
import contextvars
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import attrs
import pytest
import trio
from support.threads import no_thread_is_left

from copilot_bindings.asgi import BrokenOff, CopilotASGI
from copilot_bindings.stores import SQLiteStore
from copilot_bindings.testing import AsyncClient
from sansio_copilot import CopilotRuntime, Hooks, Limits, agui_agent
from sansio_copilot.testing import (
    ScriptedAgent,
    assert_valid_stream,
    record,
    run_input,
    say,
    wait,
)

BASE = "/api/copilotkit"


@attrs.frozen
class Library:
    """The functions of an async library that a test needs."""

    run: Callable[[Callable[[], Awaitable[Any]]], Any]
    sleep: Callable[[float], Awaitable[None]]
    event: Callable[[], Any]
    cancelled: type[BaseException]


def asyncio_run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


LIBRARIES = {
    "asyncio": Library(asyncio_run, asyncio.sleep, asyncio.Event, asyncio.CancelledError),
    "trio": Library(trio.run, trio.sleep, trio.Event, trio.Cancelled),
}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    return LIBRARIES[request.param]


def runtime_of(agent: Any, **options: Any) -> CopilotRuntime:
    return CopilotRuntime({"default": agent}, **options)


def test_an_agent_that_waits_answers(library: Library) -> None:
    async def main() -> None:
        agent = ScriptedAgent(say("One"), wait(library.sleep, 0.001), say("two"))
        async with AsyncClient(runtime_of(agent)) as client:
            answer = await client.run(run_input(text="hi"))
            assert (answer.status, answer.text()) == (200, "One\ntwo")
            assert_valid_stream(answer)
            info = await client.get(f"{BASE}/info?a=b", headers={"x-a": "b"})
            assert info.json()["agents"]["default"]["name"] == "default"
            connected = await client.post(f"{BASE}/agent/default/connect", json=run_input())
            assert connected.text() == "One\ntwo"
            assert (await client.request("DELETE", f"{BASE}/info")).status == 405

    library.run(main)


def test_a_plain_agent_that_blocks_answers_too(library: Library) -> None:
    def agent(input: Any) -> Iterator[Any]:
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        yield {"type": "RUN_FINISHED", **ids}

    async def main() -> None:
        async with AsyncClient(runtime_of(agent)) as client:
            assert_valid_stream(await client.run(run_input()))

    library.run(main)


def test_a_stream_is_read_event_by_event(library: Library) -> None:
    async def main() -> None:
        gate = library.event()
        agent = ScriptedAgent("One", wait(gate.wait), "two")
        async with (
            AsyncClient(runtime_of(agent)) as client,
            client.begin_run(run_input()) as run,
        ):
            assert run.status == 200
            assert run.headers["content-type"] == "text/event-stream"
            types = [(await run.next())["type"] for _ in range(4)]
            assert types[0] == "RUN_STARTED"
            assert not run.ended
            frame_id = run.last_event_id
            gate.set()
            rest = [event async for event in run]
            assert rest[-1]["type"] == "RUN_FINISHED"
            assert run.last_event_id != frame_id
            assert run.ended
            assert await run.next_frame() is None
            with pytest.raises(EOFError, match="the stream has ended"):
                await run.next()

    library.run(main)


def test_a_run_outlives_its_reader_and_is_stopped(library: Library) -> None:
    """A stop cancels the agent where it waits, and its readers see a whole stream."""

    async def main() -> None:
        cancelled: list[bool] = []

        async def hang() -> None:
            try:
                await library.event().wait()
            except library.cancelled:
                cancelled.append(True)
                raise

        agent = ScriptedAgent("One", wait(hang))
        async with AsyncClient(runtime_of(agent)) as client:
            async with client.begin_run(run_input("t")) as run:
                await run.next()
            assert run.ended
            connect = client.stream("POST", f"{BASE}/agent/default/connect", json=run_input("t"))
            async with connect as reader:
                assert (await reader.next())["type"] == "RUN_STARTED"
                stopped = await client.post(f"{BASE}/agent/default/stop/t")
                assert stopped.json()["stopped"]
                answer = await reader.finish()
            assert_valid_stream(answer)
            assert answer.run_error() is None
        assert cancelled == [True]

    library.run(main)


def test_a_stream_that_is_left_open_ends_with_the_client(library: Library) -> None:
    ended: list[str] = []

    async def agent(input: Any) -> AsyncIterator[Any]:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        try:
            await library.event().wait()
        finally:
            ended.append("agent")

    async def main() -> None:
        async with AsyncClient(runtime_of(agent)) as client:
            run = client.begin_run(run_input())
            assert (await run.next())["type"] == "RUN_STARTED"
        assert ended == ["agent"]
        assert run.ended
        with pytest.raises(RuntimeError, match="use the client in its block"):
            await client.get("/")

    library.run(main)


def test_a_test_that_is_cancelled_ends_everything() -> None:
    ended: list[str] = []

    async def hang(event: Any) -> None:
        try:
            await event.wait()
        finally:
            ended.append("agent")

    async def in_trio() -> None:
        with trio.CancelScope() as scope:
            async with AsyncClient(runtime_of(ScriptedAgent(wait(hang, trio.Event())))) as client:
                async with client.begin_run(run_input()) as run:
                    await run.next()
                    scope.cancel()
                    await run.next()

    async def in_asyncio() -> None:
        async with AsyncClient(runtime_of(ScriptedAgent(wait(hang, asyncio.Event())))) as client:
            async with client.begin_run(run_input()) as run:
                await run.next()
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await run.next()

    trio.run(in_trio)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(in_asyncio())
    assert ended == ["agent", "agent"]


def test_an_application_that_is_ahead_waits_for_its_reader(library: Library) -> None:
    """The bytes that a test has not read stay bounded while it does not read."""

    async def main() -> None:
        agent = ScriptedAgent(say(*["word"] * 5000))
        async with AsyncClient(runtime_of(agent)) as client:
            async with client.begin_run(run_input("t")) as run:
                await run.next()
                await client.get(f"{BASE}/info")
                assert len(run.body) < 5000 * 80
                answer = await run.finish()
            assert answer.text() == "word" * 5000

    library.run(main)


def test_a_response_that_breaks_off_is_an_error(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that reads a part of a stream does not take it for a whole."""

    async def main() -> None:
        runtime = runtime_of(ScriptedAgent("hi"), hooks=Hooks(on_request=lambda context: None))
        async with AsyncClient(runtime) as client:
            run = client.begin_run(run_input())

            async def breaks(app: CopilotASGI, scope: Any, receive: Any, send: Any) -> None:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                raise BrokenOff("it broke")

            monkeypatch.setattr(CopilotASGI, "__call__", breaks)
            async with run:
                with pytest.raises(BrokenOff):
                    await run.next()
            again = client.begin_run(run_input())
            with pytest.raises(BrokenOff):
                await again.finish()

    library.run(main)


def test_the_limits_are_those_of_a_server(library: Library) -> None:
    async def main() -> None:
        runtime = runtime_of(ScriptedAgent("hi"), limits=Limits(body_bytes=4))
        async with AsyncClient(runtime) as client:
            assert (await client.request("POST", f"{BASE}/annotate", body="12345")).status == 413
            unknown = await client.get("/a/ü/b%2Fc?d=1")
            assert unknown.status == 404

    library.run(main)


def test_context_variables_of_the_test_reach_the_agent(library: Library) -> None:
    """A context variable of the test is seen by the run that it starts, as under a server."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def main() -> None:
        async with AsyncClient(runtime_of(ScriptedAgent(lambda input: user.get()))) as client:
            user.set("ada")
            assert (await client.run(run_input())).text() == "ada"

    library.run(main)


def test_the_store_is_opened_and_closed(library: Library, tmp_path: Any) -> None:
    async def main() -> None:
        for run_id in ("one", "two"):
            store = SQLiteStore(tmp_path / "threads.db")
            async with AsyncClient(runtime_of(ScriptedAgent(run_id), store=store)) as client:
                await client.run(run_input("t", run_id))
                path = f"{BASE}/agent/default/connect"
                texts = (await client.post(path, json=run_input("t"))).text()
        assert texts == "one\ntwo"

    library.run(main)


def test_a_store_that_cannot_be_opened_is_said(library: Library, tmp_path: Any) -> None:
    async def main() -> None:
        runtime = runtime_of(ScriptedAgent("hi"), store=SQLiteStore(tmp_path / "no" / "where"))
        with pytest.raises(RuntimeError, match="the runtime does not start"):
            async with AsyncClient(runtime):
                raise AssertionError("it was entered")

    library.run(main)


def test_a_client_is_entered_once(library: Library) -> None:
    async def main() -> None:
        async with AsyncClient(runtime_of(ScriptedAgent("hi"))) as client:
            with pytest.raises(RuntimeError, match="entered already"):
                await client.__aenter__()

    library.run(main)


def test_a_test_that_is_cancelled_while_it_enters_ends_what_has_begun(library: Library) -> None:
    told: list[str] = []
    scopes: list[anyio.CancelScope] = []

    async def start() -> None:
        told.append("start")
        if len(told) == 1:
            scopes[0].cancel()
            await library.event().wait()

    async def close() -> None:
        told.append("close")

    async def main() -> None:
        runtime = runtime_of(ScriptedAgent("hi"), on_start=start, on_close=close)
        client = AsyncClient(runtime)
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await client.__aenter__()
        assert told == ["start", "close"]
        async with client:
            assert (await client.run(run_input())).text() == "hi"

    library.run(main)
    assert told == ["start", "close"] * 2


def test_a_stream_is_not_begun_when_its_client_has_ended(library: Library, tmp_path: Any) -> None:
    """The application would begin anew, and nobody would end it."""

    async def main() -> None:
        store = SQLiteStore(tmp_path / "threads.db")
        async with AsyncClient(runtime_of(ScriptedAgent("hi"), store=store)) as client:
            streams = [client.begin_run(run_input()) for _ in range(3)]
        with pytest.raises(RuntimeError, match="closed before its request was sent"):
            await streams[0].next()
        with pytest.raises(RuntimeError, match="closed before its request was sent"):
            await streams[1].finish()
        with pytest.raises(RuntimeError, match="closed before its request was sent"):
            async with streams[2]:
                raise AssertionError("it was entered")

    with no_thread_is_left():
        library.run(main)


def test_a_recorded_agent_is_stopped_and_closed_as_the_agent_itself(library: Library) -> None:
    """It is told of a stop, runs on the loop that it needs, and is closed with its server."""
    told: list[str] = []

    class Endless:
        async def run(self, input: Any) -> AsyncIterator[dict[str, Any]]:
            ids = {"threadId": input.thread_id, "runId": input.run_id}
            try:
                yield {"type": "RUN_STARTED", **ids}
                while True:
                    yield {"type": "CUSTOM", "name": "tick", "value": 1}
                    await asyncio.sleep(0)
            finally:
                told.append("cleaned up")

        async def aclose(self) -> None:
            told.append("closed")

    async def stopped(input: Any) -> None:
        told.append(f"{input.run_id} was stopped")

    agent = record(agui_agent(Endless(), on_stop=stopped, loop="asyncio"), io.StringIO().write)

    async def main() -> None:
        async with AsyncClient(runtime_of(agent)) as client:
            info = await client.get(f"{BASE}/info")
            assert info.json()["agents"]["default"]["className"] == "Endless"
            async with client.begin_run(run_input("t", "r")) as run:
                await run.next()
                await client.post(f"{BASE}/agent/default/stop/t")
                assert [event async for event in run][-1]["type"] == "RUN_FINISHED"

    library.run(main)
    assert sorted(told) == ["cleaned up", "closed", "r was stopped"]
