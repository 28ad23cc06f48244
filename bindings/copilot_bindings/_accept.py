"""Accepting connections in a thread."""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable

from ._listen import close_listeners
from ._wake import Wake

logger = logging.getLogger("sansio_copilot")

_FULL_SECONDS = 1.0


class Acceptor:
    """Accepts from sockets that listen, until it is stopped; then it closes them.

    :param unix: the path of the Unix socket among them.
    :param accepted: called with each connection, in the acceptor's thread.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        unix: str | None,
        accepted: Callable[[socket.socket], object],
    ) -> None:
        self._listeners = listeners
        self._unix = unix
        self._accepted = accepted
        self._wake = Wake()
        self._stopped = False
        self._thread = threading.Thread(target=self._live, name="copilot-accept", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more. In any thread but the acceptor's."""
        self._stopped = True
        self._wake.set()
        self._thread.join()

    def _live(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        by_file = {listener.fileno(): listener for listener in self._listeners}
        for listener in self._listeners:
            listener.setblocking(False)
            poll.register(listener, select.POLLIN)
        try:
            while not self._stopped:
                for file, _ in poll.poll():
                    if file in by_file:
                        self._accept(by_file[file])
        finally:
            close_listeners(self._listeners, self._unix)
            self._wake.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            # It has gone again.
            return
        except OSError as error:
            # Out of file descriptors, say: something has to end first.
            logger.error("cannot accept a connection: %s", error)
            self._wake.wait(_FULL_SECONDS)
            return
        self._accepted(sock)
