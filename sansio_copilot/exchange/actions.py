"""The actions that an :class:`~sansio_copilot.exchange.machine.Exchange` asks of a binding."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

from msgspec import Struct

from ..calls import Call
from ..runs.machine import Run
from ..stores.calls import StoreCall
from ..stores.protocol import Log


class ReadBody(Struct, frozen=True):
    """Read the request's body whole. Outcome: the bytes.

    :param limit: bytes; for a longer body report :class:`~sansio_copilot.errors.BodyTooLarge`,
        without reading it if its length is announced. For a body that does not arrive in time
        report
        :class:`~sansio_copilot.errors.BodyTimeout`; for a body for which there is no room report
        :class:`~sansio_copilot.errors.BodyRefused`, which the client is told with 503. The exchange
        needs the body no longer when it asks for the response's head to be sent.
    """

    limit: int


class StartRun(Struct, frozen=True):
    """Give ``run`` a home that outlives the request, and drive it there.

    Outcome: None, at once; or :class:`~sansio_copilot.errors.RunRefused`, which the client is told
    with 503.

    :param run: the run; see :class:`~sansio_copilot.runs.machine.Run` for its own actions.
    """

    run: Run


class SendHead(Struct, frozen=True):
    """Send the status line and header fields. Outcome: None.

    If there is no ``content-length`` among them, the body's length is not known beforehand, and the
    binding frames it as the HTTP version allows (RFC 9112 section 6).
    """

    status: int
    headers: tuple[tuple[str, str], ...]


class SendBytes(Struct, frozen=True):
    """Send a piece of the body. Outcome: None, once the transport can take more."""

    data: bytes


class WaitForFrames(Struct, frozen=True):
    """Wait until ``store.watch(cursor, notify)`` notifies. Outcome: True; False on time-out.

    :param timeout: seconds.
    """

    store: Log
    cursor: Any
    timeout: float


class Finish(Struct, frozen=True):
    """The response is complete. There is no outcome, because the exchange is over."""


class Abandon(Struct, frozen=True):
    """Send nothing more, and do not let the response look complete.

    The client has gone, or the rest is gone. There is no outcome, because the exchange is over.
    """


Action = (
    ReadBody
    | Call
    | StoreCall[Any]
    | StartRun
    | SendHead
    | SendBytes
    | WaitForFrames
    | Finish
    | Abandon
)

#: The steps of an exchange: they yield actions, and are sent the outcome of each.
ExchangeSteps: TypeAlias = Generator[Action, Any, None]
#: The steps that send a response; they return whether all of it was sent.
ContentSteps: TypeAlias = Generator[Action, Any, bool]


class ClientGone(BaseException):
    """Thrown into the steps of an exchange when nobody will read the response any more.

    It is not an Exception, so that no handler of errors on the way takes it for one.
    """
