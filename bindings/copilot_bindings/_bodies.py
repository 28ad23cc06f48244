"""Request bodies while they arrive, and how much of them may be held at once.

A body is kept once: what has arrived stands in a buffer that becomes the whole without a copy. It
counts from its arrival until the exchange has no more need of it.
"""

from __future__ import annotations

import io
import threading

from sansio_copilot import BodyRefused, BodyTooLarge, Limits


def length_of(field: str) -> int | None:
    """The number that a Content-Length is (RFC 9110 section 8.6); None if it is none."""
    return number_of(field) if field.isascii() and field.isdigit() else None


def number_of(digits: str) -> int:
    """The number that ``digits`` are, however many.

    Of one that is beyond everything the first digits say as much: int() takes no more than 4,300.
    """
    return int(digits.lstrip("0")[:20] or "0")


class Bodies:
    """The room that there is for the bodies of all requests together. Any thread may use it."""

    def __init__(self, limits: Limits) -> None:
        self._lock = threading.Lock()
        # One of the largest is always taken.
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

    __slots__ = ("_bodies", "_buffer", "_first", "_limit", "_size", "_taken")

    def __init__(self, bodies: Bodies, limit: int) -> None:
        self._bodies = bodies
        self._limit = limit
        self._size = 0
        self._taken = 0
        """How much of the room is taken."""
        self._first = b""
        """All of it, as long as it is of one piece, as most are."""
        self._buffer: io.BytesIO | None = None

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
        self._size = size

    def whole(self) -> bytes:
        """All of it, which is kept here no longer."""
        buffer, self._buffer = self._buffer, None
        first, self._first = self._first, b""
        # The buffer's own bytes, and no copy of them.
        return first if buffer is None else buffer.getvalue()

    def release(self) -> None:
        """Nobody needs it any more; harmless if called again."""
        taken, self._taken = self._taken, 0
        self._first, self._buffer = b"", None
        if taken:
            self._bodies.give_back(taken)
