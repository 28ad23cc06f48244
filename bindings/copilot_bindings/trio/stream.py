"""A trio stream that gives up a client that takes nothing, but not a client that reads slowly."""

from __future__ import annotations

import trio

from ..net.progress import Progress


class PatientStream(trio.abc.HalfCloseableStream):
    """The stream of a socket, which breaks if the other side takes no byte for some time.

    :param stream: the stream of the socket.
    :param seconds: how long the other side may take no byte while there is something to be sent.
    """

    def __init__(self, stream: trio.SocketStream, seconds: float) -> None:
        self.inner = stream
        self._seconds = seconds

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``, however long that takes.

        :raises trio.BrokenResourceError: if the other side takes no byte for the time that was
            given, or has gone.
        :raises trio.ClosedResourceError: if the stream has been closed.
        """
        sock = self.inner.socket
        # A closed stream raises the same error that trio's own send_all() would raise.
        if sock.fileno() < 0:
            raise trio.ClosedResourceError
        view = memoryview(data)
        while view:
            progress = Progress(sock)
            with trio.move_on_after(self._seconds) as scope:
                try:
                    # send() tries before it waits, because a socket may have room before it becomes
                    # writable.
                    view = view[await sock.send(view) :]
                except OSError as error:
                    raise trio.BrokenResourceError from error
            if scope.cancelled_caught and not progress.is_made():
                raise trio.BrokenResourceError("the other side takes nothing")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket has room; trio's TLS calls this before it sends."""
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive bytes, as soon as there are any."""
        return await self.inner.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Close the sending side only."""
        await self.inner.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self.inner.aclose()


def patient(stream: trio.abc.Stream, seconds: float) -> trio.abc.Stream | None:
    """Put a :class:`PatientStream` around the socket's stream at the bottom of ``stream``.

    :param seconds: how long the other side may take no byte.
    :returns: the stream to use instead; None if there is no socket's stream in it.
    """
    if isinstance(stream, trio.SocketStream):
        return PatientStream(stream, seconds)
    if isinstance(stream, trio.SSLStream) and isinstance(
        stream.transport_stream, trio.SocketStream
    ):
        stream.transport_stream = PatientStream(stream.transport_stream, seconds)
        return stream
    return None


def socket_of(stream: trio.abc.Stream) -> trio.SocketStream | None:
    """The socket's stream at the bottom of ``stream``; None if there is none."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if isinstance(transport, PatientStream):
        return transport.inner
    return transport if isinstance(transport, trio.SocketStream) else None
