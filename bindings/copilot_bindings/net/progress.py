"""Progress of a client that reads slowly, as the kernel reports it.

A socket becomes writable only when a third of its buffer is free, and the buffer may have some
megabytes. A client that reads slowly and steadily may take minutes to free that much. The number of
bytes that it has not acknowledged shows earlier that it reads.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
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


def unacknowledged(sock: HasDescriptor | None) -> int:
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
