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

from ..net.shortage import PAUSE_SECONDS, Shortage

logger = logging.getLogger(__name__)

# At most this many connections are accepted before other callbacks of the loop have a turn.
_TURN_CONNECTIONS = 64


class Acceptor:
    """Accepts connections from listening sockets until it is stopped. It does not close the
    sockets.

    :param listeners: the sockets; they become non-blocking.
    :param connection: makes the protocol of a connection.
    :param ssl: a context for the server's side, to speak TLS; None for plain HTTP.
    :param handshake_seconds: how many seconds a client may take for the TLS handshake.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        connection: Callable[[], asyncio.Protocol],
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
        """Accept nothing more, and drop connections whose TLS handshake is not complete."""
        if self._pause is None:
            self._ignore()
        else:
            self._pause.cancel()
        for task in self._beginning:
            task.cancel()

    def _resume(self) -> None:
        self._pause = None
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _ignore(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_TURN_CONNECTIONS):
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
            task = self._loop.create_task(self._begin(sock))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(
                self._connection,
                sock,
                ssl=self._ssl,
                ssl_handshake_timeout=self._handshake_seconds,
            )
        except OSError:
            # The client has gone, or does not speak TLS.
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise
        except Exception:
            logger.exception("a connection failed")
            sock.close()
