"""The calls of owners for their runs, each of them a part of a transaction.

A function here takes the transaction. Errors that are not the database's it raises before it
changes anything. Notifications that have to wait for the commit it hands to
:meth:`.Transaction.then`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable

import attrs

from sansio_copilot.stores.protocol import (
    Opened,
    Orphan,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadOfAnother,
    news_in,
)

from ..cursors import Cursor
from ..database_values import from_text, to_text
from ..owned_runs import OwnedRuns
from ..retention import Retention
from ..tails import Tails
from .history import Left, add_result, keep, messages_of, waited_before, withdraw_result
from .liveness import Process
from .schema import HISTORY, MOST_BYTES, NOBODY, OPEN, OVER, TOLD_SEALED, TOLD_TO_STOP
from .writer import Transaction

_IDS_AT_ONCE = 512
_HANDED_SECONDS = 5.0


@attrs.frozen(eq=False)
class Runs:
    """The runs of one file, as this process sees them.

    :param process: this process.
    :param owned: the runs that it owns.
    :param tails: the runs that are followed in it.
    :param supersedes: whether a run of a busy thread supersedes the live one.
    :param lease: the seconds of a lease, which owners are told.
    """

    process: Process
    owned: OwnedRuns[int]
    tails: Tails
    retention: Retention
    supersedes: bool
    lease: float
    # The times at which orphans were handed out are kept, so that a thousand readers do not all end
    # the same orphan.
    _handed: dict[int, float] = attrs.field(factory=dict)

    def open(self, tx: Transaction, request: RunRequest) -> Opened:
        """See :meth:`.ThreadStore.open_run`."""
        db = tx.db
        found = db.execute(
            "SELECT id, owner FROM thread WHERE thread_id = ? AND dead = 0",
            (to_text(request.thread_id),),
        ).fetchone()
        if found is None:
            owner = None if request.owner is None else to_text(request.owner)
            thread = db.execute(
                "INSERT INTO thread (thread_id, owner) VALUES (?, ?)",
                (to_text(request.thread_id), owner),
            ).lastrowid
        else:
            thread, owner = found
            if (None if owner is None else from_text(owner)) != request.owner:
                return ThreadOfAnother()
            if (refused := self._make_way(tx, thread, request)) is not None:
                return refused
        assert thread is not None
        run = db.execute(
            "INSERT INTO run (thread, run_id, agent_id, process, opened_at) VALUES (?, ?, ?, ?, ?)",
            (
                thread,
                to_text(request.run_id),
                to_text(request.agent_id),
                self.process.number,
                request.opened_at,
            ),
        ).lastrowid
        assert run is not None
        # The run is known here before the commit, because other calls of this transaction may be
        # for it.
        self.owned.begin(run, request)
        self.tails.begin(run)
        tx.otherwise(lambda: self.owned.end(run))
        tx.otherwise(lambda: self.tails.forget(run))
        return self._opened(db, thread, run, request)

    def _opened(
        self, db: sqlite3.Connection, thread: int, run: int, request: RunRequest
    ) -> RunOpened:
        key = RunKey(request.thread_id, run, request.run_id)
        known = _known(db, thread, request.message_ids)
        waits = waited_before(db, thread, run)
        return RunOpened(key, Cursor(thread, (-run,)), known, self.lease, waits)

    def _make_way(self, tx: Transaction, thread: int, request: RunRequest) -> Opened | None:
        """Make way for a new run: seal or stop the open runs of the thread, or return the run that
        is in the way."""
        db = tx.db
        opens = db.execute(
            "SELECT id, run_id, process, sealable, opened_at FROM run"
            " WHERE thread = ? AND state = 0 ORDER BY id",
            (thread,),
        ).fetchall()
        for run, run_id, process, sealable, opened_at in opens:
            if sealable and run == opens[-1][0]:
                self.seal(tx, run)
            elif not self.process.is_alive(process, db):
                return self.hand_out(tx, run)
            elif run != opens[-1][0]:
                continue
            elif (
                process == self.process.number
                and from_text(run_id) == request.run_id
                and opened_at == request.opened_at
                and (owned := self.owned.get(run)) is not None
                and not owned.is_taken
            ):
                # The same request has opened this run, and no home has taken it: the answer to that
                # call was lost.
                return self._opened(db, thread, run, request)
            elif not self.supersedes:
                return ThreadBusy(from_text(run_id))
            else:
                self._tell(tx, run, process, TOLD_TO_STOP)
        return None

    def append(
        self, tx: Transaction, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> Signal:
        """See :meth:`.ThreadStore.append`."""
        db, run = tx.db, key.seq
        found = db.execute(
            "SELECT state, process, stop, sealable FROM run WHERE id = ?", (run,)
        ).fetchone()
        if found is None or found[0] != OPEN or found[1] != self.process.number:
            return Signal.SEALED
        signal = Signal.STOP if found[2] else Signal.CONTINUE
        size = self._size(tx, run)
        news = news_in(key, at, frames, size)
        if news is None:
            return signal
        if news:
            self._add(tx, run, size, news)
        sealable = found[3]
        if sealable and (news or result is not None):
            withdraw_result(tx, run)
        if result is not None:
            add_result(tx, run, result)
        if bool(sealable) != (result is not None) and (news or result is not None):
            db.execute("UPDATE run SET sealable = ? WHERE id = ?", (result is not None, run))
        if news or result is not None:
            tx.then(lambda: self._note_result(run, result))
        return signal

    def _note_result(self, run: int, result: RunResult | None) -> None:
        if (owned := self.owned.get(run)) is not None:
            owned.result = result

    def close(
        self, tx: Transaction, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> bool:
        """See :meth:`.ThreadStore.close_run`."""
        db, run = tx.db, key.seq
        found = db.execute(
            "SELECT r.state, r.sealable, t.id, t.dead, t.runs"
            " FROM run r JOIN thread t ON t.id = r.thread WHERE r.id = ?",
            (run,),
        ).fetchone()
        if found is None or found[0] != OPEN:
            return False
        _, sealable, thread, dead, runs = found
        size = self._size(tx, run)
        news = news_in(key, at, frames, size)
        if news:
            self._add(tx, run, size, news)
        owned = self.owned.get(run)
        is_stored = sealable and owned is not None and owned.result is result and not news
        stays = result is not None and not dead
        if sealable and not (is_stored and stays):
            withdraw_result(tx, run)
        if stays and not is_stored:
            assert result is not None
            add_result(tx, run, result)
        self._end(tx, run, stays=stays)
        if stays:
            assert result is not None
            keep(tx, thread, run, Left.by(result), self.retention)
        elif not dead and not runs and not _has_open(db, thread):
            db.execute("UPDATE thread SET dead = 1 WHERE id = ?", (thread,))
        tx.then(lambda: self.owned.end(run))
        return True

    def seal(self, tx: Transaction, run: int) -> None:
        """End a run that has its terminal event, with the result that came with the event."""
        thread, dead, process = tx.db.execute(
            "SELECT t.id, t.dead, r.process FROM run r JOIN thread t ON t.id = r.thread"
            " WHERE r.id = ?",
            (run,),
        ).fetchone()
        self._end(tx, run, stays=not dead)
        if not dead:
            keep(tx, thread, run, Left.stored(tx.db, run), self.retention)
        self._tell(tx, run, process, TOLD_SEALED)

    def _end(self, tx: Transaction, run: int, *, stays: bool) -> None:
        raw_until = None if stays else time.time() + self.retention.resume_seconds
        tx.db.execute(
            "UPDATE run SET state = ?, process = NULL, sealable = 0, stop = 0, size = ?,"
            " raw_until = ? WHERE id = ?",
            (HISTORY if stays else OVER, self._size(tx, run), raw_until, run),
        )
        tx.then(lambda: self.tails.end(run))
        self._handed.pop(run, None)

    def renew(self, tx: Transaction, key: RunKey) -> Signal:
        """See :meth:`.ThreadStore.renew`."""
        found = tx.db.execute(
            "SELECT state, process, stop FROM run WHERE id = ?", (key.seq,)
        ).fetchone()
        if found is None or found[0] != OPEN or found[1] != self.process.number:
            return Signal.SEALED
        return Signal.STOP if found[2] else Signal.CONTINUE

    # Stops and orphans

    def stop(
        self, tx: Transaction, thread_id: str, run_id: str | None, owner: str | None
    ) -> bool | Orphan:
        """See :meth:`.ThreadStore.request_stop`."""
        found = tx.db.execute(
            "SELECT r.id, r.run_id, r.process, r.stop FROM thread t JOIN run r ON r.thread = t.id"
            " WHERE t.thread_id = ? AND t.owner IS ? AND t.dead = 0 AND r.state = 0"
            " ORDER BY r.id DESC LIMIT 1",
            (to_text(thread_id), None if owner is None else to_text(owner)),
        ).fetchone()
        if found is None or found[3] or (run_id is not None and from_text(found[1]) != run_id):
            return False
        run, _, process, _ = found
        self._tell(tx, run, process, TOLD_TO_STOP)
        if not self.process.is_alive(process, tx.db):
            return self.hand_out(tx, run)
        return True

    def stop_all(self, tx: Transaction, thread: int) -> None:
        """Stop all runs that a thread has open."""
        for run, process in tx.db.execute(
            "SELECT id, process FROM run WHERE thread = ? AND state = 0", (thread,)
        ).fetchall():
            self._tell(tx, run, process, TOLD_TO_STOP)

    def _tell(self, tx: Transaction, run: int, process: int | None, told: int) -> None:
        is_ours = process == self.process.number
        # An owner in this process has been told already, and need not find it in the file.
        keeps_owner = told != TOLD_SEALED or not is_ours
        tx.db.execute(
            "UPDATE run SET stop = ?, process = ? WHERE id = ?",
            (told if keeps_owner else 0, process if keeps_owner else None, run),
        )
        if is_ours:
            signal = Signal.SEALED if told == TOLD_SEALED else Signal.STOP
            tx.then(lambda: self.owned.signal(run, signal))

    def hand_out(self, tx: Transaction, run: int) -> Orphan:
        """Fence out the dead owner of a run, and return the run as an orphan, for the caller to
        end."""
        db = tx.db
        thread, thread_id, owner, run_id, agent_id, stop, opened_at = db.execute(
            "SELECT t.id, t.thread_id, t.owner, r.run_id, r.agent_id, r.stop, r.opened_at"
            " FROM run r JOIN thread t ON t.id = r.thread WHERE r.id = ?",
            (run,),
        ).fetchone()
        db.execute("UPDATE run SET process = ? WHERE id = ?", (NOBODY, run))
        self._handed[run] = time.monotonic()
        tx.then(lambda: self.owned.signal(run, Signal.SEALED))
        key = RunKey(from_text(thread_id), run, from_text(run_id))
        rows = db.execute(
            "SELECT data FROM frame WHERE id >= ? AND id < ? ORDER BY id", _range(run)
        )
        frames = b"".join([data for (data,) in rows])
        return Orphan(
            key,
            from_text(agent_id),
            frames,
            messages_of(db, thread),
            bool(stop),
            owner=None if owner is None else from_text(owner),
            opened_at=opened_at,
            waits_for=waited_before(db, thread, run),
        )

    def was_handed_out(self, run: int) -> bool:
        """Whether the run has just been handed out in this process."""
        return time.monotonic() < self._handed.get(run, -_HANDED_SECONDS) + _HANDED_SECONDS

    def claim(self, tx: Transaction, run: int) -> Orphan | None:
        """Return the run if it is an orphan that has not just been handed out."""
        found = tx.db.execute("SELECT state, process FROM run WHERE id = ?", (run,)).fetchone()
        if found is None or found[0] != OPEN or self.was_handed_out(run):
            return None
        return None if self.process.is_alive(found[1], tx.db) else self.hand_out(tx, run)

    def orphans(self, tx: Transaction, limit: int) -> list[Orphan]:
        """See :meth:`.ThreadStore.orphans`."""
        db = tx.db
        found: list[Orphan] = []
        owners = db.execute("SELECT DISTINCT process FROM run WHERE state = 0").fetchall()
        for (process,) in owners:
            if self.process.is_alive(process, db):
                continue
            for run, sealable in db.execute(
                "SELECT id, sealable FROM run WHERE process IS ? AND state = 0 LIMIT ?",
                (process, limit + len(self._handed)),
            ).fetchall():
                if sealable:
                    self.seal(tx, run)
                elif len(found) < limit and not self.was_handed_out(run):
                    found.append(self.hand_out(tx, run))
        for run in self.owned:
            forgotten = (owned := self.owned.get(run)) is not None and owned.is_forgotten
            if forgotten and len(found) < limit and not self.was_handed_out(run):
                found.append(self.hand_out(tx, run))
        for (process,) in db.execute("SELECT id FROM process").fetchall():
            if not self.process.is_alive(process, db):
                self.process.bury(process, db)
        return found

    # Frames

    def _size(self, tx: Transaction, run: int) -> int:
        if (size := tx.sizes.get(run)) is None:
            owned = self.owned.get(run)
            size = stored_size(tx.db, run) if owned is None else owned.size
        return size

    def _add(self, tx: Transaction, run: int, size: int, news: bytes) -> None:
        if size + len(news) >= MOST_BYTES:
            raise ValueError("a run of SQLiteStore has at most 4 GiB")
        tx.db.execute("INSERT INTO frame (id, data) VALUES (?, ?)", (run << 32 | size, news))
        tx.sizes[run] = size + len(news)
        tx.then(lambda: self._grew(run, size, news))

    def _grew(self, run: int, size: int, news: bytes) -> None:
        if (owned := self.owned.get(run)) is not None:
            owned.size = size + len(news)
        self.tails.grew(run, size, news)


def stored_size(db: sqlite3.Connection, run: int) -> int:
    """Return the number of bytes that were appended to a run."""
    last = db.execute(
        "SELECT id, length(data) FROM frame WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1",
        _range(run),
    ).fetchone()
    return 0 if last is None else int((last[0] & (MOST_BYTES - 1)) + last[1])


def _range(run: int) -> tuple[int, int]:
    return run << 32, (run + 1) << 32


def _has_open(db: sqlite3.Connection, thread: int) -> bool:
    return (
        db.execute("SELECT 1 FROM run WHERE thread = ? AND state = 0 LIMIT 1", (thread,)).fetchone()
        is not None
    )


def _known(db: sqlite3.Connection, thread: int, ids: Iterable[str]) -> frozenset[str]:
    """Return the ids among ``ids`` that the thread's history has."""
    asked = [to_text(one) for one in dict.fromkeys(ids)]
    known: set[str] = set()
    for begin in range(0, len(asked), _IDS_AT_ONCE):
        some = asked[begin : begin + _IDS_AT_ONCE]
        marks = ",".join("?" * len(some))
        rows = db.execute(
            f"SELECT DISTINCT message_id FROM message WHERE thread = ? AND message_id IN ({marks})",
            (thread, *some),
        )
        known.update(from_text(one) for (one,) in rows)
    return frozenset(known)
