"""The test client notices whoever needs an event loop, whatever is asked for one."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from sansio_copilot import CopilotRuntime, Hooks, Response
from sansio_copilot.testing import Client, NeedsEventLoop, run_input

BASE = "/api/copilotkit"
RUN = f"{BASE}/agent/default/run"

Wait = Callable[[], Awaitable[Any]]

SHARED: asyncio.Queue[int] = asyncio.Queue()


@pytest.fixture(autouse=True)
def _nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A coroutine that was never awaited would be reported here, as an error."""
    caplog.set_level(logging.CRITICAL, "sansio_copilot")
    # The objects that are there already are left out, because they are no such coroutine, and
    # looking through all that earlier tests have left takes long.
    gc.freeze()
    yield
    gc.collect()


async def nothing() -> None:
    pass


async def a_timeout() -> None:
    async with asyncio.timeout(1):
        await asyncio.sleep(0)


async def a_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(nothing())


async def a_task() -> None:
    await asyncio.create_task(nothing())


async def a_lock_that_is_taken() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def a_connection() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def a_future() -> None:
    await asyncio.get_running_loop().create_future()


async def anyios_task_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(nothing)


async def anyios_timeout() -> None:
    with anyio.fail_after(1):
        await anyio.lowlevel.checkpoint()


async def anyios_stream() -> None:
    sender, receiver = anyio.create_memory_object_stream[int](0)
    with sender, receiver:
        await receiver.receive()


async def trios_sleep() -> None:
    await trio.sleep(1)


async def a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nothing)


async def the_current_task() -> None:
    trio.lowlevel.current_task().parent_nursery  # noqa: B018


WAITS: dict[str, Wait] = {
    "asyncio.sleep": lambda: asyncio.sleep(1),
    "asyncio.Queue": lambda: asyncio.Queue().get(),
    "a queue of several tests": lambda: SHARED.get(),
    "the same queue again": lambda: SHARED.get(),
    "asyncio.Event": lambda: asyncio.Event().wait(),
    "asyncio.Lock": a_lock_that_is_taken,
    "asyncio.timeout": a_timeout,
    "asyncio.TaskGroup": a_task_group,
    "asyncio.create_task": a_task,
    "asyncio.open_connection": a_connection,
    "asyncio.to_thread": lambda: asyncio.to_thread(print),
    "a future": a_future,
    "anyio.sleep": lambda: anyio.sleep(1),
    "anyio.Event": lambda: anyio.Event().wait(),
    "anyio.create_task_group": anyios_task_group,
    "anyio.fail_after": anyios_timeout,
    "anyio.to_thread": lambda: anyio.to_thread.run_sync(print),
    "anyio.connect_tcp": lambda: anyio.connect_tcp("127.0.0.1", 9),
    "a stream of anyio's": anyios_stream,
    "trio.sleep": trios_sleep,
    "trio.Event": lambda: trio.Event().wait(),
    "trio.open_nursery": a_nursery,
    "trio.lowlevel.current_task": the_current_task,
}


def agent_that(wait: Wait, caught: tuple[type[BaseException], ...]) -> Any:
    async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        try:
            await wait()
        except caught as error:
            yield {"type": "CUSTOM", "name": "failed", "value": str(error)}
            await asyncio.sleep(0)
        yield {"type": "RUN_FINISHED", **ids}

    return agent


def client(agent: Any = None, **options: Any) -> Client:
    return Client(CopilotRuntime({"default": agent or agent_that(nothing, ())}, **options))


@pytest.mark.parametrize(
    "caught",
    [(), (Exception,), (BaseException,)],
    ids=["catches nothing", "catches exceptions", "catches all"],
)
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_an_agent_that_waits_for_asyncio_needs_an_event_loop_whatever_it_catches(
    wait: Wait, caught: tuple[type[BaseException], ...]
) -> None:
    server = client(agent_that(wait, caught))
    stream = server.stream("POST", RUN, json=run_input("t1"))
    assert stream.next()["type"] == "RUN_STARTED"
    with pytest.raises(NeedsEventLoop, match="event loop: use a binding to test this"):
        stream.next()
    assert [event["type"] for event in stream] == ["RUN_ERROR"]
    assert not server.step(), "nothing of the agent is left"


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_hook_that_waits_for_asyncio_needs_an_event_loop_whatever_it_catches(wait: Wait) -> None:
    async def hook(context: Any) -> Response:
        try:
            await wait()
        except Exception:
            return Response(418)
        return Response(204)

    server = client(hooks=Hooks(on_response=hook, on_error=lambda context: Response(200)))
    with pytest.raises(NeedsEventLoop, match="event loop: use a binding to test this"):
        server.get(f"{BASE}/info")


def test_a_hook_that_raises_another_error_instead_needs_an_event_loop() -> None:
    async def hook(context: Any) -> None:
        try:
            await asyncio.sleep(1)
        except BaseException as error:
            raise ValueError("the service is down") from error

    with pytest.raises(NeedsEventLoop, match="asks asyncio for create_future"):
        client(hooks=Hooks(on_request=hook)).get(f"{BASE}/info")


def test_a_hook_that_waits_again_and_again_is_ended_at_its_second_wait() -> None:
    tries: list[int] = []

    async def hook(context: Any) -> None:
        while True:
            tries.append(1)
            try:
                await asyncio.sleep(1)
            except BaseException:
                await asyncio.sleep(0)

    with pytest.raises(NeedsEventLoop):
        client(hooks=Hooks(on_request=hook)).get(f"{BASE}/info")
    assert len(tries) == 1, "it is ended where it waits next"


