"""The home of a run under asyncio, when what the store says comes at an awkward moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from conformance.client import Client

from copilot_bindings.asyncio import start_server
from copilot_bindings.serving import run_driver, run_home
from copilot_bindings.serving.run_home import RunHome
from copilot_bindings.serving.run_home_states import TRANSITIONS, HomeState
from sansio_copilot import CopilotRuntime, MemoryStore
from sansio_copilot.runs.states import RunState
from sansio_copilot.stores.protocol import NotifyOwner, Signal


class Untimely(MemoryStore):
    """An async store that has the run ended so many turns of the loop after it has appended.

    Its append takes some time, and the agent yields again meanwhile.
    """

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.turns = turns
        self.appends = 0
        self.goes_on = asyncio.Event()
        self.notify: NotifyOwner
        self.end: Callable[[], object] = lambda: self.notify(Signal.STOP)

    async def append(self, *args: Any) -> Signal:  # type: ignore[override]
        self.appends += 1
        for _ in range(3):
            await asyncio.sleep(0)
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
        """End the run when so many turns have passed."""
        if turns:
            asyncio.get_running_loop().call_soon(self.ask, turns - 1)
        else:
            self.end()


ASKED = {RunState.STORING, RunState.CLOSING, RunState.WAITING}
"""The states of a run whose store is being asked, or is unavailable."""
LEFT = {HomeState.LEAVING, HomeState.ENDED}


class Watched:
    """Compares the state of each home with its other attributes, in every turn of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.homes: list[RunHome] = []
        self.seen: set[HomeState] = set()
        begin = RunHome.begin

        def noted(home: RunHome, ended: Callable[[RunHome], object]) -> bool:
            self.homes.append(home)
            return begin(home, ended)

        monkeypatch.setattr(RunHome, "begin", noted)
        # The clock of runs stands still, so that each event but the first is held for a moment, and
        # appended aside, however busy the machine is.
        clock = SimpleNamespace(time=lambda: 1_700_000_000.0)
        monkeypatch.setattr(run_home, "time", clock)
        monkeypatch.setattr(run_driver, "time", clock)

    async def watch(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(0)

    def check(self) -> None:
        for home in self.homes:
            self.seen.add(home.state)
            is_over = home._fate is not None  # noqa: SLF001 - the table is of these attributes
            is_aside = home._answered is not None  # noqa: SLF001
            is_asked = home._run.state in ASKED  # noqa: SLF001
            if home.state in LEFT:
                # The task that has asked the store ends the run, if the home has left before.
                assert is_over or is_asked
                assert is_asked or not is_aside
            else:
                assert not is_over
                assert is_aside is (home.state is HomeState.ASIDE)
                assert is_asked is (home.state is not HomeState.PULLING)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


@pytest.mark.parametrize("ended_by", ["the store", "the server"])
@pytest.mark.parametrize("turns", range(12))
def test_an_end_may_come_between_an_answer_of_the_store_and_who_waits_for_it(
    turns: int, ended_by: str, caplog: pytest.LogCaptureFixture, watched: Watched
) -> None:
    async def agent(input: Any, context: Any) -> AsyncIterator[Any]:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "CUSTOM", "name": "n", "value": 1}
        await stores[0].goes_on.wait()
        try:
            while True:
                yield {"type": "CUSTOM", "name": "n", "value": 2}
                await asyncio.sleep(0)
        finally:
            # The agent cleans up for some turns, so that the watch sees the home leaving.
            for _ in range(3):
                await asyncio.sleep(0)

    def read(port: int) -> list[dict[str, Any]]:
        with Client(port, "/api/copilotkit", {}) as client:
            return client.stream("run", "t").rest()

    async def main() -> list[dict[str, Any]]:
        stores.append(Untimely(turns))
        (store,) = stores
        watching = asyncio.ensure_future(watched.watch())
        server = await start_server(CopilotRuntime({"default": agent}, store=store), port=0)
        if ended_by == "the server":
            store.end = partial(server.begin_close, grace_seconds=0)
        try:
            return await asyncio.to_thread(read, server.port)
        finally:
            await server.close()
            assert not watching.done() or watching.result()
            watching.cancel()

    stores: list[Untimely] = []
    with caplog.at_level(logging.ERROR):
        events = asyncio.run(main())
    assert events[-1]["type"] == ("RUN_FINISHED" if ended_by == "the store" else "RUN_ERROR")
    assert not caplog.records
    watched.check()
    assert watched.seen == set(HomeState)
    assert [home.state for home in watched.homes] == [HomeState.ENDED]


def test_the_states_of_a_home_say_what_may_come_when_it_has_left_its_agent() -> None:
    for state, happenings in TRANSITIONS.items():
        is_over = state in (HomeState.LEAVING, HomeState.ENDED)
        # A store call that was in progress is seen through beside the home, and ends the run.
        assert happenings["the run ends"] is (state if is_over else HomeState.LEAVING)
        answered = happenings.get("the store has answered")
        assert answered is (
            state if is_over else None if state is HomeState.PULLING else HomeState.PULLING
        )
