"""The events of an agent that lives on another loop, seen from the loop of its run."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio

from copilot_bindings.serving.agent_events_elsewhere import EventsElsewhere
from copilot_bindings.serving.asyncio_thread import AsyncioThread
from copilot_bindings.serving.trio_backend import TrioBackend

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


@pytest.fixture
def thread() -> Iterator[AsyncioThread]:
    thread = AsyncioThread()
    yield thread
    thread.end()
    assert "copilot-asyncio" not in {each.name for each in threading.enumerate()}


def on_trio(thread: AsyncioThread, agent: Callable[[], Any], use: Callable[[Any], Any]) -> Any:
    """Return what ``use`` returns of the events of ``agent``."""

    async def main() -> Any:
        async with trio.open_nursery() as nursery:
            here = TrioBackend(nursery.start_soon)
            return await use(EventsElsewhere(agent, thread.backend, here))

    return trio.run(main)


async def taken(events: EventsElsewhere) -> list[Any]:
    return [event async for event in events]


def test_all_events_arrive_in_order(thread: AsyncioThread) -> None:
    async def agent() -> AsyncIterator[int]:
        for number in range(1000):
            if number % 7 == 0:
                await asyncio.sleep(0)
            yield number

    assert on_trio(thread, agent, taken) == list(range(1000))


def test_an_agent_runs_in_a_copy_of_the_context(thread: AsyncioThread) -> None:
    async def agent() -> AsyncIterator[str]:
        yield variable.get()
        variable.set("changed")
        yield threading.current_thread().name

    async def use(events: EventsElsewhere) -> Any:
        return [*await taken(events), variable.get()]

    variable.set("of the run")
    assert on_trio(thread, agent, use) == ["of the run", "copilot-asyncio", "of the run"]


def test_an_agent_is_never_far_ahead_of_its_run(thread: AsyncioThread) -> None:
    made: list[int] = []
    waits = threading.Event()

    async def agent() -> AsyncIterator[int]:
        asyncio.get_running_loop().call_later(0, lambda: None)
        while True:
            made.append(len(made))
            yield made[-1]

    async def use(events: EventsElsewhere) -> None:
        ahead = []
        for number in range(200):
            assert await anext(events) == number
            # The agent's loop has done all that it can.
            waits.clear()
            thread.backend.soon(lambda: thread.backend.soon(waits.set))
            await trio.to_thread.run_sync(waits.wait)
            ahead.append(len(made) - number)
        assert 8 <= max(ahead) <= 18
        await events.aclose()

    on_trio(thread, agent, use)


def test_a_cancellation_reaches_it_once_and_is_waited_for(thread: AsyncioThread) -> None:
    done: list[str] = []

    async def agent() -> AsyncIterator[int]:
        yield 1
        try:
            await asyncio.sleep(3600)
        finally:
            done.append("cancelled")
            await asyncio.sleep(0.02)
            done.append("cleaned up")

    async def use(events: EventsElsewhere) -> None:
        assert await anext(events) == 1
        with trio.CancelScope() as scope:
            scope.cancel()
            # Nothing that a run does about a cancelled agent interrupts its cleaning up.
            events.cancel()
            try:
                await anext(events)
            finally:
                await events.aclose()
        assert done == ["cancelled", "cleaned up"]

    on_trio(thread, agent, use)


def test_an_agent_that_has_not_begun_is_not_begun(thread: AsyncioThread) -> None:
    async def agent() -> AsyncIterator[int]:
        raise AssertionError("it is called")
        yield

    async def use(events: EventsElsewhere) -> None:
        await events.aclose()

    busy = threading.Event()
    thread.backend.soon(busy.wait)
    threading.Timer(0.05, busy.set).start()
    on_trio(thread, agent, use)


def test_an_agent_that_ignores_its_cancellation_is_cancelled_again(thread: AsyncioThread) -> None:
    ignored = threading.Event()

    async def agent() -> AsyncIterator[int]:
        yield 1
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ignored.set()
        await asyncio.sleep(3600)

    async def use(events: EventsElsewhere) -> None:
        await anext(events)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events.aclose)
            await trio.to_thread.run_sync(ignored.wait)
            events.cancel()

    on_trio(thread, agent, use)


def test_an_error_of_an_agent_that_cleans_up_is_raised(thread: AsyncioThread) -> None:
    async def agent() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(3600)
        finally:
            raise OSError("gone")

    async def use(events: EventsElsewhere) -> None:
        await anext(events)
        with pytest.raises(OSError, match="gone"):
            await events.aclose()

    on_trio(thread, agent, use)


def test_a_thread_that_has_ended_is_no_place_for_an_agent() -> None:
    thread = AsyncioThread()
    thread.end()
    with pytest.raises(ExceptionGroup) as raised:
        on_trio(thread, lambda: iter(()), taken)
    assert "has ended" in str(raised.value.exceptions[0])


def test_an_agent_that_stops_the_loop_does_not_end_it(
    thread: AsyncioThread, caplog: pytest.LogCaptureFixture
) -> None:
    async def agent() -> AsyncIterator[int]:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        yield 1

    assert on_trio(thread, agent, taken) == [1]
    assert "an agent has stopped the event loop, which goes on" in caplog.text
