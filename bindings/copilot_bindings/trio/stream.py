"""A trio stream that gives up a client that takes nothing, and none that takes a little."""

from __future__ import annotations

import trio

from ..net.progress import unacknowledged


class PatientStream(trio.abc.HalfCloseableStream):
    """A socket's stream, which breaks when the other side takes none of what it is sent.

    :param seconds: for how long, whatever is to be sent.
    """

    def __init__(self, stream: trio.SocketStream, seconds: float) -> None:
        self.inner = stream
        self._seconds = seconds

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``, in whatever time that takes.

        :raises trio.BrokenResourceError: if the other side takes nothing, or has gone.
        """
        sock = self.inner.socket
        # Tells what is wrong with a stream that has been closed, as its own method would.
        if sock.fileno() < 0:
            raise trio.ClosedResourceError
        view = memoryview(data)
        while view:
            held = unacknowledged(sock)
            with trio.move_on_after(self._seconds) as scope:
                try:
                    # It tries before it waits: there may be room that the system does not tell of.
                    view = view[await sock.send(view) :]
                except OSError as error:
                    raise trio.BrokenResourceError from error
            if scope.cancelled_caught and unacknowledged(sock) >= held:
                raise trio.BrokenResourceError("the other side takes nothing")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room; TLS does before it sends."""
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what there is."""
        return await self.inner.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Close this side only."""
        await self.inner.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self.inner.aclose()


def patient(stream: trio.abc.Stream, seconds: float) -> trio.abc.Stream | None:
    """``stream`` with its socket's in a :class:`PatientStream`; None if it has no such socket.

    :param seconds: of the same.
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
    """The socket's stream at the bottom of ``stream``, if there is one."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if isinstance(transport, PatientStream):
        return transport.inner
    return transport if isinstance(transport, trio.SocketStream) else None
