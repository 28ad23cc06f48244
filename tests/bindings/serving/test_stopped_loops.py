"""An agent that stops the event loop it runs on: asyncio lets it, and others run there too."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from conformance.client import Client
from conformance.process import wait_until
from support.in_waitress import serving_by_waitress
from support.threads import no_thread_is_left
from support.wire import BASE, Connection, body_of
from support.wire import serving as serving_asyncio

from copilot_bindings.serving.background_loop import BackgroundLoop
from copilot_bindings.serving.shutdown import LoopEnded
from copilot_bindings.sockets import serve, start_server
from copilot_bindings.wsgi import CopilotWSGI
from sansio_copilot import CopilotRuntime, RunRefused, text_agent
from sansio_copilot.events import verify_events

RUN = f"{BASE}/agent/default/run"
Serving = Callable[[CopilotRuntime], contextlib.AbstractContextManager[int]]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with no_thread_is_left():
        yield


def _raise(error: BaseException) -> None:
    raise error


async def _raise_later(error: BaseException) -> None:
    raise error


def exit_in_a_task() -> object:
    return asyncio.create_task(_raise_later(SystemExit(3)))


def interrupt_in_a_task() -> object:
    return asyncio.create_task(_raise_later(KeyboardInterrupt()))


def exit_in_a_callback() -> object:
    return asyncio.get_running_loop().call_soon(_raise, SystemExit(3))


def stop_the_loop() -> object:
    return asyncio.get_running_loop().stop()


def interrupt() -> object:
    raise KeyboardInterrupt


def cancel_all_tasks() -> object:
    return [task.cancel() for task in asyncio.all_tasks()]


class Agents:
    """Two agents: "bad" does something to the loop, and "default" only waits."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.let = threading.Event()

        async def bad(input: Any, context: Any) -> AsyncIterator[str]:
            yield "a"
            done = what()
            for _ in range(10):
                await asyncio.sleep(0)
            yield "b"
            del done

        async def good(input: Any, context: Any) -> AsyncIterator[str]:
            yield "a"
            while not self.let.is_set():
                await asyncio.sleep(0.002)
            yield "b"

        self.runtime = CopilotRuntime({"bad": text_agent(bad), "default": text_agent(good)})


@contextlib.contextmanager
def by_sockets(runtime: CopilotRuntime) -> Iterator[int]:
    server = start_server(runtime, port=0, grace_seconds=0)
    try:
        yield server.port
    finally:
        server.close()


@contextlib.contextmanager
def by_waitress(runtime: CopilotRuntime) -> Iterator[int]:
    app = CopilotWSGI(runtime, grace_seconds=0)
    with serving_by_waitress(app) as port, contextlib.closing(app):
        yield port


def run(port: int, thread: str, agent: str = "default") -> list[dict[str, Any]]:
    with Client(port, BASE, {}) as client:
        events = client.stream("run", thread, agent=agent).rest()
    verify_events(events)
    return events


@pytest.mark.parametrize("serving", [by_sockets, by_waitress])
@pytest.mark.parametrize(
    "what",
    [exit_in_a_task, interrupt_in_a_task, exit_in_a_callback, stop_the_loop, interrupt],
)
def test_a_loop_in_the_background_goes_on(serving: Serving, what: Callable[[], object]) -> None:
    agents = Agents(what)
    with serving(agents.runtime) as port, Client(port, BASE, {}) as beside:
        beside.stream("run", "beside").next_event()
        ended = "RUN_ERROR" if what is interrupt else "RUN_FINISHED"
        assert run(port, "bad", "bad")[-1]["type"] == ended
        agents.let.set()
        assert run(port, "after")[-1]["type"] == "RUN_FINISHED"
        assert beside.rest()[-1]["type"] == "RUN_FINISHED"


def test_a_loop_whose_every_task_is_cancelled_is_begun_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The runs of the loop are ended well formed."""
    agents = Agents(cancel_all_tasks)
    with by_waitress(agents.runtime) as port, Client(port, BASE, {}) as beside:
        beside.stream("run", "beside").next_event()
        assert run(port, "bad", "bad")[-1]["type"] == "RUN_ERROR"
        assert beside.rest()[-1]["type"] == "RUN_ERROR"
        # The former loop may still take a run until then.
        ended = "the event loop of the runs has ended"
        wait_until(lambda: ended in caplog.messages, ended)
        agents.let.set()
        while (events := run_if_possible(port, "after")) is None:
            pass
        assert events[-1]["type"] == "RUN_FINISHED"


def test_a_loop_that_ends_refuses_runs_from_the_moment_that_it_cannot_be_called(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped, let = threading.Event(), threading.Event()
    leave = BlockingPortal.__aexit__

    async def hold(portal: BlockingPortal, *exc: Any) -> Any:
        await portal.stop()
        stopped.set()
        let.wait(30)
        return await leave(portal, *exc)

    monkeypatch.setattr(BlockingPortal, "__aexit__", hold)
    loop = BackgroundLoop(CopilotRuntime({}), 0)
    try:
        loop.backend.soon(cancel_all_tasks)
        assert stopped.wait(30)
        run: Any = None
        with pytest.raises(RunRefused):
            loop.start_run(run)
    finally:
        let.set()
    with pytest.raises(LoopEnded):
        loop.wait_closed()


def run_if_possible(port: int, thread: str) -> list[dict[str, Any]] | None:
    """Return the events of a run, or None while the loop that has failed still ends."""
    with Client(port, BASE, {}) as client:
        client.stream("run", thread)
        answer = client.receive()
    assert answer.status in (200, 503)
    return answer.events() if answer.status == 200 else None


def test_a_server_of_sockets_whose_every_task_is_cancelled_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The starter of a server has to know that it listens no more."""
    agents = Agents(cancel_all_tasks)
    seen: list[Any] = []
    asking: list[threading.Thread] = []

    def ready(server: Any) -> None:
        def ask() -> None:
            seen.extend(run(server.port, "bad", "bad"))

        asking.append(threading.Thread(target=ask))
        asking[0].start()

    with pytest.raises(LoopEnded):
        serve(agents.runtime, port=0, grace_seconds=0, ready=ready)
    asking[0].join()
    assert seen[-1]["type"] == "RUN_ERROR"


