"""The room of a MemoryStore: the bytes that it takes, and the eviction when there are too many.

Everything that is kept is counted once, in bytes: a thread with its id, name, messages and state; a
run with its frames, raw and compacted, and its ids; and *unread* frames: raw frames that only the
readers who have begun to read them will get. Each thread and run remembers its own count
(``size``), so that its ``measure()`` returns the difference, and nothing else has to be walked.

When the bounds are exceeded, the least recently used goes: a thread without an open run, or unread
frames. Uses are counted and not timed, because the core has no clock. The thread that the call in
progress uses stays, so that the answer to a client remains true; one thread may therefore exceed a
bound. An open run is never evicted, because its owner and readers are there. A client that still
reads what was evicted is told :class:`~..protocol.LogGone` at its next read, and its response is
broken off (:mod:`sansio_copilot.exchange.stream`).

Unread frames are held by a weak reference, so that they no longer count when their last reader has
dropped them. That may happen in any operating system thread, and in the middle of any call here. So
it is noted (``_dropped``), and taken into account when the room is looked at next.

You may change how victims are chosen (:meth:`Room.evict`). The sums must stay right: code that
changes the content of a thread or run adds the result of its ``measure()`` to ``taken``. A state
machine in the tests makes the sum from scratch after every call, and compares.
"""

from __future__ import annotations

import logging
import weakref
from bisect import insort
from collections import OrderedDict, deque

import attrs

from ..protocol import RunResult
from .streams import RunStream
from .threads import KeptRun, KeptThread, by_seq, size_of_ids

logger = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class _Unread:
    """Raw frames that only the readers who have begun to read them will get.

    :param stream: a weak reference; only readers keep the stream alive.
    """

    stream: weakref.ref[RunStream]
    size: int
    used: int


_EVICTION_WARNING = (
    "MemoryStore begins to evict the least recently used threads or runs to stay within "
    "max_threads=%s, max_runs_per_thread=%s, max_bytes=%s; raise them, or use a durable store, if "
    "old conversations must stay. This is said once per store."
)


@attrs.define(eq=False)
class Room:
    """Threads, and the bounds that they are kept within; see :class:`~.store.MemoryStore`.

    :ivar taken: the bytes that are counted; frames that were just dropped are among them.
    :ivar idle: the threads without an open run, the least recently used first.
    :ivar unread: frames that are there for their readers only.
    :ivar uses: the number of calls that have used a thread.
    :ivar evictions: the number of threads that were evicted.
    """

    max_threads: float
    max_runs_per_thread: float
    max_bytes: float
    resumable_runs: float
    taken: int = 0
    threads: dict[str, KeptThread] = attrs.field(factory=dict)
    idle: OrderedDict[str, KeptThread] = attrs.field(factory=OrderedDict)
    unread: OrderedDict[weakref.ref[RunStream], _Unread] = attrs.field(factory=OrderedDict)
    uses: int = 0
    evictions: int = 0
    _dropped: deque[weakref.ref[RunStream]] = attrs.field(factory=deque)
    _warned: bool = False

    def keep(self, thread: KeptThread, run: KeptRun, result: RunResult) -> None:
        """Put an ended run into its thread's history, within the bounds."""
        if not thread.history:
            thread.created_at = thread.updated_at = result.ended_at
        thread.updated_at = max(thread.updated_at, result.ended_at)
        # The run is put in its order, because one that was superseded may end after the run that
        # superseded it.
        insort(thread.history, run, key=by_seq)
        if run is thread.history[-1]:
            thread.messages = thread.messages if result.messages is None else result.messages
            thread.state = thread.state if result.state is None else result.state
            thread.waits_for = result.waits_for
            self.taken += thread.measure()
        run.result, run.compacted = None, RunStream(result.frames, ended=True)
        run.message_ids = tuple(result.message_ids)
        run.fixed += size_of_ids(run.message_ids)
        thread.count_message_ids(run, +1)
        self.taken += run.measure()
        if self.max_runs_per_thread and len(thread.history) > self.max_runs_per_thread:
            self._drop(thread, thread.history.pop(0))
            self._warn()
        if len(thread.history) > self.resumable_runs:
            newest_beyond = thread.history[-1 - int(self.resumable_runs)]
            self.part_with_raw(newest_beyond)
            if run.key.seq < newest_beyond.key.seq:
                self.part_with_raw(run)

    def settle(self, thread: KeptThread) -> None:
        """File a thread without an open run as the most recently used, or drop an empty one."""
        if thread.live is None and not thread.superseded:
            if thread.history:
                # The thread comes last as the most recently used; it was not among the idle ones,
                # because it has had an open run.
                self.idle[thread.thread_id] = thread
                thread.used = self.uses
            else:
                self.remove(thread)
        self.evict()

    def use(self, thread: KeptThread) -> None:
        thread.used = self.uses
        if thread.thread_id in self.idle:
            self.idle.move_to_end(thread.thread_id)

    def evict(self) -> None:
        """Come back within the bounds, but keep the threads that this call itself has used."""
        if self._dropped:
            self.reclaim()
        while len(self.threads) > self.max_threads or self.taken > self.max_bytes:
            thread = next(iter(self.idle.values()), None)
            unread = None
            if self.taken > self.max_bytes:
                unread = next(iter(self.unread.values()), None)
            if unread is not None and (thread is None or unread.used < thread.used):
                if unread.used == self.uses:
                    return
                self._let_go(unread)
            elif thread is not None and thread.used < self.uses:
                del self.idle[thread.thread_id]
                for run in thread.history:
                    if run.raw is not None:
                        run.raw.let_go()
                self.drop_history(thread)
                self.remove(thread)
                self.evictions += 1
                logger.debug("thread %r is evicted", thread.thread_id)
                self._warn()
            else:
                return

    def _let_go(self, unread: _Unread) -> None:
        del self.unread[unread.stream]
        self.taken -= unread.size
        if (stream := unread.stream()) is not None:
            stream.let_go()

    def reclaim(self) -> None:
        """Stop counting the frames that their last readers have dropped."""
        while self._dropped:
            unread = self.unread.pop(self._dropped.popleft(), None)
            if unread is not None:
                self.taken -= unread.size

    def remove(self, thread: KeptThread) -> None:
        del self.threads[thread.thread_id]
        self.taken -= thread.size

    def drop_history(self, thread: KeptThread) -> None:
        for run in thread.history:
            self._drop(thread, run)
        thread.history = []
        thread.messages, thread.state, thread.waits_for = b"[]", None, None
        thread.name, thread.archived = None, False
        self.taken += thread.measure()

    def _drop(self, thread: KeptThread, run: KeptRun) -> None:
        """Let a run go that is no longer history, even if somebody reads its replay."""
        thread.count_message_ids(run, -1)
        assert run.compacted is not None
        run.compacted.let_go()
        self.forget(run)

    def forget(self, run: KeptRun) -> None:
        self.part_with_raw(run)
        self.taken -= run.size
        run.size = 0

    def part_with_raw(self, run: KeptRun) -> None:
        """Keep the raw frames of an ended run only for the readers who have begun to read them."""
        if (stream := run.raw) is None:
            return
        run.raw = None
        self.taken += run.measure()
        if stream.data:
            unread = _Unread(weakref.ref(stream, self._dropped.append), len(stream.data), self.uses)
            self.unread[unread.stream] = unread
            self.taken += unread.size

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                _EVICTION_WARNING, self.max_threads, self.max_runs_per_thread, self.max_bytes
            )
