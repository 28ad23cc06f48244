"""Frames in memory, and cursors on them: the parts of the logs of a MemoryStore.

A cursor refers to streams and never to their bytes. So a reader that is slow, or does not read at
all, keeps no frames in memory that the store has let go. Its next read says that these frames are
gone.
"""

from __future__ import annotations

from msgspec import Struct, field

from ..protocol import Batch, Cancel, LogGone, Notify, nothing_to_cancel


class RunStream(Struct, eq=False, weakref=True):
    """The frames of one run as one buffer of bytes, and the readers that wait for more.

    The frames are one buffer and not a list, so that a reader that lags takes all frames that it
    has missed in one slice, and a stored event costs its bytes and nothing else.

    :ivar lost: the offset up to which frames are gone.
    """

    data: bytearray | bytes = field(default_factory=bytearray)
    ended: bool = False
    watches: dict[_Watch, Notify] = {}
    lost: int = 0

    def wake(self) -> None:
        """Notify all readers that wait."""
        watches, self.watches = self.watches, {}
        for notify in watches.values():
            notify()

    def let_go(self) -> None:
        """Forget the frames of a stream that has ended, even if somebody still reads them."""
        self.lost, self.data = self.lost or len(self.data), b""


class _Watch:
    """A reader that waits for more of a stream."""

    __slots__ = ("stream",)

    stream: RunStream

    def __call__(self) -> None:
        # The dict is looked up anew, because waking replaces it.
        self.stream.watches.pop(self, None)


class Cursor(Struct, frozen=True):
    """A place in a fixed row of streams: an offset in the first of them."""

    streams: tuple[RunStream, ...]
    offset: int = 0


def read(cursor: Cursor, max_bytes: int) -> Batch | LogGone:
    """At most ``max_bytes`` from ``cursor``; see :meth:`~sansio_copilot.stores.Log.read`."""
    streams, offset = cursor.streams, cursor.offset
    passed, room = 0, max_bytes
    chunks: list[bytes] = []
    while passed < len(streams):
        stream = streams[passed]
        if offset < len(stream.data):
            if room == 0:
                break
            data = stream.data
            # A text is read without a copy, because a slice of a whole bytes object is that object.
            if type(data) is bytes:
                chunk = data[offset : offset + room]
            else:
                chunk = bytes(memoryview(data)[offset : offset + room])
            chunks.append(chunk)
            offset += len(chunk)
            room -= len(chunk)
            continue
        if offset < stream.lost:
            if chunks:
                break
            return LogGone()
        if not stream.ended:
            break
        passed, offset = passed + 1, 0
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    ended = passed == len(streams)
    # The new cursor leaves out streams that have been read, so that they can be forgotten.
    return Batch(data, Cursor(streams[passed:] if passed else streams, offset), ended)


def watch(cursor: Cursor, notify: Notify) -> Cancel:
    """See :meth:`~sansio_copilot.stores.Log.watch`."""
    if cursor.streams:
        stream = cursor.streams[0]
        if not stream.ended and cursor.offset == len(stream.data):
            # The watch has no constructor, because each reader makes one for nearly every event.
            watch = _Watch()
            watch.stream = stream
            stream.watches[watch] = notify
            return watch
    notify()
    return nothing_to_cancel
