"""The requests that a client sends, without I/O: bytes go in, requests and bodies come out.

Plain requests and chunked bodies are read here; all others are read by h11. A head is given to h11
only when it has arrived whole, and has no character that is never valid in it, because a few of
h11's regular expressions take time quadratic in the length of input that does not match.
"""

from __future__ import annotations

import h11

from sansio_copilot import RemoteProtocolError, Request

from . import messages, plain
from .chunks import ChunkedBody
from .messages import H11Response
from .plain import PlainResponse

_FULL_BYTES = 64 * 1024
# An unread body of at most this many bytes is read and thrown away to keep the connection, because
# that costs less than a new connection.
_WORTH_DRAINING = 64 * 1024

# This chunk ends the body for h11, which has seen none of the chunks before it.
_LAST_CHUNK = b"0\r\n\r\n"
# In these states of h11 the client's request is complete; h11 itself has no such list.
_CLOSED = (h11.DONE, h11.CLOSED, h11.MUST_CLOSE)


class RequestReader:
    """Reads the requests of one connection, one after the other.

    :param head_bytes: the largest head in bytes.
    """

    __slots__ = (
        *("_chunks", "_connection", "_head_bytes", "_is_plain", "_length", "_response"),
        *("_searched", "_unread", "body_left", "discards", "eof", "has_news", "is_head"),
    )

    def __init__(self, head_bytes: int) -> None:
        self._head_bytes = head_bytes
        self._unread = bytearray()
        self._searched = 0
        self._connection: h11.Connection | None = None
        self._is_plain = False
        self.is_head = False
        """Whether the request whose head was read last is HEAD."""
        self.body_left: int | None = None
        """The number of bytes of the request's body that have not been read; None if unknown."""
        self._length = 0
        self._chunks: ChunkedBody | None = None
        self._response: H11Response | PlainResponse | None = None
        self.eof = False
        """Whether nothing more will arrive."""
        self.has_news = False
        """Whether anything has arrived since this was last set to False."""
        self.discards = False
        """Whether everything that arrives is thrown away."""

    @property
    def _h11(self) -> h11.Connection:
        """h11's connection. It is made when it is first needed, because most connections never do.

        While a plain request is served it stays in its idle state.
        """
        if self._connection is None:
            self._connection = h11.Connection(h11.SERVER)
        return self._connection

    @property
    def response(self) -> H11Response | PlainResponse:
        """The framer of the response to the request whose head was read last.

        The same object frames the refusal of bytes that could not be read as a request.
        """
        if self._response is None:
            self._response = H11Response(self._h11)
        return self._response

    def feed(self, data: bytes) -> None:
        """Report bytes that have arrived; b"" says that the client has closed its side."""
        self.has_news = True
        if not data:
            self.eof = True
        elif not self.discards and not self.eof:
            self._unread += data

    def discard(self) -> None:
        """Throw away what has not been read, and everything that arrives from now on."""
        self.discards = True
        self._unread.clear()

    @property
    def is_full(self) -> bool:
        """Whether so much has arrived unread that the binding should stop reading its socket."""
        return len(self._unread) > max(_FULL_BYTES, self._head_bytes)

    @property
    def is_done(self) -> bool:
        """Whether the request has been read to its end, and nothing has arrived after it."""
        read = self.body_left == 0 or self._h11.their_state in _CLOSED
        return read and not self._unread

    @property
    def has_body(self) -> bool:
        """Whether there is a body whose end has not been read."""
        return self.body_left != 0 if self._is_plain else self._h11.their_state is h11.SEND_BODY

    @property
    def must_close(self) -> bool:
        """Whether an unread body makes the response about to be sent the connection's last.

        The next request begins behind the body, so the body would have to be read first (RFC 9112
        section 9.3). It is not, if it is long, if its length is unknown because it is chunked, or
        if the client waits for "100 Continue" and may never send it.
        """
        if not self.has_body:
            return False
        left = self.body_left
        if left is None or left > _WORTH_DRAINING:
            return True
        return not self._is_plain and self._h11.they_are_waiting_for_100_continue

    def has_begun(self) -> bool:
        """Whether any byte of the next request has arrived.

        Empty lines before a request do not count (RFC 9112 section 2.2).
        """
        if self._unread.startswith((b"\r", b"\n")):
            self._unread = self._unread.lstrip(b"\r\n")
        return bool(self._unread)

    def read_head(self) -> Request | None:
        """Read the head of the next request; returns None until it has arrived whole.

        :raises h11.RemoteProtocolError: if the head is malformed.
        :raises RemoteProtocolError: if the head is incomplete at the end of the input.
        :raises Refused: if the head is too large, or breaks a rule of RFC 9112.
        """
        found = plain.recognise(self._unread, self._searched, self._head_bytes)
        if found is None:
            return self._read_head_by_h11()
        request, self.body_left, end = found
        self._length = self.body_left
        del self._unread[:end]
        self._is_plain = True
        self.is_head = request.method == "HEAD"
        self._response = PlainResponse(self.is_head)
        return request

    def _read_head_by_h11(self) -> Request | None:
        end = messages.head_end(self._unread, self._searched, self._head_bytes)
        if end is None:
            if self.eof:
                raise RemoteProtocolError("the request ends in the middle of its head")
            self._searched = len(self._unread)
            return None
        self._h11.receive_data(messages.shorten_lengths(self._take(end)))
        event = self._h11.next_event()
        assert isinstance(event, h11.Request)
        self.is_head = event.method == b"HEAD"
        # A dict is enough, because h11 refuses a request that has one of the fields twice which
        # matter here.
        fields = dict(event.headers)
        messages.check(event, fields)
        self.body_left = messages.announced_length(fields)
        self._chunks = ChunkedBody() if self.body_left is None else None
        return messages.request_of(event)

    def invitation(self) -> bytes:
        """The "100 Continue" to send before the body is read; b"" if the client waits for none.

        See RFC 9110 section 10.1.1.
        """
        waits = not self._is_plain and self._h11.they_are_waiting_for_100_continue
        return (self._h11.send(messages.CONTINUE) or b"") if waits else b""

    @property
    def expected(self) -> int:
        """The number of bytes that are announced: of the whole body, or of the present chunk."""
        if self._chunks is not None:
            return self._chunks.expected
        return self.body_left or 0

    def read_body(self) -> bytes | None:
        """Read the next piece of the request's body.

        :returns: a piece; b"" at the end of the body; None if more bytes have to arrive first.
        :raises h11.RemoteProtocolError: if a body that h11 reads ends early.
        :raises RemoteProtocolError: if another body ends early, or its chunks are malformed.
        """
        if self._chunks is not None:
            return self._read_chunks(self._chunks)
        if not self._is_plain:
            return self._read_body_by_h11()
        left = self.body_left
        if not left:
            return b""
        if not self._unread:
            if self.eof:
                raise RemoteProtocolError(
                    "peer closed connection without sending complete message body "
                    f"(received {self._length - left} bytes, expected {self._length})"
                )
            return None
        return self._take_body(left)

    def _read_chunks(self, chunks: ChunkedBody) -> bytes | None:
        piece = chunks.read(self._unread)
        if piece is None and self.eof:
            raise RemoteProtocolError(
                "peer closed connection without sending complete message body "
                "(incomplete chunked read)"
            )
        if piece == b"":
            self._chunks = None
            self._h11.receive_data(_LAST_CHUNK)
            self._h11.next_event()
        return piece

    def _read_body_by_h11(self) -> bytes | None:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._unread:
                assert self.body_left is not None
                self._h11.receive_data(self._take_body(self.body_left))
            elif self.eof:
                self._h11.receive_data(b"")
            else:
                return None
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    def give_up(self) -> None:
        """Do not wait for the rest of the body, so that this response is the connection's last."""
        self.body_left = None

    def next_cycle(self) -> None:
        """Prepare for the next request, once this one has been read to its end and answered."""
        if self._is_plain:
            self._is_plain = False
        else:
            self._h11.start_next_cycle()
        self._response = None
        self.is_head = False
        self.body_left = None
        self._searched = 0

    def _take(self, count: int) -> bytes:
        if count == len(self._unread):
            # The whole buffer is copied, because that is the usual case, and cheaper than a view.
            data = bytes(self._unread)
            self._unread.clear()
            return data
        with memoryview(self._unread) as view:
            data = bytes(view[:count])
        del self._unread[:count]
        return data

    def _take_body(self, left: int) -> bytes:
        data = self._take(min(left, len(self._unread)))
        self.body_left = left - len(data)
        return data
