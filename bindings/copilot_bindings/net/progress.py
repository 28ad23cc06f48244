"""Whether a client takes what it is sent, however little: as the kernel tells.

A socket says that it can be written to once much of its buffer is free, a third of some megabytes.
A client that reads slowly and steadily takes minutes until then; what it has acknowledged tells at
once that it reads.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Protocol

if sys.platform != "win32":
    import fcntl
    import termios

# macOS tells by an option of the socket (sys/socket.h), Linux by a call that terminals have, too.
_SO_NWRITE = 0x1024


class HasDescriptor(Protocol):
    """A socket, or what stands for one."""

    def fileno(self) -> int:
        """Its file descriptor, -1 if it is closed."""
        ...


def unacknowledged(sock: HasDescriptor | None) -> int:
    """How many bytes the kernel holds that the other side has not taken; 0 if it does not tell."""
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
