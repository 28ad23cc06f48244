"""Serve a runtime with any ASGI server, by itself or mounted in an application.

    app = CopilotASGI(runtime)

It runs under asyncio and trio, whichever the server has. Runs live beside the requests that started
them, and need no lifespan events, which a mounted application does not get.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from sansio_copilot import CopilotRuntime, Run

from ..serving.backend import Backend, Event
from ..serving.service import Service
from ..serving.signals import comes_again
from ..serving.workers import warn_of_workers
from .request import is_behind_cors
from .responder import Responder
from .wire import Receive, Scope, Send

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class CopilotASGI:
    """An ASGI 3 application that serves ``runtime``.

    The runtime's ``base_path`` is the path that clients ask for, also below a mount. What a proxy
    or a mount puts in front of it may be left out, if the server knows it as ``root_path``.

    Where the application that it is mounted in has CORS middleware, as Starlette's and FastAPI's
    show, that alone decides, unless the runtime has a :class:`CorsPolicy` that was made for it.

    :param grace_seconds: how long runs may go on after the server was told to end, unless it
        loses patience earlier. Then each is ended with a well-formed terminal event, which its
        readers receive.
    :param close_on_signals: notice the SIGTERM or SIGINT that ends the server. No server tells its
        applications before all responses have ended, and a stream may last for ever. The server's
        own handler is called as before. Without this, call :meth:`begin_close`.
    """

    def __init__(
        self, runtime: CopilotRuntime, *, grace_seconds: float = 10.0, close_on_signals: bool = True
    ) -> None:
        self._runtime = runtime
        self._behind_cors = runtime.behind_cors()
        self._grace_seconds = grace_seconds
        self._close_on_signals = close_on_signals
        self._asked = False
        """Whether other workers have been looked for."""
        self._services: dict[int, _LoopService] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope, as the server asks for it. A websocket is refused.

        :raises BrokenOff: for the server to break a response off that cannot be completed.
        :raises ValueError: for a scope that is not http, lifespan or websocket.
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

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        runtime = self._behind_cors if is_behind_cors(scope) else self._runtime
        # For each request, because a hook may keep a server from its end before there is any run.
        self._watch()
        await Responder(self._service(), runtime, scope, receive, send).answer()

    def begin_close(self, grace_seconds: float | None = None) -> None:
        """Begin to end the runs and return at once. From any thread, or a signal handler.

        A second call grants no more grace.

        :param grace_seconds: instead of what the application was made with.
        """
        for service in list(self._services.values()):
            service.backend.soon(service.end, grace_seconds)

    async def close(self, grace_seconds: float | None = None) -> None:
        """End the runs of the loop that runs now, and wait for it.

        That is what ``lifespan.shutdown`` does. An application that this one is mounted in keeps
        that to itself, and may call this instead.

        :param grace_seconds: instead of what the application was made with.
        """
        await self._service().finish(grace_seconds)
        # The same loop may begin anew.
        self._services.pop(threading.get_ident(), None)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _service(self) -> _LoopService:
        """The service of the loop that runs now; a thread has one at a time."""
        thread = threading.get_ident()
        loop = _running_loop()
        service = self._services.get(thread)
        if service is None or service.loop is not loop:
            if service is not None and service.is_dropped:
                service.abandon()
            service = _LoopService(self._runtime, loop, self._grace_seconds)
            self._services[thread] = service
        return service

    def _watch(self) -> None:
        """Be told of the signals, whatever handles them by now."""
        main = threading.current_thread() is threading.main_thread()
        # Of a process that does not care for SIGTERM nobody ends the responses.
        if not (self._close_on_signals and main and callable(signal.getsignal(signal.SIGTERM))):
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if isinstance(handler, _Watcher):
                handler.apps.add(self)
            elif callable(handler):
                signal.signal(number, _Watcher(self, handler))


class _Watcher:
    """A signal handler that tells applications, and calls the one whose place it takes."""

    def __init__(
        self, app: CopilotASGI, previous: Callable[[int, FrameType | None], object]
    ) -> None:
        # The handler stays for as long as the process.
        self.apps = weakref.WeakSet({app})
        self._previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if comes_again(number, frame):
            return
        for app in list(self.apps):
            app.begin_close()
        self._previous(number, frame)


class _LoopService(Service):
    """The runs of one event loop, and what ends them; the latter is there once there are runs."""

    def __init__(self, runtime: CopilotRuntime, loop: object, grace_seconds: float) -> None:
        self.loop = loop
        backend, self._start = _library()
        super().__init__(runtime, backend, grace_seconds)
        self._keeper: object = None
        self._kept: Event | None = None

    @property
    def is_dropped(self) -> bool:
        """Whether the loop was closed without a word, as by a test client."""
        return isinstance(self.loop, asyncio.AbstractEventLoop) and self.loop.is_closed()

    def start_run(self, run: Run) -> None:
        self._keep()
        super().start_run(run)

    def end(self, grace_seconds: float | None) -> None:
        """Begin the end; if it has begun, grant no more grace."""
        again, self.closing = self.closing, True
        self._keep()
        self.begin_close(0 if again else grace_seconds)

    async def finish(self, grace_seconds: float | None) -> None:
        """End all runs, and wait for it."""
        self.closing = True
        self._keep()
        await self.close(grace_seconds)

    async def wait_closed(self) -> None:
        assert self._kept is not None
        await self._kept.wait()

    def _keep(self) -> None:
        if self._kept is None:
            self._kept = self.backend.event()
            # A loop does not keep its tasks; and this one is of no request, though one begins it.
            self._keeper = contextvars.Context().run(self._start, self._live, self._kept)

    async def _live(self, kept: Event) -> None:
        try:
            await self.serve_until_closed(lambda: None)
        except GeneratorExit:
            # The loop was dropped, and whoever waits with it.
            raise
        except BaseException:
            kept.set()
            raise
        kept.set()


def _running_loop() -> object:
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_task():
            return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()


def _library() -> tuple[Backend, Callable[..., object]]:
    """The backend for the library that runs now, and how a task is started in it."""
    loop = _running_loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        from ..serving.asyncio_backend import AsyncioBackend
        from ..serving.asyncio_tasks import may_be_dropped

        def create_task(function: Callable[..., Any], *args: Any) -> asyncio.Task[Any]:
            task = loop.create_task(function(*args))
            may_be_dropped(task)
            return task

        return AsyncioBackend(), create_task

    import trio

    from ..serving.trio_backend import TrioBackend

    def start_soon(function: Callable[..., Any], *args: Any) -> None:
        # No nursery outlives a request, unless the server sends lifespan events.
        context = contextvars.copy_context()
        trio.lowlevel.spawn_system_task(function, *args, context=context)

    return TrioBackend(start_soon), start_soon
