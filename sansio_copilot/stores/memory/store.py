"""MemoryStore: threads in this process's memory, within bounds.

A thread is a row of runs: those that have ended (its history, each as the compacted frames of a
replay), those that were superseded and have not ended yet, and at most one live one. A run is a
stream of bytes that grows (:mod:`.streams`), and a reader is a cursor on a fixed row of streams,
which was made when the reader came. So a reader sees one order of bytes, whatever happens to the
thread meanwhile, and only the owners of the runs add to it.

Four rules make that right:

- A run is in ``_open`` from its opening to its end, and ``_open`` alone says who may append. A
  thread may be deleted while a run of it is open: the run is "detached" then, goes on, and leaves
  no history.
- Frames come with the place where they begin, and a log takes only the frames that it does not have
  (:func:`~..protocol.news_in`). So a call may be made twice.
- A result that comes with the terminal event makes a run sealable: the next run of its thread
  closes it with that result. Until then the run counts as live.
- History is in the order in which runs were opened, not in that of their ends, and messages and
  state are those of the last of them.

The bounds hold for everything that the store keeps: frames, messages and state, the ids and names
that clients choose, and the memory that each thread, run and message id takes besides. Readers
cannot get around the bounds, because a cursor does not hold what it reads. :mod:`.eviction` counts
and evicts, :mod:`.threads` has the threads and runs, and :mod:`.listing` lists them.

The methods may be changed one by one. Each leaves everything consistent, and calls back (the
``notify`` of an owner or a reader) only when it is done, because the function that is called may
call the store again. A state machine compares every call with a model that knows only lists
(``tests/support/model_store.py``), and ``sansio_copilot.testing.stores`` with the promises of every
store.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import getsizeof
from typing import Any, Literal

import attrs

from ...limits import count_or_infinity
from ..protocol import (
    EVERY_THREAD,
    Batch,
    Cancel,
    Kind,
    LogGone,
    NotifyOwner,
    Orphan,
    OwnedThreads,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadOfAnother,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
    news_in,
    nothing_to_cancel,
    reject_or_supersede,
)
from . import streams
from .eviction import Room
from .listing import everyones, threads_of
from .streams import Cursor, RunStream
from .threads import RUN_BYTES, KeptRun, KeptThread

_NONE: frozenset[str] = frozenset()


# The class sets NO_OP, because each change of a count would look for validators to run otherwise.
@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class MemoryStore:
    """Threads in this process's memory, within bounds. Never blocks, and needs no event loop.

    Not safe to call from several operating system threads at once: bindings that use some hold a
    lock.

    :param max_threads: threads kept; the least recently used go first. Threads with a live run and
        the thread just used are never evicted, so that these can exceed the bound.
    :param max_runs_per_thread: ended runs kept for each thread; 0 keeps all.
    :param max_bytes: bytes kept over all threads, with what Python takes to keep them. Whatever
        is least recently used goes first: a thread, or frames that are kept for slow readers only
        (of a run whose thread was deleted, or behind ``resumable_runs``). Their readers get
        :class:`~sansio_copilot.stores.protocol.LogGone`.
    :param on_concurrent_run: what a second run on a busy thread does. "reject": it is refused with
        409. "supersede": it replaces the live one, which ends as if stopped, and is history like
        any other run that was stopped, in front of the second.
    :param resumable_runs: the number of ended runs of a thread whose raw frames are kept beside the
        compacted ones, so that a reader that was cut off can resume exactly behind the event it saw
        last. Once they are gone it is sent the thread's whole history instead.
    :raises ValueError: for a limit that is not a non-negative int or ``math.inf``, or an unknown
        ``on_concurrent_run``.
    """

    max_threads: float = attrs.field(default=1000, validator=count_or_infinity)
    max_runs_per_thread: float = attrs.field(default=100, validator=count_or_infinity)
    max_bytes: float = attrs.field(default=512 * 1024**2, validator=count_or_infinity)
    on_concurrent_run: Literal["reject", "supersede"] = attrs.field(
        default="reject", validator=reject_or_supersede
    )
    resumable_runs: float = attrs.field(default=4, validator=count_or_infinity)
    _room: Room = attrs.field(init=False, repr=False)
    _open: dict[RunKey, KeptRun] = attrs.field(factory=dict, init=False, repr=False)
    # All threads share one count, so that a thread that was let go, and is made again, uses no
    # number twice.
    _last_seq: int = attrs.field(default=0, init=False, repr=False)

    blocking = False

    @_room.default
    def _make_room(self) -> Room:
        return Room(self.max_threads, self.max_runs_per_thread, self.max_bytes, self.resumable_runs)

    @property
    def total_bytes(self) -> int:
        """The bytes that count against ``max_bytes``."""
        self._room.reclaim()
        return self._room.taken

    @property
    def open_runs(self) -> int:
        """The number of runs that are open, those of deleted threads included."""
        return len(self._open)

    @property
    def evictions(self) -> int:
        """The number of threads that were evicted to stay within the bounds."""
        return self._room.evictions

    # Runs, as their owners see them

    def open_run(self, request: RunRequest) -> RunOpened | ThreadBusy | ThreadOfAnother:
        room, thread_id = self._room, request.thread_id
        thread = room.threads.get(thread_id)
        if thread is None:
            thread = room.threads[thread_id] = KeptThread(thread_id, request.owner)
            room.taken += thread.measure()
        elif thread.owner != request.owner:
            return ThreadOfAnother()
        room.uses += 1
        superseded = None
        if (live := thread.live) is not None:
            if live.result is not None:
                self._seal(thread, live)
            elif self.on_concurrent_run == "reject":
                return ThreadBusy(live.key.run_id)
            else:
                superseded = live
                thread.superseded.append(live)
        self._last_seq += 1
        # The key has the thread's own copy of its id, because the request's may be long.
        key = RunKey(thread.thread_id, self._last_seq, request.run_id)
        stream = RunStream()
        run = thread.live = self._open[key] = KeptRun(key, request.agent_id, stream)
        run.fixed = RUN_BYTES + getsizeof(request.run_id) + getsizeof(request.agent_id)
        run.size = run.fixed
        room.taken += run.size
        room.idle.pop(thread_id, None)
        room.evict()
        known = _known(request, thread) if thread.message_ids else _NONE
        waits_for = None if thread.superseded else thread.waits_for
        opened = RunOpened(key, Cursor((stream,)), known, waits_for=waits_for)
        # The signal comes last, because the owner may close its run before this returns.
        if superseded is not None:
            self._signal(superseded, Signal.STOP)
        return opened

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Signal:
        run = self._open.get(key)
        if run is None:
            return Signal.SEALED
        room, stream = self._room, run.raw
        assert stream is not None, "an open run keeps its frames"
        if at != len(stream.data):
            news = news_in(key, at, frames, len(stream.data))
            if news is None:
                return run.signal
            frames = news
        stream.data += frames
        if result is None and run.result is None:
            # Nearly every call ends here, so that the sizes are added up without measuring the run.
            run.size += len(frames)
            room.taken += len(frames)
        else:
            run.result = result
            room.taken += run.measure()
        if room.taken > self.max_bytes:
            room.uses += 1
            room.evict()
        if frames:
            stream.wake()
        return run.signal

    def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> bool | None:
        run = self._open.get(key)
        if run is None:
            return False
        room, stream = self._room, run.raw
        assert stream is not None, "an open run keeps its frames"
        news = frames
        if at != len(stream.data):
            news = news_in(key, at, frames, len(stream.data)) or b""
        del self._open[key]
        room.uses += 1
        run.result = result
        stream.data += news
        if run.detached:
            room.forget(run)
        else:
            thread = room.threads[key.thread_id]
            if run is thread.live:
                thread.live = None
            else:
                thread.superseded.remove(run)
            if result is None:
                room.forget(run)
            else:
                room.keep(thread, run, result)
            room.settle(thread)
        stream.ended = True
        stream.wake()
        return True

    def renew(self, key: RunKey) -> Signal:
        run = self._open.get(key)
        return Signal.SEALED if run is None else run.signal

    def request_stop(self, thread_id: str, run_id: str | None, owner: str | None = None) -> bool:
        thread = self._find(thread_id, owner)
        run = thread.live if thread is not None else None
        if run is None or run.signal is not Signal.CONTINUE:
            return False
        if run_id is not None and run.key.run_id != run_id:
            return False
        self._signal(run, Signal.STOP)
        return True

    def watch_run(self, key: RunKey, notify: NotifyOwner) -> Cancel:
        run = self._open.get(key)
        signal = Signal.SEALED if run is None else run.signal
        if run is None or signal is not Signal.CONTINUE:
            notify(signal)
            return nothing_to_cancel
        run.notify_owner = notify
        return run.forget_owner

    def orphans(self, limit: int) -> list[Orphan]:
        # There are never orphans here, because an owner lives in the same process, and dies with
        # the store.
        return []

    # Readers

    def open_cursor(self, thread_id: str, after: str | None, owner: str | None = None) -> Cursor:
        thread = self._find(thread_id, owner)
        if thread is None:
            return Cursor(())
        self._room.uses += 1
        self._room.use(thread)
        behind = None if after is None else thread.cursor_behind(after)
        return behind or Cursor(tuple([run.replayed for run in thread.runs()]))

    # These two functions need nothing of the store, because a cursor refers to all its streams.
    read = staticmethod(streams.read)
    watch = staticmethod(streams.watch)

    # Threads

    def list_threads(self, query: ThreadQuery = EVERY_THREAD) -> ThreadPage:
        """See :meth:`.ThreadStore.list_threads`.

        :raises UnknownCursor: for a cursor that no page of the store has given out.
        """
        return threads_of(self._room.threads.values(), query)

    def read_history(
        self, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None = None
    ) -> Batch | LogGone:
        if cursor is None:
            thread = self._find(thread_id, owner) or KeptThread(thread_id)
            cursor = thread.history_cursor(kind)
        return streams.read(cursor, max_bytes)

    def update_thread(
        self, thread_id: str, changes: Mapping[str, Any], owner: str | None = None
    ) -> ThreadRecord | None:
        thread, room = self._find(thread_id, owner), self._room
        if thread is None or not thread.history:
            return None
        thread.name = changes.get("name", thread.name)
        thread.archived = changes.get("archived", thread.archived)
        room.uses += 1
        room.use(thread)
        room.taken += thread.measure()
        room.evict()
        return thread.record()

    def delete_thread(self, thread_id: str, owner: str | None = None) -> bool:
        thread, room = self._find(thread_id, owner), self._room
        if thread is not None:
            room.uses += 1
            room.idle.pop(thread_id, None)
            room.drop_history(thread)
            room.remove(thread)
            for run in thread.open_runs:
                run.detached = True
                # The text of the id is counted for the run, because the run alone has it now.
                run.fixed += getsizeof(thread_id)
                room.taken += run.measure()
            for run in thread.open_runs:
                self._signal(run, Signal.STOP)
        return thread is not None

    def clear(self, owner: str | None = None) -> None:
        room = self._room
        room.uses += 1
        for thread in list(room.threads.values()):
            if thread.owner == owner:
                room.drop_history(thread)
                if not thread.open_runs:
                    room.idle.pop(thread.thread_id, None)
                    room.remove(thread)

    def owner_of(self, thread_id: str) -> ThreadOwner | None:
        thread = self._room.threads.get(thread_id)
        return None if thread is None else ThreadOwner(thread.owner)

    def threads_of_all(self, cursor: str | None, limit: int) -> OwnedThreads:
        return everyones(self._room.threads, cursor, limit)

    def claim_thread(self, thread_id: str, owner: str) -> bool:
        thread = self._room.threads.get(thread_id)
        if thread is not None and thread.owner is None:
            thread.owner = owner
            self._room.taken += thread.measure()
        return thread is not None and thread.owner == owner

    def bytes_of(self, owner: str) -> int:
        return sum(
            thread.size + sum(run.size for run in thread.runs())
            for thread in self._room.threads.values()
            if thread.owner == owner
        )

    def _find(self, thread_id: str, owner: str | None) -> KeptThread | None:
        """Return the thread of that id if ``owner`` owns it; None otherwise."""
        thread = self._room.threads.get(thread_id)
        return thread if thread is not None and thread.owner == owner else None

    # Runs that begin and end

    def _signal(self, run: KeptRun, signal: Signal) -> None:
        run.signal = signal
        if run.notify_owner is not None:
            run.notify_owner(signal)

    def _seal(self, thread: KeptThread, run: KeptRun) -> None:
        """End a run that has its terminal event, while its agent still cleans up."""
        assert run.result is not None
        del self._open[run.key]
        thread.live = None
        stream = run.open_stream
        self._room.keep(thread, run, run.result)
        stream.ended = True
        stream.wake()
        self._signal(run, Signal.SEALED)


def _known(request: RunRequest, thread: KeptThread) -> frozenset[str]:
    known = [id for id in request.message_ids if id in thread.message_ids]
    # All runs share one empty set, because each keeps it for as long as it lives.
    return frozenset(known) if known else _NONE
