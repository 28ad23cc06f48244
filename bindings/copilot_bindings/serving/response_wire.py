"""The wire of one response: it sends pieces together, and knows whether the client is there.

A :class:`Wire` stands between a :class:`~.responder.Responder` and a server that owns the
connection. It keeps the output until the responder has to wait, so that a head and the first events
leave together.
"""

from __future__ import annotations

import abc
from typing import Any, TypeAlias

from .body_limits import Body

Fields: TypeAlias = tuple[tuple[str, str], ...]

FLUSH_BYTES = 64 * 1024
"""The bytes of output that are sent although more would be ready at once."""


class Gone(Exception):
    """The client has gone, or the server takes no more: nothing that is sent will arrive."""


class Wire(abc.ABC):
    """Sends together what is ready together, and knows whether the client is still there."""

    def __init__(self) -> None:
        self._head: Any = None
        self._out: list[bytes] = []
        self._out_size = 0
        self.gone = False
        """Whether nothing more is sent."""
        self.disconnected = False
        """Whether the client has gone; False if :attr:`gone` has another cause."""
        self.has_head = False
        """Whether a head was handed to the server, even if that failed."""
        self.failure: Exception | None = None
        """The error that the server raised, if its cause is not that the client has gone."""

    # -- The calls that each server makes in its own way

    @abc.abstractmethod
    async def read_body(self, announced: int | None, body: Body) -> bytes:
        """Read the request's body.

        :param announced: its length in bytes; None if the length is unknown.
        :param body: collects the pieces.
        :raises BodyTooLarge: if the body is longer than allowed; before any of it is read, if its
            length was announced.
        :raises BodyRefused: if there is no room for the body now.
        :raises Gone: if the client goes before the body is complete.
        """

    @abc.abstractmethod
    def _head_of(self, status: int, fields: Fields) -> Any:
        """The head as the server takes it, which is not None.

        :raises ValueError: if it cannot be sent.
        """

    @abc.abstractmethod
    async def _write(self, head: Any, body: bytes, *, more: bool) -> None:
        """Hand a head, if it is not None, and a piece of the body to the server."""

    @abc.abstractmethod
    def begin_to_listen(self) -> bool:
        """Whether :meth:`listen` is to be called now; False if it was called, or has nothing to
        do."""

    @abc.abstractmethod
    async def listen(self) -> None:
        """Wait until the client has gone, or has sent more than it was asked for."""

    # -- The calls that are the same for all

    def lose(self, error: Exception) -> None:
        """Note that nothing more can be sent or received, because of ``error``."""
        self.gone = True
        if isinstance(error, OSError):
            self.disconnected = True
        else:
            self.failure = error

    def put_head(self, status: int, fields: Fields) -> None:
        """Keep the head, which is sent with the next piece; drop pieces that were not sent yet.

        :param status: the status code.
        :param fields: names in lower case, and values.
        """
        self._out.clear()
        self._out_size = 0
        self._head = self._head_of(status, fields)

    async def put(self, data: bytes) -> None:
        """Keep ``data`` for the next flush; flush now if 64 KiB are waiting.

        :raises Gone: if that flush fails.
        """
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size >= FLUSH_BYTES:
            await self.flush()

    async def flush(self, *, more: bool = True) -> None:
        """Send everything that waits to be sent.

        :param more: whether the response has more content after this.
        :raises Gone: if the server does not take it, because the client has gone or the server
            failed.
        """
        head, self._head = self._head, None
        self.has_head = self.has_head or head is not None
        if head is None and not self._out and more:
            return
        body = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        try:
            await self._write(head, body, more=more)
        except Exception as error:
            self.lose(error)
            raise Gone from error
