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

from sansio_copilot import StoreAnswerLost, StoreUnavailable

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


def translated(name: str, error: psycopg.Error, *, is_broken: bool = False) -> Exception:
    """The error of a store for one of its server or connection.

    :param is_broken: whether the connection broke when something had been sent on it.
    """
    lines = (str(error) or type(error).__name__).splitlines()
    passing = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)
    if isinstance(error, passing):
        kind = StoreAnswerLost if is_broken else StoreUnavailable
        return kind(f"{name}: {lines[0]}")
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
        except StoreError as error:
            if len(commands) == 1:
                return [error]
        # Each is carried out alone now, because one command that fails must not fail the others.
        for at in order:
            try:
                (replies[at],) = self._together([commands[at]])
            except (StoreError, StoreUnavailable) as error:
                replies[at] = error
        return replies

    def close(self) -> None:
        """End the connection."""
        if self._db is not None:
            with contextlib.suppress(psycopg.Error):
                self._db.close()
            self._db = None

    def _together(self, commands: list[Command]) -> list[list[Any]]:
        """Carry all out in one transaction, or none.

        :raises StoreUnavailable: if it can be done again later.
        :raises StoreError: if that would not help.
        """
        db = self._db
        try:
            if db is None or db.closed:
                db = self._db = connect(self.url)
        except psycopg.Error as error:
            raise translated(self.name, error) from error
        try:
            if len(commands) == 1:
                statement, parameters, _ = commands[0]
                return [db.execute(statement, parameters).fetchall()]
            cursors = []
            with db.pipeline(), db.transaction():
                for statement, parameters, _ in commands:
                    cursors.append(db.execute(statement, parameters))
            return [cursor.fetchall() for cursor in cursors]
        except psycopg.Error as error:
            # What the server has not said itself is the client's word for a connection that is of
            # no more use, though it may not know that yet.
            if is_broken := db.closed or error.sqlstate is None:
                self.close()
            raise translated(self.name, error, is_broken=is_broken) from error
        except BaseException:
            self.close()
            raise
