"""MemoryStore: threads in this process's memory, within bounds."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from .threads import (
    Batch,
    Cancel,
    Notify,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadHistory,
    ThreadRecord,
    nothing_to_cancel,
)

logger = logging.getLogger("sansio_copilot")


class _Stream:
    """The frames of one run as one run of bytes, and who waits for more.

    One buffer, not a list of frames: a reader that lags takes all it missed in one slice, and a
    stored event costs its bytes and nothing else. Readers hold the stream itself, so one that
    left its thread stays readable for those who were reading it, and no longer.
    """

    __slots__ = ("data", "ended", "watches")

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.watches: dict[_Watch, Notify] = {}

    def wake(self) -> None:
        watches, self.watches = self.watches, {}
        for notify in watches.values():
            notify()


class _Watch:
    """A reader that waits for more of a stream."""

    __slots__ = ("stream",)

    def __init__(self, stream: _Stream) -> None:
        self.stream = stream

    def cancel(self) -> None:
        # Looked up anew: waking replaces the dict.
        self.stream.watches.pop(self, None)


@attrs.define(eq=False)
class _Run:
    """A run in a thread. ``stream`` is None once its raw frames were let go."""

    key: RunKey
    agent_id: str
    stream: _Stream | None = attrs.field(factory=_Stream)
    result: RunResult | None = None
    signal: Signal = Signal.CONTINUE
    detached: bool = False
    notify_owner: Notify | None = None
    size: int = 0

    def forget_owner(self) -> None:
        self.notify_owner = None


@attrs.define(eq=False)
class _Thread:
    """A thread: its ended runs, the live one, and what they add up to."""

    thread_id: str
    history: list[_Run] = attrs.field(factory=list)
    live: _Run | None = None
    messages: bytes = b"[]"
    state: bytes | None = None
    message_ids: dict[str, int] = attrs.field(factory=dict)
    created_at: float | None = None
    name: str | None = None
    archived: bool = False

    def record(self) -> ThreadRecord | None:
        """The thread's line in a list; None if it has no history."""
        if not self.history:
            return None
        last = self.history[-1]
        assert last.result is not None
        assert self.created_at is not None
        updated_at = last.result.ended_at
        return ThreadRecord(
            self.thread_id, last.agent_id, self.created_at, updated_at, self.name, self.archived
        )

    def count_message_ids(self, run: _Run, by: int) -> None:
        assert run.result is not None
        for message_id in run.result.message_ids:
            count = self.message_ids.get(message_id, 0) + by
            if count:
                self.message_ids[message_id] = count
            else:
                del self.message_ids[message_id]


