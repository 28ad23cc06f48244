"""The two lines that the log has of each run: that it started, and how it ended."""

from __future__ import annotations

import logging

import attrs

from ..stores.protocol import RunKey

logger = logging.getLogger(__name__)


@attrs.define
class Lifeline:
    """What is told of a run, at INFO.

    :ivar is_stopped: whether somebody has stopped it.
    :ivar is_sealed: whether another run, or another process, has ended it in the store.
    """

    key: RunKey
    agent_id: str
    is_stopped: bool = False
    is_sealed: bool = False
    _started_at: float = 0.0

    def started(self, now: float) -> None:
        """The run starts.

        :param now: seconds since the epoch, here and below.
        """
        self._started_at = now
        logger.info(
            "run started: agent %r, thread %r, run %r",
            *(self.agent_id, self.key.thread_id, self.key.run_id),
        )

    def ended(self, now: float, events: int, has_failed: bool) -> None:
        """The run is over.

        :param events: how many it has sent.
        :param has_failed: whether one of them is a RUN_ERROR.
        """
        if not logger.isEnabledFor(logging.INFO):
            return
        if self.is_sealed:
            outcome = "sealed"
        elif self.is_stopped:
            outcome = "stopped"
        else:
            outcome = "failed" if has_failed else "finished"
        logger.info(
            "run %s: agent %r, thread %r, run %r, %.3f s, %d events",
            *(outcome, self.agent_id, self.key.thread_id, self.key.run_id),
            *(max(now - self._started_at, 0.0), events),
        )
