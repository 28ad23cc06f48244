"""The chunked coding of a request's body (RFC 9112 section 7.1), without its I/O.

This module takes the place of h11's own decoder for two reasons. h11 does not tell how long a chunk
is going to be, so a chunk that is too large could not be refused before it arrives. And h11 takes
no size of more than 20 digits, though section 7.1 allows any number of leading zeros.

Input that two parsers may understand differently is refused, because a proxy in front could see
another request in it: a bare LF or CR, other bytes than CRLF behind a chunk, folded trailers. Chunk
extensions and trailers are read and forgotten, and their length is limited.
"""

from __future__ import annotations

import re

from sansio_copilot import RemoteProtocolError
from sansio_copilot.http import refusals

from .request_head import RequestRefusal

_LINE_BYTES = 1024
"""Limit in bytes of a chunk's size line with its extensions, and of all trailers together."""
# The excess is the number of bytes that are not the body itself. For each chunk 16 bytes of its
# line and twice its length are free, as in Go's net/http, so that no honest client has an excess.
_EXCESS_BYTES = 16 * 1024
_FREE_BYTES = 16

_SIZE = re.compile(rb"([0-9A-Fa-f]++)(?:;[\t -~\x80-\xff]*+|[\t ]*+)\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n")


class ChunkedBody:
    """Decodes one chunked body, piece by piece (RFC 9112 section 7.1).

    :meth:`read` removes from the front of a buffer what it has decoded. The result does not depend
    on where the network has cut the bytes.
    """

    __slots__ = ("_excess", "_in_chunk", "_in_trailers", "_room", "expected")

    def __init__(self) -> None:
        self.expected = 0
        """The number of bytes of the present chunk that have been announced and not read yet."""
        self._in_chunk = False
        self._in_trailers = False
        self._room = _LINE_BYTES
        self._excess = 0

    def read(self, data: bytearray) -> bytes | None:
        """Decode the next piece of the body.

        :param data: the bytes that have arrived and have not been read; shortened by this call.
        :returns: a piece; b"" at the end of the body; None if more bytes have to arrive first.
        :raises RemoteProtocolError: if a size line, a chunk's end or a trailer is malformed, or if
            the chunks have far more overhead than content.
        :raises RequestRefusal: if a size line or the trailers are longer than 1,024 bytes.
        """
        while True:
            if self.expected:
                if not data:
                    return None
                with memoryview(data) as view:
                    piece = bytes(view[: self.expected])
                del data[: len(piece)]
                self.expected -= len(piece)
                return piece
            if self._in_chunk:
                if not b"\r\n".startswith(data[:2]):
                    raise RemoteProtocolError("a chunk does not end where its size says")
                if len(data) < 2:
                    return None
                del data[:2]
                self._in_chunk = False
            if (line := self._line(data)) is None:
                return None
            if self._in_trailers:
                if line == b"\r\n":
                    return b""
                self._take_trailer(line)
            else:
                self._take_size(line)

    def _line(self, data: bytearray) -> bytes | None:
        end = data.find(b"\r\n", 0, self._room)
        if end < 0:
            if len(data) >= self._room:
                raise RequestRefusal(refusals.HEAD_TOO_LARGE)
            return None
        line = bytes(data[: end + 2])
        del data[: end + 2]
        return line

    def _take_size(self, line: bytes) -> None:
        if (match := _SIZE.fullmatch(line)) is None:
            raise RemoteProtocolError("the size of a chunk is malformed")
        # This conversion costs little, because a line has at most 1,024 digits.
        self.expected = int(match[1], 16)
        self._in_chunk = self.expected > 0
        self._in_trailers = not self._in_chunk
        self._excess = max(self._excess + len(line) - _FREE_BYTES - 2 * self.expected, 0)
        if self._excess > _EXCESS_BYTES:
            raise RemoteProtocolError("the body is less than what is said of its chunks")

    def _take_trailer(self, line: bytes) -> None:
        if not _TRAILER.fullmatch(line):
            raise RemoteProtocolError("a trailer is malformed")
        self._room -= len(line)
