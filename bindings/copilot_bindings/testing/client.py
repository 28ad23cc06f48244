"""A client in a test, and the application that it talks to, on the event loop of the test.

The client is the server of an ASGI application: it calls
:class:`~copilot_bindings.asgi.CopilotASGI` with its own ``receive`` and ``send``. So the homes of
runs, the time limits of calls and the order of a shutdown are the same as in production, and only
the sockets are missing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sansio_copilot import CopilotRuntime, Headers
from sansio_copilot.http.messages import HeaderItems
from sansio_copilot.testing import ClientResponse
from sansio_copilot.testing.requests import endpoint, json_body

from ..asgi import CopilotASGI
from ..serving.async_library import running_library
from ..serving.backend import Backend, Flag, Task
from .stream import AsyncStream


class AsyncClient:
    """A client of ``runtime`` in the place of a server, under asyncio or trio.

    It is a context manager: the store is opened when it is entered. When it is left, its streams
    are closed, runs are ended and their agents cancelled, and the store is closed.

    :param runtime: the runtime to test. Paths are absolute: "/api/copilotkit/info".
    """

    def __init__(self, runtime: CopilotRuntime) -> None:
        self.runtime = runtime
        self._streams: set[AsyncStream] = set()
        self._app: _Application | None = None

    async def __aenter__(self) -> AsyncClient:
        """Open the store, and call what the application has for the start.

        :raises RuntimeError: if that fails, or the client has been entered already.
        """
        if self._app is not None:
            raise RuntimeError("the client has been entered already")
        app = _Application(self.runtime)
        self._app = app
        try:
            has_started = await app.start()
        except BaseException:
            # The application is given up, because it is not known how far its start has come when
            # the test is cancelled.
            self._app = None
            await app.backend.seen_through(app.give_up)
            raise
        if not has_started:
            self._app = None
            raise RuntimeError("the runtime does not start; the log says why")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End all that the client has begun, also if the test is being cancelled."""
        app, self._app = self._app, None
        assert app is not None
        await app.backend.seen_through(partial(self._end, app))

    async def _end(self, app: _Application) -> None:
        for stream in list(self._streams):
            await stream.close()
        await app.end()

    async def get(self, path: str, *, headers: HeaderItems = ()) -> ClientResponse:
        """GET ``path``."""
        return await self.request("GET", path, headers=headers)

    async def post(
        self, path: str, *, json: Any = None, headers: HeaderItems = ()
    ) -> ClientResponse:
        """POST ``json`` to ``path``; None sends no body.

        :raises TypeError: for a value that JSON has no form for.
        :raises ValueError: for one that contains itself, or is nested too deeply.
        """
        return await self.stream("POST", path, json=json, headers=headers).finish()

    async def request(
        self, method: str, path: str, *, headers: HeaderItems = (), body: bytes | str = b""
    ) -> ClientResponse:
        """Send a request, and wait for the end of the response.

        :param path: a path or a URL, with a query if there is one.
        :raises BrokenOff: if the response breaks off.
        """
        return await self._stream(method, path, Headers(headers), body).finish()

    async def run(
        self, input: Any, agent_id: str = "default", *, headers: HeaderItems = ()
    ) -> ClientResponse:
        """Run an agent, wherever the runtime has it, and wait for the end of the run.

        :param input: as ``sansio_copilot.testing.run_input`` makes it.
        """
        return await self.begin_run(input, agent_id, headers=headers).finish()

    def begin_run(
        self, input: Any, agent_id: str = "default", *, headers: HeaderItems = ()
    ) -> AsyncStream:
        """Run an agent, as :meth:`run` does, to read its response event by event."""
        path, body = endpoint(self.runtime, "run", agent_id, input)
        return self.stream("POST", path, json=body, headers=headers)

    def stream(
        self, method: str, path: str, *, json: Any = None, headers: HeaderItems = ()
    ) -> AsyncStream:
        """A request that is sent when it is entered, to read its response event by event::

        async with client.stream("POST", path, json=run_input()) as run:
            async for event in run:
                ...
        """
        fields, body = json_body(json, headers)
        return self._stream(method, path, fields, body)

    def _stream(self, method: str, path: str, headers: Headers, body: bytes | str) -> AsyncStream:
        app = self._app
        if app is None:
            raise RuntimeError("use the client in its block: async with AsyncClient(...) as client")
        stream = AsyncStream(app.serve, app.backend, method, path, headers, body)
        self._streams.add(stream)
        stream.on_end = self._streams.discard
        return stream


class _Application:
    """The application, and its life (ASGI specification, Lifespan Protocol)."""

    def __init__(self, runtime: CopilotRuntime) -> None:
        self.serve = CopilotASGI(runtime, grace_seconds=0.0, close_on_signals=False)
        self.backend: Backend
        self.backend, _ = running_library()
        self._told: list[str] = []
        self._life: Task
        self._begun: Flag = self.backend.flag()
        self._to_end: Flag = self.backend.flag()
        self._over: Flag = self.backend.flag()

    async def start(self) -> bool:
        """Begin its life, and return whether its store could be opened."""
        self._life = self.backend.spawn(self._live, name="the application under test")
        await self._begun.wait()
        return self._told == ["lifespan.startup.complete"]

    async def give_up(self) -> None:
        """End its life, although it may not have begun."""
        if not self._told:
            self._life.cancel()
        await self.end()

    async def end(self) -> None:
        """End its life, and wait until that is done."""
        self._to_end.set()
        await self._over.wait()

    async def _live(self) -> None:
        events = iter(("lifespan.startup", "lifespan.shutdown"))

        async def receive() -> dict[str, Any]:
            if self._told:
                await self._to_end.wait()
            return {"type": next(events)}

        async def send(message: Any) -> None:
            self._told.append(message["type"])
            self._begun.set()

        try:
            await self.serve({"type": "lifespan"}, receive, send)
        finally:
            self._begun.set()
            self._over.set()
