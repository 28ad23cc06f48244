"""The body of a request, without I/O, as one of two parsers reads it.

The head decides which of them (:meth:`~.request_parser.RequestParser.read_head`): the body of an
ordinary request is a number of bytes; all others are read by h11, which knows expectations,
HTTP/1.0 and more. Chunked bodies are decoded here, because h11 does not tell how long a chunk is
going to be.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import h11
from msgspec import Struct

from sansio_copilot import RemoteProtocolError

from . import response_framing
from .chunks import ChunkedBody

# An unread body of at most this many bytes is read and thrown away to keep the connection, because
# that costs less than a new connection.
_WORTH_DRAINING = 64 * 1024

# This chunk ends the body for h11, which has seen none of the chunks before it.
_LAST_CHUNK = b"0\r\n\r\n"
# In these states of h11 the client's request is complete; h11 itself has no such list.
_CLOSED = (h11.DONE, h11.CLOSED, h11.MUST_CLOSE)


class Input:
    """The bytes that have arrived on a connection, and have not been read."""

    __slots__ = ("eof", "unread")

    def __init__(self) -> None:
        self.unread = bytearray()
        self.eof = False
        """Whether nothing more will arrive."""

    def take(self, count: int) -> bytes:
        """Take the first ``count`` bytes, or all if there are fewer."""
        if count >= len(self.unread):
            # The whole buffer is copied, because that is the usual case, and cheaper than a view.
            data = bytes(self.unread)
            self.unread.clear()
            return data
        with memoryview(self.unread) as view:
            data = bytes(view[:count])
        del self.unread[:count]
        return data


class RequestBody(Protocol):
    """The body of one request, as a reader of it is used.

    :ivar left: the number of bytes that have not been read; None if they have been given up, or if
        the number is unknown, because the body is chunked.
    :cvar may_be_invited: whether the client may wait for :meth:`invitation`.
    """

    left: int | None
    may_be_invited: ClassVar[bool]

    @property
    def is_over(self) -> bool:
        """Whether nothing of the request will arrive any more."""
        ...

    @property
    def must_close(self) -> bool:
        """Whether an unread body makes the response about to be sent the connection's last.

        The next request begins behind the body, so the body would have to be read first (RFC 9112
        section 9.3). The body is not read if it is long, if its length is unknown because it is
        chunked, or if the client waits for "100 Continue" and may never send it.
        """
        ...

    @property
    def expected(self) -> int:
        """The number of bytes that are announced: of the whole body, or of the present chunk."""
        ...

    def invitation(self) -> bytes:
        """The "100 Continue" to send before the body is read; b"" if the client waits for none.

        See RFC 9110 section 10.1.1.
        """
        ...

    def read(self) -> bytes | None:
        """Read the next piece.

        :returns: a piece; b"" at the end of the body; None if more bytes have to arrive first.
        :raises h11.RemoteProtocolError: if a body that h11 reads ends early.
        :raises RemoteProtocolError: if chunks are malformed.
        """
        ...

    def check_end(self) -> None:
        """Check that more may arrive; called when :meth:`read` has returned None.

        :meth:`read` itself does not check this, because a body that is too large has to be refused
        as too large, whether or not the end of the client's bytes has been noticed by then.

        :raises RemoteProtocolError: if the body ends early.
        """
        ...

    def end_cycle(self) -> bool:
        """Make room for the next request; returns False if the end of the body was not read."""
        ...


def _is_long(body: RequestBody) -> bool:
    """Whether what is left of the body is too much to be read for its connection's sake."""
    return body.left is None or body.left > _WORTH_DRAINING


class FixedLengthBody(Struct, eq=False):
    """A body of a known number of bytes, whose client does not wait to be invited."""

    may_be_invited: ClassVar[bool] = False

    input: Input
    length: int
    left: int | None

    @property
    def is_over(self) -> bool:
        return self.left == 0

    must_close = property(_is_long)

    @property
    def expected(self) -> int:
        return self.left or 0

    def invitation(self) -> bytes:
        return b""

    def read(self) -> bytes | None:
        left = self.left
        if not left:
            return b""
        if self.input.unread:
            data = self.input.take(left)
            self.left = left - len(data)
            return data
        return None

    def check_end(self) -> None:
        if self.input.eof:
            raise RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {self.length - (self.left or 0)} bytes, expected {self.length})"
            )

    def end_cycle(self) -> bool:
        return self.left == 0


class H11Body:
    """The body of a request that h11 has read the head of."""

    may_be_invited: ClassVar[bool] = True

    __slots__ = ("_chunks", "_h11", "_input", "left")

    def __init__(self, input: Input, connection: h11.Connection, length: int | None) -> None:
        self._input = input
        self._h11 = connection
        self._chunks = ChunkedBody() if length is None else None
        self.left = length

    @property
    def is_over(self) -> bool:
        return self.left == 0 or self._h11.their_state in _CLOSED

    @property
    def must_close(self) -> bool:
        if self._h11.their_state is not h11.SEND_BODY:
            return False
        return _is_long(self) or self._h11.they_are_waiting_for_100_continue

    @property
    def expected(self) -> int:
        return self._chunks.expected if self._chunks is not None else self.left or 0

    def invitation(self) -> bytes:
        if self.left == 0 or not self._h11.they_are_waiting_for_100_continue:
            return b""
        return self._h11.send(response_framing.CONTINUE) or b""

    def read(self) -> bytes | None:
        if self._chunks is not None:
            return self._read_chunks(self._chunks)
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._input.unread:
                assert self.left is not None, "only a chunked body has no length"
                data = self._input.take(self.left)
                self.left -= len(data)
                self._h11.receive_data(data)
            elif self._input.eof:
                self._h11.receive_data(b"")
            else:
                return None
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    def _read_chunks(self, chunks: ChunkedBody) -> bytes | None:
        piece = chunks.read(self._input.unread)
        if piece == b"":
            self._chunks = None
            self._h11.receive_data(_LAST_CHUNK)
            self._h11.next_event()
        return piece

    def check_end(self) -> None:
        # h11 itself checks the end of a body that is not chunked.
        if self._chunks is not None and self._input.eof:
            raise RemoteProtocolError(
                "peer closed connection without sending complete message body "
                "(incomplete chunked read)"
            )

    def end_cycle(self) -> bool:
        if self._h11.their_state is h11.SEND_BODY:
            return False
        self._h11.start_next_cycle()
        return True
