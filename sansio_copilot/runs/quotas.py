"""The quotas of each user: of live runs, of runs in a minute, and of stored bytes.

Each process counts runs by itself and asks no other, so that the number of processes adds no cost
to a run; each of several processes over one store allows a user the whole quota. Stored bytes are
counted by the store, for all processes together, and asked for once in a while.

There is no lock, because the core has none, though exchanges may go on in several operating system
threads. The order makes that right: a run is counted first, and only then compared with the quota.
So two runs that come at the same moment may both be refused, but never share one slot.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from contextlib import suppress
from typing import Final

from ..limits import Limits

_MINUTE: Final = 60.0
STORED_SECONDS: Final = 10.0
"""The seconds after which the store is asked again for a user's bytes. Until then the bytes that
runs add are counted here."""


class QuotaExceeded(Exception):
    """A user has used up a quota.

    :param message: the quota, in words for the user.
    :param seconds: the time after which another try may succeed.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = max(math.ceil(seconds), 1)


class Usage:
    """The use that one user makes of the quotas.

    :ivar starts: the times of the runs of the last minute.
    :ivar stored: bytes, as the store has said at ``asked_at``, and what has been added since.
    """

    __slots__ = ("asked_at", "live", "starts", "stored")

    def __init__(self) -> None:
        self.live: set[QuotaSlot] = set()
        self.starts: deque[float] = deque()
        self.stored = 0
        self.asked_at = -math.inf

    def is_forgettable(self, now: float) -> bool:
        self.expire(now)
        return not (self.live or self.starts or now - self.asked_at < STORED_SECONDS)

    def expire(self, now: float) -> None:
        """Forget the runs before the last minute, and those in the future, which a clock that was
        put back has left."""
        # Another operating system thread may have taken the last entry in between.
        with suppress(IndexError):
            while abs(now - self.starts[0]) >= _MINUTE:
                self.starts.popleft()


class QuotaSlot:
    """The slot of one run in its user's quota of live runs. It has to be left once.

    As a context manager it is left at the end of the block, unless it was handed to a run.
    """

    __slots__ = ("_started_at", "_usage", "is_kept")

    def __init__(self, usage: Usage, started_at: float) -> None:
        self._usage = usage
        self._started_at = started_at
        self.is_kept = False

    def __enter__(self) -> QuotaSlot:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self.is_kept:
            self.leave(None)

    def leave(self, size: int | None) -> None:
        """Leave the slot, because the run is over.

        :param size: the bytes of the run's frames; None if the run has not begun, so that it does
            not count.
        """
        usage = self._usage
        usage.live.discard(self)
        if size is not None:
            usage.stored += size
        else:
            # Another entry of the same moment may go in its place, because the two are alike.
            with suppress(ValueError):
                usage.starts.remove(self._started_at)


class Quotas:
    """The quotas of the users of one process, and how much of them is used.

    :param limits: the limits; those of a user are the quotas.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.users: OrderedDict[str, Usage] = OrderedDict()

    @classmethod
    def of(cls, limits: Limits) -> Quotas | None:
        """The quotas that ``limits`` ask for; None if there are none."""
        asked = (limits.user_runs, limits.user_runs_per_minute, limits.user_bytes)
        return None if min(asked) == math.inf else cls(limits)

    def enter(self, user_id: str, now: float) -> QuotaSlot:
        """Return a slot for a run that is about to begin.

        :param now: seconds since the epoch.
        :raises QuotaExceeded: if no slot is left.
        """
        usage, limits = self._usage(user_id, now), self._limits
        usage.expire(now)
        slot = QuotaSlot(usage, now)
        usage.live.add(slot)
        if limits.user_runs_per_minute < math.inf:
            usage.starts.append(now)
        if len(usage.live) > limits.user_runs:
            slot.leave(None)
            raise QuotaExceeded(f"{limits.user_runs:g} runs of yours are live: let one end", 1)
        if len(usage.starts) > limits.user_runs_per_minute:
            slot.leave(None)
            wait = usage.starts[0] + _MINUTE - now if usage.starts else 0.0
            most = f"{limits.user_runs_per_minute:g}"
            raise QuotaExceeded(f"You have begun {most} runs within a minute", wait)
        return slot

    def has_to_ask(self, owner: str, now: float) -> bool:
        """Whether the store has to be asked how much it keeps of a user's threads."""
        if self._limits.user_bytes == math.inf:
            return False
        return not 0 <= now - self._usage(owner, now).asked_at < STORED_SECONDS

    def told(self, owner: str, stored: int, now: float) -> None:
        """Note how many bytes the store keeps of a user's threads, as it has said."""
        usage = self._usage(owner, now)
        usage.stored, usage.asked_at = stored, now

    def check_stored(self, owner: str, now: float) -> None:
        """Check that the user may store more.

        :raises QuotaExceeded: if the user may not.
        """
        usage = self._usage(owner, now)
        if usage.stored >= self._limits.user_bytes:
            wait = usage.asked_at + STORED_SECONDS - now
            raise QuotaExceeded("Your threads take all the room that there is: delete some", wait)

    def _usage(self, user_id: str, now: float) -> Usage:
        users = self.users
        usage = users.setdefault(user_id, Usage())
        # Two threads may do this at once; the later one finds nothing left to be done.
        with suppress(KeyError, RuntimeError):
            users.move_to_end(user_id)
            # A user who has done nothing for a minute is forgotten. Two users are looked at for
            # each that comes, so that users are forgotten faster than new ones come.
            for _ in range(2):
                oldest = next(iter(users))
                if oldest == user_id:
                    break
                if users[oldest].is_forgettable(now):
                    del users[oldest]
                else:
                    users.move_to_end(oldest)
                    users.move_to_end(user_id)
        return usage
