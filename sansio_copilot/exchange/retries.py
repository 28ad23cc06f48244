"""Requests while the store is unavailable: they wait, within a bound, and ask again.

A database is restarted, a file is locked, a call takes too long: all of that passes, as a rule
within a second or two. So a request whose store call fails with
:class:`~sansio_copilot.StoreUnavailable` makes the same call again after a pause, and the pauses
grow. Before its response has begun it gives up after ``Limits.unavailable_seconds``, and is
answered 503; a stream goes on for ``Limits.outage_seconds``, as the run does that it follows.

The first of such calls may have had its effect, and only its answer may have been lost. Most calls
are answered the same when they are made again. A deletion is not, nor is a stop: they hear that
there is nothing to delete or to stop. What they have been asked for is done then, be it by them or
by itself, so that they are answered as the first would have been.

An exchange has no clock. What it waits is the sum of its pauses, and the time limit of each call
that was given up.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from ..errors import StoreAnswerLost, StoreUnavailable
from ..limits import Limits
from ..runs.outage import Outage
from ..stores.calls import StoreCall
from ..stores.protocol import Batch, Cancel, Log, Notify, nothing_to_cancel
from .actions import Action, WaitForFrames


class _Silence:
    """A log that says nothing, to wait for."""

    blocking = False

    def read(self, cursor: Any, max_bytes: int) -> Batch:
        return Batch(b"", cursor, False)

    def watch(self, cursor: Any, notify: Notify) -> Cancel:
        return nothing_to_cancel


SILENCE: Final[Log] = _Silence()


class Patience:
    """The time that one request waits for a store that is unavailable.

    :param seconds: the time after which the request gives up, in seconds.
    :param limits: the limits, which give the time after which a call is given up.
    """

    __slots__ = ("_call_seconds", "_outage", "_spoke", "_waited")

    def __init__(self, seconds: float, limits: Limits) -> None:
        self._outage = Outage(seconds)
        self._call_seconds = limits.store_seconds
        self._waited = 0.0
        self._spoke = 0.0

    def is_silent_for(self, seconds: float) -> bool:
        """Whether a stream has waited for so long since this was last true."""
        if self._waited < self._spoke + seconds:
            return False
        self._spoke = self._waited
        return True

    def wait(self, error: StoreUnavailable) -> Generator[Action, Any, None]:
        """Wait before the call is made again that has raised ``error``.

        :raises StoreUnavailable: ``error``, when the patience is at its end.
        """
        if isinstance(error, TimeoutError):
            self._waited += self._call_seconds
        pause = self._outage.next_pause(self._waited)
        if pause is None:
            raise error
        self._waited += pause
        yield WaitForFrames(SILENCE, None, pause)


def ask_again(
    call: StoreCall[Any], error: StoreUnavailable, patience: Patience
) -> Generator[Action, Any, Any]:
    """Wait, and make a call again that has raised ``error``, until it is answered.

    :returns: its outcome, as the first call would have had it.
    :raises StoreUnavailable: what the last call has raised, when the patience is at its end.
    """
    perhaps_done = False
    while True:
        perhaps_done = perhaps_done or isinstance(error, StoreAnswerLost)
        yield from patience.wait(error)
        try:
            outcome = yield call
        except StoreUnavailable as other:
            error = other
        else:
            is_done = outcome is False and perhaps_done and call.method.is_over_when_false
            return True if is_done else outcome
