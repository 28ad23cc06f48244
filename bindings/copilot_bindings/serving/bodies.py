"""Request bodies while they arrive, and how much of them may be held at once.

A body is kept once, and counts from its arrival until the exchange has no more need of it. What has
arrived of a long one stands in pages of its own, and not on the heap: buffers that grow beside each
other leave gaps there as large as themselves, which C libraries keep.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import sys
import threading
from collections import deque

from sansio_copilot import BodyRefused, BodyTooLarge, Limits


def length_of(field: str) -> int | None:
    """The number that a Content-Length is (RFC 9110 section 8.6); None if it is none."""
    return number_of(field) if field.isascii() and field.isdigit() else None


def number_of(digits: str) -> int:
    """The number that ``digits`` are, however many.

    Of one that is beyond everything the first digits say as much: int() takes no more than 4,300.
    """
    return int(digits.lstrip("0")[:20] or "0")


# Shorter bodies are as well off on the heap.
_LONG_BYTES = 1024 * 1024


class Bodies:
    """The room that there is for the bodies of all requests together. Any thread may use it."""

    def __init__(self, limits: Limits) -> None:
        self._lock = threading.Lock()
        # The room is never below one body of the largest size, so that such a body is always taken.
        self.room = max(limits.bodies_bytes, limits.body_bytes)
        """How many bytes more may be held."""

    def begin(self, limit: int) -> Body:
        """A body of which nothing has arrived yet.

        :param limit: in bytes.
        """
        return Body(self, limit)

    def expect(self, size: int) -> None:
        """Take no room yet for what has been announced.

        :raises BodyRefused: if there is too little.
        """
        if size > self.room:
            raise BodyRefused

    def take(self, size: int) -> None:
        """Take so many bytes of the room.

        :raises BodyRefused: if there is too little.
        """
        with self._lock:
            self.expect(size)
            self.room -= size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self.room += size


class Body:
    """The body of one request, as far as it has arrived. Made by :meth:`Bodies.begin`.

    Whoever has one calls :meth:`release` in the end.
    """

    __slots__ = ("_bodies", "_buffer", "_first", "_limit", "_pages", "_size", "_taken")

    def __init__(self, bodies: Bodies, limit: int) -> None:
        self._bodies = bodies
        self._limit = limit
        self._size = 0
        self._taken = 0
        """How much of the room is taken."""
        self._first = b""
        """All of it, as long as it is of one piece, as most are."""
        self._buffer: io.BytesIO | None = None
        """The rest of it, or what comes behind the pages."""
        self._pages: deque[mmap.mmap] = deque()
        """Its beginning, if it is long, in equal parts."""

    def expect(self, size: int) -> None:
        """So many bytes more have been announced.

        :raises BodyTooLarge: if the body would be longer than the limit.
        :raises BodyRefused: if there is no room for them now.
        """
        if self._size + size > self._limit:
            raise BodyTooLarge
        self._bodies.expect(size)

    def reserve(self, size: int) -> None:
        """Take the room for so many bytes that somebody else is collecting.

        :raises BodyRefused: if there is too little now.
        """
        if (missing := self._size + size - self._taken) > 0:
            self._bodies.take(missing)
            self._taken += missing

    def add(self, piece: bytes) -> None:
        """The next piece has arrived.

        :raises BodyTooLarge: if the body is longer than the limit.
        :raises BodyRefused: if there is no room for it now.
        """
        size = self._size + len(piece)
        if size > self._limit:
            raise BodyTooLarge
        self.reserve(len(piece))
        if self._size == 0:
            self._first = piece
        else:
            if self._buffer is None:
                self._buffer = io.BytesIO()
                self._buffer.write(self._first)
                self._first = b""
            self._buffer.write(piece)
            if self._buffer.tell() >= _LONG_BYTES:
                self._turn_page(self._buffer)
        self._size = size

    def _turn_page(self, buffer: io.BytesIO) -> None:
        """Move what is in the buffer into pages, as far as it fills them."""
        with buffer.getbuffer() as view:
            filled = len(view) - len(view) % _LONG_BYTES
            for at in range(0, filled, _LONG_BYTES):
                page = _new_page()
                page.write(view[at : at + _LONG_BYTES])
                self._pages.append(page)
            rest = bytes(view[filled:])
        self._buffer = io.BytesIO()
        self._buffer.write(rest)

    def whole(self) -> bytes:
        """All of it, which is kept here no longer."""
        buffer, self._buffer = self._buffer, None
        first, self._first = self._first, b""
        if buffer is None:
            return first
        # The buffer's own bytes in the end, and no copy of them.
        if not self._pages:
            return buffer.getvalue()
        joined = io.BytesIO()
        while self._pages:
            with self._pages.popleft() as page, memoryview(page) as view:
                joined.write(view)
        with buffer.getbuffer() as view:
            joined.write(view)
        return joined.getvalue()

    def release(self) -> None:
        """Nobody needs it any more; harmless if called again."""
        taken, self._taken = self._taken, 0
        self._first, self._buffer = b"", None
        while self._pages:
            self._pages.popleft().close()
        if taken:
            self._bodies.give_back(taken)
        if taken >= _LONG_BYTES:
            _give_back_to_the_system()


def _new_page() -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, _LONG_BYTES)
    # Not shared with processes that are forked meanwhile.
    return mmap.mmap(-1, _LONG_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _give_back_to_the_system() -> None:
    """Have the C library give back what has been freed; glibc keeps twice the longest body for each
    thread (mallopt(3), M_TRIM_THRESHOLD)."""
    # Imported when there is a long body for the first time, because few servers ever have one.
    import ctypes

    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
