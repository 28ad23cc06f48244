"""The two ends that an ASGI server gives a request: what it receives, and what it sends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from sansio_copilot import BodyTooLarge

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_FLUSH_BYTES = 64 * 1024


class Gone(Exception):
    """Nobody will receive what is being prepared."""


class Wire:
    """Sends together what is ready together, and knows whether the client is still there."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._head: Message | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self.gone = False
        """Whether nothing more is to be sent."""
        self.disconnected = False
        """Whether that is because the client has gone, and not for want of the server."""
        self.failure: Exception | None = None
        """What the server raised."""
        self.may_listen = False
        """Whether all that the server may still say is that the client has gone."""

    # What the client says

    async def read_body(self, announced: int | None, limit: int) -> bytes:
        """The request's body.

        :param announced: its length, if that is known.
        :param limit: in bytes.
        :raises BodyTooLarge: if it is longer, without reading it if it was announced.
        :raises Gone: if the client goes meanwhile.
        """
        if announced is not None and announced > limit:
            raise BodyTooLarge
        body = bytearray()
        while (message := await self._hear()) is not None:
            body += message.get("body", b"")
            if len(body) > limit:
                raise BodyTooLarge
            if not message.get("more_body", False):
                self.may_listen = True
                return bytes(body)
        raise Gone

    async def listen(self) -> None:
        """Wait until the client has gone."""
        while await self._hear() is not None:
            pass

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
        """Have the head sent with what comes next."""
        self.may_listen = True
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
