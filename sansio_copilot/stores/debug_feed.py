"""The debug feeds: every event of every run, for a developer's inspector.

A feed carries all events of all threads of a user to each of its readers. So a runtime has feeds
only if it was made with ``debug=True``.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from .. import json_codec
from ..sse import FRAME, end_of_frame, frame_data
from .protocol import Batch, Cancel, Notify, RunKey, nothing_to_cancel


class DebugFeeds:
    """The feeds that somebody reads: one for each user, or one for all where there are no users."""

    def __init__(self) -> None:
        self._by_owner: WeakValueDictionary[str | None, DebugFeed] = WeakValueDictionary()

    def of(self, owner: str | None) -> DebugFeed:
        """Return the feed of the threads of ``owner``, which lives as long as a reader refers to
        it."""
        return self._by_owner.setdefault(owner, DebugFeed())

    def publish(
        self, owner: str | None, agent_id: str, key: RunKey, frames: bytes, now: float
    ) -> None:
        """Tell the readers of the feed of ``owner``, if there are any."""
        if (feed := self._by_owner.get(owner)) is not None:
            feed.publish(agent_id, key, frames, now)


class DebugFeed:
    """A log that begins anew all the time: a bounded tail of what was published.

    A reader that falls behind the tail misses the events in front of the tail, because a feed that
    is only for inspection must not fill the memory. A feed is read like a thread store, and never
    blocks, like MemoryStore.

    :param max_bytes: the length of the tail in bytes; it may be twice as long for a moment.
    """

    blocking = False

    def __init__(self, max_bytes: int = 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._tail = bytearray()
        self._begin = 0
        self._watchers: dict[object, Notify] = {}

    def publish(self, agent_id: str, key: RunKey, frames: bytes, now: float) -> None:
        """Wrap each event in the reference's envelope, and wake the readers."""
        meta = {"agentId": agent_id, "threadId": key.thread_id, "runId": key.run_id}
        head = b'{"timestamp":%d,%s' % (now * 1000, json_codec.encode(meta)[1:-1])
        for event in frame_data(frames):
            self._tail += FRAME % (b'%s,"event":%s}' % (head, event))
        if len(self._tail) > 2 * self._max_bytes:
            cut = end_of_frame(self._tail, len(self._tail) - self._max_bytes)
            del self._tail[:cut]
            self._begin += cut
        watchers, self._watchers = self._watchers, {}
        for notify in watchers.values():
            notify()

    def end(self) -> int:
        """The cursor of a reader that begins now."""
        return self._begin + len(self._tail)

    def read(self, cursor: int, max_bytes: int) -> Batch:
        """Whole frames from ``cursor``, about ``max_bytes`` of them."""
        start = max(cursor - self._begin, 0)
        stop = end_of_frame(self._tail, min(start + max_bytes, len(self._tail)))
        return Batch(bytes(self._tail[start:stop]), self._begin + stop, ended=False)

    def watch(self, cursor: int, notify: Notify) -> Cancel:
        """Call ``notify`` once when there is something to read; see :class:`ThreadStore`."""
        if cursor < self.end():
            notify()
            return nothing_to_cancel
        token = object()
        self._watchers[token] = notify

        def cancel() -> None:
            self._watchers.pop(token, None)

        return cancel
