"""Serve a runtime with plain sockets: a thread for each connection, HTTP/1.1 by h11.

Hooks that block, and whatever else expects threads, are at home here. Runs live on an event loop
in the background, and go on when the clients that started them go away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl as tls
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from sansio_copilot import CopilotRuntime

from ..asyncio.connection import Connection as AsyncioConnection
from ..net.listeners import Listeners, UnixPath
from ..serving.background_loop import BackgroundLoop
from ..serving.pool import ThreadPool
from ..serving.signals import EndingSignals
from .acceptor import Acceptor
from .connection import Connection

_JOIN_SECONDS = 2.0

logger = logging.getLogger(__name__)


def serve(
    runtime: CopilotRuntime,
    host: str = "127.0.0.1",
    port: int = 4000,
    *,
    unix: UnixPath = None,
    unix_mode: int | None = None,
    sock: socket.socket | None = None,
    ssl: tls.SSLContext | None = None,
    threads: int = 512,
    grace_seconds: float = 10.0,
    ready: Callable[[Server], object] | None = None,
) -> None:
    """Serve ``runtime`` until SIGTERM, SIGINT or SIGHUP, or until somebody closes the server.

    A signal begins a graceful shutdown; see :meth:`Server.close`. A second one kills, as it would
    without this server. In another thread than the main one signals are left alone.

    :param port: 0 takes a free one; :attr:`Server.port` tells which.
    :param unix: the path of a Unix socket to listen on instead; with a NUL in front an abstract
        name. What a server that was killed left there is replaced.
    :param unix_mode: the permissions of that socket (``0o660``, say); by default as the umask says.
    :param sock: a bound stream socket to listen on instead, which the server closes at its end.
    :param ssl: a server's context, to speak TLS.
    :param threads: how many connections are served at once; one more is refused. An idle
        connection takes a thread and a file descriptor, a stream two descriptors.
    :param grace_seconds: how long responses and runs may go on after a signal.
    :param ready: called with the server when it accepts connections.
    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises ValueError: for a port that is not a whole number from 0 to 65535, a path, a mode or a
        socket that is none.
    :raises RuntimeError: if an agent has ended the server; see :meth:`Server.serve_until_closed`.
    """
    with EndingSignals() as signals:
        server = start_server(
            runtime,
            host,
            port,
            unix=unix,
            unix_mode=unix_mode,
            sock=sock,
            ssl=ssl,
            threads=threads,
            grace_seconds=grace_seconds,
        )
        try:
            signals.then(server.begin_close)
            if ready is not None:
                ready(server)
            server.serve_until_closed()
        finally:
            server.close(grace_seconds=0)


def start_server(
    runtime: CopilotRuntime,
    host: str = "127.0.0.1",
    port: int = 4000,
    *,
    unix: UnixPath = None,
    unix_mode: int | None = None,
    sock: socket.socket | None = None,
    ssl: tls.SSLContext | None = None,
    threads: int = 512,
    grace_seconds: float = 10.0,
) -> Server:
    """Begin to serve ``runtime`` in the background and return.

    The parameters are those of :func:`serve`. Whoever calls this calls :meth:`Server.close`.

    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises ValueError: for a port that is not a whole number from 0 to 65535, a path, a mode or a
        socket that is none.
    """
    listeners = Listeners(host, port, unix, unix_mode, sock)
    server = Server(runtime, threads, grace_seconds)
    server.listen(listeners, ssl)
    return server


def open_server(runtime: CopilotRuntime, *, grace_seconds: float = 10.0) -> Server:
    """A home for the runs of connections that an accept loop of yours gives it.

        with open_server(runtime) as server:
            server.serve_socket(sock)  # in a thread of yours

    Leaving the block shuts the server down, at once if by an exception.

    :param grace_seconds: how long responses and runs may go on after the end of the block.
    """
    return Server(runtime, 0, grace_seconds)


class Server:
    """A server that is running. Made by :func:`start_server` and :func:`open_server`.

    Its methods may be called from any thread.
    """

    def __init__(self, runtime: CopilotRuntime, threads: int, grace_seconds: float) -> None:
        self._loop = BackgroundLoop(runtime, grace_seconds, self._stop_listening)
        self._pool = ThreadPool(int(min(threads, runtime.limits.connections)))
        self._acceptor: Acceptor | None = None
        self.port = 0
        """The port that the server listens on; 0 if it does not, or on a Unix socket."""

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._loop.service.connections)

    @property
    def runs(self) -> int:
        """How many runs are live."""
        return self._loop.service.runs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(grace_seconds=None if error is None else 0)

    def listen(self, listeners: Listeners, ssl: tls.SSLContext | None) -> None:
        """Begin to accept; called once, by :func:`start_server`."""
        self.port = listeners.port
        logger.info("serving on %s", listeners.describe(tls=ssl is not None))
        self._acceptor = Acceptor(listeners, partial(self._serve_accepted, ssl))

    def serve_socket(self, sock: socket.socket) -> None:
        """Answer the requests of one connection until it ends, and close it.

        :param sock: an accepted socket; an ``ssl.SSLSocket`` may have shaken hands already.
        """
        Connection(self._loop, sock).serve()

    def serve_until_closed(self) -> None:
        """Wait until :meth:`close` has done its work, whoever called it.

        :raises RuntimeError: if an agent has ended the server, by cancelling all tasks, say.
        """
        try:
            self._loop.wait_closed()
        finally:
            self._pool.close(_JOIN_SECONDS)

    def begin_close(self) -> None:
        """Begin what :meth:`close` does and return at once; for a signal handler."""
        self._loop.begin_close()

    def close(self, *, grace_seconds: float | None = None) -> None:
        """Shut down: accept nothing more, let responses finish, then end the runs that are left.

        After the grace period each run is ended with a well-formed terminal event, which its
        readers receive.

        :param grace_seconds: instead of what the server was started with.
        """
        self._loop.begin_close(grace_seconds)
        self.serve_until_closed()

    def _serve_accepted(self, ssl: tls.SSLContext | None, sock: socket.socket) -> None:
        if not self._pool.submit(Connection(self._loop, sock, ssl).serve):
            self._loop.backend.soon(self._loop.backend.spawn, self._refuse, sock, ssl)

    async def _refuse(self, sock: socket.socket, ssl: tls.SSLContext | None) -> None:
        """Tell a client that there is no thread for it; on the loop, which needs none."""
        loop = asyncio.get_running_loop()
        handshake = None if ssl is None else self._loop.runtime.limits.header_seconds
        # Of a client that goes meanwhile, or says nothing.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                lambda: AsyncioConnection(self._loop.service, self._loop.backend, refused=True),
                sock,
                ssl=ssl,
                ssl_handshake_timeout=handshake,
            )

    def _stop_listening(self) -> None:
        if self._acceptor is not None:
            self._acceptor.stop()
