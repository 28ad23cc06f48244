"""The server's own tasks begin where they are made, on each Python and each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
import uvloop

from copilot_bindings.serving.asyncio_own_tasks import begun_task

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
said: ContextVar[str] = ContextVar("said", default="nothing")


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


class Steps:
    """A coroutine that waits once, and what it has seen."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def walk(self) -> None:
        self.seen.append(asyncio.current_task())
        said.set("something")
        await asyncio.sleep(0)
        self.seen.append(said.get())


def test_a_task_has_run_up_to_its_first_wait_when_it_is_made(run: Callable[..., None]) -> None:
    steps = Steps()

    async def main() -> None:
        outer = asyncio.current_task()
        task = begun_task(steps.walk(), asyncio.get_running_loop(), name="own")
        assert steps.seen == [task]
        assert task.get_name() == "own"
        assert asyncio.current_task() is outer
        assert said.get() == "nothing"
        await task
        assert steps.seen == [task, "something"]

    run(main())


def test_a_task_that_is_made_in_a_callback_begins_there(run: Callable[..., None]) -> None:
    steps = Steps()

    async def main() -> None:
        loop, made = asyncio.get_running_loop(), asyncio.Event()

        def callback() -> None:
            task = begun_task(steps.walk(), loop)
            assert steps.seen == [task]
            assert asyncio.current_task() is None
            task.add_done_callback(lambda _: made.set())

        loop.call_soon(callback)
        await made.wait()

    run(main())


def test_an_error_of_the_first_step_is_the_error_of_the_task(run: Callable[..., None]) -> None:
    async def fail() -> None:
        raise ValueError("at once")

    async def main() -> None:
        outer = asyncio.current_task()
        task = begun_task(fail(), asyncio.get_running_loop())
        assert asyncio.current_task() is outer
        with pytest.raises(ValueError, match="at once"):
            await task

    run(main())


def test_an_exit_in_the_first_step_leaves_the_loop_able_to_go_on(run: Callable[..., None]) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        outer, coroutine = asyncio.current_task(), leave()
        with pytest.raises(SystemExit):
            begun_task(coroutine, asyncio.get_running_loop())
        assert asyncio.current_task() is outer
        await asyncio.sleep(0)

    run(main())


def test_a_tool_that_watches_the_loop_stays_where_it_is(run: Callable[..., None]) -> None:
    async def main() -> None:
        loop, calls = asyncio.get_running_loop(), []
        usual: Callable[..., asyncio.Handle] = loop.call_soon

        def watched(*args: Any, **options: Any) -> asyncio.Handle:
            calls.append(args)
            return usual(*args, **options)

        vars(loop)["call_soon"] = watched
        await begun_task(Steps().walk(), loop)
        assert loop.call_soon is watched
        assert calls
        del vars(loop)["call_soon"]

    run(main())


@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_task_begins_with_its_loop_if_that_does_not_run_yet(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    loop, steps = make_loop(), Steps()
    task = begun_task(steps.walk(), loop)
    assert steps.seen == []
    loop.run_until_complete(task)
    assert steps.seen == [task, "something"]
    loop.close()
