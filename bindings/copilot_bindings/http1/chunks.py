"""The chunked coding of a request's body (RFC 9112 section 7.1), without its I/O.

h11 does not tell how long a chunk is going to be, so that one that is too large would be waited
for; and it takes no size of more than 20 digits, though there may be zeros in front (section 7.1).
What may be understood in two ways is refused: bare LF and CR, anything else than CRLF behind a
chunk, folded trailers. Extensions and trailers are read and forgotten, and may not be long.
"""

from __future__ import annotations

import re

from sansio_copilot import RemoteProtocolError
from sansio_copilot.http import refusals

from .messages import Refused

_LINE_BYTES = 1024
"""The longest line of a chunk's size with its extensions, and the longest trailers."""
# The excess is what comes beside the body itself. As in Go, 16 bytes of each chunk's line
# and twice the chunk do not count, so that no honest client ever gets there.
_EXCESS_BYTES = 16 * 1024
_FREE_BYTES = 16

_SIZE = re.compile(rb"([0-9A-Fa-f]++)(?:;[\t -~\x80-\xff]*+|[\t ]*+)\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n")


class ChunkedBody:
    """What is left of one chunked body.

    It takes what it can from the front of a buffer, and the same however that is cut.
    """

    __slots__ = ("_excess", "_in_chunk", "_in_trailers", "_room", "expected")

    def __init__(self) -> None:
        self.expected = 0
        """How many bytes of the body are announced, and have not been read."""
        self._in_chunk = False
        self._in_trailers = False
        self._room = _LINE_BYTES
        self._excess = 0

    def read(self, data: bytearray) -> bytes | None:
        """The next piece, b"" at the end; None until more has arrived.

        :raises RemoteProtocolError: for what is malformed.
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
                raise Refused(refusals.HEAD_TOO_LARGE)
            return None
        line = bytes(data[: end + 2])
        del data[: end + 2]
        return line

    def _take_size(self, line: bytes) -> None:
        if (match := _SIZE.fullmatch(line)) is None:
            raise RemoteProtocolError("the size of a chunk is malformed")
        # Linear in its digits, which are less than a line's.
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
