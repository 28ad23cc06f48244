"""A connection to the server: many calls in one transaction, and the meaning of its errors.

A commit costs about the same for one append as for a hundred, and so does a round trip. So the
calls that wait at the same time are sent together, in the order of the locks that they take, and
committed once.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any, TypeVar

import attrs
import psycopg
from psycopg import errors
from psycopg.abc import PQGen

from sansio_copilot import StoreAnswerLost, StoreUnavailable

from ..errors import StoreError
from ..round_trips import Command

logger = logging.getLogger(__name__)

_CONNECT = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # A connection is given up after this many milliseconds in which the other side says nothing.
    "tcp_user_timeout": 8000,
}
SILENT_SECONDS = 8.0
"""The seconds after which a connection is given up if the server itself says nothing, although its
machine answers."""

T = TypeVar("T")


class _Impatient(psycopg.Connection[Any]):
    """A connection that breaks when the server does not answer a request for long."""

    def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: PQGen[T]) -> PQGen[T]:
        """Drive ``gen``, which is told whether the socket is ready; 0 from time to time if it is
        not."""
        until = time.monotonic() + SILENT_SECONDS
        ready: Any = None
        try:
            while True:
                ready = yield gen.send(ready)
                now = time.monotonic()
                if ready:
                    until = now + SILENT_SECONDS
                elif now > until:
                    gen.close()
                    self.close()
                    raise psycopg.OperationalError(f"no answer for {SILENT_SECONDS:g} s")
        except StopIteration as done:
            value: T = done.value
            return value


def connect(url: str, *, is_patient: bool = False) -> psycopg.Connection[Any]:
    """A connection whose statements are transactions of their own, unless others are begun.

    A transaction that is begun sees what others have committed while it waited for a lock ("read
    committed"). A statement of its own sees it only if that is the default of the server.

    :param is_patient: whether statements have no time limit.
    :raises psycopg.Error: if there is no connection to be had.
    """
    kind = psycopg.Connection if is_patient else _Impatient
    # The client prepares no statements, because these do not outlive a transaction behind a pooling
    # proxy.
    db = kind.connect(url, autocommit=True, prepare_threshold=None, **_CONNECT)  # type: ignore[arg-type]
    db.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return db


def _needs_begin(db: psycopg.Connection[Any]) -> bool:
    """Whether a statement of its own does not see what others commit while it waits for a lock.

    The server, the database, the user or the URL may have set another default for transactions.
    """
    row = db.execute("SELECT current_setting('default_transaction_isolation')").fetchone()
    return row is None or row[0] != "read committed"


def translated(name: str, error: psycopg.Error, *, is_broken: bool = False) -> Exception:
    """Return the error of a store for an error of its server or connection.

    :param is_broken: whether the connection broke after something had been sent on it.
    """
    lines = (str(error) or type(error).__name__).splitlines()
    passing = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)
    if isinstance(error, passing):
        kind = StoreAnswerLost if is_broken else StoreUnavailable
        return kind(f"{name}: {lines[0]}")
    return StoreError(name, lines[0])


@attrs.frozen(eq=False)
class Rows:
    """A statement that is carried out once for many commands, because the server has to parse and
    plan each statement.

    :param text: the statement. It is given an array for each parameter of the commands, and then
        the constants. It handles the commands one after the other, and returns a row for each, in
        their order.
    """

    text: str
    constants: tuple[Any, ...] = ()


@attrs.define(eq=False)
class Link:
    """A connection that is made when it is needed, and made anew when it broke.

    A command is a statement, or :class:`Rows`, its parameters, and the lock that it takes, 0 for
    none.

    :param name: the name of the store in errors.
    """

    url: str
    name: str
    _db: psycopg.Connection[Any] | None = attrs.field(default=None, init=False)
    # A single statement is sent without BEGIN where it can be, because that costs less.
    _needs_begin: bool = attrs.field(default=True, init=False)

    def send(self, commands: list[Command]) -> list[Any]:
        """Return the rows of each of ``commands``, or the exception that it raises.

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
        # Each command is carried out alone now, because one that fails must not fail the others.
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
        """Carry out all commands in one transaction, or none of them.

        :raises StoreUnavailable: if it may be tried again later.
        :raises StoreError: if another try would not help.
        """
        db = self._db
        try:
            if db is None or db.closed:
                db = self._db = connect(self.url)
                self._needs_begin = _needs_begin(db)
                logger.debug("%s: a connection begins", self.name)
        except psycopg.Error as error:
            self.close()
            raise translated(self.name, error) from error
        try:
            statements = list(_joined(commands))
            if len(statements) == 1 and not self._needs_begin:
                text, parameters, _ = statements[0]
                cursors = [db.execute(text, parameters, binary=True)]
            else:
                with db.pipeline(), db.transaction():
                    cursors = [
                        db.execute(text, parameters, binary=True)
                        for text, parameters, _ in statements
                    ]
            replies: list[list[Any]] = []
            for cursor, (_, _, is_each_alone) in zip(cursors, statements, strict=True):
                rows = cursor.fetchall()
                replies += [[row] for row in rows] if is_each_alone else [rows]
            return replies
        except psycopg.Error as error:
            # An error without a code comes from the client library and not from the server, and
            # means that the connection cannot be used any more.
            is_broken = db.closed or error.sqlstate is None
            # A server that takes no writes any more has a successor, which a new connection may
            # reach.
            if is_broken or isinstance(error, errors.ReadOnlySqlTransaction):
                self.close()
            raise translated(self.name, error, is_broken=is_broken) from error
        except BaseException:
            self.close()
            raise


def _joined(commands: list[Command]) -> Iterator[tuple[Any, Any, bool]]:
    """Return the statements that carry the commands out, in their order, with their parameters.

    The third member says whether each row of the answer belongs to a command of its own.
    """
    for statement, group in groupby(commands, lambda command: command[0]):
        if isinstance(statement, Rows):
            columns = zip(*[parameters for _, parameters, _ in group], strict=True)
            yield statement.text, (*map(list, columns), *statement.constants), True
        else:
            for text, parameters, _ in group:
                yield text, parameters, False
