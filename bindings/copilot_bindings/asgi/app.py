"""Serve a runtime with any ASGI server, by itself or mounted in an application.

    app = CopilotASGI(runtime)

It runs under asyncio and under trio, whichever the server uses. A run lives in a task beside the
request that started it. No lifespan events are needed, because a mounted application gets none.
"""

from __future__ import annotations

import logging
import signal
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Final

from sansio_copilot import CopilotRuntime

from ..serving.async_library import running_loop
from ..serving.grace_period import check_grace_period
from ..serving.loop_service import LoopService
from ..serving.os_signals import comes_again
from ..serving.start_log import log_start
from ..serving.store_life import NotStarted
from ..serving.workers_warning import warn_of_workers
from .cors_in_front import is_behind_cors
from .request import is_exposed
from .responder import ASGIResponder
from .wire import ASGIReceive, ASGIScope, ASGISend

logger = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class CopilotASGI:
    """An ASGI 3 application that serves ``runtime`` (ASGI specification, HTTP connection scope).

    The runtime's ``base_path`` is the path that clients ask for, also below a mount. A prefix that
    a proxy or a mount adds may be left out, if the server passes it as ``root_path``.

    If CORS middleware is in front of this application (that of the application which it is mounted
    in, of a mount or router, or around all of it), that middleware alone decides about CORS, unless
    the runtime was given a :class:`CorsPolicy`.

    :param runtime: the runtime that is served.
    :param grace_seconds: how many seconds runs may go on after the server was told to end, unless
        the server ends earlier. After that each run is ended with a well-formed terminal event,
        which its readers receive.
    :param close_on_signals: whether to notice the SIGTERM or SIGINT that ends the server, because
        servers tell their applications only when all responses have ended, and a stream may last
        for ever. The server's own handler is called as before. If False, the application that
        serves this one has to call :meth:`begin_close`.
    :raises ValueError: if ``grace_seconds`` is not a number from 0 on.
    """

    def __init__(
        self, runtime: CopilotRuntime, *, grace_seconds: float = 10.0, close_on_signals: bool = True
    ) -> None:
        check_grace_period(grace_seconds)
        self._runtime = runtime
        self._variants = {False: (runtime, runtime.behind_cors())}
        """The runtime as it is, and behind another CORS policy, by whether it is exposed."""
        self._grace_seconds = grace_seconds
        self._close_on_signals = close_on_signals
        self._asked = False
        """Whether this process has looked for other workers of the same server."""
        self._watched: tuple[object, ...] = ()
        """The handlers of the signals that this application was found to be behind."""
        self._services: dict[int, LoopService] = {}

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serve one scope: http and lifespan; a websocket is refused.

        :raises BrokenOff: if a response has begun and cannot be completed, so that the server
            breaks the connection off.
        :raises ValueError: if the type of the scope is not http, lifespan or websocket.
        """
        match scope["type"]:
            case "http":
                if not self._asked:
                    self._asked = True
                    host, port = scope.get("server") or ("", None)
                    warn_of_workers(self._runtime.store, host, port)
                await self._answer(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close"})
            case other:
                raise ValueError(f"CopilotASGI serves http, not {other!r}")

    async def _answer(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        runtime = self._runtime_for(scope, send)
        # The signals are watched from the first request on and not from the first run, because a
        # hook that waits may keep a server from its end too.
        self._watch()
        service = self._service()
        responder = ASGIResponder(service, runtime, scope, receive, send, service.open)
        await responder.answer_scope()

    def _runtime_for(self, scope: ASGIScope, send: ASGISend) -> CopilotRuntime:
        exposed = is_exposed(scope)
        if exposed not in self._variants:
            runtime = self._runtime.where_exposed()
            self._variants[exposed] = (runtime, runtime.behind_cors())
        return self._variants[exposed][is_behind_cors(scope, send)]

    @property
    def connections(self) -> int:
        """The number of requests that are being answered, on all loops."""
        return sum(len(service.connections) for service in list(self._services.values()))

    @property
    def runs(self) -> int:
        """The number of live runs, on all loops."""
        return sum(service.runs for service in list(self._services.values()))

    def begin_close(self, *, grace_seconds: float | None = None) -> None:
        """Begin to end the runs of all loops, and return at once.

        May be called from any thread and from a signal handler. A second call ends the grace
        period.

        :param grace_seconds: the grace period; None for the one that the application was made with.
        """
        check_grace_period(grace_seconds, is_optional=True)
        for service in list(self._services.values()):
            service.backend.soon(service.end, grace_seconds)

    async def close(self, *, grace_seconds: float | None = None) -> None:
        """End the runs of the loop that runs now, and wait until they have ended.

        The event ``lifespan.shutdown`` does the same (ASGI specification, Lifespan Protocol). An
        application that this one is mounted in does not pass that event on, and may call this
        method instead.

        :param grace_seconds: the grace period; None for the one that the application was made with.
        """
        check_grace_period(grace_seconds, is_optional=True)
        await self._service().finish(grace_seconds)
        # The service is forgotten, so that the same loop may serve again.
        self._services.pop(threading.get_ident(), None)

    async def _live(self, receive: ASGIReceive, send: ASGISend) -> None:
        await receive()
        try:
            await self._service().open()
        except NotStarted as error:
            logger.error("the application does not start: %s", error)
            await send({"type": "lifespan.startup.failed"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _service(self) -> LoopService:
        """The service of the loop that runs now; each thread runs one loop at a time."""
        thread = threading.get_ident()
        loop = running_loop()
        service = self._services.get(thread)
        if service is None or service.loop is not loop:
            if service is not None and service.is_dropped:
                service.abandon()
            log_start(logger, "CopilotASGI", self._runtime)
            service = LoopService(self._runtime, loop, self._grace_seconds)
            self._services[thread] = service
        return service

    def _watch(self) -> None:
        """Put a handler in front of the present handlers of the signals, unless that is done."""
        if not (self._close_on_signals and threading.current_thread() is threading.main_thread()):
            return
        handlers = tuple(map(signal.getsignal, _SIGNALS))
        # Nothing is done in a process without a handler for SIGTERM, because there the signal kills
        # the process or is ignored.
        if handlers == self._watched or not callable(handlers[0]):
            return
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            if isinstance(handler, _Watcher):
                handler.apps.add(self)
            elif callable(handler):
                signal.signal(number, _Watcher(self, handler))
        self._watched = tuple(map(signal.getsignal, _SIGNALS))


class _Watcher:
    """A signal handler that closes applications, and then calls the handler that it replaced."""

    def __init__(
        self, app: CopilotASGI, previous: Callable[[int, FrameType | None], object]
    ) -> None:
        # The references are weak, because this handler lives as long as the process.
        self.apps = weakref.WeakSet({app})
        self._previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if comes_again(number, frame):
            return
        for app in list(self.apps):
            app.begin_close()
        self._previous(number, frame)
