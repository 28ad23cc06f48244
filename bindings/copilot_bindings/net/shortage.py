"""A server that is out of file descriptors or memory: it waits, and accepts again later."""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import Final

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.05
"""Seconds to wait before the next attempt. Clients wait in the system's queue meanwhile."""
_QUIET_SECONDS = 60.0

# These errors concern one connection that has ended already, so that the next one may be accepted
# at once (accept(2), "Error handling").
_OF_THE_CONNECTION: Final = frozenset(
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EINTR", "ECONNABORTED", "ECONNRESET", "EPROTO", "EPERM", "ENETDOWN"),
        *("ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH"),
    )
    if hasattr(errno, name)
)


class Shortage:
    """Logs that no connection can be accepted: one line a minute, however often it is tried."""

    def __init__(self) -> None:
        self._said_at: float | None = None

    def begins(self, error: OSError) -> bool:
        """Whether an attempt to accept failed for want of a resource, such as file descriptors.

        If so, that is logged, and the next attempt is to be made after :data:`PAUSE_SECONDS`.

        :param error: the error that ``accept`` raised.
        """
        if error.errno in _OF_THE_CONNECTION:
            return False
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= _QUIET_SECONDS:
            self._said_at = now
            reason = str(error) if error.errno is None else os.strerror(error.errno).lower()
            logger.error("no connection can be accepted until there is room: %s", reason)
        return True
