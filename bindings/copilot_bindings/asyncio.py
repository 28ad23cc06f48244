"""Serve a runtime with asyncio: an ``asyncio.Protocol`` for each connection, HTTP/1.1 by h11.

A connection drives its exchange by callbacks, so a stream that waits costs no task. Runs live
in a task group that the server owns, and go on when the clients that started them go away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from sansio_copilot import CopilotRuntime, Run, RunRefused

from ._asyncio_call import INTERRUPTS
from ._asyncio_connection import Connection
from ._asyncio_run import RunHome

__all__ = ["Server", "serve", "start_server"]

logger = logging.getLogger("sansio_copilot")

_FLUSH_SECONDS = 2.0


async def serve(
    runtime: CopilotRuntime,
    host: str = "127.0.0.1",
    port: int = 4000,
    *,
    grace_seconds: float = 10.0,
    ready: Callable[[Server], object] | None = None,
) -> None:
    """Serve ``runtime`` until SIGTERM or SIGINT, or until cancelled.

    A signal begins a graceful shutdown; see :meth:`Server.close`. A second one kills, as it would
    without this server. Cancellation ends the runs at once, well formed.

    :param grace_seconds: how long responses and runs may go on after a signal.
    :param ready: called with the server when it accepts connections.
    :raises OSError: if the address cannot be bound.
    """
    server = await start_server(runtime, host, port, grace_seconds=grace_seconds)
    try:
        with _closing_on_signals(server):
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
    grace_seconds: float = 10.0,
) -> Server:
    """Begin to serve ``runtime`` and return; for an application that has a loop of its own.

    :param port: 0 takes a free one; :attr:`Server.port` tells which.
    :raises OSError: if the address cannot be bound.
    """
    server = Server(runtime, grace_seconds)
    await server.listen(host, port)
    return server


class Server:
    """A server that is running. Made by :func:`start_server`."""

    def __init__(self, runtime: CopilotRuntime, grace_seconds: float) -> None:
        self.runtime = runtime
        self.connections: set[Connection] = set()
        self.closing = False
        self._ended = False
        self.port = 0
        """The port that the server listens on."""
        self._grace = grace_seconds
        self._homes: set[RunHome] = set()
        self._close_begun = asyncio.Event()
        self._changed = asyncio.Event()

    async def listen(self, host: str, port: int) -> None:
        """Bind and begin to accept; called once, by :func:`start_server`."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self), host, port, start_serving=False
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        entered = loop.create_future()
        self._main = loop.create_task(self._own_tasks(entered))
        await entered
        await self._listener.start_serving()

    async def serve_until_closed(self) -> None:
        """Wait until :meth:`close` has done its work, whoever called it."""
        await asyncio.shield(self._main)

    def begin_close(self) -> None:
        """Begin what :meth:`close` does and return at once; for a signal handler."""
        self._close_begun.set()

    async def close(self, *, grace_seconds: float | None = None) -> None:
        """Shut down: accept nothing more, let responses finish, then end the runs that are left.

        After the grace period each run is ended with a well-formed terminal event, which its
        readers receive.

        :param grace_seconds: instead of what the server was started with.
        """
        if grace_seconds is not None:
            self._grace = grace_seconds
        self._close_begun.set()
        self._changed.set()
        await self.serve_until_closed()

    # For connections

    def start_run(self, run: Run) -> None:
        """Give ``run`` a home in the server's task group.

        :raises RunRefused: if the server has ended its runs already.
        """
        if self._ended:
            raise RunRefused("The server is shutting down")
        home = RunHome(run)
        self._homes.add(home)
        self.spawn(self._live(home))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``coroutine`` in the server's task group, whose other tasks survive its failure."""
        return self._group.create_task(_guarded(coroutine))

    def connection_ended(self, connection: Connection) -> None:
        """Forget ``connection``."""
        self.connections.discard(connection)
        self._changed.set()

    async def _live(self, home: RunHome) -> None:
        try:
            await home.main()
        finally:
            self._homes.discard(home)
            self._changed.set()

    async def _own_tasks(self, entered: asyncio.Future[None]) -> None:
        async with asyncio.TaskGroup() as self._group:
            entered.set_result(None)
            await self._close_begun.wait()
            self.closing = True
            self._listener.close()
            for connection in list(self.connections):
                connection.close_if_idle()
            await self._quiet(lambda: not self.connections and not self._homes, self._grace)
            self._ended = True
            for home in list(self._homes):
                await home.interrupt("The server is shutting down")
            # What the interrupted runs said last has to reach their readers.
            await self._quiet(lambda: not self.connections, _FLUSH_SECONDS)
            for connection in list(self.connections):
                connection.abort()
            # The group waits for its tasks, so an agent that swallows its cancellation is told
            # again; a second signal ends the process all the same.
            while self._homes:
                await self._quiet(lambda: not self._homes, _FLUSH_SECONDS)
                for home in self._homes:
                    logger.warning("an agent ignores its cancellation: %r", home)
                    home.cancel()

    async def _quiet(self, reached: Callable[[], bool], seconds: float) -> None:
        """Wait until ``reached()``, or for so many seconds."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while not reached():
            # Asked anew each time: close() may shorten the grace period meanwhile.
            left = begun + min(seconds, max(self._grace, _FLUSH_SECONDS)) - loop.time()
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
                    continue
            return


async def _guarded(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        await coroutine
    except INTERRUPTS:
        raise
    except BaseException:
        logger.exception("a task of the server failed")


@contextlib.contextmanager
def _closing_on_signals(server: Server) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def handle() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        server.begin_close()

    for number in signals:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
