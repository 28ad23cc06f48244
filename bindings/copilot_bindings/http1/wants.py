"""The requests of a connection to the binding that moves its bytes, beside the core's actions."""

from __future__ import annotations

import enum
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from sansio_copilot import CopilotRuntime, Run
from sansio_copilot.actions import WaitForFrames

from ..serving.backend import Backend
from ..serving.body_limits import Bodies
from ..serving.calls import Calls
from ..serving.context import CallContext
from ..serving.pending_call import Pending


class ConnectionService(Protocol):
    """The part of a server that a connection needs.

    A :class:`~copilot_bindings.serving.service.Service` is one.
    """

    @property
    def runtime(self) -> CopilotRuntime:
        """The runtime that is served."""
        ...

    @property
    def calls(self) -> Calls:
        """The object that makes the calls of what the application brought."""
        ...

    def live_backend(self) -> Backend:
        """The backend on which async functions are to be awaited.

        :raises RunRefused: if its loop has ended.
        """
        ...

    @property
    def bodies(self) -> Bodies:
        """The room for the bodies of requests."""
        ...

    @property
    def context(self) -> CallContext:
        """The context that each exchange gets a copy of."""
        ...

    @property
    def closing(self) -> bool:
        """Whether each response is to be its connection's last."""
        ...

    def start_run(self, run: Run) -> bool:
        """Give ``run`` a home that outlives its request.

        To be called in the context of the exchange, because the agent gets a copy of that.

        :returns: whether the agent has had its first turn.
        :raises RunRefused: if there is no room for the run.
        """
        ...


class NotDone(enum.Enum):
    """The outcome of a want that could not be done."""

    GONE = "the client has gone"
    TIMED_OUT = "nothing arrived in time"


GONE: Final = NotDone.GONE
TIMED_OUT: Final = NotDone.TIMED_OUT


class Receive(Struct, frozen=True):
    """Wait for bytes and feed them; b"" if the client has closed its side.

    The outcome is None, or TIMED_OUT.

    :param seconds: how long to wait at most; above 0.
    :param idle: whether no request has begun, so that a server that ends may close the connection.
    :param first: whether the connection waits for its first request, which a server that ends
        still waits for a moment.
    """

    seconds: float
    idle: bool = False
    first: bool = False


class Send(Struct, frozen=True):
    """Send the output, and nothing else.

    The outcome is None, once the transport can take more; or GONE, if the client takes no byte for
    ``Limits.write_seconds``.
    """


class Rest(Struct, frozen=True):
    """Let other connections, and runs, have their turn. The outcome is True."""


class CloseWriting(Struct, frozen=True):
    """Close the sending side only, if the transport can. The outcome is None."""


class Close(Struct, frozen=True):
    """Close the connection. This is the last want, and has no outcome.

    :param abort: whether to close at once and by a reset, so that the client does not take an
        incomplete response for complete.
    """

    abort: bool = False


Want: TypeAlias = Receive | Send | Rest | CloseWriting | Close | Pending | WaitForFrames
"""A request of the connection.

A :class:`Pending` is a call that has been begun; the outcome is its own. Each want may have the
outcome GONE, except for a call that is seen through, and except for :class:`Close`.
"""
