"""The course of a run: its beginning, its end, and what goes wrong in it.

Each step is a line for :mod:`logging`, for the author of the agent or the operator of the store.
:mod:`~sansio_copilot.agents.disclosure` decides what clients are told. The course is also kept for
the report of the run (:mod:`.run_end`).
"""

from __future__ import annotations

import logging

from msgspec import Struct

from ..errors import sole_cause, text_of
from ..stores.protocol import RunKey
from .report import RunOutcome

logger = logging.getLogger(__name__)


class Course(Struct, eq=False):
    """The course of a run, as lines of logging and its report tell it.

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
    outcome: RunOutcome = "finished"

    def started(self, now: float) -> None:
        """Note that the run starts.

        :param now: seconds since the epoch, here and below.
        """
        self.started_at = now
        logger.info(
            "run started: agent %r, thread %r, run %r",
            *(self.agent_id, self.key.thread_id, self.key.run_id),
        )

    def ended(self, now: float, events: int, *, has_failed: bool, terminal: bool) -> None:
        """Note that the run is over.

        :param events: the number of events that the run has sent.
        :param has_failed: whether one of them is a RUN_ERROR.
        :param terminal: whether the last event was terminal. Then this event says how the run has
            ended, even if the store has sealed the run afterwards.
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

    def broke_rule(self, rule: str) -> None:
        """Note that the agent broke a rule of AG-UI, so that the run ends."""
        logger.error("agent %r broke a rule of AG-UI, its run ends: %s", self.agent_id, rule)
        self.error = rule

    def broke_off(self) -> None:
        """Note that the agent has ended in the middle of the run."""
        self.error = "The agent ended without RUN_FINISHED or RUN_ERROR"
        logger.error(
            "agent %r ended without RUN_FINISHED or RUN_ERROR: run %r of thread %r ends with "
            "RUN_ERROR",
            *(self.agent_id, self.key.run_id, self.key.thread_id),
        )

    def agent_failed(self, error: BaseException) -> tuple[BaseException, str]:
        """Note that the agent raised ``error``; return its cause, and the text of the cause."""
        logger.error("agent %r failed", self.agent_id, exc_info=error)
        error = sole_cause(error)
        self.error = text_of(error) or type(error).__name__
        return error, self.error

    def left_alone(self) -> None:
        """Note that the run is stopped, because nobody follows it."""
        logger.info("run %r is stopped, because nobody follows it", self.key.run_id)

    def waits_for_store(self, error: BaseException) -> None:
        """Note that the store is unavailable, as ``error`` says."""
        text = text_of(error)
        logger.warning(
            "the thread store is unavailable, run %r waits for it: %s", self.key.run_id, text
        )

    def asks_again(self, pause: float) -> None:
        """Note that a call of the store is made again after ``pause`` seconds."""
        logger.debug("run %r asks the thread store again in %.2f s", self.key.run_id, pause)

    def store_is_back(self) -> None:
        """Note that the store has answered, after it was unavailable."""
        logger.info("the thread store answers again, run %r goes on", self.key.run_id)

    def store_failed(self, method: str, error: BaseException, *, closing: bool = False) -> None:
        """Note that a call of the store's ``method`` raised ``error``.

        :param closing: whether the call was to close the run, which has ended for another reason.
        """
        logger.error("%s failed in run %r", method, self.key.run_id, exc_info=error)
        if not closing:
            self.error = f"The thread store failed: {text_of(error)}"

    def stays_open(self) -> None:
        """Note that the store could not close the run."""
        logger.error(
            "run %r could not be closed: thread %r stays busy, and its readers wait, until the "
            "run's lease runs out",
            *(self.key.run_id, self.key.thread_id),
        )
