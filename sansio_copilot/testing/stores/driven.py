"""A store whose calls return when they are done, and other parts that tests of stores share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from ...calls import is_deferred
from ...sse import COMPACTED_FRAME, NUMBERED_FRAME
from ...stores.protocol import (
    Batch,
    Kind,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadQuery,
    ThreadRecord,
)
from ..loopless import run_awaitable


def frame(key: RunKey, position: int | str, data: str = "{}") -> bytes:
    """A frame as the core writes it: "c" in front of a position tells a compacted one."""
    number = str(position)
    form = COMPACTED_FRAME if number.startswith("c") else NUMBERED_FRAME
    return form % (key.token.encode(), int(number.removeprefix("c")), data.encode())


def result_of(key: RunKey, *data: str, **fields: Any) -> RunResult:
    """Return the result of a run: a compacted frame for each of ``data``."""
    frames = [frame(key, f"c{index}", text) for index, text in enumerate(data)]
    return RunResult(b"".join(frames), **fields)


class Driven:
    """A store whose methods return their outcomes, which have been awaited."""

    def __init__(self, store: Any, await_: Callable[[Awaitable[Any]], Any]) -> None:
        self.store = store
        self._await = await_

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            outcome = getattr(self.store, name)(*args)
            if is_deferred(outcome):
                return outcome.result()
            return self._await(outcome) if hasattr(outcome, "__await__") else outcome

        return call

    def opened(self, thread_id: str = "t", run_id: str = "r", **fields: Any) -> RunOpened:
        """A run that is open now."""
        fields.setdefault("agent_id", "agent")
        outcome = self.open_run(RunRequest(thread_id, run_id, **fields))
        assert isinstance(outcome, RunOpened), outcome
        return outcome

    def ended(self, thread_id: str, *data: str, owner: str | None = None, **fields: Any) -> RunKey:
        """A whole run: a raw frame and a compacted one for each of ``data``."""
        agent_id = fields.pop("agent_id", "agent")
        key = self.opened(thread_id, owner=owner, agent_id=agent_id).key
        frames = b"".join([frame(key, index, text) for index, text in enumerate(data)])
        self.close_run(key, 0, frames, result_of(key, *data, **fields))
        return key

    def rest(self, cursor: Any, max_bytes: int = 1 << 16) -> tuple[bytes, bool]:
        """Return what can be read from ``cursor`` on for now, and whether no more will follow."""
        data = b""
        while True:
            batch = self.read(cursor, max_bytes)
            assert isinstance(batch, Batch), batch
            assert len(batch.data) <= max_bytes
            data, cursor = data + batch.data, batch.cursor
            if batch.ended or not batch.data:
                return data, batch.ended

    def replay(self, thread_id: str, after: str | None = None, owner: str | None = None) -> bytes:
        """Return what a connect can read for now."""
        return self.rest(self.open_cursor(thread_id, after, owner))[0]

    def history(
        self, thread_id: str, kind: Kind, owner: str | None = None, max_bytes: int = 1 << 16
    ) -> bytes:
        """A thread's history of that kind, page by page."""
        data, cursor = b"", None
        while True:
            page = self.read_history(thread_id, kind, cursor, max_bytes, owner)
            assert isinstance(page, Batch), page
            assert len(page.data) <= max_bytes
            data, cursor = data + page.data, page.cursor
            if page.ended:
                return data
            assert page.data, "a page that is not the last one has something"

    def listed(self, query: ThreadQuery) -> list[ThreadRecord]:
        """The threads that ``query`` finds, page by page."""
        records: list[ThreadRecord] = []
        while True:
            page = self.list_threads(query)
            assert len(page.threads) <= query.limit
            records += page.threads
            if page.next_cursor is None:
                return records
            query = attrs.evolve(query, cursor=page.next_cursor)


class Told:
    """A function to be notified, which notes its arguments."""

    def __init__(self) -> None:
        self.signals: list[Signal | None] = []

    def __call__(self, signal: Signal | None = None) -> None:
        self.signals.append(signal)


def refuses(error: type[Exception], call: Callable[[], object]) -> None:
    """Check that ``call`` raises ``error``."""
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


class StoreTests:
    """The base of the classes of tests, with the methods that an author fills in.

    :cvar supersedes: whether a run of a busy thread supersedes the live one.
    """

    supersedes = False

    def make_store(self) -> Any:
        """A new store with nothing in it, and with room for all that a test puts there."""
        raise NotImplementedError

    def await_(self, awaitable: Awaitable[Any]) -> Any:
        """The result of what an async store has returned."""
        return run_awaitable(awaitable)

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait until ``reached()``, where notifications take their time."""
        assert reached()

    def new(self) -> Driven:
        """A new store, opened, whose calls return when they are done."""
        store = Driven(self.make_store(), self.await_)
        if hasattr(store.store, "open"):
            store.open()
        return store
