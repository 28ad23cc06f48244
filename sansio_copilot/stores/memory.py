"""MemoryStore: threads in this process's memory, within bounds.

What is bounded is what the store keeps, all of it: frames, messages and state, the ids and names
that clients choose, and what each thread, run and message id takes beside. Readers are no way
around the bound, since a cursor does not hold what it reads; see :mod:`._streams`.
"""

from __future__ import annotations

import logging
import math
import weakref
from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from operator import attrgetter
from sys import getsizeof
from typing import Any, Literal

import attrs

from ..sse import EventId, behind_frame
from . import streams
from .protocol import (
    Batch,
    Cancel,
    LogGone,
    Notify,
    NotifyOwner,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadHistory,
    ThreadRecord,
    news_in,
    nothing_to_cancel,
)
from .streams import Cursor, Stream

logger = logging.getLogger(__name__)

# What Python takes for the objects that stand for each, beside the bytes and texts that they hold;
# measured by tracemalloc, and compared with it by a test.
THREAD_BYTES = 600
RUN_BYTES = 600
MESSAGE_ID_BYTES = 50


@attrs.define(eq=False)
class _Run:
    """A run in a thread, or one that is open although its thread was deleted.

    :ivar raw: its frames as they were appended; None once they were let go.
    :ivar result: while it is open, what it would leave if it ended now.
    :ivar compacted: once it is history, what a replay sends.
    :ivar fixed: bytes that it takes beside its frames, whatever becomes of it.
    :ivar size: bytes that it is counted for.
    """

    key: RunKey
    agent_id: str
    raw: Stream | None = attrs.field(factory=Stream)
    result: RunResult | None = None
    compacted: Stream | None = None
    message_ids: tuple[str, ...] = ()
    signal: Signal = Signal.CONTINUE
    detached: bool = False
    notify_owner: NotifyOwner | None = None
    fixed: int = 0
    size: int = 0

    @property
    def open_stream(self) -> Stream:
        assert self.raw is not None, "an open run keeps its frames"
        return self.raw

    @property
    def replayed(self) -> Stream:
        """What a replay reads of it: compacted once it is history, raw while it is open."""
        return self.open_stream if self.compacted is None else self.compacted

    def forget_owner(self) -> None:
        self.notify_owner = None

    def measured(self) -> int:
        """What it takes now."""
        size = self.fixed
        if self.raw is not None:
            size += len(self.raw.data)
        if self.compacted is not None:
            size += len(self.compacted.data)
        elif (result := self.result) is not None:
            size += len(result.frames) + len(result.messages or b"") + len(result.state or b"")
            size += _size_of_ids(result.message_ids)
        return size


_by_seq = attrgetter("key.seq")


