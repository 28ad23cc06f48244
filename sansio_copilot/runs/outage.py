"""The pauses of a run while its store is unavailable, and their end.

A database is restarted, a connection is cut, a write is lost: all of that passes, and the agent has
no part in it. So a run goes on while its store says that it is unavailable. No frame is lost by
that, because frames are held until the store has them, and no frame is doubled, because each append
says where in the log it begins (:meth:`~sansio_copilot.stores.ThreadStore.append`). The pauses
between two tries grow, so that a thousand runs do not keep a database down that is about to come
up.
"""

from __future__ import annotations

import math

import attrs

from ..limits import Limits

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
LAST_SECONDS = 1.0
"""Seconds for which a run that is ended from outside tries, because its server waits for it."""


@attrs.define(eq=False)
class Outage:
    """An outage of a run's store, which begins with the first call that failed.

    :param until: when the run gives up; seconds since the epoch. It moves with a clock that is put
        back.
    """

    until: float
    pause: float = _FIRST_PAUSE
    _asked_at: float = attrs.field(default=-math.inf, init=False)

    @classmethod
    def begun(cls, error: BaseException, now: float, limits: Limits) -> Outage:
        """The outage that begins with ``error``.

        :param now: seconds since the epoch.
        :param limits: say after how many seconds the run gives up, and how many of them a call that
            was given up has taken already.
        """
        taken = limits.store_seconds if isinstance(error, TimeoutError) else 0.0
        return cls(now + limits.outage_seconds - taken)

    def next_pause(self, now: float, last_moment: float = math.inf) -> float | None:
        """Seconds to wait before the next try; None to give up.

        :param now: seconds since the epoch.
        :param last_moment: the time when to give up at the latest.
        """
        # The end moves with a clock that is put back, because no outage becomes longer by that.
        self.until = min(self.until - max(0.0, self._asked_at - now), last_moment)
        self._asked_at = now
        pause = self.pause
        self.pause = min(2 * pause, _LONGEST_PAUSE)
        return pause if now + pause <= self.until else None
