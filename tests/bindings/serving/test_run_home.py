"""The home of a run under asyncio, when what the store says comes at an awkward moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conformance.client import Client

from copilot_bindings.asyncio import start_server
from copilot_bindings.serving.run_home_states import TRANSITIONS, HomeState
from sansio_copilot import CopilotRuntime, MemoryStore
from sansio_copilot.stores.protocol import NotifyOwner, Signal


class Untimely(MemoryStore):
    """An async store that asks for a stop so many turns of the loop after it has appended.

    Its append takes some time, and the agent yields again meanwhile.
    """

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.turns = turns
        self.appends = 0
        self.goes_on = asyncio.Event()
        self.notify: NotifyOwner

    async def append(self, *args: Any) -> Signal:  # type: ignore[override]
        self.appends += 1
        if self.appends == 2:
            self.goes_on.set()
            for _ in range(10):
                await asyncio.sleep(0)
            self.ask(self.turns)
        return super().append(*args)

    def watch_run(self, key: Any, notify: NotifyOwner) -> Any:
        self.notify = notify
        return super().watch_run(key, notify)

    async def close_run(self, *args: Any) -> None:  # type: ignore[override]
        for _ in range(10):
            await asyncio.sleep(0)
        super().close_run(*args)

    def ask(self, turns: int) -> None:
        """Ask for the stop when so many turns have passed."""
        if turns:
            asyncio.get_running_loop().call_soon(self.ask, turns - 1)
        else:
            self.notify(Signal.STOP)


@pytest.mark.parametrize("turns", range(12))
def test_a_signal_may_come_between_an_answer_and_who_waits_for_it(
    turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "CUSTOM", "name": "n", "value": 1}
        await stores[0].goes_on.wait()
        while True:
            yield {"type": "CUSTOM", "name": "n", "value": 2}
            await asyncio.sleep(0)

    def read(port: int) -> list[dict[str, Any]]:
        with Client(port, "/api/copilotkit", {}) as client:
            return client.stream("run", "t").rest()

    async def main() -> list[dict[str, Any]]:
        stores.append(Untimely(turns))
        (store,) = stores
        server = await start_server(CopilotRuntime({"default": agent}, store=store), port=0)
        try:
            return await asyncio.to_thread(read, server.port)
        finally:
            await server.close()

    stores: list[Untimely] = []
    with caplog.at_level(logging.ERROR):
        events = asyncio.run(main())
    assert events[-1]["type"] == "RUN_FINISHED"
    assert not caplog.records


def test_the_states_of_a_home_say_what_may_come_when_it_has_left_its_agent() -> None:
    for state, happenings in TRANSITIONS.items():
        is_over = state in (HomeState.LEAVING, HomeState.ENDED)
        # A store call that was in progress is seen through beside the home, and ends the run.
        assert happenings["the run ends"] is (state if is_over else HomeState.LEAVING)
        answered = happenings.get("the store has answered")
        assert answered is (
            state if is_over else None if state is HomeState.PULLING else HomeState.PULLING
        )
