"""The host of a runtime inside a server that is not part of this project.

Such a server has to implement a :class:`Peer`: three methods for each request. The rest is the
same as in the ASGI application: a :class:`~..serving.responder.Responder` for each request, and a
:class:`~..serving.loop_service.LoopService` in which runs live.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from sansio_copilot import CopilotRuntime, Request, Response
from sansio_copilot.http import refusals

from ..serving.async_library import running_loop
from ..serving.body_limits import Body
from ..serving.grace_period import check_grace_period
from ..serving.loop_service import LoopService
from ..serving.responder import Responder
from ..serving.response_wire import Fields, Gone, Wire
from ..serving.service import SHUTDOWN
from ..serving.start_log import log_start

logger = logging.getLogger(__name__)


class Peer(Protocol):
    """The other side of a connection (RFC 9112): the client of one request, as a server knows it.

    An exception of a method means that the client has gone.
    """

    async def receive(self) -> bytes:
        """The next piece of the request's body; b"" at its end, and when there is none."""
        ...

    async def send_head(self, status: int, fields: Fields, /) -> None:
        """Send the status line and the header fields, which have names in lower case.

        Without a ``content-length`` among them the length of the body is not known beforehand.
        """
        ...

    async def send_body(self, data: bytes, /) -> None:
        """Send a piece of the body, and wait until more can be taken."""
        ...


class Host:
    """Answers requests, and gives the runs that they start a home. Made by :func:`open_host`."""

    def __init__(self, service: LoopService) -> None:
        self._service = service

    @property
    def connections(self) -> int:
        """The number of requests that are being answered."""
        return len(self._service.connections)

    @property
    def runs(self) -> int:
        """The number of live runs."""
        return self._service.runs

    async def answer(self, request: Request, peer: Peer) -> bool:
        """Answer one request, in the task that calls this method.

        A server that learns that the client has gone cancels that task; otherwise the next sending
        fails. The run goes on in either case.

        :param request: the request, without its body.
        :returns: whether the response is complete; if not, break the connection off, so that the
            response does not look complete.
        :raises Exception: the error of a method of ``peer``, unless it is an OSError.
        """
        service = self._service
        return await _Responder(service, service.runtime, _Wire(peer)).answer(request)

    def begin_close(self, *, grace_seconds: float | None = None) -> None:
        """Begin to shut down as :meth:`close` does, and return at once; for a signal handler.

        A second call ends the grace period.
        """
        check_grace_period(grace_seconds, is_optional=True)
        self._service.backend.soon(self._service.end, grace_seconds)

    async def close(self, *, grace_seconds: float | None = None) -> None:
        """End the runs, and wait until everything has ended.

        Responses and runs may go on for the grace period; then each run is ended with a well-formed
        terminal event, which its readers receive. The server accepts nothing more meanwhile.

        :param grace_seconds: the grace period; None for that of :func:`open_host`.
        """
        check_grace_period(grace_seconds, is_optional=True)
        await self._service.finish(grace_seconds)


@asynccontextmanager
async def open_host(runtime: CopilotRuntime, *, grace_seconds: float = 10.0) -> AsyncIterator[Host]:
    """Open a host on the event loop that runs now, and close it in the end.

    The store is opened and ``on_start`` is called before that. After the last run ``on_close`` is
    called and the store is closed.

    :param runtime: the runtime that is served. If other machines can reach it, pass
        ``runtime.where_exposed()``.
    :param grace_seconds: how many seconds responses and runs may go on once it closes.
    :raises NotStarted: if the store cannot be opened, or ``on_start`` fails.
    :raises ValueError: if ``grace_seconds`` is not a number from 0 on.
    """
    log_start(logger, "a host", runtime)
    service = LoopService(runtime, running_loop(), grace_seconds)
    await service.open()
    try:
        yield Host(service)
    finally:
        await service.backend.seen_through(partial(service.finish, None), service.hurry)


class _Responder(Responder):
    """Answers one request of a host, which may be closed."""

    async def _open(self, request: Request) -> Response | None:
        """Return the response of a closed host, because a call would open its store again."""
        if self._runtime.needs_start(request):
            return self._runtime.refused(request, refusals.overloaded(SHUTDOWN))
        return None


class _Wire(Wire):
    """The wire of one client, which is not listened to while its response goes on."""

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self._peer = peer

    async def read_body(self, announced: int | None, body: Body) -> bytes:
        body.expect(announced or 0)
        while piece := await self._receive():
            body.add(piece)
        return body.whole()

    async def _receive(self) -> bytes:
        try:
            return await self._peer.receive()
        except Exception as error:
            self.lose(error)
            raise Gone from error

    def begin_to_listen(self) -> bool:
        return False

    async def listen(self) -> None:
        raise NotImplementedError

    def _head_of(self, status: int, fields: Fields) -> tuple[int, Fields]:
        return status, fields

    async def _write(self, head: Any, body: bytes, *, more: bool) -> None:
        if head is not None:
            await self._peer.send_head(*head)
        if body:
            await self._peer.send_body(body)
