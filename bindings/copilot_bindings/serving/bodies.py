"""Request bodies while they arrive, and the room for all of them together.

A body is kept in memory once, and takes room from its first byte until its exchange does not need
it any more. The beginning of a long body is kept in memory pages of its own and not on the heap,
because buffers that grow side by side leave large gaps in the heap, which C libraries do not give
back to the system.
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
    """The number in a Content-Length field (RFC 9110 section 8.6); None if it is not a number."""
    return number_of(field) if field.isascii() and field.isdigit() else None


def number_of(digits: str) -> int:
    """The value of ``digits``, of any number of digits.

    Only the first 20 digits count, because int() takes at most 4,300, and a number of 20 digits is
    far above every limit already.
    """
    return int(digits.lstrip("0")[:20] or "0")


# A body of less than this many bytes stays on the heap, because its gaps do little harm.
_LONG_BYTES = 1024 * 1024


class Bodies:
    """The room for the bodies of all requests together. Any thread may use it.

    :param limits: ``bodies_bytes`` and ``body_bytes`` give the room.
    """

    def __init__(self, limits: Limits) -> None:
        self._lock = threading.Lock()
        # The room is never below one body of the largest size, so that such a body is always taken.
        self.room = max(limits.bodies_bytes, limits.body_bytes)
        """The number of bytes that may still be taken."""

    def begin(self, limit: int) -> Body:
        """Make a body of which nothing has arrived yet.

        :param limit: the largest length in bytes.
        """
        return Body(self, limit)

    def take(self, size: int) -> None:
        """Take so many bytes of the room.

        :raises BodyRefused: if there is too little room now.
        """
        with self._lock:
            if size > self.room:
                raise BodyRefused
            self.room -= size

    def give_back(self, size: int) -> None:
        """Give back so many bytes that were taken."""
        with self._lock:
            self.room += size


class Body:
    """The body of one request, as far as it has arrived. Made by :meth:`Bodies.begin`.

    The binding that has made it must call :meth:`release` in the end.
    """

    __slots__ = ("_bodies", "_buffer", "_first", "_limit", "_pages", "_size", "_taken")

    def __init__(self, bodies: Bodies, limit: int) -> None:
        self._bodies = bodies
        self._limit = limit
        self._size = 0
        self._taken = 0
        """The number of bytes of the room that this body has taken."""
        self._first = b""
        """The whole body, as long as it has one piece, which most bodies have."""
        self._buffer: io.BytesIO | None = None
        """The whole body once it has several pieces, or its end, behind the pages."""
        self._pages: deque[mmap.mmap] = deque()
        """The beginning of a long body, in equal parts."""

    def expect(self, size: int) -> None:
        """Check a number of further bytes that have been announced.

        :raises BodyTooLarge: if the body would be longer than the limit.
        :raises BodyRefused: if there is no room for them now.
        """
        if self._size + size > self._limit:
            raise BodyTooLarge
        if size > self._bodies.room:
            raise BodyRefused

    def reserve(self, size: int) -> None:
        """Take the room for further bytes that the server is collecting, before they are added.

        :raises BodyRefused: if there is too little room now.
        """
        if (missing := self._size + size - self._taken) > 0:
            self._bodies.take(missing)
            self._taken += missing

    def add(self, piece: bytes) -> None:
        """Add the next piece.

        :raises BodyTooLarge: if the body is longer than the limit.
        :raises BodyRefused: if there is no room for it now.
        """
        size = self._size + len(piece)
        if size > self._limit:
            raise BodyTooLarge
        if size > self._taken:
            self._bodies.take(size - self._taken)
            self._taken = size
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
        """Move the bytes of the buffer into pages, as far as they fill whole pages."""
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
        """Return the whole body, and keep it here no longer."""
        buffer, self._buffer = self._buffer, None
        first, self._first = self._first, b""
        if buffer is None:
            return first
        # getvalue() returns the buffer's own bytes without a copy, because nothing else uses them.
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
        """Give back the room and the memory of the body; may be called again."""
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
    # The page is private, so that a process that is forked meanwhile does not share it.
    return mmap.mmap(-1, _LONG_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _give_back_to_the_system() -> None:
    """Have the C library give freed memory back to the system.

    Without this glibc keeps twice the longest body for each thread (mallopt(3), M_TRIM_THRESHOLD).
    """
    # ctypes is imported at the first long body, because few servers ever have one.
    import ctypes

    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