@attrs.define(eq=False)
class _Thread:
    """A thread: its ended runs, those that were superseded and have not ended, and the live one.

    Its history is in the order in which the runs were opened.

    :ivar used: when it was used last, by the store's count of uses.
    """

    thread_id: str
    history: list[_Run] = attrs.field(factory=list)
    superseded: list[_Run] = attrs.field(factory=list)
    live: _Run | None = None
    messages: bytes = b"[]"
    state: bytes | None = None
    message_ids: dict[str, int] = attrs.field(factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0
    name: str | None = None
    archived: bool = False
    used: int = 0
    size: int = 0

    @property
    def open_runs(self) -> list[_Run]:
        return self.superseded if self.live is None else [*self.superseded, self.live]

    def runs(self) -> list[_Run]:
        """All of them in order."""
        if not self.superseded:
            return self.history if self.live is None else [*self.history, self.live]
        return sorted([*self.history, *self.open_runs], key=_by_seq)

    def record(self) -> ThreadRecord | None:
        """The thread's line in a list; None if it has no history."""
        if not self.history:
            return None
        agent_id = self.history[-1].agent_id
        return ThreadRecord(
            self.thread_id, agent_id, self.created_at, self.updated_at, self.name, self.archived
        )

    def count_message_ids(self, run: _Run, by: int) -> None:
        for message_id in run.message_ids:
            count = self.message_ids.get(message_id, 0) + by
            if count:
                self.message_ids[message_id] = count
            else:
                del self.message_ids[message_id]

    def measured(self) -> int:
        """What it takes now, its runs left out."""
        size = THREAD_BYTES + getsizeof(self.thread_id) + getsizeof(self.name)
        return size + len(self.messages) + len(self.state or b"")


@attrs.frozen(eq=False)
class _Unread:
    """Frames that nobody gets any more but those who were reading them already.

    :param stream: alive as long as one of them refers to it.
    """

    stream: weakref.ref[Stream]
    size: int
    used: int


_NONE: frozenset[str] = frozenset()

_EVICTION_WARNING = (
    "MemoryStore begins to evict the least recently used threads or runs to stay within "
    "max_threads=%s, max_runs_per_thread=%s, max_bytes=%s; raise them, or use a durable store, if "
    "old conversations must stay. This is said once per store."
)


def _limit(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value != math.inf and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{attribute.name} must be a non-negative int or math.inf, got {value!r}")


def _policy(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("reject", "supersede"):
        raise ValueError(f"{attribute.name} is 'reject' or 'supersede', not {value!r}")


# Without NO_OP each change of total_bytes would look for validators to run.
@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class MemoryStore:
    """Threads in this process's memory, within bounds. Never blocks, and needs no event loop.

    Not safe to call from several threads at once; bindings that use threads hold a lock.

    :param max_threads: threads kept; the least recently used go first. A thread with a live run
        is never evicted, nor the one just used, so the bound can be exceeded by those.
    :param max_runs_per_thread: ended runs kept for each thread; 0 keeps all.
    :param max_bytes: bytes kept over all threads, with what Python takes to keep them. Whatever
        is least recently used goes first: a thread, or frames that are kept for slow readers only
        (of a run whose thread was deleted, or behind ``resumable_runs``). Whoever was reading what
        goes is told so by :class:`~sansio_copilot.stores.protocol.LogGone`.
    :param on_concurrent_run: what a second run on a busy thread does. "reject": it is refused with
        409. "supersede": it replaces the live one, which ends as if stopped, and is history like
        any other run that was stopped, in front of the second.
    :param resumable_runs: of how many ended runs of a thread the raw frames are kept beside the
        compacted ones, so that a reader that was cut off can resume exactly behind the event it saw
        last. It is sent the thread's whole history instead once they are gone.
    :raises ValueError: for a limit that is not a non-negative int or ``math.inf``, or an unknown
        ``on_concurrent_run``.
    """

    max_threads: float = attrs.field(default=1000, validator=_limit)
    max_runs_per_thread: float = attrs.field(default=100, validator=_limit)
    max_bytes: float = attrs.field(default=512 * 1024**2, validator=_limit)
    on_concurrent_run: Literal["reject", "supersede"] = attrs.field(
        default="reject", validator=_policy
    )
    resumable_runs: float = attrs.field(default=4, validator=_limit)
    _bytes: int = attrs.field(default=0, init=False, repr=False)
    _threads: dict[str, _Thread] = attrs.field(factory=dict, init=False, repr=False)
    # Those without an open run, the least recently used first.
    _idle: OrderedDict[str, _Thread] = attrs.field(factory=OrderedDict, init=False, repr=False)
    _unread: OrderedDict[weakref.ref[Stream], _Unread] = attrs.field(
        factory=OrderedDict, init=False, repr=False
    )
    # What the last reader has dropped, perhaps in another thread and in the middle of a call here.
    _dropped: deque[weakref.ref[Stream]] = attrs.field(factory=deque, init=False, repr=False)
    _open: dict[RunKey, _Run] = attrs.field(factory=dict, init=False, repr=False)
    # One count for all threads: a thread that was let go, and is made again, uses no number twice.
    _last_seq: int = attrs.field(default=0, init=False, repr=False)
    _uses: int = attrs.field(default=0, init=False, repr=False)
    _warned: bool = attrs.field(default=False, init=False, repr=False)

    blocking = False

    @property
    def total_bytes(self) -> int:
        """What counts against ``max_bytes``."""
        self._reclaim()
        return self._bytes

    # Runs, as their owners see them

    def open_run(self, request: RunRequest) -> RunOpened | ThreadBusy:
        thread = self._threads.get(request.thread_id)
        if thread is None:
            thread = self._threads[request.thread_id] = _Thread(request.thread_id)
            self._measure(thread)
        self._uses += 1
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
        # The thread's own copy of its id, because the request's may be long.
        key = RunKey(thread.thread_id, self._last_seq, request.run_id)
        run = thread.live = self._open[key] = _Run(key, request.agent_id)
        run.fixed = RUN_BYTES + getsizeof(request.run_id) + getsizeof(request.agent_id)
        self._measure(run)
        self._idle.pop(request.thread_id, None)
        self._evict()
        opened = RunOpened(key, Cursor((run.open_stream,)), _known(request, thread))
        # Last, because the owner may close its run, and so call back, before this returns.
        if superseded is not None:
            self._signal(superseded, Signal.STOP)
        return opened

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Signal:
        run = self._open.get(key)
        if run is None:
            return Signal.SEALED
        stream = run.open_stream
        if at != len(stream.data):
            news = news_in(key, at, frames, len(stream.data))
            if news is None:
                return run.signal
            frames = news
        stream.data += frames
        if result is None and run.result is None:
            # What nearly every call comes to.
            run.size += len(frames)
            self._bytes += len(frames)
        else:
            run.result = result
            self._measure(run)
        if self._bytes > self.max_bytes:
            self._uses += 1
            self._evict()
        if frames:
            stream.wake()
        return run.signal

    def close_run(self, key: RunKey, at: int, frames: bytes, result: RunResult | None) -> None:
        run = self._open.get(key)
        if run is None:
            return
        stream = run.open_stream
        news = news_in(key, at, frames, len(stream.data))
        del self._open[key]
        self._uses += 1
        run.result = result
        stream.data += news or b""
        self._measure(run)
        if run.detached:
            self._forget(run)
        else:
            thread = self._threads[key.thread_id]
            if run is thread.live:
                thread.live = None
            else:
                thread.superseded.remove(run)
            if result is None:
                self._forget(run)
            else:
                self._keep(thread, run, result)
            self._settle(thread)
        stream.ended = True
        stream.wake()

    def renew(self, key: RunKey) -> Signal:
        run = self._open.get(key)
        return Signal.SEALED if run is None else run.signal

    def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        thread = self._threads.get(thread_id)
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

    # Readers

    def open_cursor(self, thread_id: str, after: str | None) -> Cursor:
        thread = self._threads.get(thread_id)
        if thread is None:
            return Cursor(())
        self._uses += 1
        self._use(thread)
        runs = thread.runs()
        if after is not None:
            event_id = EventId.parse(after)
            for index, run in enumerate(runs):
                if event_id is None or run.key.token != event_id.token:
                    continue
                stream = run.compacted if event_id.compacted else run.raw
                if stream is not None and (offset := behind_frame(stream.data, after)) is not None:
                    return Cursor((stream, *(run.replayed for run in runs[index + 1 :])), offset)
        return Cursor(tuple([run.replayed for run in runs]))

    def read(self, cursor: Cursor, max_bytes: int) -> Batch | LogGone:
        return streams.read(cursor, max_bytes)

    def watch(self, cursor: Cursor, notify: Notify) -> Cancel:
        return streams.watch(cursor, notify)

    # Threads

    def list_threads(self) -> list[ThreadRecord]:
        records = [record for thread in self._threads.values() if (record := thread.record())]
        return sorted(records, key=lambda record: record.updated_at, reverse=True)

    def read_history(self, thread_id: str) -> ThreadHistory:
        thread = self._threads.get(thread_id)
        if thread is None:
            return ThreadHistory()
        frames = b"".join([run.replayed.data for run in thread.history])
        return ThreadHistory(frames, thread.messages, thread.state)

    def update_thread(self, thread_id: str, changes: Mapping[str, Any]) -> ThreadRecord | None:
        thread = self._threads.get(thread_id)
        if thread is None or not thread.history:
            return None
        thread.name = changes.get("name", thread.name)
        thread.archived = changes.get("archived", thread.archived)
        self._uses += 1
        self._use(thread)
        self._measure(thread)
        self._evict()
        return thread.record()

    def delete_thread(self, thread_id: str) -> bool:
        thread = self._threads.get(thread_id)
        if thread is not None:
            self._uses += 1
            self._idle.pop(thread_id, None)
            self._drop_history(thread)
            self._remove(thread)
            for run in thread.open_runs:
                run.detached = True
                # The run is the only one now that has its thread's id.
                run.fixed += getsizeof(thread_id)
                self._measure(run)
            for run in thread.open_runs:
                self._signal(run, Signal.STOP)
        return thread is not None

    def clear(self) -> None:
        self._uses += 1
        for thread in list(self._threads.values()):
            self._drop_history(thread)
            if not thread.open_runs:
                self._remove(thread)
        self._idle.clear()

    # Runs that end

    def _signal(self, run: _Run, signal: Signal) -> None:
        run.signal = signal
        if run.notify_owner is not None:
            run.notify_owner(signal)

    def _seal(self, thread: _Thread, run: _Run) -> None:
        """End a run that has its terminal event, while its agent still cleans up."""
        assert run.result is not None
        del self._open[run.key]
        thread.live = None
        stream = run.open_stream
        self._keep(thread, run, run.result)
        stream.ended = True
        stream.wake()
        self._signal(run, Signal.SEALED)

    def _keep(self, thread: _Thread, run: _Run, result: RunResult) -> None:
        """Put an ended run into its thread's history, within the bounds."""
        if not thread.history:
            thread.created_at = thread.updated_at = result.ended_at
        thread.updated_at = max(thread.updated_at, result.ended_at)
        # One that was superseded may end behind the run that did it.
        insort(thread.history, run, key=_by_seq)
        if run is thread.history[-1]:
            thread.messages = thread.messages if result.messages is None else result.messages
            thread.state = thread.state if result.state is None else result.state
            self._measure(thread)
        run.result, run.compacted = None, Stream(result.frames)
        run.message_ids = tuple(result.message_ids)
        run.fixed += _size_of_ids(run.message_ids)
        thread.count_message_ids(run, +1)
        self._measure(run)
        if self.max_runs_per_thread and len(thread.history) > self.max_runs_per_thread:
            self._drop(thread, thread.history.pop(0))
            self._warn()
        if len(thread.history) > self.resumable_runs:
            newest_beyond = thread.history[-1 - int(self.resumable_runs)]
            self._part_with_raw(newest_beyond)
            if run.key.seq < newest_beyond.key.seq:
                self._part_with_raw(run)

    def _settle(self, thread: _Thread) -> None:
        """File a thread without an open run as the most recently used, or drop an empty one."""
        if not thread.open_runs:
            if thread.history:
                self._idle[thread.thread_id] = thread
                self._use(thread)
            else:
                self._remove(thread)
        self._evict()

    # What goes

    def _use(self, thread: _Thread) -> None:
        thread.used = self._uses
        if thread.thread_id in self._idle:
            self._idle.move_to_end(thread.thread_id)

    def _evict(self) -> None:
        """Come back within the bounds, but keep what this call itself has used."""
        self._reclaim()
        while len(self._threads) > self.max_threads or self._bytes > self.max_bytes:
            thread = next(iter(self._idle.values()), None)
            unread = None
            if self._bytes > self.max_bytes:
                unread = next(iter(self._unread.values()), None)
            if unread is not None and (thread is None or unread.used < thread.used):
                if unread.used == self._uses:
                    return
                self._let_go(unread)
            elif thread is not None and thread.used < self._uses:
                del self._idle[thread.thread_id]
                for run in thread.history:
                    if run.raw is not None:
                        run.raw.let_go()
                self._drop_history(thread)
                self._remove(thread)
                self._warn()
            else:
                return

    def _let_go(self, unread: _Unread) -> None:
        del self._unread[unread.stream]
        self._bytes -= unread.size
        if (stream := unread.stream()) is not None:
            stream.let_go()

    def _reclaim(self) -> None:
        """Count no more what the last of its readers has dropped."""
        while self._dropped:
            unread = self._unread.pop(self._dropped.popleft(), None)
            if unread is not None:
                self._bytes -= unread.size

    def _remove(self, thread: _Thread) -> None:
        del self._threads[thread.thread_id]
        self._bytes -= thread.size

    def _drop_history(self, thread: _Thread) -> None:
        for run in thread.history:
            self._drop(thread, run)
        thread.history = []
        thread.messages, thread.state = b"[]", None
        thread.name, thread.archived = None, False
        self._measure(thread)

    def _drop(self, thread: _Thread, run: _Run) -> None:
        """Let a run go that is no history any more, whoever is reading its replay."""
        thread.count_message_ids(run, -1)
        assert run.compacted is not None
        run.compacted.let_go()
        self._forget(run)

    def _forget(self, run: _Run) -> None:
        self._part_with_raw(run)
        self._bytes -= run.size
        run.size = 0

    def _part_with_raw(self, run: _Run) -> None:
        """Keep the raw frames of an ended run for those who are reading them, and nobody else."""
        if (stream := run.raw) is None:
            return
        run.raw = None
        self._measure(run)
        if stream.data:
            unread = _Unread(
                weakref.ref(stream, self._dropped.append), len(stream.data), self._uses
            )
            self._unread[unread.stream] = unread
            self._bytes += unread.size

    def _measure(self, it: _Run | _Thread) -> None:
        size = it.measured()
        self._bytes += size - it.size
        it.size = size

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                _EVICTION_WARNING, self.max_threads, self.max_runs_per_thread, self.max_bytes
            )


def _known(request: RunRequest, thread: _Thread) -> frozenset[str]:
    known = [id for id in request.message_ids if id in thread.message_ids]
    # An empty one of its own would be kept for as long as the run lives.
    return frozenset(known) if known else _NONE


def _size_of_ids(message_ids: Collection[str]) -> int:
    return sum(map(getsizeof, message_ids)) + MESSAGE_ID_BYTES * len(message_ids)
