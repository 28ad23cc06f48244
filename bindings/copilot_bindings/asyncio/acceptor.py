"""Accepting connections under asyncio.

When file descriptors run out, the servers of asyncio's loop log a traceback for each connection of
the backlog, and try again for each of them. The acceptor in this module logs one line, and waits.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl as tls
from collections.abc import Callable
from functools import partial
from types import NoneType

from ..net.listeners import BACKLOG
from ..net.shortage import PAUSE_SECONDS, Shortage
from .connection import AsyncioConnection

logger = logging.getLogger(__name__)

# At most this many connections are accepted before other callbacks of the loop have a turn.
_TURN_CONNECTIONS = 64
# asyncio's own limit for the end of TLS is put this far off, because it cuts off a client that
# still takes its response; the connection itself sees when the client takes nothing more.
_TLS_END_SECONDS = 86_400.0


class Acceptor:
    """Accepts connections from listening sockets until it is stopped. It does not close the
    sockets.

    :param listeners: the sockets; they become non-blocking.
    :param connection: makes the protocol of a connection.
    :param ssl: a context for the server's side, to speak TLS; None for HTTP without TLS.
    :param handshake_seconds: how many seconds a client may take for the TLS handshake.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        connection: Callable[[], AsyncioConnection],
        ssl: tls.SSLContext | None,
        handshake_seconds: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = listeners
        self._connection = connection
        self._ssl = ssl
        self._handshake_seconds = None if ssl is None else handshake_seconds
        self._shortage = Shortage()
        self._pause: asyncio.TimerHandle | None = None
        self._beginning: set[asyncio.Task[None]] = set()
        """The tasks of connections that are being set up; a loop holds no strong reference to
        them."""
        for listener in listeners:
            listener.setblocking(False)
        self._resume()

    def stop(self) -> None:
        """Accept those who have connected, and then nothing more."""
        self._end_pause()
        self._ignore()
        for listener in self._listeners:
            self._accept(listener, BACKLOG)
        # A pause that began just now must not end on sockets that are closed.
        self._end_pause()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()

    def _resume(self) -> None:
        self._pause = None
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _ignore(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket, most: int = _TURN_CONNECTIONS) -> None:
        for _ in range(most):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if self._shortage.begins(error):
                    self._ignore()
                    self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)
                    return
                continue
            connection = self._connection()
            task = self._loop.create_task(self._begin(sock, connection))
            connection.accepted(task)
            self._beginning.add(task)
            task.add_done_callback(partial(self._begun, sock, connection))

    async def _begin(self, sock: socket.socket, connection: AsyncioConnection) -> None:
        sock.setblocking(False)
        await self._loop.connect_accepted_socket(
            lambda: connection,
            sock,
            ssl=self._ssl,
            ssl_handshake_timeout=self._handshake_seconds,
            ssl_shutdown_timeout=None if self._ssl is None else _TLS_END_SECONDS,
        )

    def _begun(
        self, sock: socket.socket, connection: AsyncioConnection, task: asyncio.Task[None]
    ) -> None:
        self._beginning.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            sock.close()
            connection.missed()
        # An OSError means that the client has gone, or does not speak TLS.
        if not isinstance(error, (OSError, NoneType)):
            logger.error("a connection failed", exc_info=error)
