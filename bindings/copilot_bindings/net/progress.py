"""The rule by which a client that does not take what it is sent is dropped.

A client is dropped when it has taken no byte for ``Limits.write_seconds``. One that takes a byte
has the full time again, because a client that reads slowly is not to be dropped. Each binding waits
in its own way, and asks :class:`Progress` when the time is over, or sooner.

A socket becomes writable only when a third of its buffer is free, and the buffer may have some
megabytes. A client that reads slowly and steadily may take minutes to free that much. The number of
bytes that it has not acknowledged shows earlier that it reads.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from collections.abc import Callable
from typing import Protocol

if sys.platform != "win32":
    import fcntl
    import termios

# macOS reports the number by this socket option (sys/socket.h). Linux reports it by TIOCOUTQ, an
# ioctl of terminals (tcp(7), SIOCOUTQ).
_SO_NWRITE = 0x1024


class HasDescriptor(Protocol):
    """A socket, or an object of an async library that stands for a socket."""

    def fileno(self) -> int:
        """The file descriptor; -1 if the socket is closed."""
        ...


class Progress:
    """Whether a client takes what it is sent.

    :param sock: the socket of its connection; None if there is none to ask.
    :param buffered: counts the bytes that this process has for it and the kernel has not.
    """

    __slots__ = ("_buffered", "_held", "_sock")

    def __init__(self, sock: HasDescriptor | None, buffered: Callable[[], int] = int) -> None:
        self._sock = sock
        self._buffered = buffered
        self._held = self._count()

    def is_made(self) -> bool:
        """Whether the client has taken any bytes since this was last asked, or since the
        beginning, if nothing more was sent meanwhile."""
        former, self._held = self._held, self._count()
        return self._held != former

    def _count(self) -> tuple[int, int]:
        # The two numbers are not added up, because bytes that move from here to the kernel are
        # progress. Under TLS asyncio has the encrypted bytes in a second transport, whose buffer
        # cannot be asked for its size; they show as they move from there.
        return self._buffered(), _unacknowledged(self._sock)


def _unacknowledged(sock: HasDescriptor | None) -> int:
    """The number of sent bytes that the other side has not acknowledged; 0 if it is unknown."""
    try:
        if sock is None:
            return 0
        if sys.platform == "darwin":
            assert isinstance(sock, socket.socket)
            return sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
        if sys.platform == "win32":
            return 0
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        size: int = struct.unpack("i", answer)[0]
        return size
    except (OSError, ValueError):
        return 0


def has_room(sock: HasDescriptor | None) -> bool:
    """Whether the kernel takes more bytes to send; True if the socket has failed or is closed."""
    try:
        if sock is None:
            return True
        if sys.platform == "win32":
            return bool(select.select((), (sock,), (), 0)[1])
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
