"""The retention of a store: what it keeps, for how long, and how many threads it has let go."""

from __future__ import annotations

import math

import attrs

from sansio_copilot.limits import count_or_infinity, positive


@attrs.frozen(kw_only=True)
class Retention:
    """The bounds of what a store keeps. Without any it keeps everything.

    Threads that were not updated for the longest time go first, and a thread with a live run never
    does.

    :param max_age: seconds after its last update for which a thread is kept.
    :param max_threads: threads that are kept.
    :param max_runs_per_thread: ended runs that are kept of each thread.
    :param max_bytes: bytes that the store may take.
    :param resumable_runs: the number of ended runs of a thread whose raw frames are kept beside the
        compacted ones, so that a reader that was cut off resumes exactly. A reader of an older run
        is sent the thread's whole history instead.
    :param resume_seconds: seconds for which the raw frames of other runs are kept after their end,
        for those who are reading them.
    :raises ValueError: for a value that is no bound.
    """

    max_age: float = attrs.field(default=math.inf, validator=positive)
    max_threads: float = attrs.field(default=math.inf, validator=positive)
    max_runs_per_thread: float = attrs.field(default=math.inf, validator=positive)
    max_bytes: float = attrs.field(default=math.inf, validator=positive)
    resumable_runs: float = attrs.field(default=4, validator=count_or_infinity)
    resume_seconds: float = attrs.field(default=60.0, validator=positive)

    @property
    def resumable(self) -> int:
        """``resumable_runs`` for a server that has no infinity; -1 stands for all."""
        return -1 if self.resumable_runs == math.inf else int(self.resumable_runs)

    @property
    def most_runs(self) -> int:
        """``max_runs_per_thread`` for a server that has no infinity; 0 stands for no bound."""
        return 0 if self.max_runs_per_thread == math.inf else int(self.max_runs_per_thread)

    @property
    def drops_threads(self) -> bool:
        """Whether the retention may ever drop a thread."""
        return min(self.max_age, self.max_threads, self.max_bytes) < math.inf


class Evictions:
    """The count of threads that a store has let go, in this process, to stay within its bounds."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, count: int) -> None:
        """Add ``count`` threads. To be called by one operating system thread at a time."""
        self.count += count
