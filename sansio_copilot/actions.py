"""What the core asks of a binding: a closed set, and all of it.

An :class:`~sansio_copilot.exchange.Exchange` and a :class:`~sansio_copilot.run.Run` return
actions; the binding performs each and reports the outcome, which gives the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

if TYPE_CHECKING:
    from .run import Run
    from .threads import Log


@attrs.frozen
class ReadBody:
    """Read the request's body whole. Outcome: the bytes.

    :param limit: bytes; for a longer body report :class:`~sansio_copilot.errors.BodyTooLarge`,
        without reading it if its length is announced. For one that does not arrive in time report
        :class:`~sansio_copilot.errors.BodyTimeout`; for one that there is no room for
        :class:`~sansio_copilot.errors.BodyRefused`, which the client is told with 503. The exchange
        has no more need of the body when it asks for the response's head to be sent.
    """

    limit: int


@attrs.frozen
class Call:
    """Call ``function(*args)``: a hook, a function that picks agents, one that tells capabilities.

    Outcome: what it returns; if that is awaitable, what awaiting it gives. The core never calls
    the application's functions itself, because they may wait.

    :param name: what the application knows it by: "hook on_request", say. For log lines.
    :param part: what kind of part it is, which has a time limit in
        :class:`~sansio_copilot.limits.Limits`.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    name: str = attrs.field(default="", kw_only=True, eq=False)
    part: Literal["hook", "service", "store"] = attrs.field(default="hook", kw_only=True)


@attrs.frozen
class StoreCall(Call):
    """Call a method of the thread store, in a worker thread if ``blocking``. Outcome as above.

    Once begun it is seen through even if the client goes, because a run may have been opened.
    """

    blocking: bool = False
    part: Literal["hook", "service", "store"] = attrs.field(default="store", kw_only=True)


def store_call(store: Log, method: str, *args: Any) -> StoreCall:
    """The action that calls ``store.method(*args)``."""
    return StoreCall(getattr(store, method), args, store.blocking, name=f"store method {method}")


@attrs.frozen
class StartRun:
    """Give ``run`` a home that outlives the request, and drive it there. Outcome: None, at once;
    or :class:`~sansio_copilot.errors.RunRefused`, which the client is told with 503.

    :param run: the run; see :class:`~sansio_copilot.run.Run` for its own actions.
    """

    run: Run


@attrs.frozen
class SendHead:
    """Send the status line and header fields. Outcome: None.

    Without ``content-length`` among them the body's length is not known beforehand: frame it as
    the HTTP version allows (RFC 9112 section 6).
    """

    status: int
    headers: tuple[tuple[str, str], ...]


@attrs.frozen
class SendBytes:
    """Send a piece of the body. Outcome: None, once the transport can take more."""

    data: bytes


@attrs.frozen
class WaitForFrames:
    """Wait until ``store.watch(cursor, notify)`` notifies. Outcome: True; False on time-out.

    :param timeout: seconds.
    """

    store: Log
    cursor: Any
    timeout: float


@attrs.frozen
class Finish:
    """The response is complete. No outcome; the exchange is over."""


@attrs.frozen
class Abandon:
    """Send nothing more, and let nobody take the response for complete: the client has gone, or
    the rest cannot be had. No outcome; the exchange is over."""


Action = (
    ReadBody | Call | StoreCall | StartRun | SendHead | SendBytes | WaitForFrames | Finish | Abandon
)


@attrs.frozen
class PullEvent:
    """Take the next event from the run's agent. Outcome: the event, or the agent's end.

    :param patience: seconds; if the agent has not yielded by then, call
        :meth:`~sansio_copilot.run.Run.settle`. None: wait for ever.
    :param flush: seconds; after that at the latest call :meth:`~sansio_copilot.run.Run.flush`, as
        there are frames that wait for others. None: there are none.
    """

    patience: float | None = None
    flush: float | None = None


PULL: Final = PullEvent()
"""The one that wants nothing else, as nearly all do; a binding tells it by identity."""


@attrs.frozen
class RunOver:
    """The run is in the log to its end. No outcome.

    :param agent: what to do with an agent that has not ended: "cancel" it, or "drain" it, which
        lets it clean up in its own time and ignores what it yields. "done": it has ended.
    """

    agent: Literal["cancel", "drain", "done"]


RunAction = PullEvent | StoreCall | RunOver
