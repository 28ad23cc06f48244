"""The times at which a store is tidied: it lets go of what is beyond its bounds, step by step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future

logger = logging.getLogger(__name__)

_TIDY_SECONDS = 20.0


class Tidying:
    """The times at which the steps of the tidying are due.

    :param step: begins a step; its future says whether there is more to do.
    """

    def __init__(self, step: Callable[[], Future[bool]]) -> None:
        self._step = step
        self._next = time.monotonic() + _TIDY_SECONDS

    def look(self) -> float:
        """Begin a step if it is time; returns the seconds until the next look."""
        now = time.monotonic()
        if now >= self._next:
            self._next = math.inf
            self._step().add_done_callback(self._done)
        return min(max(self._next - now, 0.0), _TIDY_SECONDS)

    def _done(self, step: Future[bool]) -> None:
        if (error := step.exception()) is not None:
            logger.debug("a store could not be tidied: %s", error)
        more = error is None and step.result()
        self._next = time.monotonic() + (0.0 if more else _TIDY_SECONDS)
