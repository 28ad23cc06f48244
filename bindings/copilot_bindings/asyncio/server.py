"""Serve a runtime with asyncio: each connection is an ``asyncio.Protocol`` that speaks HTTP/1.1.

A connection drives its exchange by callbacks, so that a stream that waits costs no task. Runs live
in tasks that the server owns, so that a run goes on when the client that started it goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl as tls
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Self

from sansio_copilot import CopilotRuntime

from ..net.listeners import Listeners, UnixPath
from ..serving.async_server import AsyncServer
from ..serving.asyncio_backend import AsyncioBackend
from ..serving.grace_period import check_grace_period
from ..serving.os_signals import EndingSignals
from ..serving.shutdown import serve_until_closed
from ..serving.start_log import log_start
from .acceptor import Acceptor
from .connection import AsyncioConnection

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
    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises NotStarted: if the runtime's store cannot be opened, or its ``on_start`` has failed.
    :raises ValueError: if the port, the path, the mode, the socket or the time is not valid.
    """
    with EndingSignals() as signals:
        server = await start_server(
            runtime,
            host,
            port,
            unix=unix,
            unix_mode=unix_mode,
            sock=sock,
            ssl=ssl,
            grace_seconds=grace_seconds,
        )
        try:
            with _on_the_loop(signals, server.begin_close):
                if ready is not None:
                    ready(server)
                await server.serve_until_closed()
        finally:
            await server.close(grace_seconds=0)


def start_server(
    runtime: CopilotRuntime,
    host: str = "127.0.0.1",
    port: int = 4000,
    *,
    unix: UnixPath = None,
    unix_mode: int | None = None,
    sock: socket.socket | None = None,
    ssl: tls.SSLContext | None = None,
    grace_seconds: float = 10.0,
) -> ServerStart:
    """Begin to serve ``runtime`` on the running loop.

        async with start_server(runtime) as server:
            ...

    Leaving the block shuts the server down. If the block is left by an exception or a cancellation,
    there is no grace period. ``server = await start_server(runtime)`` leaves it to the caller to
    call :meth:`Server.close` in the end. The parameters are those of :func:`serve`. Signals are
    left alone.

    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises NotStarted: if the runtime's store cannot be opened, or its ``on_start`` has failed.
    :raises ValueError: if the port, the path, the mode, the socket or the time is not valid.
    """

    async def start() -> Server:
        check_grace_period(grace_seconds)
        listeners = Listeners(host, port, unix, unix_mode, sock)
        server = Server(runtime, grace_seconds)
        try:
            await server.open()
        except BaseException:
            listeners.close()
            raise
        server.listen(listeners, ssl)
        return server

    return ServerStart(start())


def open_server(runtime: CopilotRuntime, *, grace_seconds: float = 10.0) -> ServerStart:
    """Make a server that does not listen, for an application with its own accept loop.

        async with open_server(runtime) as server:
            listening = await loop.create_server(server.protocol, "127.0.0.1", 4000)

    Leaving the block shuts the server down. If the block is left by an exception or a cancellation,
    there is no grace period. ``server = await open_server(runtime)`` leaves it to the caller to
    call :meth:`Server.close` in the end.

    :param grace_seconds: how many seconds responses and runs may go on after the end of the block;
        a ValueError is raised if it is not a number from 0 on.
    :raises NotStarted: if the runtime's store cannot be opened, or its ``on_start`` has failed.
    """

    async def start() -> Server:
        server = Server(runtime, grace_seconds)
        await server.open()
        server.begin(lambda: None)
        return server

    return ServerStart(start())


class ServerStart:
    """The start of a server, which is to be awaited, or entered as an async context manager, once.

    :param start: the coroutine that starts it. Python warns if it is never awaited, and refuses a
        second use, which would leave one of two servers without an end.
    """

    def __init__(self, start: Coroutine[Any, Any, Server]) -> None:
        self._start = start
        self._server: Server

    def __await__(self) -> Generator[Any, Any, Server]:
        return self._start.__await__()

    async def __aenter__(self) -> Server:
        self._server = await self._start
        return self._server

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self._server.__aexit__(kind, error, traceback)


class Server(AsyncServer):
    """A server that is running. Made by :func:`start_server` and :func:`open_server`.

    Leaving it as an async context manager shuts it down, without a grace period if the block is
    left by an exception or a cancellation.
    """

    _backend: AsyncioBackend

    def __init__(self, runtime: CopilotRuntime, grace_seconds: float) -> None:
        log_start(logger, "a server of asyncio", runtime)
        super().__init__(runtime, AsyncioBackend(), grace_seconds)

    def listen(self, listeners: Listeners, ssl: tls.SSLContext | None) -> None:
        """Begin to accept; called once, by :func:`start_server`."""
        self.port = listeners.port
        logger.info("serving on %s", listeners.describe(tls=ssl is not None))
        self._service.served_at(*listeners.addresses)
        acceptor = Acceptor(
            listeners.sockets,
            lambda: AsyncioConnection(self._service, self._backend),
            ssl,
            self._service.runtime.limits.header_seconds,
        )

        def stop_listening() -> None:
            acceptor.stop()
            listeners.close()

        self.begin(stop_listening)

    def begin(self, stop_listening: Callable[[], object]) -> None:
        """Begin the main task; called once, when the store has been opened."""
        loop = asyncio.get_running_loop()
        self._main = loop.create_task(serve_until_closed(self._service, stop_listening))

    def protocol(self) -> asyncio.Protocol:
        """Make the protocol of one connection that the application accepts.

        It is the ``protocol_factory`` of ``loop.create_server`` and of
        ``loop.connect_accepted_socket``.
        """
        return _AcceptedElsewhere(self._service, self._backend)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self.close(grace_seconds=None if error is None else 0)

    async def serve_until_closed(self) -> None:
        await asyncio.shield(self._main)


class _AcceptedElsewhere(AsyncioConnection):
    """A connection whose address the server learns from its transport."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._service.served_at(transport.get_extra_info("sockname"))
        super().connection_made(transport)


@contextlib.contextmanager
def _on_the_loop(signals: EndingSignals, close: Callable[[], object]) -> Iterator[None]:
    """Call ``close`` when a signal comes, in a turn of the loop.

    The loop's own handlers take over from ``signals``, because they wake a loop that waits.
    """
    loop = asyncio.get_running_loop()
    numbers = signals.handled

    def ignore() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    def handle() -> None:
        ignore()
        close()

    for number in numbers:
        loop.add_signal_handler(number, handle)
    # A signal may have come before the loop's handlers were set, so ``signals`` calls ``close``
    # then.
    signals.then(close)
    try:
        yield
    finally:
        ignore()
