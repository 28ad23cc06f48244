"""What a connection asks of the binding that moves its bytes, beside the core's own actions."""

from __future__ import annotations

import enum
from typing import Any, Final, Protocol, TypeAlias

import attrs

from sansio_copilot import CopilotRuntime, Run
from sansio_copilot.actions import Call, StoreCall, WaitForFrames

from ..serving.bodies import Bodies
from ..serving.context import CallContext


class Host(Protocol):
    """What a connection asks of what it is part of: a :class:`._service.Service`, for one."""

    @property
    def runtime(self) -> CopilotRuntime:
        """What is served."""
        ...

    @property
    def bodies(self) -> Bodies:
        """The room for the bodies of its requests."""
        ...

    @property
    def context(self) -> CallContext:
        """What the context of each exchange is a copy of."""
        ...

    @property
    def closing(self) -> bool:
        """Whether each response is to be its connection's last."""
        ...

    def start_run(self, run: Run) -> None:
        """Give ``run`` a home that outlives its request; to be called in the context of that.

        :raises RunRefused: if there is no room for it.
        """
        ...


class Outcome(enum.Enum):
    """What may become of an action instead of what it asked for."""

    GONE = "the client has gone"
    TIMED_OUT = "nothing arrived in time"


GONE: Final = Outcome.GONE
TIMED_OUT: Final = Outcome.TIMED_OUT


@attrs.frozen
class Receive:
    """Feed what arrives, b"" at the end of the client's side. Outcome: None, or TIMED_OUT.

    :param seconds: above 0.
    :param idle: no request has begun: the connection may as well be closed.
    """

    seconds: float
    idle: bool = False


@attrs.frozen
class Send:
    """Send bytes. Outcome: None, once the transport can take more. A client that takes none for
    ``Limits.write_seconds`` is GONE."""

    data: bytes


@attrs.frozen
class Rest:
    """Let other connections have their turn. Outcome: None."""


@attrs.frozen
class CloseWriting:
    """Close this side only, as far as the transport can. Outcome: None."""


@attrs.frozen
class Close:
    """Close the connection. No outcome.

    :param abort: at once, by a reset, so that nobody takes what was sent for complete.
    """

    abort: bool = False


Want: TypeAlias = (
    Receive | Send | Rest | CloseWriting | Close | Call | StoreCall[Any] | WaitForFrames
)
"""Each but a :class:`StoreCall` may be answered with GONE."""
