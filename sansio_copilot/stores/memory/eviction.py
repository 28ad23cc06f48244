"""The room that a MemoryStore has: what it takes up, what goes when there is too much, and when.

Everything that is kept is counted once, in bytes: a thread with its id, name, messages and state; a
run with its frames, raw and compacted, and its ids; and raw frames that nobody gets any more but
those who were reading them already ("unread"). What is counted for a thread or run is remembered in
it (``size``), so that its ``measure()`` tells the difference and nothing else is ever walked over.

When there is too much, whatever was used least recently goes: a thread without an open run, or
unread frames. Uses are counted and not timed, because the core has no clock. What the call in
progress has used itself stays, so that a bound may be exceeded by one thread, and what a client was
just told is so. An open run is never let go, since its owner and readers are there.

Unread frames are held by a weak reference, so that they are counted no more when their last reader
has dropped them, which may happen in any thread and in the middle of any call here: it is noted
(``_dropped``), and acted on when the room is looked at next.

A reader may change how victims are chosen (:meth:`Room.evict`). The sums must not: whoever changes
what a thread or run holds adds what its ``measure()`` returns to ``taken``, and a state machine in
the tests compares the sum with one that is made from scratch after every call.
"""

from __future__ import annotations

import logging
import weakref
from bisect import insort
from collections import OrderedDict, deque

import attrs

from ..protocol import RunResult
from .streams import Stream
from .threads import KeptRun, KeptThread, by_seq, size_of_ids

logger = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class _Unread:
    """Frames that nobody gets any more but those who were reading them already.

    :param stream: alive as long as one of them refers to it.
    """

    stream: weakref.ref[Stream]
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

    :ivar taken: the bytes that are counted, those that were just dropped among them.
    :ivar idle: the threads without an open run, the least recently used first.
    :ivar unread: frames that are there for their readers only.
    :ivar uses: how many calls have used something.
    :ivar evictions: how many threads had to go.
    """

    max_threads: float
    max_runs_per_thread: float
    max_bytes: float
    resumable_runs: float
    taken: int = 0
    threads: dict[str, KeptThread] = attrs.field(factory=dict)
    idle: OrderedDict[str, KeptThread] = attrs.field(factory=OrderedDict)
    unread: OrderedDict[weakref.ref[Stream], _Unread] = attrs.field(factory=OrderedDict)
    uses: int = 0
    evictions: int = 0
    _dropped: deque[weakref.ref[Stream]] = attrs.field(factory=deque)
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
        run.result, run.compacted = None, Stream(result.frames, ended=True)
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
                # The thread is not among them, because it has had an open run.
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
        """Come back within the bounds, but keep what this call itself has used."""
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
                self._warn()
            else:
                return

    def _let_go(self, unread: _Unread) -> None:
        del self.unread[unread.stream]
        self.taken -= unread.size
        if (stream := unread.stream()) is not None:
            stream.let_go()

    def reclaim(self) -> None:
        """Count no more what the last of its readers has dropped."""
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
        """Let a run go that is no history any more, whoever is reading its replay."""
        thread.count_message_ids(run, -1)
        assert run.compacted is not None
        run.compacted.let_go()
        self.forget(run)

    def forget(self, run: KeptRun) -> None:
        self.part_with_raw(run)
        self.taken -= run.size
        run.size = 0

    def part_with_raw(self, run: KeptRun) -> None:
        """Keep the raw frames of an ended run for those who are reading them, and nobody else."""
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
