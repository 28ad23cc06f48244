"""The deadlines for what a client sends: a request that arrives too slowly is answered 408.

A connection waits for bytes of its client for one of five reasons, and for each until a
:class:`Deadline` of its own. A table, :data:`LATE`, says what follows if the deadline is missed.

A deadline counts the whole of what is awaited and is not moved by the bytes that arrive. So a
client that sends a byte now and then does not hold a connection any longer than one that is silent.

The refusal (RFC 9110 section 15.5.9) depends on how far the request has come. If the head is late
there is no exchange, so that the connection refuses the request itself. If the body is late the
exchange refuses it, so that the response passes the hooks and gets CORS headers. If there is no
request, or it has been answered, the connection is only closed.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from sansio_copilot import BodyTimeout
from sansio_copilot.http import refusals

from .request_head import RequestRefusal
from .request_parser import RequestParser
from .wants import TIMED_OUT, Receive

logger = logging.getLogger(__name__)


class Awaited(enum.IntEnum):
    """The parts of a request that a connection may wait for."""

    NEXT_REQUEST = 0
    """The first byte of a request, for ``Limits.idle_seconds`` from the end of the one before."""
    HEAD = 1
    """The head of a request, for ``Limits.header_seconds`` from its first byte."""
    BODY = 2
    """The body that an exchange has asked for, for ``Limits.body_seconds`` from then on."""
    UNREAD_BODY = 3
    """The body that an exchange did not ask for, for ``Limits.body_seconds`` behind its answer."""
    GOODBYE = 4
    """The client's end of a connection that this side has closed."""


LATE: Final[dict[Awaited, Callable[[], Exception] | None]] = {
    Awaited.NEXT_REQUEST: None,
    Awaited.HEAD: lambda: RequestRefusal(refusals.TOO_SLOW),
    Awaited.BODY: BodyTimeout,
    Awaited.UNREAD_BODY: None,
    Awaited.GOODBYE: None,
}
"""The error of a client that has missed a deadline; None if the connection is closed without one.
"""


class Deadline(Struct, frozen=True):
    """The time until which a part of what a client sends has to arrive.

    :param awaited: the part.
    :param until: the time, by ``time.monotonic()``.
    """

    awaited: Awaited
    until: float

    def receive(
        self, parser: RequestParser, outcome: Any = None, *, first: bool = False
    ) -> Receive | None:
        """The want of more bytes.

        :param outcome: the outcome of the want before, if there was one.
        :param first: whether the connection waits for its first request.
        :returns: None if the deadline is missed and the connection is to be closed.
        :raises RequestRefusal: if a head is late.
        :raises BodyTimeout: if a body is late.
        """
        seconds = self.until - time.monotonic()
        if outcome is not TIMED_OUT and seconds > 0:
            parser.has_news = False
            return Receive(seconds, self.awaited is Awaited.NEXT_REQUEST, first)
        logger.debug("what was awaited of a client has not arrived in time: %s", self.awaited.name)
        if (late := LATE[self.awaited]) is not None:
            raise late()
        return None
