"""What becomes of a server that cannot accept connections for want of something: it waits."""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import Final

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.05
"""How long to wait before the next attempt. Clients wait in the system's queue meanwhile."""
_QUIET_SECONDS = 60.0

# These errors belong to one connection that is gone already (accept(2), "Error handling").
_OF_THE_CONNECTION: Final = frozenset(
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EINTR", "ECONNABORTED", "ECONNRESET", "EPROTO", "EPERM", "ENETDOWN"),
        *("ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH"),
    )
    if hasattr(errno, name)
)


class Shortage:
    """Says in one line that no connection can be accepted, however often that is tried in vain."""

    def __init__(self) -> None:
        self._said_at: float | None = None

    def begins(self, error: OSError) -> bool:
        """Whether ``error`` of an attempt to accept says so: out of file descriptors, say.

        If it does, the next attempt is to be made after :data:`PAUSE_SECONDS`.
        """
        if error.errno in _OF_THE_CONNECTION:
            return False
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= _QUIET_SECONDS:
            self._said_at = now
            reason = str(error) if error.errno is None else os.strerror(error.errno).lower()
            logger.error("no connection can be accepted until there is room: %s", reason)
        return True
