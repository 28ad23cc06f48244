"""Sweeps: every orphan that a store hands out is ended, and none ends the sweep."""

from __future__ import annotations

from typing import Any

import pytest

from sansio_copilot import CopilotRuntime, MemoryStore, StoreUnavailable
from sansio_copilot.stores.protocol import Orphan, RunKey, RunResult


class Orphanage(MemoryStore):
    def __init__(self, count: int, stubborn: bool = False) -> None:
        super().__init__()
        self.lost = [
            Orphan(RunKey("t", number, "r"), "agent", b"", stop_requested=bool(number % 2))
            for number in range(count)
        ]
        self.stubborn = stubborn
        self.ended: dict[RunKey, RunResult | None] = {}

    def orphans(self, limit: int) -> list[Orphan]:
        return [one for one in self.lost if one.key not in self.ended][:limit]

    def close_run(self, key: RunKey, at: int, frames: bytes, result: RunResult | None) -> None:
        if self.stubborn:
            raise OSError("not this one")
        assert b"RUN_FINISHED" in frames if key.seq % 2 else b"has died" in frames
        self.ended[key] = result


def swept(store: MemoryStore) -> Any:
    steps = CopilotRuntime({}, store=store).sweep(1.0)
    try:
        action = next(steps)
        while True:
            try:
                outcome = action.function(*action.args)
            except OSError as error:
                action = steps.throw(error)
            else:
                action = steps.send(outcome)
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("count", [0, 1, 16, 40])
def test_all_orphans_are_ended_some_at_a_time(count: int) -> None:
    store = Orphanage(count)
    assert swept(store) == len(store.ended) == count


def test_orphans_that_cannot_be_ended_are_left_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert swept(Orphanage(40, stubborn=True)) == 0
    assert len(caplog.records) == 16
    assert "an orphan could not be ended: RunKey(thread_id='t', seq=0" in caplog.text


def test_a_store_of_memory_has_no_orphans() -> None:
    assert swept(MemoryStore()) == 0


def test_a_value_that_is_no_orphan_is_named() -> None:
    class Garbage(MemoryStore):
        def orphans(self, limit: int) -> Any:
            return [7]

    told = "store method orphans returned a list of int, expected a list of Orphan"
    with pytest.raises(TypeError, match=told):
        swept(Garbage())


def test_a_store_that_is_away_ends_the_sweep() -> None:
    steps = CopilotRuntime({}, store=Orphanage(3)).sweep(1.0)
    asked = next(steps)
    steps.send(asked.function(*asked.args))
    with pytest.raises(StoreUnavailable):
        steps.throw(StoreUnavailable("away"))
