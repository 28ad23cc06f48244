"""Serve a runtime with trio: each connection has a task that speaks HTTP/1.1.

Runs live in a nursery that the server owns. When the scope around the server is cancelled, each run
is ended with a well-formed terminal event, which its readers receive, before the scope is left.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl as tls
from collections.abc import AsyncIterator, Callable

import trio

from sansio_copilot import CopilotRuntime

from ..net.listeners import BACKLOG, Listeners, UnixPath
from ..net.shortage import PAUSE_SECONDS, Shortage
from ..serving.async_server import AsyncServer
from ..serving.grace_period import check_grace_period
from ..serving.os_signals import EndingSignals
from ..serving.shutdown import serve_until_closed
from ..serving.start_log import log_start
from ..serving.store_life import NotStarted
from ..serving.trio_backend import TrioBackend
from .connection import TrioConnection
from .stream import socket_of

logger = logging.getLogger(__name__)


async def serve(
    runtime: CopilotRuntime,
    host: str = "127.0.0.1",
    port: int = 4000,
    *,
    unix: UnixPath = None,
    unix_mode: int | None = None,
    sock: socket.socket | None = None,
    ssl: tls.SSLContext | None = None,
    grace_seconds: float = 10.0,
    ready: Callable[[Server], object] | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``runtime`` until SIGTERM, SIGINT or SIGHUP, or until cancelled.

    A signal begins a graceful shutdown; see :meth:`Server.close`. A second one kills the
    process, as it would without this server. A cancellation shuts down without a grace period: each
    run is ended at once by a well-formed terminal event.

    :param runtime: the runtime that is served.
    :param host: a name or an IP address to listen on; "" listens on all addresses.
    :param port: from 0 to 65535; 0 takes a free port, which :attr:`Server.port` tells.
    :param unix: the path of a Unix socket to listen on instead; a leading NUL makes it an abstract
        name. The socket of a server that was killed is replaced.
    :param unix_mode: the permissions of that socket (for example ``0o660``); None leaves them to
        the process's umask.
    :param sock: a bound stream socket to listen on instead; the server closes it at its end.
    :param ssl: a context for the server's side, to speak TLS; None for HTTP without TLS.
    :param grace_seconds: how many seconds responses and runs may go on after a signal.
    :param ready: called with the server once it accepts connections.
    :param task_status: given by ``nursery.start``, which then returns the :class:`Server`.
    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises NotStarted: if the runtime's store cannot be opened, or its ``on_start`` has failed.
    :raises ValueError: if the port, the path, the mode, the socket or the time is not valid.
    """
    with EndingSignals() as signals:
        start = start_server(
            runtime,
            host,
            port,
            unix=unix,
            unix_mode=unix_mode,
            sock=sock,
            ssl=ssl,
            grace_seconds=grace_seconds,
        )
        async with start as server:
            signals.then(server.begin_close)
            if ready is not None:
                ready(server)
            task_status.started(server)
            await server.serve_until_closed()


@contextlib.asynccontextmanager
async def start_server(
    runtime: CopilotRuntime,
    host: str = "127.0.0.1",
    port: int = 4000,
    *,
    unix: UnixPath = None,
    unix_mode: int | None = None,
    sock: socket.socket | None = None,
    ssl: tls.SSLContext | None = None,
    grace_seconds: float = 10.0,
) -> AsyncIterator[Server]:
    """Serve ``runtime`` in a nursery for as long as a block is in progress.

        async with start_server(runtime) as server:
            ...

    Leaving the block shuts the server down. If the block is left by an exception or a cancellation,
    there is no grace period. The parameters are those of :func:`serve`. Signals are left alone.

    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises NotStarted: if the runtime's store cannot be opened, or its ``on_start`` has failed.
    :raises ValueError: if the port, the path, the mode, the socket or the time is not valid.
    """
    check_grace_period(grace_seconds)
    # The sockets are made outside the nursery, because a nursery would wrap an OSError in an
    # exception group.
    listeners = Listeners(host, port, unix, unix_mode, sock)
    async with _closing(listeners), open_server(runtime, grace_seconds=grace_seconds) as server:
        server.listen(listeners, ssl)
        yield server


@contextlib.asynccontextmanager
async def _closing(listeners: Listeners) -> AsyncIterator[None]:
    """Close the sockets if they are not listened on, because nothing can be served."""
    try:
        yield
    except NotStarted:
        listeners.close()
        raise


