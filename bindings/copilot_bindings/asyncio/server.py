"""Serve a runtime with asyncio: an ``asyncio.Protocol`` for each connection, HTTP/1.1 by h11.

A connection drives its exchange by callbacks, so a stream that waits costs no task. Runs live
in tasks that the server owns, and go on when the clients that started them go away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl as tls
from collections.abc import Callable, Iterator
from typing import Self

from sansio_copilot import CopilotRuntime

from ..net.listeners import Listeners, UnixPath
from ..serving.asyncio_backend import AsyncioBackend
from ..serving.service import Service
from ..serving.signals import EndingSignals
from .acceptor import Acceptor
from .connection import Connection

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

    A signal begins a graceful shutdown; see :meth:`Server.close`. A second one kills, as it would
    without this server. Cancellation ends the runs at once, well formed.

    :param port: 0 takes a free one; :attr:`Server.port` tells which.
    :param unix: the path of a Unix socket to listen on instead; with a NUL in front an abstract
        name. What a server that was killed left there is replaced.
    :param unix_mode: the permissions of that socket (``0o660``, say); by default as the umask says.
    :param sock: a bound stream socket to listen on instead, which the server closes at its end.
    :param ssl: a server's context, to speak TLS.
    :param grace_seconds: how long responses and runs may go on after a signal.
    :param ready: called with the server when it accepts connections.
    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises ValueError: for a port that is not a whole number from 0 to 65535, a path, a mode or a
        socket that is none.
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
) -> Server:
    """Begin to serve ``runtime`` and return; for an application that has a loop of its own.

    The parameters are those of :func:`serve`. Whoever calls this calls :meth:`Server.close`.

    :raises OSError: if the address cannot be bound, or another server listens there.
    :raises ValueError: for a port that is not a whole number from 0 to 65535, a path, a mode or a
        socket that is none.
    """
    listeners = Listeners(host, port, unix, unix_mode, sock)
    server = Server(runtime, grace_seconds)
    server.listen(listeners, ssl)
    return server


class Server:
    """A server that is running. Made by :func:`start_server`.

        async with await start_server(runtime) as server:
            ...

    Leaving the block shuts the server down, at once if by an exception or a cancellation.
    """

    def __init__(self, runtime: CopilotRuntime, grace_seconds: float) -> None:
        self._backend = AsyncioBackend()
        self._service = Service(runtime, self._backend, grace_seconds)
        self.port = 0
        """The port that the server listens on; 0 for a Unix socket."""

    def listen(self, listeners: Listeners, ssl: tls.SSLContext | None) -> None:
        """Begin to accept; called once, by :func:`start_server`."""
        self.port = listeners.port
        logger.info("serving on %s", listeners.describe(tls=ssl is not None))
        acceptor = Acceptor(
            listeners.sockets,
            lambda: Connection(self._service, self._backend),
            ssl,
            self._service.runtime.limits.header_seconds,
        )

        def stop_listening() -> None:
            acceptor.stop()
            listeners.close()

        loop = asyncio.get_running_loop()
        self._main = loop.create_task(self._service.serve_until_closed(stop_listening))

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._service.connections)

    @property
    def runs(self) -> int:
        """How many runs are live."""
        return self._service.runs

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self.close(grace_seconds=None if error is None else 0)

    async def serve_until_closed(self) -> None:
        """Wait until :meth:`close` has done its work, whoever called it."""
        await asyncio.shield(self._main)

    def begin_close(self) -> None:
        """Begin what :meth:`close` does and return at once; for a signal handler."""
        self._backend.soon(self._service.begin_close)

    async def close(self, *, grace_seconds: float | None = None) -> None:
        """Shut down: accept nothing more, let responses finish, then end the runs that are left.

        After the grace period each run is ended with a well-formed terminal event, which its
        readers receive.

        :param grace_seconds: instead of what the server was started with.
        """
        await self._service.close(grace_seconds)
        await self.serve_until_closed()


@contextlib.contextmanager
def _on_the_loop(signals: EndingSignals, close: Callable[[], object]) -> Iterator[None]:
    """Have ``close`` called at a signal, in a turn of the loop, which wakes for it."""
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
    # After that, since one may have come until now.
    signals.then(close)
    try:
        yield
    finally:
        ignore()
