"""A MemoryStore and its model side by side, compared at every call, and failing on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from msgspec import structs
from support.late_store import AnswerLost, StoreDown
from support.model_store import ModelReader, ModelStore
from support.owner import history_of

from sansio_copilot.stores.memory import MemoryStore
from sansio_copilot.stores.protocol import (
    EVERY_THREAD,
    Batch,
    Cancel,
    Kind,
    LogGone,
    Notify,
    NotifyOwner,
    Orphan,
    OwnedThreads,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
    news_in,
)


@attrs.frozen
class Cursor:
    """A cursor of the real store, and what it is to see from ``position`` on."""

    inner: Any
    model: ModelReader
    position: int = 0


class CheckedStore:
    """
    :ivar failing: names of methods; the next call of each raises, without effect.
    :ivar losing: names of methods; the next call of each has its effect, and raises what passes.
    :ivar failed: every call that did.
    :ivar watching: how many wait for something to read.
    """

    blocking = False

    def __init__(self, **limits: Any) -> None:
        self.real = MemoryStore(**limits)
        self.model = ModelStore(**limits)
        self.failing: set[str] = set()
        self.losing: set[str] = set()
        self.failed: list[tuple[str, tuple[Any, ...]]] = []
        self.watching = 0

    def check(self) -> None:
        self.model.begin_call(self.real)
        assert self.real.total_bytes == self.model.total_bytes
        for thread_id in self.model.threads:
            assert history_of(self.real, thread_id) == self.model.read_history(thread_id)

    def open_run(self, request: RunRequest) -> RunOpened | ThreadBusy:
        self._fail("open_run", request)
        outcome, run = self.real.open_run(request), self.model.open_run(request)
        if isinstance(run, ThreadBusy):
            assert outcome == run
            return run
        assert isinstance(outcome, RunOpened)
        assert outcome.key == run.key
        assert outcome.known_message_ids == self.model.known_message_ids(request)
        return structs.replace(outcome, cursor=Cursor(outcome.cursor, self.model.own_reader(run)))

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Signal:
        self._fail("append", key)
        news = self._news_in(key, at, frames)
        signal = self.real.append(key, at, frames, result)
        assert signal is self.model.append(key, news, result)
        self._lose("append")
        return signal

    def close_run(self, key: RunKey, at: int, frames: bytes, result: RunResult | None) -> None:
        self._fail("close_run", key)
        news = self._news_in(key, at, frames)
        self.real.close_run(key, at, frames, result)
        self.model.close_run(key, news, result)
        self._lose("close_run")

    def _news_in(self, key: RunKey, at: int, frames: bytes) -> bytes:
        if self.model.runs[key].ended:
            return frames
        news = news_in(key, at, frames, len(self.model.runs[key].data))
        assert news is not None, "a server has one call of a run at a time"
        return news

    def renew(self, key: RunKey) -> Signal:
        self._fail("renew", key)
        signal = self.real.renew(key)
        assert signal is self.model.runs[key].signal
        self._lose("renew")
        return signal

    def request_stop(self, thread_id: str, run_id: str | None, owner: str | None = None) -> bool:
        self._fail("request_stop", thread_id)
        stopped = self.real.request_stop(thread_id, run_id, owner)
        assert stopped is self.model.request_stop(thread_id, run_id)
        return stopped

    def watch_run(self, key: RunKey, notify: NotifyOwner) -> Cancel:
        return self.real.watch_run(key, notify)

    def open_cursor(self, thread_id: str, after: str | None, owner: str | None = None) -> Cursor:
        self._fail("open_cursor", thread_id)
        return Cursor(
            self.real.open_cursor(thread_id, after, owner), self.model.open_cursor(thread_id, after)
        )

    def read(self, cursor: Cursor, max_bytes: int) -> Batch | LogGone:
        self._fail("read", cursor)
        batch = self.real.read(cursor.inner, max_bytes)
        if isinstance(batch, LogGone):
            assert cursor.model.read(cursor.position, max_bytes) == batch
            return batch
        at = cursor.position + len(batch.data)
        assert batch.data == cursor.model.read(cursor.position, max_bytes)
        assert batch.ended == cursor.model.ends(at)
        return structs.replace(batch, cursor=Cursor(batch.cursor, cursor.model, at))

    def watch(self, cursor: Cursor, notify: Notify) -> Cancel:
        self.watching += 1
        watches = [True]

        def over() -> None:
            if watches:
                watches.clear()
                self.watching -= 1

        def told() -> None:
            over()
            notify()

        cancel = self.real.watch(cursor.inner, told)

        def give_up() -> None:
            over()
            cancel()

        return give_up

    def list_threads(self, query: ThreadQuery = EVERY_THREAD) -> ThreadPage:
        self._fail("list_threads")
        return self.real.list_threads(query)

    def read_history(
        self, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None = None
    ) -> Batch | LogGone:
        self._fail("read_history", thread_id)
        return self.real.read_history(thread_id, kind, cursor, max_bytes, owner)

    def update_thread(
        self, thread_id: str, changes: Mapping[str, Any], owner: str | None = None
    ) -> ThreadRecord | None:
        self._fail("update_thread", thread_id)
        record = self.real.update_thread(thread_id, changes, owner)
        assert record == self.model.update_thread(thread_id, dict(changes))
        return record

    def delete_thread(self, thread_id: str, owner: str | None = None) -> bool:
        self._fail("delete_thread", thread_id)
        deleted = self.real.delete_thread(thread_id, owner)
        assert deleted is self.model.delete_thread(thread_id)
        return deleted

    def clear(self, owner: str | None = None) -> None:
        self._fail("clear")
        self.real.clear(owner)
        self.model.clear()

    def owner_of(self, thread_id: str) -> ThreadOwner | None:
        return self.real.owner_of(thread_id)

    def threads_of_all(self, cursor: str | None, limit: int) -> OwnedThreads:
        return self.real.threads_of_all(cursor, limit)

    def claim_thread(self, thread_id: str, owner: str) -> bool:
        return self.real.claim_thread(thread_id, owner)

    def bytes_of(self, owner: str) -> int:
        return self.real.bytes_of(owner)

    def orphans(self, limit: int) -> list[Orphan]:
        return self.real.orphans(limit)

    def _lose(self, method: str) -> None:
        if method in self.losing:
            self.losing.remove(method)
            raise AnswerLost(method)

    def _fail(self, method: str, *args: Any) -> None:
        """Begin a call, which may be one that fails."""
        self.model.begin_call(self.real)
        if method in self.failing:
            self.failing.remove(method)
            self.failed.append((method, args))
            raise StoreDown(method)
