"""Serve a runtime with sockets and threads: each connection has a thread that speaks HTTP/1.1.

This binding fits applications that are made of threads and have hooks that block. Runs live on an
event loop in the background, so that a run goes on when the client that started it goes away.
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

from ..asyncio.connection import AsyncioConnection
from ..net.listeners import Listeners, UnixPath
from ..serving.background_loop import BackgroundLoop
from ..serving.grace_period import check_grace_period
from ..serving.os_signals import EndingSignals
from ..serving.pool import ThreadPool
from ..serving.start_log import log_start
from .acceptor import Acceptor
from .connection import SocketConnection

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
    """Serve ``runtime`` until SIGTERM, SIGINT or SIGHUP, or until :meth:`Server.close` is called.

    A signal begins a graceful shutdown; see :meth:`Server.close`. A second one kills the
    process, as it would without this server. Outside the main thread signals are left alone.

    :param runtime: the runtime that is served.
    :param host: a name or an IP address to listen on; "" listens on all addresses.
    :param port: from 0 to 65535; 0 takes a free port, which :attr:`Server.port` tells.
    :param unix: the path of a Unix socket to listen on instead; a leading NUL makes it an abstract
        name. The socket of a server that was killed is replaced.
    :param unix_mode: the permissions of that socket (for example ``0o660``); None leaves them to
        the process's umask.
    :param sock: a bound stream socket to listen on instead; the server closes it at its end.
    :param ssl: a context for the server's side, to speak TLS; None for HTTP without TLS.
    :param threads: the number of connections that are served at once; further connections are
        refused. An idle connection takes a thread and a file descriptor, a stream two descriptors.
    :param grace_seconds: how many seconds responses and runs may go on after a signal.
    :param ready: called with the server once it accepts connections.
    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises NotStarted: if the runtime's store cannot be opened, or its ``on_start`` has failed.
    :raises ValueError: if the port, the path, the mode, the socket or the time is not valid.
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
    """Begin to serve ``runtime`` in background threads, and return the server.

    The parameters are those of :func:`serve`. The caller has to call :meth:`Server.close` in the
    end, or use the server as a context manager. Signals are left alone.

    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises NotStarted: if the runtime's store cannot be opened, or its ``on_start`` has failed.
    :raises ValueError: if the port, the path, the mode, the socket or the time is not valid.
    """
    check_grace_period(grace_seconds)
    listeners = Listeners(host, port, unix, unix_mode, sock)
    try:
        server = Server(runtime, threads, grace_seconds)
    except BaseException:
        listeners.close()
        raise
    server.listen(listeners, ssl)
    return server


def open_server(runtime: CopilotRuntime, *, grace_seconds: float = 10.0) -> Server:
    """Make a server that does not listen, for an application with its own accept loop.

        with open_server(runtime) as server:
            server.serve_socket(sock)  # in a thread of yours

    Leaving the block shuts the server down. If the block is left by an exception, there is no grace
    period.

    :param grace_seconds: how many seconds responses and runs may go on after the end of the block;
        a ValueError is raised if it is not a number from 0 on.
    """
    return Server(runtime, 0, grace_seconds)


class Server:
    """A server that is running. Made by :func:`start_server` and :func:`open_server`.

    Its methods may be called from any thread.
    """

    def __init__(self, runtime: CopilotRuntime, threads: int, grace_seconds: float) -> None:
        log_start(logger, "a server of threads", runtime)
        self._loop = BackgroundLoop(runtime, grace_seconds, self._stop_listening)
        self._pool = ThreadPool(int(min(threads, runtime.limits.connections)))
        self._acceptor: Acceptor | None = None
        self.port = 0
        """The port that the server listens on; 0 if it does not, or on a Unix socket."""

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._loop.service.connections)

    @property
    def runs(self) -> int:
        """The number of live runs."""
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
        self._loop.service.served_at(*listeners.addresses)
        self._acceptor = Acceptor(listeners, partial(self._serve_accepted, ssl))

    def serve_socket(self, sock: socket.socket) -> None:
        """Answer the requests of one connection until it ends, and close it.

        The call returns when the connection has ended.

        :param sock: an accepted socket, or an ``ssl.SSLSocket`` before or after its handshake.
        """
        with contextlib.suppress(OSError):
            self._loop.service.served_at(sock.getsockname())
        SocketConnection(self._loop, sock).serve()

    def serve_until_closed(self) -> None:
        """Wait until the server is closed, by :meth:`close` or by a signal.

        :raises RuntimeError: if an agent has ended the server, for example by cancelling all tasks
            of the loop.
        """
        try:
            self._loop.wait_closed()
        finally:
            self._pool.close(_JOIN_SECONDS)

    def begin_close(self, *, grace_seconds: float | None = None) -> None:
        """Begin to shut down as :meth:`close` does, and return at once; for a signal handler."""
        check_grace_period(grace_seconds, is_optional=True)
        self._loop.begin_close(grace_seconds)

    def close(self, *, grace_seconds: float | None = None) -> None:
        """Shut down: accept nothing more, let responses finish, then end the runs that are left.

        After the grace period each run is ended with a well-formed terminal event, which its
        readers receive.

        :param grace_seconds: the grace period; None for the one that the server was started with.
        """
        self.begin_close(grace_seconds=grace_seconds)
        self.serve_until_closed()

    def _serve_accepted(self, ssl: tls.SSLContext | None, sock: socket.socket) -> None:
        connection = SocketConnection(self._loop, sock, ssl)
        self._loop.service.expect(connection)
        if not self._pool.submit(connection.serve):
            self._loop.connection_ended(connection)
            self._loop.backend.soon(self._loop.backend.spawn, self._refuse, sock, ssl)

    async def _refuse(self, sock: socket.socket, ssl: tls.SSLContext | None) -> None:
        """Refuse a connection for which there is no thread, on the loop instead."""
        loop = asyncio.get_running_loop()
        handshake = None if ssl is None else self._loop.runtime.limits.header_seconds
        # The error is suppressed, because the client may have gone, or may fail the TLS handshake.
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
