"""The failures of a run's store: what the run does when its store does not answer, or refuses.

A store call of a run fails in one of two ways. A store that is *unavailable* passes: a database is
restarted, or a connection is cut. So the run makes the call again, for as long as an
:class:`~sansio_copilot.runs.outage.Outage` may last (:meth:`StoreFailures.pause`). Any other error
is *final*, and so is an outage that has lasted too long. Then a table, :data:`REMEDIES`, says what
the run does, by the call that has failed (:meth:`StoreFailures.remedy`).

**An agent is interrupted for a fault, and not for an outage.** While a call is made again the agent
goes on, and its frames are held. It waits only if too many are held, or if it has ended.

**The log is closed in two tries at most.** The first close that fails for good is followed by one
more attempt, because nothing but a closed log lets the readers go, and the next run of the thread
begin. If that attempt fails too, the log stays open until the run's lease runs out; then the
process that finds the orphan ends it.

**Readers have the agent's own end before all else.** If the close that has failed was to append it,
the second attempt appends it without closing the log, because a store that refuses the result of a
run for its size still takes its frames.

**A call that failed may have had its effect**, because only its answer may be lost. An append says
at which byte it begins, so that the log ignores frames that it has. The outcome of a close, or the
signal of an append behind it, may say that the run has ended already. Then a close of this run has
ended it, if one of them has failed (``may_be_closed``); otherwise another process or run has.

The lengths of the pauses may be changed (:mod:`.outage`), and the table, as long as each way
through it ends at LEAVE_OPEN. Another try after a final error would hold up a shutdown.
"""

from __future__ import annotations

import enum
import math

from msgspec import Struct

from ..errors import StoreUnavailable
from .outage import Outage
from .parameters import RunParameters


class FailedCall(enum.Enum):
    """The store call of a run that has failed."""

    APPEND = "an append or a renewal, before the run's end"
    CLOSE_WITH_END = "a close that appends the agent's terminal event"
    CLOSE = "any other close"


class Remedy(enum.Enum):
    """The remedy of a run after a store call that has failed for good."""

    CLOSE = "it ends with an error, and closes its log"
    APPEND_END = "it appends its end alone, and closes its log after that"
    CLOSE_AGAIN = "it makes the same close again"
    LEAVE_OPEN = "it is over, and its log stays open until its lease runs out"


REMEDIES = {
    FailedCall.APPEND: (Remedy.CLOSE, Remedy.CLOSE),
    FailedCall.CLOSE_WITH_END: (Remedy.APPEND_END, Remedy.LEAVE_OPEN),
    FailedCall.CLOSE: (Remedy.CLOSE_AGAIN, Remedy.LEAVE_OPEN),
}
"""The remedies for each call: the first one, and the one after a close that failed for good."""


class StoreFailures(Struct, eq=False):
    """The failures of one run's store.

    :ivar call: the last call that has failed; None if none has.
    :ivar outage: the outage that goes on; None while the store answers.
    :ivar last_moment: the time at which the last outage ends at the latest, because the server
        ends; seconds since the epoch.
    :ivar may_be_closed: whether a close has failed, which may have had its effect.
    """

    call: FailedCall | None = None
    outage: Outage | None = None
    last_moment: float = math.inf
    may_be_closed: bool = False
    _is_last_try: bool = False

    def pause(
        self, call: FailedCall, error: BaseException, now: float, run: RunParameters
    ) -> float | None:
        """The pause before ``call``, which raised ``error``, is made again.

        :param now: seconds since the epoch.
        :param run: has the bounds of an outage, and the log line of its beginning.
        :returns: seconds; None if the call has failed for good.
        """
        self.call = call
        self.may_be_closed |= call is not FailedCall.APPEND
        if not isinstance(error, StoreUnavailable):
            return None
        if self.outage is None:
            self.outage = Outage.begun(error, now, run.limits)
            run.course.waits_for_store(error)
        return self.outage.next_pause(now, self.last_moment)

    def remedy(self, call: FailedCall) -> Remedy:
        """Return what the run does, now that ``call`` has failed for good."""
        remedy = REMEDIES[call][self._is_last_try]
        self._is_last_try |= call is not FailedCall.APPEND
        return remedy
