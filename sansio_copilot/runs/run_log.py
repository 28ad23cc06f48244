"""What the log is told of a run besides its beginning and its end: what goes wrong in it.

It goes to whoever has written the agent, or looks after the store. What clients are told is decided
elsewhere (:mod:`~sansio_copilot.agents.disclosure`).
"""

from __future__ import annotations

import logging
from typing import Any

from ..errors import sole_cause, text_of
from ..stores.calls import Method
from .lifeline import Lifeline

logger = logging.getLogger(__name__)


class RunLog(Lifeline, eq=False):
    """A lifeline that takes what goes wrong, too."""

    def broke_rule(self, rule: str) -> None:
        """The agent broke a rule of AG-UI, so that the run ends."""
        logger.error("agent %r broke a rule of AG-UI, its run ends: %s", self.agent_id, rule)
        self.error = rule

    def broke_off(self) -> None:
        """The agent has ended in the middle of the run."""
        self.error = "The agent ended without RUN_FINISHED or RUN_ERROR"
        logger.error(
            "agent %r ended without RUN_FINISHED or RUN_ERROR: run %r of thread %r ends with "
            "RUN_ERROR",
            *(self.agent_id, self.key.run_id, self.key.thread_id),
        )

    def agent_failed(self, error: BaseException) -> tuple[BaseException, str]:
        """The agent raised ``error``; returns its cause, and the text of that."""
        logger.error("agent %r failed", self.agent_id, exc_info=error)
        error = sole_cause(error)
        self.error = text_of(error) or type(error).__name__
        return error, self.error

    def left_alone(self) -> None:
        """The run is stopped, because nobody follows it."""
        logger.info("run %r is stopped, because nobody follows it", self.key.run_id)

    def waits_for_store(self, error: BaseException) -> None:
        """The store is unavailable, as ``error`` says."""
        text = text_of(error)
        logger.warning(
            "the thread store is unavailable, run %r waits for it: %s", self.key.run_id, text
        )

    def store_failed(
        self, method: Method[Any] | None, error: BaseException, *, closing: bool = False
    ) -> None:
        """A call of that method of the store raised ``error``.

        :param closing: whether it was to close the run, which has ended for another reason.
        """
        assert method is not None, "a store call is in progress"
        logger.error("%s failed in run %r", method.name, self.key.run_id, exc_info=error)
        if not closing:
            self.error = f"The thread store failed: {text_of(error)}"

    def stays_open(self) -> None:
        """The store could not close the run."""
        logger.error(
            "run %r could not be closed: thread %r stays busy, and its readers wait, until the "
            "run's lease runs out",
            *(self.key.run_id, self.key.thread_id),
        )
