"""Accepting connections in a thread."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable

from ..net.listeners import BACKLOG, Listeners
from ..net.shortage import PAUSE_SECONDS, Shortage
from .wake import Wake


class Acceptor:
    """Accepts connections from listening sockets until it is stopped, and then closes the sockets.

    :param listeners: the sockets; they become non-blocking.
    :param accepted: called with the socket of each connection, in the acceptor's thread.
    """

    def __init__(self, listeners: Listeners, accepted: Callable[[socket.socket], object]) -> None:
        self._listeners = listeners
        self._shortage = Shortage()
        self._accepted = accepted
        self._wake = Wake()
        self._stopped = False
        self._thread = threading.Thread(target=self._live, name="copilot-accept", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept those who have connected, and then nothing more.

        May be called in any thread but the acceptor's own.
        """
        self._stopped = True
        self._wake.set()
        self._thread.join()

    def _live(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        by_file = {listener.fileno(): listener for listener in self._listeners.sockets}
        for listener in self._listeners.sockets:
            listener.setblocking(False)
            poll.register(listener, select.POLLIN)
        try:
            while not self._stopped:
                for file, _ in poll.poll():
                    if file in by_file:
                        self._accept(by_file[file])
            for listener in self._listeners.sockets:
                for _ in range(BACKLOG):
                    if not self._accept(listener):
                        break
        finally:
            self._listeners.close()
            self._wake.close()

    def _accept(self, listener: socket.socket) -> bool:
        """Accept one connection; returns whether there was one."""
        try:
            sock, _ = listener.accept()
        except OSError as error:
            if self._shortage.begins(error):
                self._wake.wait(PAUSE_SECONDS)
            return False
        self._accepted(sock)
        return True
