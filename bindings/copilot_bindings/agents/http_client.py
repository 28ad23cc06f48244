"""HTTP/1.1 to one address without TLS, by which ``HttpAgent`` asks an agent of the same network.

For a run of ten events httpx takes more processor time than the agent's server. Most of it goes to
features that such a request does not need: auth flows, redirects, cookies, a pool for any host,
layers of streams. Here a request is one write, and a response is read in the pieces that the socket
has. httpx is used for everything else: TLS, HTTP/2, proxies, a client of the application's own.

The errors are httpx's too, so that a caller needs to know only one kind. A
:class:`CleartextResponse` has the members of an ``httpx.Response`` that are needed.

The rule that makes it right is: *a connection is kept only after a response that was read to its
end.* Every other connection is closed, because the next bytes on it belong to no request.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from http import HTTPStatus
from typing import Final

import httpx

from sansio_copilot import RemoteProtocolError

from ..http1.chunks import ChunkedBody
from .http_socket import ClientConnection, connect

_HEAD_BYTES = 100 * 1024
"""The longest head of a response, interim ones included; h11 has the same bound."""
MOST_KEPT: Final = 20
"""The most idle connections that are kept for another request; httpx has the same number."""
KEPT_SECONDS: Final = 5.0
"""The seconds for which an idle connection is kept; httpx has the same number."""
_SHOWN = 120
"""The most bytes of an invalid response that the log is told."""
_STATUS = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [^\x00\r\n]*)?")
# The pattern leaves white space in the value and never goes back, because white space that is tried
# in several ways takes quadratic time, and clients write headers that agents are sent.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):([^\x00\r\n]*+)")
_LENGTH = re.compile("[0-9]{1,18}")


class CleartextPool:
    """Connections to one server, in one event loop.

    :param url: the URL of the server; its scheme is http, and it names no user.
    """

    def __init__(self, url: httpx.URL) -> None:
        self._host = url.raw_host.decode("ascii")
        self._port = url.port or 80
        self._authority = url.netloc
        self.kept: list[ClientConnection] = []
        """The connections that wait for another request."""

    async def send(
        self,
        method: str,
        target: bytes,
        headers: Mapping[str, str],
        body: bytes,
        connect_seconds: float,
        silence: float | None,
    ) -> CleartextResponse:
        """Send a request, and read the head of its response.

        :param target: path and query.
        :param connect_seconds: the seconds within which the connection has to be made.
        :param silence: the seconds for which the server may be silent; None for any number.
        :raises httpx.TransportError: if there is no response.
        """
        head = _head(method, target, self._authority, headers, len(body))
        connection = self._take()
        if connection is None:
            connection = ClientConnection(await connect(self._host, self._port, connect_seconds))
        response = CleartextResponse(connection, silence, self.kept)
        try:
            # The response is read even if the request could not be written whole, because a server
            # may answer and close before it has read all of it.
            broken = await connection.write(head + body, silence)
            await response.begin(broken)
        except BaseException:
            connection.close()
            raise
        return response

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        while self.kept:
            self.kept.pop().close()

    def _take(self) -> ClientConnection | None:
        while self.kept:
            connection = self.kept.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None


class CleartextResponse:
    """A response, of which the head has been read.

    :ivar status_code: its status.
    :ivar headers: by name in lower case; lines of one name are joined by a comma.
    """

    __slots__ = (
        *("_chunked", "_connection", "_kept", "_left", "_may_keep", "_silence"),
        *("headers", "status_code"),
    )

    def __init__(
        self, connection: ClientConnection, silence: float | None, kept: list[ClientConnection]
    ) -> None:
        self._connection: ClientConnection | None = connection
        self._silence = silence
        self._kept = kept
        self._chunked: ChunkedBody | None = None
        self._left: int | None = 0
        """Bytes of a body whose length was said; None for one that ends with its connection."""
        self._may_keep = False
        self.status_code = 0
        self.headers: dict[str, str] = {}

    async def begin(self, broken: OSError | None) -> None:
        """Read the head.

        :param broken: the error by which the request was not written whole; None if it was.
        :raises httpx.TransportError: if no head comes, or the bytes are no head.
        """
        connection = self._connection
        assert connection is not None
        buffer = connection.buffer
        room = _HEAD_BYTES
        while True:
            end = buffer.find(b"\r\n\r\n", 0, room)
            if end >= 0:
                version = self._take_head(bytes(buffer[:end]))
                del buffer[: end + 4]
                room -= end + 4
                if self.status_code >= HTTPStatus.OK:
                    self._frame(version)
                    return
                continue
            if len(buffer) > room:
                raise httpx.RemoteProtocolError("the head of the response is too large")
            data = await connection.read(self._silence)
            if not data and broken is not None:
                raise httpx.WriteError(str(broken)) from broken
            if not data:
                raise httpx.RemoteProtocolError(
                    f"the server disconnected without a response: {bytes(buffer[:_SHOWN])!r}"
                )
            buffer += data

    def _take_head(self, head: bytes) -> bytes:
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise httpx.RemoteProtocolError(f"no status line: {first[:_SHOWN]!r}")
        fields: dict[str, str] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise httpx.RemoteProtocolError(f"no header: {line[:_SHOWN]!r}")
            name = field[1].decode("ascii").lower()
            value = field[2].strip(b" \t").decode("latin-1")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        self.status_code, self.headers = int(status[2]), fields
        if self.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            raise httpx.RemoteProtocolError("the server changes the protocol, unasked")
        return status[1]

    def _frame(self, version: bytes) -> None:
        """Find out where the body ends (RFC 9112, section 6.3)."""
        tokens = self.headers.get("connection", "").lower().replace(" ", "").split(",")
        self._may_keep = version == b"1" and "close" not in tokens
        coding = self.headers.get("transfer-encoding")
        length = self.headers.get("content-length")
        if self.status_code in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            return
        if coding is not None:
            # The connection is not kept if there is a length beside the chunked coding, because the
            # two may contradict each other.
            self._may_keep = self._may_keep and length is None
            if coding.lower() == "chunked":
                self._chunked = ChunkedBody()
                self._left = None
                return
        elif length is not None:
            # Several lengths have to be the same (RFC 9110, section 8.6).
            said = {part.strip() for part in length.split(",")}
            text = said.pop()
            if said or not _LENGTH.fullmatch(text):
                raise httpx.RemoteProtocolError(f"no length: {length[:_SHOWN]!r}")
            self._left = int(text)
            return
        self._left, self._may_keep = None, False

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """The bytes of the body, in the pieces that arrive; without chunks, still compressed."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes of the body.

        :raises httpx.TransportError: if the body breaks off.
        """
        while True:
            connection = self._connection
            if connection is None:
                raise StopAsyncIteration
            if self._left == 0:
                self._end(connection)
                raise StopAsyncIteration
            piece = self._piece(connection.buffer)
            if piece:
                return piece
            if self._left == 0:
                continue
            data = await connection.read(self._silence)
            if not data:
                if self._left is None and self._chunked is None:
                    self._left = 0
                    continue
                raise httpx.RemoteProtocolError("the server disconnected in the body")
            connection.buffer += data

    def _piece(self, buffer: bytearray) -> bytes:
        """Take the bytes of the body from the buffer; b"" if more bytes have to arrive first, or
        the body has ended."""
        if self._chunked is not None:
            try:
                return b"".join(self._chunks(buffer))
            except RemoteProtocolError as error:
                raise httpx.RemoteProtocolError(f"in a chunk: {error}") from error
        piece = bytes(buffer if self._left is None else buffer[: self._left])
        del buffer[: len(piece)]
        if self._left is not None:
            self._left -= len(piece)
        return piece

    def _chunks(self, buffer: bytearray) -> Iterator[bytes]:
        assert self._chunked is not None
        while (piece := self._chunked.read(buffer)) is not None:
            if not piece:
                self._left = 0
                return
            yield piece

    def _end(self, connection: ClientConnection) -> None:
        """Keep or close the connection, because the body has been read to its end."""
        self._connection = None
        # A connection with bytes behind the end is closed, because they belong to no request.
        if self._may_keep and not connection.buffer and len(self._kept) < MOST_KEPT:
            connection.until = time.monotonic() + KEPT_SECONDS
            self._kept.append(connection)
        else:
            connection.close()

    async def aclose(self) -> None:
        """Close the connection, unless the body has been read to its end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _head(
    method: str, target: bytes, authority: bytes, headers: Mapping[str, str], length: int
) -> bytes:
    """The head of a request (RFC 9112, section 3).

    :raises httpx.LocalProtocolError: for a header that HTTP has no form for, or that would be sent
        as two.
    """
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target), b"host: %s" % authority]
    for name, value in headers.items():
        try:
            line = f"{name}: {value}".encode("latin-1")
        except UnicodeEncodeError:
            raise httpx.LocalProtocolError(f"header {name!r} has no form in bytes") from None
        if not _FIELD.fullmatch(line):
            raise httpx.LocalProtocolError(f"header {name!r} is none")
        lines.append(line)
    if length or method == "POST":
        lines.append(b"content-length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n"
