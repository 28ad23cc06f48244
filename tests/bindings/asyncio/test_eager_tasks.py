"""Tasks that begin at once: those of an eager factory (Python 3.12) may end before they are made.

Without one a store and hooks whose coroutines never wait do as much in one turn as there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.wire import BASE, Connection, body_of, serving

from sansio_copilot import CopilotRuntime, Hooks, MemoryStore

FACTORIES = [None, getattr(asyncio, "eager_task_factory", None)]
COUNT = 3000
"""The number of tasks, for which Python has not enough frames."""


class AsyncStore:
    """A MemoryStore whose methods are async.

    :param waits: whether each takes a turn of the loop.
    """

    blocking = False

    def __init__(self, waits: bool) -> None:
        self._memory = MemoryStore()
        self._waits = waits
        self.watch = self._memory.watch
        self.watch_run = self._memory.watch_run

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._memory, name)

        async def call(*args: Any) -> Any:
            if self._waits:
                await asyncio.sleep(0)
            return method(*args)

        return call


async def floods(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    """Yields many events without waiting for anything, and of other threads endlessly many."""
    run = {"threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "RUN_STARTED", **run}
    number = 0
    while number < COUNT or input.thread_id == "endless":
        yield {"type": "CUSTOM", "name": "number", "value": number}
        number += 1
        if number > COUNT:
            await asyncio.sleep(0.001)
    yield {"type": "RUN_FINISHED", **run}


async def hook(context: Any) -> None:
    """Is done before anybody waits for it."""


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("factory", dict.fromkeys(FACTORIES), ids=lambda each: f"{each}"[:15])
def test_a_flood_of_events_can_be_followed_and_stopped_by_eager_tasks_as_well(
    factory: Any, waits: bool
) -> None:
    store: Any = AsyncStore(waits)
    hooks = Hooks(on_request=hook, on_before_handler=hook, on_response=hook)
    runtime = CopilotRuntime({"default": floods}, store=store, hooks=hooks)

    async def test() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with (
            serving(runtime) as server,
            await Connection.open(server.port) as runner,
            await Connection.open(server.port) as reader,
            await Connection.open(server.port) as other,
        ):
            for thread in ("one", "endless"):
                await runner.send("POST", f"{BASE}/agent/default/run", body_of(thread))
                first = await runner.next_event()
                await reader.send("POST", f"{BASE}/agent/default/connect", body_of(thread))
                assert await reader.next_event() == first
                if thread == "endless":
                    await other.send("POST", f"{BASE}/agent/default/stop/{thread}")
                    assert (await other.receive()).status == 200
                seen = await runner.rest()
                assert await reader.rest() == seen
                assert seen[-1]["type"] == "RUN_FINISHED"
                if thread == "one":
                    assert [event["value"] for event in seen[:-1]] == list(range(COUNT))

    asyncio.run(asyncio.wait_for(test(), 60))