@attrs.frozen
class _Cursor:
    """A place in a fixed row of segments: compacted runs (bytes), then raw streams."""

    segments: tuple[bytes | _Stream, ...]
    index: int = 0
    offset: int = 0


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
    :param max_bytes: bytes of frames and messages kept over all threads.
    :param on_concurrent_run: what a second run on a busy thread does. "reject": it is refused with
        409. "supersede": it replaces the live one, which ends as if stopped for its own readers
        and leaves no history.
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
    total_bytes: int = attrs.field(default=0, init=False)
    _threads: dict[str, _Thread] = attrs.field(factory=dict, init=False, repr=False)
    _idle: OrderedDict[str, _Thread] = attrs.field(factory=OrderedDict, init=False, repr=False)
    _open: dict[RunKey, _Run] = attrs.field(factory=dict, init=False, repr=False)
    # One count for all threads: a thread that was let go, and is made again, uses no number twice.
    _last_seq: int = attrs.field(default=0, init=False, repr=False)
    _warned: bool = attrs.field(default=False, init=False, repr=False)

    blocking = False

    # Runs, as their owners see them

    def open_run(self, request: RunRequest) -> RunOpened | ThreadBusy:
        thread = self._threads.get(request.thread_id)
        if thread is None:
            thread = self._threads[request.thread_id] = _Thread(request.thread_id)
        superseded = None
        if (live := thread.live) is not None:
            if live.result is not None:
                self._seal(thread, live)
            elif self.on_concurrent_run == "reject":
                return ThreadBusy(live.key.run_id)
            else:
                superseded = live
                live.detached = True
        self._last_seq += 1
        key = RunKey(request.thread_id, self._last_seq, request.run_id)
        run = thread.live = self._open[key] = _Run(key, request.agent_id)
        self._idle.pop(request.thread_id, None)
        self._evict(keep=request.thread_id)
        opened = RunOpened(
            key,
            _Cursor((_stream_of(run),)),
            _known(request, thread),
        )
        # Last, because the owner may close its run, and so call back, before this returns.
        if superseded is not None:
            self._signal(superseded, Signal.STOP)
        return opened

    def append(self, key: RunKey, frames: bytes, result: RunResult | None = None) -> Signal:
        run = self._open.get(key)
        if run is None:
            return Signal.SEALED
        run.result = result
        stream = _stream_of(run)
        stream.data += frames
        self._measure(run)
        if self.total_bytes > self.max_bytes:
            self._evict(keep=key.thread_id)
        stream.wake()
        return run.signal

    def close_run(self, key: RunKey, frames: bytes, result: RunResult | None) -> None:
        run = self._open.pop(key, None)
        if run is None:
            return
        run.result = result
        stream = _stream_of(run)
        stream.data += frames
        if run.detached:
            self._forget(run)
        else:
            thread = self._threads[key.thread_id]
            thread.live = None
            if result is None:
                self._forget(run)
            else:
                self._keep(thread, run)
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

    def watch_run(self, key: RunKey, notify: Notify) -> Cancel:
        run = self._open.get(key)
        if run is None or run.signal is not Signal.CONTINUE:
            notify()
            return nothing_to_cancel
        run.notify_owner = notify
        return run.forget_owner

    # Readers

    def open_cursor(self, thread_id: str, after: str | None) -> _Cursor:
        thread = self._threads.get(thread_id)
        if thread is None:
            return _Cursor(())
        if thread_id in self._idle:
            self._idle.move_to_end(thread_id)
        runs = thread.history if thread.live is None else [*thread.history, thread.live]
        if after is not None:
            token = after.rpartition(".")[0]
            for index, run in enumerate(runs):
                if run.key.token == token and (found := _find(run, after)) is not None:
                    segment, offset = found
                    return _Cursor((segment, *map(_segment, runs[index + 1 :])), 0, offset)
        return _Cursor(tuple(map(_segment, runs)))

    def read(self, cursor: _Cursor, max_bytes: int) -> Batch:
        segments, index, offset = cursor.segments, cursor.index, cursor.offset
        chunks: list[bytes] = []
        room = max_bytes
        while index < len(segments):
            segment = segments[index]
            live = isinstance(segment, _Stream)
            data = segment.data if isinstance(segment, _Stream) else segment
            if offset < len(data):
                if room == 0:
                    break
                chunk = bytes(memoryview(data)[offset : offset + room])
                chunks.append(chunk)
                offset += len(chunk)
                room -= len(chunk)
                continue
            if live and not segment.ended:  # type: ignore[union-attr]
                break
            index, offset = index + 1, 0
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return Batch(data, _Cursor(segments, index, offset), index == len(segments))

    def watch(self, cursor: _Cursor, notify: Notify) -> Cancel:
        if cursor.index == len(cursor.segments) - 1:
            stream = cursor.segments[cursor.index]
            if (
                isinstance(stream, _Stream)
                and not stream.ended
                and cursor.offset == len(stream.data)
            ):
                watch = _Watch(stream)
                stream.watches[watch] = notify
                return watch.cancel
        notify()
        return nothing_to_cancel

    # Threads

    def list_threads(self) -> list[ThreadRecord]:
        records = [record for thread in self._threads.values() if (record := thread.record())]
        return sorted(records, key=lambda record: record.updated_at, reverse=True)

    def read_history(self, thread_id: str) -> ThreadHistory:
        thread = self._threads.get(thread_id)
        if thread is None:
            return ThreadHistory()
        frames = b"".join(run.result.frames for run in thread.history if run.result is not None)
        return ThreadHistory(frames, thread.messages, thread.state)

    def update_thread(self, thread_id: str, changes: Mapping[str, Any]) -> ThreadRecord | None:
        thread = self._threads.get(thread_id)
        if thread is None or not thread.history:
            return None
        thread.name = changes.get("name", thread.name)
        thread.archived = changes.get("archived", thread.archived)
        return thread.record()

    def delete_thread(self, thread_id: str) -> bool:
        thread = self._threads.pop(thread_id, None)
        if thread is None:
            return False
        self._idle.pop(thread_id, None)
        self._drop_history(thread)
        if thread.live is not None:
            thread.live.detached = True
            self._signal(thread.live, Signal.STOP)
        return True

    def clear(self) -> None:
        for thread in list(self._threads.values()):
            self._drop_history(thread)
            if thread.live is None:
                del self._threads[thread.thread_id]
        self._idle.clear()

    # Bookkeeping

    def _signal(self, run: _Run, signal: Signal) -> None:
        run.signal = signal
        if run.notify_owner is not None:
            run.notify_owner()

    def _seal(self, thread: _Thread, run: _Run) -> None:
        """End a run that has its terminal event, while its agent still cleans up."""
        del self._open[run.key]
        thread.live = None
        stream = _stream_of(run)
        self._keep(thread, run)
        stream.ended = True
        stream.wake()
        self._signal(run, Signal.SEALED)

    def _keep(self, thread: _Thread, run: _Run) -> None:
        """Make an ended run the newest of its thread's history, within the bounds."""
        result = run.result
        assert result is not None
        if thread.created_at is None:
            thread.created_at = result.ended_at
        if result.messages is not None:
            self.total_bytes += len(result.messages) - len(thread.messages)
            thread.messages = result.messages
        if result.state is not None:
            self.total_bytes += len(result.state) - len(thread.state or b"")
            thread.state = result.state
        # What the thread now holds itself need not be held twice.
        run.result = attrs.evolve(result, messages=None, state=None)
        thread.history.append(run)
        thread.count_message_ids(run, +1)
        self._measure(run)
        if self.max_runs_per_thread and len(thread.history) > self.max_runs_per_thread:
            oldest = thread.history.pop(0)
            thread.count_message_ids(oldest, -1)
            self._forget(oldest)
            self._warn()
        if len(thread.history) > self.resumable_runs:
            past = thread.history[-1 - int(self.resumable_runs)]
            past.stream = None
            self._measure(past)

    def _settle(self, thread: _Thread) -> None:
        """File a thread whose run has ended as the most recently used, or drop an empty one."""
        if thread.history:
            self._idle[thread.thread_id] = thread
        else:
            del self._threads[thread.thread_id]
        self._evict(keep=thread.thread_id)

    def _evict(self, keep: str) -> None:
        while len(self._threads) > self.max_threads or self.total_bytes > self.max_bytes:
            victim = next((id for id in self._idle if id != keep), None)
            if victim is None:
                return
            self._drop_history(self._idle.pop(victim))
            del self._threads[victim]
            self._warn()

    def _drop_history(self, thread: _Thread) -> None:
        for run in thread.history:
            self._forget(run)
        self.total_bytes -= len(thread.messages) - len(b"[]") + len(thread.state or b"")
        thread.history, thread.message_ids = [], {}
        thread.messages, thread.state, thread.created_at = b"[]", None, None
        thread.name, thread.archived = None, False

    def _measure(self, run: _Run) -> None:
        size = len(run.stream.data) if run.stream is not None else 0
        if run.result is not None:
            size += len(run.result.frames)
        self.total_bytes += size - run.size
        run.size = size

    def _forget(self, run: _Run) -> None:
        self.total_bytes -= run.size
        run.size = 0

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


def _stream_of(run: _Run) -> _Stream:
    assert run.stream is not None, "an open run keeps its frames"
    return run.stream


def _segment(run: _Run) -> bytes | _Stream:
    """What a replay reads of a run: compacted once it has ended, raw while it is live."""
    ended = run.result is not None and (run.stream is None or run.stream.ended)
    return run.result.frames if ended else _stream_of(run)  # type: ignore[union-attr]


def _find(run: _Run, event_id: str) -> tuple[bytes | _Stream, int] | None:
    """The offset behind the frame with ``event_id``, in the raw or the compacted frames.

    A frame begins with its id line and JSON has no line break, so the bytes cannot occur inside
    the data of another frame.
    """
    position = event_id.rpartition(".")[2]
    # A live run has no compacted frames yet, whatever its result would be.
    segment = _segment(run) if position.startswith("c") else run.stream
    if segment is None or not position.removeprefix("c").isdecimal():
        return None
    data = segment.data if isinstance(segment, _Stream) else segment
    line = b"id: %s\n" % event_id.encode("ascii", "replace")
    if data.startswith(line):
        start = 0
    else:
        start = data.find(b"\n" + line)
        if start < 0:
            return None
    return segment, data.index(b"\n\n", start + len(line)) + 2
