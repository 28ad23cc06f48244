"""A thread store whose answers come late and out of order, as those of a real one do.

It is to :class:`~sansio_copilot.ThreadStore` what a database on another host would be: each call
travels, takes effect at one moment, and its answer travels back. A test decides when each does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import attrs
from msgspec import structs
from support.owner import history_of

from sansio_copilot import StoreUnavailable
from sansio_copilot.stores.memory import MemoryStore
from sansio_copilot.stores.protocol import (
    EVERY_THREAD,
    Batch,
    Cancel,
    Kind,
    LogGone,
    Notify,
    NotifyOwner,
    Opened,
    Orphan,
    OwnedThreads,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
    news_in,
)


@attrs.define(eq=False)
class Gate:
    """A gate at which a coroutine waits until its driver sends it on.

    :param open: tells whether it may be sent on yet.
    """

    name: str
    open: Callable[[], bool] = attrs.field(default=lambda: True, repr=False)

    def __await__(self) -> Generator[Gate, None, None]:
        yield self


class StoreDown(Exception):
    """The error of a call that the test lets fail."""


class AnswerLost(StoreDown, StoreUnavailable):
    """The error of a call that may have taken effect, or not."""


@attrs.define(eq=False)
class _Lease:
    """The state of an open run beside its log.

    :param expired: nobody renewed it for too long, so whoever looks may take the run over.
    :param fenced: somebody has; its first owner is out for good.
    """

    agent_id: str
    owner: str | None = None
    frames: bytes = b""
    stop_requested: bool = False
    expired: bool = False
    fenced: bool = False
    waits_for: bytes | None = None


@attrs.frozen
class _Cursor:
    """
    :param follows: the runs at its end that were open when it was opened.
    """

    inner: Any
    follows: tuple[RunKey, ...]


@attrs.define(eq=False)
class LateStore:
    """A :class:`MemoryStore` far away, which outlives the processes that use it.

    :param failing: names of methods that raise, once they would have taken effect, without effect.
    :param unavailable: names of methods that raise what passes, without effect.
    :param losing: names of methods that have their effect, and then raise what passes.
    """

    inner: MemoryStore = attrs.field(factory=MemoryStore)
    lease: float = 30.0
    failing: set[str] = attrs.field(factory=set)
    unavailable: set[str] = attrs.field(factory=set)
    losing: set[str] = attrs.field(factory=set)
    _leases: dict[RunKey, _Lease] = attrs.field(factory=dict, init=False)
    _live: dict[str, RunKey] = attrs.field(factory=dict, init=False)

    blocking = False

    def expire_leases(self) -> None:
        """Let so much time pass that every lease has run out; owners may still renew them."""
        for lease in self._leases.values():
            lease.expired = True

    @property
    def open_runs(self) -> list[RunKey]:
        """The runs that nobody has closed."""
        return list(self._leases)

    # Runs

    async def open_run(self, request: RunRequest) -> Opened:
        async with _Trip(self, "open_run"):
            if (
                orphan := self._take_over(*self._open_in(request.thread_id, request.owner))
            ) is not None:
                return orphan
            sealed = self._live.get(request.thread_id)
            outcome = self.inner.open_run(request)
            if not isinstance(outcome, RunOpened):
                return outcome
            if sealed is not None and self.inner.renew(sealed) is Signal.SEALED:
                self._leases.pop(sealed, None)
            key = outcome.key
            lease = _Lease(request.agent_id, request.owner, waits_for=outcome.waits_for)
            self._leases[key] = lease
            self._live[request.thread_id] = key
            return structs.replace(
                outcome, cursor=_Cursor(outcome.cursor, (key,)), lease=self.lease
            )

    async def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Signal:
        async with _Trip(self, "append"):
            lease = self._leases.get(key)
            if lease is None or lease.fenced:
                return Signal.SEALED
            lease.expired = False
            lease.frames += news_in(key, at, frames, len(lease.frames)) or b""
            return self.inner.append(key, at, frames, result)

    async def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> bool:
        async with _Trip(self, "close_run"):
            if key not in self._leases:
                return False
            self.inner.close_run(key, at, frames, result)
            del self._leases[key]
            if self._live.get(key.thread_id) == key:
                del self._live[key.thread_id]
            return True

    async def renew(self, key: RunKey) -> Signal:
        async with _Trip(self, "renew"):
            lease = self._leases.get(key)
            if lease is None or lease.fenced:
                return Signal.SEALED
            lease.expired = False
            return self.inner.renew(key)

    async def request_stop(
        self, thread_id: str, run_id: str | None, owner: str | None = None
    ) -> bool | Orphan:
        async with _Trip(self, "request_stop"):
            key = self._live.get(thread_id)
            is_meant = key is not None and run_id in (None, key.run_id)
            if key is not None and is_meant and (lease := self._leases[key]).owner == owner:
                lease.stop_requested = True
                if (orphan := self._take_over(key)) is not None:
                    return orphan
            return self.inner.request_stop(thread_id, run_id, owner)

    def watch_run(self, key: RunKey, notify: NotifyOwner) -> Cancel:
        return self.inner.watch_run(key, notify)

    # Readers

    async def open_cursor(self, thread_id: str, after: str | None, owner: str | None = None) -> Any:
        async with _Trip(self, "open_cursor"):
            return _Cursor(
                self.inner.open_cursor(thread_id, after, owner), self._open_in(thread_id, owner)
            )

    async def read(self, cursor: _Cursor, max_bytes: int) -> Batch | LogGone:
        async with _Trip(self, "read"):
            batch = self.inner.read(cursor.inner, max_bytes)
            if isinstance(batch, LogGone):
                return batch
            orphan = None
            if not batch.data and not batch.ended:
                orphan = self._take_over(*cursor.follows)
            return structs.replace(
                batch, cursor=attrs.evolve(cursor, inner=batch.cursor), orphan=orphan
            )

    def watch(self, cursor: _Cursor, notify: Notify) -> Cancel:
        # The death of an owner rings no bell; a reader that looks again finds it.
        return self.inner.watch(cursor.inner, notify)

    # Threads

    async def list_threads(self, query: ThreadQuery = EVERY_THREAD) -> ThreadPage:
        async with _Trip(self, "list_threads"):
            return self.inner.list_threads(query)

    async def read_history(
        self, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None = None
    ) -> Batch | LogGone:
        async with _Trip(self, "read_history"):
            return self.inner.read_history(thread_id, kind, cursor, max_bytes, owner)

    async def update_thread(
        self, thread_id: str, changes: Mapping[str, Any], owner: str | None = None
    ) -> ThreadRecord | None:
        async with _Trip(self, "update_thread"):
            return self.inner.update_thread(thread_id, changes, owner)

    async def delete_thread(self, thread_id: str, owner: str | None = None) -> bool:
        async with _Trip(self, "delete_thread"):
            return self.inner.delete_thread(thread_id, owner)

    async def clear(self, owner: str | None = None) -> None:
        async with _Trip(self, "clear"):
            self.inner.clear(owner)

    async def owner_of(self, thread_id: str) -> ThreadOwner | None:
        async with _Trip(self, "owner_of"):
            return self.inner.owner_of(thread_id)

    async def threads_of_all(self, cursor: str | None, limit: int) -> OwnedThreads:
        async with _Trip(self, "threads_of_all"):
            return self.inner.threads_of_all(cursor, limit)

    async def claim_thread(self, thread_id: str, owner: str) -> bool:
        async with _Trip(self, "claim_thread"):
            return self.inner.claim_thread(thread_id, owner)

    async def bytes_of(self, owner: str) -> int:
        async with _Trip(self, "bytes_of"):
            return self.inner.bytes_of(owner)

    async def orphans(self, limit: int) -> list[Orphan]:
        async with _Trip(self, "orphans"):
            lost = [key for key, lease in self._leases.items() if lease.expired or lease.fenced]
            return [one for key in lost[:limit] if (one := self._take_over(key)) is not None]

    def _open_in(self, thread_id: str, owner: str | None) -> tuple[RunKey, ...]:
        """The thread's open runs, those that were superseded first."""
        return tuple(
            key
            for key, lease in self._leases.items()
            if key.thread_id == thread_id and lease.owner == owner
        )

    def _take_over(self, *keys: RunKey) -> Orphan | None:
        """The first of the runs that has lost its owner."""
        for key in keys:
            lease = self._leases.get(key)
            if lease is not None and (lease.expired or lease.fenced):
                lease.fenced = True
                messages = history_of(self.inner, key.thread_id, lease.owner).messages
                return Orphan(
                    key,
                    lease.agent_id,
                    lease.frames,
                    messages,
                    lease.stop_requested,
                    owner=lease.owner,
                    waits_for=lease.waits_for,
                )
        return None


@attrs.define
class _Trip:
    """A call's way to the store, which may end with a failure, and its answer's way back."""

    store: LateStore
    method: str

    async def __aenter__(self) -> None:
        await Gate(f"{self.method} is on its way")
        if self.method in self.store.failing:
            raise StoreDown(self.method)
        if self.method in self.store.unavailable:
            raise AnswerLost(self.method)

    async def __aexit__(self, *error: object) -> None:
        if error == (None, None, None):
            if self.method in self.store.losing:
                raise AnswerLost(self.method)
            await Gate(f"the answer of {self.method} is on its way")
