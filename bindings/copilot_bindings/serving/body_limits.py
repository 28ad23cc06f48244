"""Request bodies while they arrive: the limit of each, and the room for all of them together.

A body is kept in memory once, and takes room from its first byte until its exchange does not need
it any more. The beginning of a long body is kept in memory pages of its own and not on the heap,
because buffers that grow side by side leave large gaps in the heap, which C libraries do not give
back to the system.
"""

from __future__ import annotations

import io
import mmap
import sys
import threading
from collections import deque

from msgspec import Struct, field

from sansio_copilot import BodyRefused, BodyTooLarge, Limits

from .freed_memory import give_back_to_the_system

# A body of less than this many bytes stays on the heap, because its gaps do little harm.
LONG_BYTES = 1024 * 1024


class Bodies:
    """The room for the bodies of all requests together. Any thread may use it.

    :param limits: ``bodies_bytes`` and ``body_bytes`` give the room.
    """

    def __init__(self, limits: Limits) -> None:
        self.lock = threading.Lock()
        # The room is never below one body of the largest size, so that such a body is always taken.
        self.room = max(limits.bodies_bytes, limits.body_bytes)
        """The number of bytes that may still be taken."""


class Body(Struct, eq=False):
    """The body of one request, as far as it has arrived.

    The binding that has made it must call :meth:`release` in the end.

    :param bodies: the room for all bodies, of which this body takes a part.
    :param limit: the largest length in bytes.
    :ivar taken: the number of bytes of the room that this body has taken.
    :ivar first: the whole body, as long as it has one piece, which most bodies have.
    :ivar buffer: the whole body once it has several pieces, or its end, behind the pages.
    :ivar pages: the beginning of a long body, in equal parts.
    """

    bodies: Bodies
    limit: int
    size: int = 0
    taken: int = 0
    first: bytes = b""
    buffer: io.BytesIO | None = None
    pages: deque[mmap.mmap] = field(default_factory=deque)

    def expect(self, size: int) -> None:
        """Check a number of further bytes that have been announced.

        :raises BodyTooLarge: if the body would be longer than the limit.
        :raises BodyRefused: if there is no room for them now.
        """
        if self.size + size > self.limit:
            raise BodyTooLarge
        if size > self.bodies.room:
            raise BodyRefused

    def reserve(self, size: int) -> None:
        """Take the room for further bytes, before they are added or in place of that.

        A body that arrives in one piece needs no collecting, and so is not added.

        :raises BodyTooLarge: if the body is longer than the limit with them.
        :raises BodyRefused: if there is too little room now.
        """
        if self.size + size > self.limit:
            raise BodyTooLarge
        if (missing := self.size + size - self.taken) > 0:
            with self.bodies.lock:
                if missing > self.bodies.room:
                    raise BodyRefused
                self.bodies.room -= missing
            self.taken += missing

    def add(self, piece: bytes) -> None:
        """Add the next piece.

        :raises BodyTooLarge: if the body is longer than the limit.
        :raises BodyRefused: if there is no room for it now.
        """
        self.reserve(len(piece))
        if self.size == 0:
            self.first = piece
        else:
            if self.buffer is None:
                self.buffer = io.BytesIO()
                self.buffer.write(self.first)
                self.first = b""
            self.buffer.write(piece)
            if self.buffer.tell() >= LONG_BYTES:
                self._turn_page(self.buffer)
        self.size += len(piece)

    def _turn_page(self, buffer: io.BytesIO) -> None:
        """Move the bytes of the buffer into pages, as far as they fill whole pages."""
        with buffer.getbuffer() as view:
            filled = len(view) - len(view) % LONG_BYTES
            for at in range(0, filled, LONG_BYTES):
                page = _new_page()
                page.write(view[at : at + LONG_BYTES])
                self.pages.append(page)
            rest = bytes(view[filled:])
        self.buffer = io.BytesIO()
        self.buffer.write(rest)

    def whole(self) -> bytes:
        """Return the whole body, and keep it here no longer."""
        buffer, self.buffer = self.buffer, None
        first, self.first = self.first, b""
        if buffer is None:
            return first
        # getvalue() returns the buffer's own bytes without a copy, because nothing else uses them.
        if not self.pages:
            return buffer.getvalue()
        joined = io.BytesIO()
        while self.pages:
            with self.pages.popleft() as page, memoryview(page) as view:
                joined.write(view)
        with buffer.getbuffer() as view:
            joined.write(view)
        return joined.getvalue()

    def release(self) -> None:
        """Give back the room and the memory of the body; may be called again."""
        taken, self.taken = self.taken, 0
        self.first, self.buffer = b"", None
        while self.pages:
            self.pages.popleft().close()
        with self.bodies.lock:
            self.bodies.room += taken
        if taken >= LONG_BYTES:
            give_back_to_the_system()


def _new_page() -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, LONG_BYTES)
    # The page is private, so that a process that is forked meanwhile does not share it.
    return mmap.mmap(-1, LONG_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
