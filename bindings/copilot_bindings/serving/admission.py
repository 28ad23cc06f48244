"""Whether a connection is admitted: ``Limits.connections``, and the end of a server.

A refused connection is known until it has ended, because its client is still told the reason, but
it does not count as one that is served. A server ends in two steps: first it waits for the requests
of clients that have just connected, and then each response is its connection's last.
"""

from __future__ import annotations

import logging
from typing import Protocol

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """The part of a connection, or of a response, that a server needs when it ends."""

    def close_if_idle(self) -> None:
        """Close the connection, unless a request is being received or answered.

        :meth:`Admission.awaits_request` tells whether a request is still waited for.
        """
        ...

    def abort(self) -> None:
        """Close the connection at once, even if something is being sent."""
        ...


class Admission:
    """The connections of one server, and which of them are served.

    :param most: the most connections that are served at a time.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._served: set[Closable] = set()
        self.connections: set[Closable] = set()
        """All connections, including those that are refused or not admitted yet."""
        self.closing = False
        """Whether nothing more is accepted, and each response is its connection's last."""
        self.welcoming = True
        """Whether connections that have had no request yet may still wait for one."""

    def expect(self, connection: Closable) -> None:
        """Add ``connection``, which was accepted and is admitted soon, to the connections."""
        self.connections.add(connection)
        logger.debug("%s is accepted: %d connections are open", connection, len(self.connections))

    def admit(self, connection: Closable, *, room: bool = True) -> bool:
        """Add ``connection`` to the connections, and return whether there is room to serve it.

        :param room: False if the binding has no room for it, even if the limits would allow it.
        """
        self.connections.add(connection)
        # Connections that are refused, or not admitted yet, do not count, because they must not
        # take room from others. This one is added before they are counted, because other threads
        # may admit connections too.
        self._served.add(connection)
        if not (room and self.welcoming and len(self._served) <= self._most):
            self._served.discard(connection)
        is_admitted = connection in self._served
        logger.debug(
            "%s %s: %d connections are open",
            *(connection, "begins" if is_admitted else "is refused", len(self.connections)),
        )
        return is_admitted

    def awaits_request(self, first: bool) -> bool:
        """Whether a connection that is idle may wait on.

        :param first: whether the connection has had no request yet.
        """
        return self.welcoming if first else not self.closing

    def forget(self, connection: Closable) -> None:
        """Remove ``connection``, which has ended, from the connections.

        Any thread may call this, and more than once.
        """
        is_known = connection in self.connections
        self.connections.discard(connection)
        self._served.discard(connection)
        if is_known:
            left = len(self.connections)
            logger.debug("%s has ended: %d connections are open", connection, left)
