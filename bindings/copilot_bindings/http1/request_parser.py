"""The requests that a client sends, without I/O: bytes go in, requests and bodies come out.

Ordinary requests are read here; the heads of all others are read by h11. A head is given to h11
only when it has arrived whole, and has no character that is never valid in it, because a few of
h11's regular expressions take time quadratic in the length of input that does not match.
"""

from __future__ import annotations

import h11

from sansio_copilot import RemoteProtocolError, Request

from . import fast_path, request_head
from .fast_path import FastResponse
from .request_body import FixedLengthBody, H11Body, Input, RequestBody
from .response_framing import H11Response

_FULL_BYTES = 64 * 1024


class RequestParser:
    """Reads the requests of one connection, one after the other.

    :param head_bytes: the largest head in bytes.
    """

    __slots__ = (
        *("_connection", "_head_bytes", "_searched"),
        *("body", "discards", "has_news", "input", "is_head", "response"),
    )

    body: RequestBody
    """The body of the request whose head was read last."""

    def __init__(self, head_bytes: int) -> None:
        self._head_bytes = head_bytes
        self.input = Input()
        """The bytes that have not been read."""
        self._searched = 0
        self._connection: h11.Connection | None = None
        self.is_head = False
        """Whether the request whose head was read last, or is being read, is HEAD."""
        self.response: H11Response | FastResponse | None = None
        """The framer of the response to the request whose head was read last."""
        self.has_news = False
        """Whether anything has arrived since this was last set to False."""
        self.discards = False
        """Whether everything that arrives is thrown away."""

    @property
    def _h11(self) -> h11.Connection:
        """h11's connection. It is made when it is first needed, because most connections never do.

        While an ordinary request is served it stays in its idle state.
        """
        if self._connection is None:
            self._connection = h11.Connection(h11.SERVER)
        return self._connection

    def framing(self) -> H11Response | FastResponse:
        """The framer of the response, or of the refusal of bytes that are no request."""
        # The refusal of bytes that are no request is framed without h11, because h11 does not know
        # whether they begin a HEAD.
        return self.response or FastResponse(self.is_head)

    def feed(self, data: bytes) -> None:
        """Report bytes that have arrived; b"" says that the client has closed its side."""
        self.has_news = True
        if not data:
            self.input.eof = True
        elif not self.discards and not self.input.eof:
            self.input.unread += data

    def discard(self) -> None:
        """Throw away what has not been read, and everything that arrives from now on."""
        self.discards = True
        self.input.unread.clear()

    @property
    def is_full(self) -> bool:
        """Whether so much has arrived unread that the binding should stop reading its socket."""
        return len(self.input.unread) > max(_FULL_BYTES, self._head_bytes)

    @property
    def is_done(self) -> bool:
        """Whether the request has been read to its end, and nothing has arrived after it."""
        return self.body.is_over and not self.input.unread

    def read_head(self) -> Request | None:
        """Read the head of the next request; returns None until it has arrived whole.

        Empty lines before a request are left out (RFC 9112 section 2.2), so that unread input is
        the beginning of a head.

        :raises h11.RemoteProtocolError: if the head is malformed.
        :raises RemoteProtocolError: if the head is incomplete at the end of the input, or if the
            length that it announces for the body is no number.
        :raises RequestRefusal: if the head is too large, or breaks a rule of RFC 9112.
        """
        unread = self.input.unread
        if unread.startswith((b"\r", b"\n")):
            unread = self.input.unread = unread.lstrip(b"\r\n")
        if not unread:
            return None
        self.is_head = unread.startswith(b"HEAD ")
        found = fast_path.recognise(unread, self._searched, self._head_bytes)
        if found is None:
            return self._read_head_by_h11()
        request, length, end = found
        del unread[:end]
        self.body = FixedLengthBody(self.input, length, length)
        self.response = FastResponse(self.is_head)
        return request

    def _read_head_by_h11(self) -> Request | None:
        unread = self.input.unread
        end = request_head.head_end(unread, self._searched, self._head_bytes)
        if end is None:
            if self.input.eof:
                raise RemoteProtocolError("the request ends in the middle of its head")
            self._searched = len(unread)
            return None
        head, length = request_head.read_length(self.input.take(end))
        self._h11.receive_data(head)
        event = self._h11.next_event()
        assert isinstance(event, h11.Request)
        # A dict is enough, because h11 refuses a request that repeats a field which matters here.
        fields = dict(event.headers)
        request_head.check(event, fields)
        self.response = H11Response(self._h11)
        # A request with neither field has no body (RFC 9112 section 6.3).
        length = None if b"transfer-encoding" in fields else length or 0
        self.body = H11Body(self.input, self._h11, length)
        return request_head.request_of(event)

    def next_cycle(self) -> bool:
        """Prepare for the next request, once this one has been answered.

        :returns: False if the end of its body, behind which the next request stands, has not been
            read.
        """
        if not self.body.end_cycle():
            return False
        self.response = None
        self.is_head = False
        self._searched = 0
        return True