def test_a_server_on_a_loop_of_yours_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    agents = Agents(exit_in_a_task)

    async def test() -> None:
        async with (
            serving_asyncio(agents.runtime) as server,
            await Connection.open(server.port) as beside,
            await Connection.open(server.port) as bad,
        ):
            await beside.send("POST", RUN, body_of("beside"))
            await beside.next_event()
            await bad.send("POST", f"{BASE}/agent/bad/run", body_of("bad"))
            assert (await bad.rest())[-1]["type"] == "RUN_FINISHED"
            agents.let.set()
            assert (await beside.rest())[-1]["type"] == "RUN_FINISHED"

    asyncio.run(asyncio.wait_for(test(), 30))
    assert "Task exception was never retrieved" in caplog.text
    assert "SystemExit(3)" in caplog.text


def test_a_keyboard_interrupt_ends_a_loop_of_yours_and_its_runs_well_formed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The interrupt is the user's, who presses Ctrl+C once more."""
    agents = Agents(interrupt)
    store = agents.runtime.store

    async def test() -> None:
        async with (
            serving_asyncio(agents.runtime) as server,
            await Connection.open(server.port) as bad,
        ):
            await bad.send("POST", f"{BASE}/agent/bad/run", body_of("bad"))
            await bad.rest()

    with pytest.raises(KeyboardInterrupt) as raised:
        asyncio.run(asyncio.wait_for(test(), 30))
    # The collection makes asyncio log the task now, and not when pytest has ended.
    del raised
    gc.collect()
    [event] = [event for event in _history(store, "bad") if event["type"] == "RUN_ERROR"]
    assert event["message"] == "The server was interrupted"


def _history(store: Any, thread: str) -> list[dict[str, Any]]:
    from sansio_copilot.testing import Client as Untied

    client = Untied(CopilotRuntime({"default": lambda input, context: []}, store=store))
    body = {"threadId": thread, "runId": "r", "messages": [], "tools": [], "context": []}
    answer = client.post(f"{BASE}/agent/default/connect", json={**body, "state": {}})
    return list(answer.events())


class TestTasks:
    """The loop's task factory."""

    def test_tasks_of_others_are_left_alone(self) -> None:
        made: list[Any] = []

        def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **options)

        async def test() -> None:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(factory)
            async with serving_asyncio(CopilotRuntime({})), serving_asyncio(CopilotRuntime({})):
                made.clear()
                coroutine = asyncio.sleep(0)
                task = asyncio.create_task(coroutine, name="theirs")
                await task
                assert made == [coroutine]
                assert (task.get_coro(), task.get_name()) == (coroutine, "theirs")

        asyncio.run(test())

    def test_a_contained_task_is_like_any_other(self) -> None:
        seen: list[Any] = []

        async def child() -> str:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            return "never"

        async def agent(input: Any, context: Any) -> AsyncIterator[str]:
            early = asyncio.create_task(child())
            early.cancel()
            task = asyncio.create_task(child(), name="mine")
            await asyncio.sleep(0)
            assert "child" in repr(task)
            assert task.get_stack()[0].f_code is child.__code__
            task.cancel()
            await asyncio.wait([early, task])
            assert (early.cancelled(), task.cancelled()) == (True, True)
            yield task.get_name()

        async def test() -> None:
            runtime = CopilotRuntime({"default": text_agent(agent)})
            async with (
                serving_asyncio(runtime) as server,
                await Connection.open(server.port) as client,
            ):
                await client.send("POST", RUN, body_of("t"))
                deltas = [event.get("delta", "") for event in await client.rest()]
                assert "".join(deltas) == "mine"

        asyncio.run(asyncio.wait_for(test(), 30))
        assert seen == ["cancelled"]


def test_an_agent_that_does_not_end_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's loop ends all the same."""
    monkeypatch.setattr("copilot_bindings.serving.shutdown.AGENT_SECONDS", 0)

    async def endless(input: Any, context: Any) -> AsyncIterator[str]:
        yield "a"
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)

    runtime = CopilotRuntime({"default": text_agent(endless)})
    with by_sockets(runtime) as port, Client(port, BASE, {}) as client:
        client.stream("run", "t").next_event()
    assert any("left behind an agent" in message for message in caplog.messages)