def test_a_hook_that_asks_asyncio_in_a_context_of_its_own_needs_an_event_loop() -> None:
    async def hook(context: Any) -> None:
        contextvars.Context().run(lambda: asyncio.get_running_loop().call_soon(print))

    with pytest.raises(NeedsEventLoop, match="asks asyncio for call_soon"):
        client(hooks=Hooks(on_request=hook)).get(f"{BASE}/info")


def test_an_agent_that_asks_asyncio_before_it_has_events_needs_an_event_loop() -> None:
    async def events() -> AsyncIterator[Any]:
        yield {"type": "RUN_STARTED", "threadId": "t1", "runId": "r1"}

    def agent(input: Any, context: Any) -> AsyncIterator[Any]:
        asyncio.get_running_loop().call_soon(print)
        return events()

    class Iterates:
        def __aiter__(self) -> Iterates:
            return self

        def __anext__(self) -> Awaitable[Any]:
            return asyncio.ensure_future(nothing())

    for made in (agent, lambda input, context: Iterates()):
        with pytest.raises(NeedsEventLoop):
            client(made).post(RUN, json=run_input("t1"))


def test_giving_way_is_no_wait() -> None:
    async def hook(context: Any) -> Response:
        await asyncio.sleep(0)
        await anyio.lowlevel.checkpoint()
        async with asyncio.Lock():
            return Response(418)

    assert client(hooks=Hooks(on_response=hook)).get(f"{BASE}/info").status == 418


def test_looking_for_a_loop_is_no_use_of_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def hook(context: Any) -> Response:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        assert {loop, task} == {asyncio.get_event_loop(), task}
        assert not hasattr(loop, "__await__")
        logging.getLogger("application").info("in %s", task.get_name())
        return Response(418)

    assert client(hooks=Hooks(on_response=hook)).get(f"{BASE}/info").status == 418
    assert [record.getMessage() for record in caplog.records] == ["in asyncio's current task"]


def test_no_stand_in_of_a_loop_stays_behind() -> None:
    for wait in WAITS.values():
        with pytest.raises(NeedsEventLoop):
            client(agent_that(wait, ())).post(RUN, json=run_input("t1"))
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="must be called from async context"):
            trio.current_time()


def test_a_client_works_in_an_agent() -> None:
    async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        with pytest.raises(NeedsEventLoop):
            client(agent_that(lambda: asyncio.sleep(1), ())).post(RUN, json=run_input("t1"))
        yield {"type": "RUN_FINISHED", **ids}

    events = client(agent).post(RUN, json=run_input("t1")).events()
    assert [event["type"] for event in events] == ["RUN_STARTED", "RUN_FINISHED"]


def test_plain_agents_may_run_a_loop_of_their_own() -> None:
    """Plain agents have a thread in a binding, in which no loop runs."""

    def agent(input: Any, context: Any) -> Iterator[Any]:
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        yield {"type": "RUN_STARTED", **ids}
        yield {"type": "RUN_FINISHED", **ids}

    events = client(agent).post(RUN, json=run_input("t1")).events()
    assert [event["type"] for event in events] == ["RUN_STARTED", "RUN_FINISHED"]


class TestWithoutStandIns:
    """The library's own error is all there is, if it is imported while the function runs."""

    @pytest.fixture(autouse=True)
    def _not_loaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "asyncio")
        monkeypatch.delitem(sys.modules, "trio._core._run")

    @pytest.mark.parametrize(
        ("wait", "words"),
        [
            (lambda: asyncio.sleep(1), "no running event loop"),
            (lambda: anyio.sleep(1), "event loop"),
            (trios_sleep, "must be called from async context"),
        ],
    )
    def test_the_words_of_the_library_are_told(self, wait: Wait, words: str) -> None:
        async def hook(context: Any) -> None:
            await wait()

        with pytest.raises(NeedsEventLoop, match=f"{words}.*: use a binding to test this"):
            client(hooks=Hooks(on_request=hook)).get(f"{BASE}/info")

    def test_the_words_are_told_whatever_error_came_of_them(self) -> None:
        async def cause() -> None:
            try:
                await asyncio.sleep(1)
            except RuntimeError as error:
                raise ValueError("the service is down") from error

        async def context_() -> None:
            try:
                await asyncio.sleep(1)
            except RuntimeError:
                raise LookupError("nothing there")  # noqa: B904

        async def group() -> None:
            try:
                await cause()
            except ValueError as error:
                # The causes form a cycle, because careless code may make one.
                error.__cause__.__context__ = error  # type: ignore[union-attr]
                raise ExceptionGroup("several", [KeyError("x"), error]) from None

        for wait in (cause, context_, group):
            with pytest.raises(NeedsEventLoop, match="no running event loop"):
                client(agent_that(wait, ())).post(RUN, json=run_input("t1"))

    def test_any_other_error_stays_as_it_is(self) -> None:
        async def fail() -> None:
            raise ExceptionGroup("several", [RuntimeError("out of order"), ValueError("x")])

        events = client(agent_that(fail, ())).post(RUN, json=run_input("t1")).events()
        assert events[-1]["message"] == "out of order; x"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_process_ends_it(error: type[BaseException]) -> None:
    async def hook(context: Any) -> None:
        raise error

    with pytest.raises(error):
        client(hooks=Hooks(on_request=hook)).get(f"{BASE}/info")
