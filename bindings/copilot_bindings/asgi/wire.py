"""The two ends that an ASGI server gives a request: what it receives, and what it sends."""

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
    """Nobody will receive what is being prepared."""


class Wire:
    """Sends together what is ready together, and knows whether the client is still there."""

    def __init__(self, receive: Receive, send: Send, backend: Backend) -> None:
        self._receive = receive
        self._send = send
        self._backend = backend
        self._listening = False
        self._heard: deque[Message] = deque()
        """Of the body, what came before it was asked for."""
        self._heard_size = 0
        self._news = backend.event()
        self._head: Message | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self.gone = False
        """Whether nothing more is to be sent."""
        self.disconnected = False
        """Whether that is because the client has gone, and not for want of the server."""
        self.has_head = False
        """Whether the server was given a head, be it in vain."""
        self.failure: Exception | None = None
        """What the server raised."""
        self._body_is_of_interest = True

    # What the client says

    async def read_body(self, announced: int | None, body: Body) -> bytes:
        """The request's body.

        :param announced: its length, if that is known.
        :param body: what becomes of it.
        :raises BodyTooLarge: if it is longer, without reading it if it was announced.
        :raises BodyRefused: if there is no room for it.
        :raises Gone: if the client goes meanwhile.
        """
        body.expect(announced or 0)
        while (message := await self._next_message()) is not None:
            body.add(message.get("body", b""))
            if not message.get("more_body", False):
                self._body_is_of_interest = False
                return body.whole()
            # Nothing is kept twice while more is waited for.
            del message
        raise Gone

    def begin_to_listen(self) -> bool:
        """Whether :meth:`listen` is to be called now, because it may learn something."""
        begun = not (self._listening or self.gone or self._heard_size >= _LISTEN_BYTES)
        self._listening = self._listening or begun
        return begun

    async def listen(self) -> None:
        """Wait until the client has gone, or sends more of its body than is worth keeping."""
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
        """What the client says next; None if it has gone."""
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

    # What it is sent

    def put_head(self, status: int, fields: tuple[tuple[str, str], ...]) -> None:
        """Have the head sent with what comes next, and nothing of what has not been sent yet."""
        self._out.clear()
        self._out_size = 0
        self._body_is_of_interest = False
        self._heard.clear()
        self._heard_size = 0
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    async def put(self, data: bytes) -> None:
        """Have ``data`` sent, at once if it is much by now."""
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size >= _FLUSH_BYTES:
            await self.flush()

    async def flush(self, *, more: bool = True) -> None:
        """Send what is ready.

        :param more: whether more follows.
        :raises Gone: if nobody takes it.
        """
        messages = [] if self._head is None else [self._head]
        self.has_head = self.has_head or self._head is not None
        if self._head is not None or self._out or not more:
            # With a head alone a body too, because a server may keep the head for it.
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
