"""A request's ``receive`` and ``send`` of ASGI, buffered (ASGI specification, HTTP)."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from ..serving.backend import Backend
from ..serving.body_limits import Body
from ..serving.response_wire import Fields, Gone, Wire

ASGIScope: TypeAlias = MutableMapping[str, Any]
ASGIMessage: TypeAlias = MutableMapping[str, Any]
ASGIReceive: TypeAlias = Callable[[], Awaitable[ASGIMessage]]
ASGISend: TypeAlias = Callable[[ASGIMessage], Awaitable[None]]

_LISTEN_BYTES = 64 * 1024


class ASGIWire(Wire):
    """The wire of one request under ASGI.

    :param receive: the server's callable for events of the client.
    :param send: the server's callable for events of the response.
    """

    def __init__(self, receive: ASGIReceive, send: ASGISend, backend: Backend) -> None:
        super().__init__()
        self._receive = receive
        self._send = send
        self._backend = backend
        self._listening = False
        self._heard: deque[ASGIMessage] = deque()
        """Pieces of the body that have arrived before they were asked for."""
        self._heard_size = 0
        self._news = backend.flag()
        self._body_is_of_interest = True

    # Receiving

    async def read_body(self, announced: int | None, body: Body) -> bytes:
        body.expect(announced or 0)
        while (message := await self._next_message()) is not None:
            body.add(message.get("body", b""))
            if not message.get("more_body", False):
                self._body_is_of_interest = False
                return body.whole()
            # The message is forgotten, so that no piece is kept twice while the next is waited for.
            del message
        raise Gone

    def begin_to_listen(self) -> bool:
        begun = not (self._listening or self.gone or self._heard_size >= _LISTEN_BYTES)
        self._listening = self._listening or begun
        return begun

    async def listen(self) -> None:
        """Wait until the client has gone, or has sent 64 KiB of a body that was not asked for."""
        try:
            while self._heard_size < _LISTEN_BYTES:
                if (message := await self._hear()) is None:
                    break
                if self._body_is_of_interest:
                    self._heard.append(message)
                    self._heard_size += len(message.get("body", b""))
                    self._news.set()
        finally:
            self._listening = False
            self._news.set()

    async def _next_message(self) -> ASGIMessage | None:
        while self._listening and not self._heard:
            self._news = self._backend.flag()
            await self._news.wait()
        if not self._heard:
            return None if self.gone else await self._hear()
        message = self._heard.popleft()
        self._heard_size -= len(message.get("body", b""))
        return message

    async def _hear(self) -> ASGIMessage | None:
        """The next event of the client; None if it has gone."""
        try:
            message = await self._receive()
        except Exception as error:
            self.lose(error)
            return None
        if message["type"] == "http.disconnect":
            self.gone = self.disconnected = True
            return None
        return message

    # Sending

    def put_head(self, status: int, fields: Fields) -> None:
        self._body_is_of_interest = False
        self._heard.clear()
        self._heard_size = 0
        super().put_head(status, fields)

    def _head_of(self, status: int, fields: Fields) -> ASGIMessage:
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
        return {"type": "http.response.start", "status": status, "headers": headers}

    async def _write(self, head: ASGIMessage | None, body: bytes, *, more: bool) -> None:
        if head is not None:
            await self._send(head)
        # A head alone is sent with an empty body, because a server may keep a head until there is a
        # body.
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
