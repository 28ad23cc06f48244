"""Waking a thread that waits for a socket."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading


class Wake:
    """Wakes a thread that polls. Any thread may set it; setting it has no effect once it is
    closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._file = -1
        if hasattr(os, "eventfd"):
            self._file = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._ends = socket.socketpair()
            for end in self._ends:
                end.setblocking(False)

    def fileno(self) -> int:
        """The file descriptor to poll for reading."""
        return self._file if self._ends is None else self._ends[0].fileno()

    def set(self) -> None:
        """Wake the thread, now or when it polls next."""
        # The lock is held so that the file is not closed meanwhile, because its number could then
        # belong to another file.
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._ends is not None and self._ends[1].fileno() >= 0:
                self._ends[1].send(b"w")
            elif self._file >= 0:
                os.eventfd_write(self._file, 1)

    def clear(self) -> None:
        """Forget earlier calls of :meth:`set`."""
        with contextlib.suppress(BlockingIOError):
            if self._ends is None:
                os.eventfd_read(self._file)
            else:
                self._ends[0].recv(4096)

    def wait(self, seconds: float) -> None:
        """Wait until it is set, or for so many seconds."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        poll.poll(seconds * 1000)

    def close(self) -> None:
        """Close the file descriptors."""
        with self._lock:
            if self._ends is not None:
                for end in self._ends:
                    end.close()
            elif self._file >= 0:
                os.close(self._file)
                self._file = -1
