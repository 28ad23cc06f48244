"""A socket to one server, under asyncio and trio, and its connection; errors are httpx's."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

import anyio
import anyio.lowlevel
import httpx

READ_BYTES = 64 * 1024
"""The most bytes that are read from a socket at once."""


class ClientConnection:
    """A socket, the bytes that were read from it and not used, and how long it may be kept."""

    __slots__ = ("_socket", "buffer", "until")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.buffer = bytearray()
        self.until = 0.0

    def is_usable(self) -> bool:
        """Whether a kept connection is as it was left: the server has neither closed nor spoken."""
        if time.monotonic() > self.until:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    async def write(self, data: bytes, silence: float | None) -> OSError | None:
        """Write all of ``data``; returns the error if the server takes no more."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except (BlockingIOError, InterruptedError):
                try:
                    with anyio.fail_after(silence):
                        await anyio.wait_writable(self._socket)
                except TimeoutError:
                    raise httpx.WriteTimeout("the agent takes nothing") from None
            except OSError as error:
                return error
        return None

    async def read(self, silence: float | None) -> bytes:
        """The next bytes; b"" at the end of the connection.

        :raises httpx.TransportError: if the connection breaks, or nothing comes in time.
        """
        has_waited = False
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                has_waited = True
            except OSError as error:
                raise httpx.ReadError(str(error)) from error
            else:
                if not has_waited:
                    # Other tasks get a turn, because a server that sends as fast as it is read
                    # would occupy the event loop.
                    await anyio.lowlevel.checkpoint()
                return data
            try:
                with anyio.fail_after(silence):
                    await anyio.wait_readable(self._socket)
            except TimeoutError:
                raise httpx.ReadTimeout("nothing came in time") from None

    def close(self) -> None:
        self._socket.close()


async def connect(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address of ``host`` that answers.

    :param seconds: the seconds for all attempts, divided evenly among the addresses.
    :raises httpx.TransportError: if no address answers.
    """
    until = time.monotonic() + seconds
    problem: Exception = httpx.ConnectError("the host has no address")
    try:
        with anyio.fail_after(seconds):
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise httpx.ConnectTimeout("the host was not found in time") from None
    except OSError as error:
        raise httpx.ConnectError(str(error)) from error
    for number, (family, kind, protocol, _, address) in enumerate(found):
        share = (until - time.monotonic()) / (len(found) - number)
        try:
            with anyio.fail_after(max(share, 0)):
                return await _connect_to(socket.socket(family, kind, protocol), address)
        except TimeoutError:
            problem = httpx.ConnectTimeout("no connection in time")
        except OSError as error:
            problem = httpx.ConnectError(str(error))
    raise problem


async def _connect_to(new: socket.socket, address: Any) -> socket.socket:
    try:
        new.setblocking(False)
        # A request is one write, which must not wait for others.
        new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = new.connect_ex(address)
        if number in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            await anyio.wait_writable(new)
            number = new.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, errno.errorcode.get(number, "unknown"))
    except BaseException:
        new.close()
        raise
    return new
