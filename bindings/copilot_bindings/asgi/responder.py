"""The responder under ASGI: what differs from other servers.

:mod:`..serving.responder` tells how a request is answered. Under ASGI a listener learns from
``http.disconnect`` that the client has gone (ASGI specification, Disconnect). Servers cancel a
request whose client has gone, and at their own end they cancel all requests. Only the state of the
service tells the two apart.

An incomplete response must never look complete. So an exception leaves
:meth:`ASGIResponder.answer` (that of the server, or :class:`BrokenOff`), unless the client has gone
and cannot be misled.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable

from sansio_copilot import CopilotRuntime, RemoteProtocolError, Request, Response
from sansio_copilot.exchange.stream import whole_of
from sansio_copilot.http import refusals

from ..serving.responder import Responder
from ..serving.responder_states import INTERRUPTIONS
from ..serving.response_wire import Gone
from ..serving.service import Service
from ..serving.store_life import NotStarted
from . import wire
from .request import request_of
from .wire import ASGIReceive, ASGISend, ASGIWire

logger = logging.getLogger(__name__)


class BrokenOff(Exception):
    """A response could not be completed.

    It is raised so that the server breaks the connection off. Otherwise the client would take the
    incomplete response for complete.
    """


class ASGIResponder(Responder):
    """Answers the request of one scope.

    :param start: opens the store and the application, if that has not been done.
    """

    def __init__(
        self,
        service: Service,
        runtime: CopilotRuntime,
        scope: wire.ASGIScope,
        receive: ASGIReceive,
        send: ASGISend,
        start: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(service, runtime, ASGIWire(receive, send, service.backend))
        self._scope = scope
        self._start = start

    async def answer_scope(self) -> None:
        """Answer the request, as far as its client still waits for the response.

        :raises BrokenOff: if the response has begun and cannot be completed.
        """
        try:
            request = request_of(self._scope, self._runtime.base_path)
        except RemoteProtocolError as error:
            await self._refuse(refusals.not_http(str(error)), self._scope["method"])
            return
        self._is_expecting = "expect" in request.headers
        await self.answer(request)

    async def _open(self, request: Request) -> Response | None:
        if self._runtime.needs_start(request):
            try:
                await self._start()
            except NotStarted as error:
                logger.error("a request is answered 503: %s", error)
                return self._runtime.refused(request, error.refusal)
        return None

    async def _break_off(self) -> None:
        if not self._wire.disconnected:
            # A head that waits leaves first, because in its place the server would send a response
            # of its own, which would look complete.
            with contextlib.suppress(Gone):
                await self._wire.flush()
            raise self._wire.failure or BrokenOff("the response could not be completed")
        if not self._wire.has_head:
            # A response is sent although no client receives it, because middleware takes an
            # application that sends no response for a failed one.
            await self._send_whole(*whole_of(refusals.CLIENT_GONE, self._scope["method"]))

    async def _is_given_up(self) -> bool:
        if not self._service.closing:
            # Other tasks have a turn first, because uvicorn cancels requests just before it says
            # that it ends.
            await self._backend.checkpoint()
        if not self._service.closing:
            return True
        # There is no grace period, because uvicorn does not wait for requests that it has
        # cancelled, and stops its loop two turns later.
        self._service.end_runs()
        self._service.begin_close(0)
        return not INTERRUPTIONS[self._state].is_repeatable
