"""A connection to the server: many calls in one transaction, and what its errors mean.

A commit costs about the same for one append as for a hundred, and so does a round trip. So what
waits at one time is sent together, in the order of the locks that it takes, and committed once.
"""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
import psycopg
from psycopg import errors

from sansio_copilot import StoreUnavailable

from ..errors import StoreError
from ..pipeline import Command

_CONNECT = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # Milliseconds after which a connection is given up of which the other side says nothing.
    "tcp_user_timeout": 8000,
}


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection whose statements are transactions of their own, unless others are begun.

    :raises psycopg.Error: if there is none to be had.
    """
    # Prepared statements do not outlive a transaction behind a pooling proxy.
    return psycopg.connect(url, autocommit=True, prepare_threshold=None, **_CONNECT)  # type: ignore[arg-type]


def translated(name: str, error: psycopg.Error) -> Exception:
    """The error of a store for one of its server or connection."""
    lines = (str(error) or type(error).__name__).splitlines()
    passing = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)
    if isinstance(error, passing):
        return StoreUnavailable(f"{name}: {lines[0]}")
    return StoreError(name, lines[0])


@attrs.define(eq=False)
class Link:
    """A connection that is made when it is needed, and anew when it broke.

    A command is a statement, its parameters, and the lock that it takes, 0 for none.

    :param name: what errors call the store.
    """

    url: str
    name: str
    _db: psycopg.Connection[Any] | None = attrs.field(default=None, init=False)

    def send(self, commands: list[Command]) -> list[Any]:
        """The rows that each of ``commands`` gives, or the exception that it raises.

        :raises StoreUnavailable: if none was carried out, for now.
        """
        order = sorted(range(len(commands)), key=lambda at: commands[at][2])
        replies: list[Any] = [None] * len(commands)
        try:
            for at, rows in zip(order, self._together([commands[at] for at in order]), strict=True):
                replies[at] = rows
            return replies
        except psycopg.Error as error:
            failed = translated(self.name, error)
            if isinstance(failed, StoreUnavailable) or len(commands) == 1:
                return [failed] * len(commands)
        # Each is carried out alone now, because one command that fails must not fail the others.
        for at in order:
            try:
                (replies[at],) = self._together([commands[at]])
            except psycopg.Error as error:
                replies[at] = translated(self.name, error)
        return replies

    def close(self) -> None:
        """End the connection."""
        if self._db is not None:
            with contextlib.suppress(psycopg.Error):
                self._db.close()
            self._db = None

    def _together(self, commands: list[Command]) -> list[list[Any]]:
        """Carry all out in one transaction, or none."""
        db = self._db
        if db is None or db.closed:
            db = self._db = connect(self.url)
        try:
            if len(commands) == 1:
                statement, parameters, _ = commands[0]
                return [db.execute(statement, parameters).fetchall()]
            cursors = []
            with db.pipeline(), db.transaction():
                for statement, parameters, _ in commands:
                    cursors.append(db.execute(statement, parameters))
            return [cursor.fetchall() for cursor in cursors]
        except BaseException:
            if db.closed or db.broken:
                self.close()
            raise
