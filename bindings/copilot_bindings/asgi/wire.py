"""A request's ``receive`` and ``send`` of ASGI, buffered (ASGI specification, HTTP)."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from ..serving.backend import Backend
from ..serving.bodies import Body

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_FLUSH_BYTES = 64 * 1024
_LISTEN_BYTES = 64 * 1024


class Gone(Exception):
    """The client has gone, or the server takes no more: nothing that is sent will arrive."""


class Wire:
    """Sends together what is ready together, and knows whether the client is still there.

    :param receive: the server's callable for events of the client.
    :param send: the server's callable for events of the response.
    """

    def __init__(self, receive: Receive, send: Send, backend: Backend) -> None:
        self._receive = receive
        self._send = send
        self._backend = backend
        self._listening = False
        self._heard: deque[Message] = deque()
        """Pieces of the body that have arrived before they were asked for."""
        self._heard_size = 0
        self._news = backend.event()
        self._head: Message | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self.gone = False
        """Whether nothing more is sent."""
        self.disconnected = False
        """Whether the client has gone; False if :attr:`gone` has another cause."""
        self.has_head = False
        """Whether a head was handed to the server, even if that failed."""
        self.failure: Exception | None = None
        """The error that the server raised, if that was not the client's going."""
        self._body_is_of_interest = True

    # Receiving

    async def read_body(self, announced: int | None, body: Body) -> bytes:
        """Read the request's body.

        :param announced: its length in bytes; None if that is unknown.
        :param body: collects the pieces.
        :raises BodyTooLarge: if the body is longer than allowed; before any of it is read, if its
            length was announced.
        :raises BodyRefused: if there is no room for the body now.
        :raises Gone: if the client goes before the body is complete.
        """
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
        """Whether :meth:`listen` is to be called now; False if that is done, or would do
        nothing."""
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

    async def _next_message(self) -> Message | None:
        while self._listening and not self._heard:
            self._news = self._backend.event()
            await self._news.wait()
        if not self._heard:
            return None if self.gone else await self._hear()
        message = self._heard.popleft()
        self._heard_size -= len(message.get("body", b""))
        return message

    async def _hear(self) -> Message | None:
        """The next event of the client; None if it has gone."""
        try:
            message = await self._receive()
        except Exception as error:
            self._lose(error)
            return None
        if message["type"] == "http.disconnect":
            self.gone = self.disconnected = True
            return None
        return message

    def _lose(self, error: Exception) -> None:
        self.gone = True
        if isinstance(error, OSError):
            self.disconnected = True
        else:
            self.failure = error

    # Sending

    def put_head(self, status: int, fields: tuple[tuple[str, str], ...]) -> None:
        """Keep the head, which is sent with the next piece; drop pieces that were not sent yet.

        :param status: the status code.
        :param fields: names in lower case, and values.
        """
        self._out.clear()
        self._out_size = 0
        self._body_is_of_interest = False
        self._heard.clear()
        self._heard_size = 0
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    async def put(self, data: bytes) -> None:
        """Keep ``data`` for the next flush; flush now if 64 KiB are waiting.

        :raises Gone: if that flush fails.
        """
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size >= _FLUSH_BYTES:
            await self.flush()

    async def flush(self, *, more: bool = True) -> None:
        """Send everything that waits to be sent.

        :param more: whether the response has more content after this.
        :raises Gone: if the server does not take it, because the client has gone or the server
            failed.
        """
        messages = [] if self._head is None else [self._head]
        self.has_head = self.has_head or self._head is not None
        if self._head is not None or self._out or not more:
            # A head alone is sent with an empty body, because a server may keep a head until there
            # is a body.
            body = b"".join(self._out)
            messages.append({"type": "http.response.body", "body": body, "more_body": more})
        self._head, self._out_size = None, 0
        self._out.clear()
        try:
            for message in messages:
                await self._send(message)
        except Exception as error:
            self._lose(error)
            raise Gone from error
