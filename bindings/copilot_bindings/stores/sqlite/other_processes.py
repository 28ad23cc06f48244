"""The watch for writes of other processes: to runs that are followed here, and for owners here.

A process is not notified when another one has written to the file. But SQLite counts the commits of
others (``PRAGMA data_version``), and reading that count takes some microseconds. So one operating
system thread of a process reads it, for all of its readers and owners: often while something
changes, seldom while nothing does, and not at all while nobody here waits.
"""

from __future__ import annotations

import sqlite3
import time
from typing import cast

import attrs

from sansio_copilot.stores.protocol import Signal

from .runs import Runs
from .schema import OPEN, TOLD_SEALED
from .writer import Transaction

_SHORTEST_PAUSE = 0.004
_LONGEST_PAUSE = 0.05
_LIVES_SECONDS = 0.3
"""The seconds between two checks whether the owners of the followed runs still live."""
_SHARE = 4.0
"""The pause after a look is at least this many times as long as the look."""


@attrs.define(eq=False)
class News:
    """Looks for what other processes have written.

    :param db: the connection of the operating system thread that looks.
    """

    db: sqlite3.Connection
    runs: Runs
    _version: int = -1
    _pause: float = _LONGEST_PAUSE
    _next: float = 0.0
    _next_lives: float = 0.0
    _asked: bool = False

    def ask(self) -> None:
        """Look at the next occasion, even if no process has written."""
        self._asked = True

    def look(self) -> float | None:
        """Look, if it is time; returns the seconds until the next look, None if nobody waits."""
        followed = self.runs.tails.followed()
        if not followed and not len(self.runs.owned):
            return None
        now = time.monotonic()
        if now < self._next and not self._asked:
            return self._next - now
        asked, self._asked = self._asked, False
        version = self.db.execute("PRAGMA data_version").fetchone()[0]
        changed, self._version = version != self._version, version
        if changed or asked:
            self._hear_signals()
            for run, size in followed:
                self._follow(cast("int", run), size)
        if followed and now >= self._next_lives:
            self._next_lives = now + _LIVES_SECONDS
            for run, _ in followed:
                self._look_for_owner(cast("int", run))
        self._pause = _SHORTEST_PAUSE if changed else min(self._pause * 1.5, _LONGEST_PAUSE)
        ended = time.monotonic()
        pause = max(self._pause, _SHARE * (ended - now))
        self._next = ended + pause
        return pause

    def _hear_signals(self) -> None:
        process, owned = self.runs.process.number, self.runs.owned
        for run, told, state in self.db.execute(
            "SELECT id, stop, state FROM run WHERE process = ? AND stop > 0", (process,)
        ).fetchall():
            if state == OPEN and told != TOLD_SEALED:
                owned.signal(run, Signal.STOP)
            else:
                owned.signal(run, Signal.SEALED)
                self.runs.tails.end(run)
                self.db.execute("UPDATE run SET stop = 0, process = NULL WHERE id = ?", (run,))

    def _follow(self, run: int, size: int) -> None:
        found = self.db.execute("SELECT state FROM run WHERE id = ?", (run,)).fetchone()
        # The frames are read after the state, so that a run that has ended has them all.
        for place, data in self.db.execute(
            "SELECT id, data FROM frame WHERE id >= ? AND id < ? ORDER BY id",
            (run << 32 | size, (run + 1) << 32),
        ):
            self.runs.tails.grew(run, place & 0xFFFFFFFF, data)
        if found is None:
            self.runs.tails.forget(run)
        elif found[0] != OPEN:
            self.runs.tails.end(run)

    def _look_for_owner(self, run: int) -> None:
        found = self.db.execute("SELECT state, process FROM run WHERE id = ?", (run,)).fetchone()
        if (
            found is not None
            and found[0] == OPEN
            and not self.runs.process.is_alive(found[1], self.db)
            and not self.runs.was_handed_out(run)
        ):
            self.runs.tails.lose(run)


def renewed(runs: Runs, tx: Transaction) -> None:
    """Write down that this process lives, where there are no locks."""
    if runs.process.must_be_seen():
        runs.process.is_seen(tx.db)
