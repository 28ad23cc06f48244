"""``on_stop`` under asyncio: an async one has begun when its agent is cancelled.

An agent whose work goes on elsewhere may have to be told while it still has what is to be stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from copilot_bindings.testing import AsyncClient
from sansio_copilot import CopilotRuntime, agui_agent
from sansio_copilot.testing import run_input


@pytest.mark.parametrize("loop", [None, "asyncio"])
def test_an_async_on_stop_begins_first(loop: Literal["asyncio"] | None) -> None:
    happened: list[str] = []

    async def agent(input: Any) -> AsyncIterator[Any]:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            happened.append("cancelled")
            raise

    async def told(input: Any) -> None:
        happened.append("told")

    async def main() -> None:
        stoppable = agui_agent(agent, on_stop=told, loop=loop)
        async with (
            AsyncClient(CopilotRuntime({"default": stoppable})) as client,
            client.begin_run(run_input("t")) as run,
        ):
            await run.next()
            await client.post("/api/copilotkit/agent/default/stop/t")
            while not run.ended:
                await run.next_frame()

    asyncio.run(main())
    assert happened == ["told", "cancelled"]
