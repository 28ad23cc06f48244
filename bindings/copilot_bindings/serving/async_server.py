"""The part of a server under asyncio or trio that is the same for both: its service and its end."""

from __future__ import annotations

from sansio_copilot import CopilotRuntime

from .backend import Backend
from .grace_period import check_grace_period
from .service import Service


class AsyncServer:
    """A server that is running, on the event loop of its thread."""

    def __init__(self, runtime: CopilotRuntime, backend: Backend, grace_seconds: float) -> None:
        self._backend = backend
        self._service = Service(runtime, backend, grace_seconds)
        self.port = 0
        """The port that the server listens on; 0 for a Unix socket, or if it does not listen."""

    async def open(self) -> None:
        """Open the store and start; called once, before anything is served."""
        await self._service.life.open()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._service.connections)

    @property
    def runs(self) -> int:
        """The number of live runs."""
        return self._service.runs

    async def serve_until_closed(self) -> None:
        """Wait until the server is closed, by :meth:`close` or by a signal."""
        await self._service.wait_closed()

    def begin_close(self, *, grace_seconds: float | None = None) -> None:
        """Begin to shut down as :meth:`close` does, and return at once; for a signal handler."""
        check_grace_period(grace_seconds, is_optional=True)
        self._backend.soon(self._service.begin_close, grace_seconds)

    async def close(self, *, grace_seconds: float | None = None) -> None:
        """Shut down: accept nothing more, let responses finish, then end the runs that are left.

        After the grace period each run is ended with a well-formed terminal event, which its
        readers receive.

        :param grace_seconds: the grace period; None for the one that the server was started with.
        """
        check_grace_period(grace_seconds, is_optional=True)
        self._service.begin_close(grace_seconds)
        await self.serve_until_closed()
