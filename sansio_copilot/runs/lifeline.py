"""The life of a run as others are told of it: two lines of the log, and what a report says."""

from __future__ import annotations

import logging

from msgspec import Struct

from ..stores.protocol import RunKey
from .report import Outcome

logger = logging.getLogger(__name__)


class Lifeline(Struct, eq=False):
    """What is told of a run, at INFO and in its report.

    :ivar is_stopped: whether somebody has stopped it.
    :ivar is_sealed: whether another run, or another process, has ended it in the store.
    :ivar error: why it failed, in words for its developer.
    :ivar started_at: seconds since the epoch.
    :ivar first_event_at: when its first event was there; None before.
    :ivar seconds: how long it took, once it has ended.
    :ivar outcome: how it ended, once it has.
    """

    key: RunKey
    agent_id: str
    is_stopped: bool = False
    is_sealed: bool = False
    error: str | None = None
    started_at: float = 0.0
    first_event_at: float | None = None
    seconds: float = 0.0
    outcome: Outcome = "finished"

    def started(self, now: float) -> None:
        """The run starts.

        :param now: seconds since the epoch, here and below.
        """
        self.started_at = now
        logger.info(
            "run started: agent %r, thread %r, run %r",
            *(self.agent_id, self.key.thread_id, self.key.run_id),
        )

    def ended(self, now: float, events: int, *, has_failed: bool, terminal: bool) -> None:
        """The run is over.

        :param events: how many it has sent.
        :param has_failed: whether one of them is a RUN_ERROR.
        :param terminal: whether the last one was terminal, so that it says how the run has ended,
            whoever sealed the run after that.
        """
        self.seconds = max(now - self.started_at, 0.0)
        if self.is_sealed and not terminal:
            self.outcome = "sealed"
        elif self.is_stopped:
            self.outcome = "stopped"
        elif has_failed:
            self.outcome = "failed"
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "run %s: agent %r, thread %r, run %r, %.3f s, %d events",
                *(self.outcome, self.agent_id, self.key.thread_id, self.key.run_id),
                *(self.seconds, events),
            )
