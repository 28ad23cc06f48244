"""A request of a test, and the response to it on its way.

The application runs in a task of its own and puts its output into the stream, from which the test
takes it. While the test does not read, the application waits, as it does for a slow client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast
from urllib.parse import quote, unquote

from sansio_copilot import Headers, Request, json_codec
from sansio_copilot.sse import Parser, ServerSentEvent
from sansio_copilot.testing import ClientResponse

from ..serving.backend import Backend, Flag

_AHEAD: Final = 64
"""The number of events that the application may be ahead of the test."""
_AS_IT_IS: Final = "!$%&'()*+,/:;=@~"
"""The characters of a path that stay as they are when others are encoded."""


class AsyncStream:
    """A response on its way. Made by :meth:`AsyncClient.stream`.

    It is a context manager, which sends the request and closes the connection; iterating gives the
    events until the stream ends. One task at a time reads it.
    """

    def __init__(
        self,
        serve: Callable[..., Awaitable[None]],
        backend: Backend,
        method: str,
        path: str,
        headers: Headers,
        body: bytes | str,
    ) -> None:
        self.status = 0
        self.headers = Headers()
        self.body = bytearray()
        """All bytes so far."""
        self.ended = False
        """Whether the response is complete, or was broken off."""
        self.on_end: Callable[[AsyncStream], object] = lambda stream: None
        self._serve = serve
        self._backend = backend
        self._request = Request.from_target(method, path, headers)
        self._content = body.encode() if isinstance(body, str) else body
        self._parser = Parser()
        self._events: deque[ServerSentEvent] = deque()
        self._ahead: float = _AHEAD
        self._failure: Exception | None = None
        self._is_received = False
        self._begun = False
        self._gone: Flag = backend.flag()
        self._is_gone = False
        self._changed: Flag = backend.flag()
        self._taken: Flag = backend.flag()
        self._over: Flag = backend.flag()

    async def __aenter__(self) -> AsyncStream:
        """Send the request, and wait for the head of the response."""
        self._begin()
        while not self.status and not self.ended:
            await self._change()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> dict[str, Any]:
        event = await self.next_frame()
        if event is None:
            raise StopAsyncIteration
        return _value(event)

    async def next(self) -> dict[str, Any]:
        """The next event, as soon as there is one.

        :raises EOFError: if the stream has ended.
        :raises BrokenOff: if it has broken off.
        """
        event = await self.next_frame()
        if event is None:
            raise EOFError("the stream has ended")
        return _value(event)

    async def next_frame(self) -> ServerSentEvent | None:
        """The next event with its id; None if the stream has ended.

        :raises BrokenOff: if it has broken off.
        """
        self._begin()
        while not self._events and not self.ended:
            await self._change()
        if self._events:
            self._taken.set()
            return self._events.popleft()
        if self._failure is not None:
            raise self._failure
        return None

    @property
    def last_event_id(self) -> str:
        """The id of the last event that arrived, to reconnect with."""
        return self._parser.last_event_id

    async def finish(self) -> ClientResponse:
        """Read to the end, and close the connection.

        :raises BrokenOff: if the response breaks off.
        """
        self._ahead = float("inf")
        self._begin()
        self._taken.set()
        try:
            while not self.ended:
                await self._change()
        finally:
            await self.close()
        if self._failure is not None:
            raise self._failure
        return ClientResponse(self.status, self.headers, bytes(self.body), self._content)

    async def close(self) -> None:
        """Close the connection, as a client does that goes away; the run goes on."""
        self.on_end(self)
        self._is_gone = self.ended = True
        self._gone.set()
        self._taken.set()
        if self._begun:
            await self._backend.seen_through(self._over.wait)

    def _begin(self) -> None:
        if not self._begun:
            if self._is_gone:
                # The request is not sent any more, because the application may have ended, and
                # would begin anew for it.
                raise RuntimeError("the stream was closed before its request was sent")
            self._begun = True
            self._backend.spawn(self._live, name="a request of the test")

    async def _change(self) -> None:
        self._changed = self._backend.flag()
        await self._changed.wait()

    async def _live(self) -> None:
        request = self._request
        path = quote(request.path, safe=_AS_IT_IS)
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": request.query.encode(),
            "root_path": "",
            "headers": [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in request.headers.raw
            ],
        }
        try:
            await self._serve(scope, self._receive, self._send)
        except Exception as error:
            if not self._is_gone:
                self._failure = error
        finally:
            self.ended = True
            self.on_end(self)
            self._changed.set()
            self._over.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._is_received:
            self._is_received = True
            return {"type": "http.request", "body": self._content, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = Headers(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message["headers"]
            )
        else:
            self.body += message["body"]
            self._events.extend(self._parser.feed(message["body"]))
            self.ended = self.ended or not message["more_body"]
        self._changed.set()
        while len(self._events) >= self._ahead and not self._is_gone:
            self._taken = self._backend.flag()
            await self._taken.wait()


def _value(event: ServerSentEvent) -> dict[str, Any]:
    return cast("dict[str, Any]", json_codec.decode(event.data.encode()))
