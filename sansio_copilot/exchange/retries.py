"""Requests while the store is unavailable: they wait, within a bound, and ask again.

A database is restarted, a file is locked, a call takes too long: all of that passes, as a rule
within a second or two. So a request whose store call fails with
:class:`~sansio_copilot.StoreUnavailable` makes the same call again after a pause, and the pauses
grow. Before its response has begun it gives up after ``Limits.unavailable_seconds``, and is
answered 503; a stream goes on for ``Limits.outage_seconds``, as the run does that it follows.

A call that failed may have had its effect, because only its answer may have been lost. Most calls
get the same answer when they are made again. A deletion and a stop do not: they may find nothing
left to delete or to stop. Then the thread is deleted or the run has ended, which is what they were
to do, so that the answer is that of a first call.

An exchange has no clock. So the time that it has waited is the sum of its pauses, and of the time
limits of calls that were given up.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any, Final

from ..errors import StoreAnswerLost, StoreUnavailable, text_of
from ..limits import Limits
from ..runs.outage import Outage
from ..stores.calls import StoreCall
from ..stores.protocol import Batch, Cancel, Log, Notify, nothing_to_cancel
from .actions import Action, WaitForFrames

logger = logging.getLogger(__name__)


class _Silence:
    """A log without frames; a wait for it is a pause."""

    blocking = False

    def read(self, cursor: Any, max_bytes: int) -> Batch:
        return Batch(b"", cursor, False)

    def watch(self, cursor: Any, notify: Notify) -> Cancel:
        return nothing_to_cancel


SILENCE: Final[Log] = _Silence()


class Retries:
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
        """Whether a stream has waited for ``seconds`` since this method last returned True."""
        if self._waited < self._spoke + seconds:
            return False
        self._spoke = self._waited
        return True

    def wait(self, error: StoreUnavailable) -> Generator[Action, Any, None]:
        """Wait before the call that has raised ``error`` is made again.

        :raises StoreUnavailable: ``error``, when its time is over.
        """
        if isinstance(error, TimeoutError):
            self._waited += self._call_seconds
        pause = self._outage.next_pause(self._waited)
        if pause is None:
            raise error
        self._waited += pause
        logger.debug("a request waits %.2f s for the thread store: %s", pause, text_of(error))
        yield WaitForFrames(SILENCE, None, pause)


def ask_again(
    call: StoreCall[Any], error: StoreUnavailable, retries: Retries
) -> Generator[Action, Any, Any]:
    """Wait, and make a call again that has raised ``error``, until it is answered.

    :returns: its outcome, as the first call would have had it.
    :raises StoreUnavailable: the error of the last call, when the time is over.
    """
    perhaps_done = False
    while True:
        perhaps_done = perhaps_done or isinstance(error, StoreAnswerLost)
        yield from retries.wait(error)
        try:
            outcome = yield call
        except StoreUnavailable as other:
            error = other
        else:
            is_done = outcome is False and perhaps_done and call.method.is_over_when_false
            return True if is_done else outcome
