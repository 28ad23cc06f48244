"""A cursor on runs that a store keeps outside of the process: the runs, and a place in one."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from sansio_copilot.sse import EventId
from sansio_copilot.stores.protocol import Batch


@attrs.frozen
class Cursor:
    """A place in a fixed row of runs.

    :param thread: the name by which the store finds the thread of the runs.
    :param parts: each part is the number of a run whose compacted frames are read, or of a volume
        that has the frames of many runs, or the negative number of a run that is read as it was
        appended, and followed while it is open.
    :param index: the index of the part that is being read.
    :param offset: the bytes of that part that have been read.
    """

    thread: int | str
    parts: tuple[int, ...]
    index: int = 0
    offset: int = 0

    @property
    def part(self) -> int | None:
        """The part that is being read; None behind the last one."""
        return self.parts[self.index] if self.index < len(self.parts) else None

    def at(self, index: int, offset: int = 0) -> Cursor:
        """The same row at another place."""
        return Cursor(self.thread, self.parts, index, offset)

    def next_part(self) -> Cursor:
        """The place behind the part that is being read."""
        return self.at(self.index + 1)

    def index_of(self, part: int, event_id: EventId) -> int | None:
        """Return the index of the run or volume that has an event; None if the event is in none
        that a reader may be sent."""
        index = next((index for index, one in enumerate(self.parts) if abs(one) == part), None)
        is_raw = index is not None and self.parts[index] < 0
        return None if event_id.compacted and is_raw else index

    def behind(
        self, event_id: EventId, run: int, index: int, bound: Sequence[int], offset: int
    ) -> Cursor:
        """The place behind an event of ``run``.

        :param index: the index of the part which has the run.
        :param bound: the runs of that part, if it is a volume.
        :param offset: the bytes up to the place: of the part if the event is a compacted one, and
            otherwise of the run as it was appended.
        """
        if event_id.compacted:
            return Cursor(self.thread, self.parts[index:], 0, offset)
        rest = bound[bound.index(run) + 1 :] if bound else ()
        return Cursor(self.thread, (-run, *rest, *self.parts[index + 1 :]), 0, offset)


@attrs.frozen
class Whole:
    """A place in a text that was read as a whole, as messages and state are.

    :param data: the whole text, so that its pages fit together whatever happens meanwhile.
    """

    data: bytes
    offset: int = 0

    def page(self, max_bytes: int) -> Batch:
        """Return the batch that follows, of at most ``max_bytes``."""
        end = self.offset + max_bytes
        data = self.data[self.offset : end]
        return Batch(data, Whole(self.data, end), end >= len(self.data))