@contextlib.asynccontextmanager
async def open_server(
    runtime: CopilotRuntime, *, grace_seconds: float = 10.0
) -> AsyncIterator[Server]:
    """Make a server that does not listen, for an application with its own accept loop.

        async with open_server(runtime) as server:
            await trio.serve_tcp(server.serve_stream, 4000)

    Leaving the block shuts the server down. If the block is left by an exception or a cancellation,
    there is no grace period.

    :param grace_seconds: how many seconds responses and runs may go on after the end of the block;
        a ValueError is raised if it is not a number from 0 on.
    :raises NotStarted: if the runtime's store cannot be opened, or its ``on_start`` has failed.
    """
    # The check stands before the nursery, because the nursery would wrap the error in a group.
    check_grace_period(grace_seconds)
    not_started: NotStarted | None = None
    async with trio.open_nursery() as nursery:
        server = Server(runtime, nursery, grace_seconds)
        failed = True
        try:
            try:
                await server.open()
            except NotStarted as error:
                # The error is raised outside, because the nursery would wrap it in a group.
                not_started = error
            else:
                yield server
                failed = False
        finally:
            with trio.CancelScope(shield=True):
                await server.close(grace_seconds=0 if failed else None)
    if not_started is not None:
        raise not_started


class Server(AsyncServer):
    """A server that is running. Made by :func:`start_server` and :func:`open_server`.

    It is no context manager itself, because its nursery is one, which cannot begin before the
    server and end with it.
    """

    _backend: TrioBackend

    def __init__(
        self, runtime: CopilotRuntime, nursery: trio.Nursery, grace_seconds: float
    ) -> None:
        log_start(logger, "a server of trio", runtime)
        super().__init__(runtime, TrioBackend(nursery.start_soon), grace_seconds)
        self._nursery = nursery
        self._accepting = trio.CancelScope()
        self._listeners: Listeners | None = None
        self._ssl: tls.SSLContext | None = None
        self._shortage = Shortage()
        nursery.start_soon(serve_until_closed, self._service, self._stop_listening)

    def listen(self, listeners: Listeners, ssl: tls.SSLContext | None) -> None:
        """Begin to accept; called once, by :func:`start_server`."""
        self._listeners = listeners
        self.port = listeners.port
        logger.info("serving on %s", listeners.describe(tls=ssl is not None))
        self._service.served_at(*listeners.addresses)
        self._ssl = ssl
        self._nursery.start_soon(self._accept, listeners)

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Answer the requests of one connection until it ends, and close it.

        :param stream: for example a ``trio.SocketStream`` or a ``trio.SSLStream``.
        """
        if self._listeners is None and (transport := socket_of(stream)) is not None:
            with contextlib.suppress(OSError):
                self._service.served_at(transport.socket.getsockname())
        await TrioConnection(self._service, self._backend, stream).serve()

    async def _accept(self, listeners: Listeners) -> None:
        try:
            with self._accepting:
                async with trio.open_nursery() as nursery:
                    for listener in listeners.sockets:
                        raw = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                        nursery.start_soon(self._accept_from, raw)
        finally:
            listeners.close()

    async def _accept_from(self, listener: trio.SocketListener) -> None:
        while True:
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                # The error is handled here, because trio.serve_listeners would log a traceback for
                # each attempt.
                if self._shortage.begins(error):
                    await trio.sleep(PAUSE_SECONDS)
            else:
                self._accepted(stream)

    def _accepted(self, raw: trio.SocketStream) -> None:
        is_tls = self._ssl is not None
        stream = raw if self._ssl is None else trio.SSLStream(raw, self._ssl, server_side=True)
        connection = TrioConnection(self._service, self._backend, stream, shakes_hands=is_tls)
        self._service.expect(connection)
        self._nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: TrioConnection) -> None:
        # The shield keeps a cancellation of the server away, because the service closes its
        # connections in the order of a shutdown.
        with trio.CancelScope(shield=True):
            await connection.serve()

    def _stop_listening(self) -> None:
        """Accept those who have connected, and then nothing more."""
        # The tasks that accept are cancelled first, because none may wait for a closed socket.
        self._accepting.cancel()
        if self._listeners is not None:
            self._listeners.remove()
            for listener in self._listeners.sockets:
                for _ in range(BACKLOG):
                    try:
                        sock, _ = listener.accept()
                    except OSError:
                        break
                    self._accepted(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))
            # The sockets are closed in the same turn, because a client that connects to a socket
            # from which nothing is accepted any more is reset when the socket is closed.
            self._listeners.close()
