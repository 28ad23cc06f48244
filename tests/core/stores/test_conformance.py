"""The stores of the core and of its tests pass the suite that defines what a store is."""

from __future__ import annotations

from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any

import pytest
from support.late_store import LateStore

from sansio_copilot import CopilotRuntime, MemoryStore
from sansio_copilot.testing import Client, run_input
from sansio_copilot.testing.stores import (
    LeasedStoreConformance,
    StoreConformance,
    SupersedingStoreConformance,
)


class TestMemoryStore(StoreConformance):
    def make_store(self) -> MemoryStore:
        return MemoryStore()


class TestMemoryStoreThatSupersedes(StoreConformance, SupersedingStoreConformance):
    def make_store(self) -> MemoryStore:
        return MemoryStore(on_concurrent_run="supersede")


class TestLateStore(StoreConformance, LeasedStoreConformance):
    def make_store(self) -> LateStore:
        return LateStore()

    def await_(self, awaitable: Awaitable[Any]) -> Any:
        """Send each coroutine through all its gates at once."""
        steps = awaitable.__await__()
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value

    def expire(self, store: LateStore) -> None:
        store.expire_leases()


class TestAStoreOfCoroutines(StoreConformance):
    """A store that never waits needs no event loop, and so no runner of its own."""

    def make_store(self) -> Any:
        return Coroutines()


class TestAStoreWithThreadsOfItsOwn(StoreConformance):
    """The store does its work elsewhere, and is waited for without an event loop."""

    def make_store(self) -> Any:
        return Futures()


class Futures:
    """Each method returns a future, here one that is done."""

    blocking = False

    def __init__(self) -> None:
        self._inner = MemoryStore()
        self.watch, self.watch_run = self._inner.watch, self._inner.watch_run

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any) -> Future[Any]:
            future: Future[Any] = Future()
            try:
                future.set_result(method(*args))
            except Exception as error:
                future.set_exception(error)
            return future

        return call


class Coroutines:
    blocking = False

    def __init__(self) -> None:
        self._inner = MemoryStore()
        self.ready = False
        self.watch, self.watch_run = self._inner.watch, self._inner.watch_run

    async def open(self) -> None:
        self.ready = True

    async def check(self) -> None:
        assert self.ready

    async def close(self) -> None:
        self.ready = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any) -> Any:
            assert self.ready
            return method(*args)

        return call


class TestWhatIsWrong:
    """A store that breaks a promise fails, and so does a suite that was not filled in."""

    def test_a_store_that_doubles_repeated_appends_fails(self) -> None:
        class Doubling(MemoryStore):
            def append(self, key: Any, at: int, frames: bytes, result: Any = None) -> Any:
                return super().append(key, len(self._open[key].open_stream.data), frames, result)

        class Suite(StoreConformance):
            def make_store(self) -> MemoryStore:
                return Doubling()

        for test in (
            "frames_that_are_appended_again_are_not_doubled",
            "an_append_that_leaves_a_gap_is_refused_and_changes_nothing",
        ):
            with pytest.raises(AssertionError):
                getattr(Suite(), f"test_{test}")()

    @pytest.mark.parametrize(
        ("method", "test"),
        [
            ("check", "a_store_has_all_methods_and_is_ready"),
            ("close_run", "the_first_close_counts_and_nothing_is_added_to_it"),
            ("clear", "a_thread_that_was_deleted_has_waited_for_nothing"),
        ],
    )
    def test_a_store_that_returns_what_it_does_not_promise_fails(
        self, method: str, test: str
    ) -> None:
        class Counting(MemoryStore):
            def check(self) -> None:
                pass

        def counted(*args: Any) -> int:
            known(*args)
            return 1

        class Suite(StoreConformance):
            def make_store(self) -> MemoryStore:
                return store

        store = Counting()
        known = getattr(store, method)
        setattr(store, method, counted)
        with pytest.raises(AssertionError):
            getattr(Suite(), f"test_{test}")()

    def test_a_suite_without_a_store_fails(self) -> None:
        with pytest.raises(NotImplementedError):
            StoreConformance().make_store()
        with pytest.raises(NotImplementedError):
            LeasedStoreConformance().expire(None)


def test_a_runtime_in_a_test_waits_for_such_a_store() -> None:
    async def agent(input: Any, context: Any) -> Any:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}

    store: Any = Futures()
    server = Client(CopilotRuntime({"default": agent}, store=store))
    answer = server.post("/api/copilotkit/agent/default/run", json=run_input("t"))
    assert [event["type"] for event in answer.events()] == ["RUN_STARTED", "RUN_FINISHED"]


def test_a_runtime_is_given_another_store() -> None:
    runtime = CopilotRuntime({}, base_path="/x")
    store = MemoryStore()
    other = runtime.with_store(store)
    assert (other.store, other.base_path) == (store, "/x")
    assert runtime.store is not store
