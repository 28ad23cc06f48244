"""The calls that concern runs, each as steps: statements out, rows in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs

from sansio_copilot.stores.protocol import (
    Opened,
    Orphan,
    PositionGap,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadOfAnother,
)

from ..compacted_frames import pieces
from ..cursors import Cursor
from ..database_values import from_bytes, owner_from_bytes, owner_to_bytes, to_bytes
from ..owned_runs import OwnedRuns
from ..retention import Retention
from ..round_trips import Command, Steps
from ..tails import Tails
from .link import Rows
from .names import lock_of

HANDED = timedelta(seconds=5)
"""For how long an orphan is the business of who was handed it."""
_SIGNALS = {0: Signal.CONTINUE, 1: Signal.STOP, 2: Signal.SEALED}
# Arrays of bytes are sent as they are (%b), since as text they take twice the room, and ten times
# the time of both sides.
_RESULT = "%s::bigint[], %b::bytea[], %s::bytea, %s::bytea, %b::bytea[], %s, %s::bytea"


@attrs.frozen(eq=False)
class Runs:
    """The runs of one store, as this process sees them.

    :param schema: the schema of its tables.
    :param process: what tells this process from others.
    """

    schema: str
    process: str
    owned: OwnedRuns[int]
    tails: Tails
    retention: Retention
    supersedes: bool
    lease: timedelta

    _appending: Rows = attrs.field(init=False)

    @_appending.default
    def _make_appending(self) -> Rows:
        return Rows(
            "SELECT told, size_ FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[])"
            f" WITH ORDINALITY AS c(lock, run, at, frames, n), LATERAL {self.schema}.append(c.lock,"
            " c.run, %s, c.at, %s, c.frames, false, NULL, NULL, NULL, NULL, NULL, 0) ORDER BY n",
            (self.process, self.lease),
        )

    @property
    def _keeping(self) -> tuple[timedelta, int, int]:
        """What a function that ends a run is told to keep."""
        kept = self.retention
        return self.resume, kept.resumable, kept.most_runs

    @property
    def resume(self) -> timedelta:
        """For how long raw frames are kept of runs that need not be resumable."""
        return timedelta(seconds=self.retention.resume_seconds)

    def open(self, request: RunRequest) -> Steps[Opened]:
        """See :meth:`.ThreadStore.open_run`."""
        thread_id = to_bytes(request.thread_id)
        lock = lock_of(thread_id)
        ((outcome, run, other, known),) = (
            yield [
                (
                    f"SELECT * FROM {self.schema}.open_run(%s, %s::bytea, %s::bytea, %s::bytea,"
                    " %s::bytea, %s, %s, %s, %s, %s, %s, %s, %s, %b::bytea[])",
                    (
                        *(lock, thread_id, owner_to_bytes(request.owner)),
                        *(to_bytes(request.run_id), to_bytes(request.agent_id), self.process),
                        *(request.opened_at, self.lease, HANDED, *self._keeping),
                        *(self.supersedes, [to_bytes(one) for one in request.message_ids]),
                    ),
                    lock,
                )
            ]
        )[0]
        if outcome == "other":
            return ThreadOfAnother()
        if outcome == "busy":
            return ThreadBusy(from_bytes(other))
        if outcome == "orphan":
            return (yield from self.orphan(run))
        own = self.owned.get(run)
        if outcome == "again" and own is not None and own.notify is not None:
            # The run has an owner already, so that the answer to this very call was not lost.
            return ThreadBusy(request.run_id)
        self.owned.begin(run, request)
        self.tails.begin(run)
        key = RunKey(request.thread_id, run, request.run_id)
        ids = frozenset(map(from_bytes, known or ()))
        return RunOpened(key, Cursor(0, (-run,)), ids, self.lease.total_seconds())

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> Steps[Signal]:
        """See :meth:`.ThreadStore.append`."""
        run, lock = key.seq, lock_of(to_bytes(key.thread_id))
        owned = self.owned.get(run)
        is_news = result is not None and (owned is None or owned.result is not result)
        if is_news:
            statement: Any = (
                f"SELECT * FROM {self.schema}.append(%s, %s, %s, %s, %s, %s::bytea, true,"
                f" {_RESULT})"
            )
            parameters: tuple[Any, ...] = (
                *(lock, run, self.process, at, self.lease, frames),
                *result_arguments(result),
            )
        else:
            statement, parameters = self._appending, (lock, run, at, frames)
        ((told, size),) = (yield [(statement, parameters, lock)])[0]
        if told < 0:
            raise PositionGap(key, at, size)
        signal = _SIGNALS[told]
        if signal is Signal.SEALED:
            self._lose(run)
            return signal
        self.tails.grew(run, at, frames)
        if owned is not None and (is_news or frames):
            owned.result = result
        return signal

    def close(self, key: RunKey, at: int, frames: bytes, result: RunResult | None) -> Steps[bool]:
        """See :meth:`.ThreadStore.close_run`."""
        run, lock = key.seq, lock_of(to_bytes(key.thread_id))
        owned = self.owned.get(run)
        given = 0 if result is None else 1
        if result is not None and owned is not None and owned.result is result:
            # The store has these frames already, because only the answer was lost.
            given = 2
        while True:
            ((outcome, size),) = (
                yield [
                    (
                        f"SELECT * FROM {self.schema}.close_run(%s, %s, %s, %s::bytea, %s, %s, %s,"
                        f" %s, {_RESULT})",
                        (
                            *(lock, run, at, frames, *self._keeping, given),
                            *result_arguments(result if given == 1 else None),
                        ),
                        lock,
                    )
                ]
            )[0]
            if outcome != "resend":
                break
            given = 1
        if outcome == "gap":
            raise PositionGap(key, at, size)
        if outcome == "closed":
            self.tails.grew(run, at, frames)
            self.tails.end(run)
            self.owned.end(run)
        else:
            self._lose(run)
        return bool(outcome == "closed")

    def renew(self, key: RunKey) -> Steps[Signal]:
        """See :meth:`.ThreadStore.renew`."""
        lock = lock_of(to_bytes(key.thread_id))
        statement = f"SELECT {self.schema}.renew(%s, %s, %s, %s)"
        (((told,),),) = yield [(statement, (lock, key.seq, self.process, self.lease), lock)]
        signal = _SIGNALS[told]
        if signal is Signal.SEALED:
            self._lose(key.seq)
        return signal

    def _lose(self, run: int) -> None:
        """A run that was this process's is another's now, or has ended, and its readers are to ask
        the server.
        """
        self.owned.end(run)
        self.tails.forget(run)

    def stop(self, thread_id: str, run_id: str | None, owner: str | None) -> Steps[bool | Orphan]:
        """See :meth:`.ThreadStore.request_stop`."""
        thread = to_bytes(thread_id)
        lock = lock_of(thread)
        which = None if run_id is None else to_bytes(run_id)
        ((outcome, run),) = (
            yield [
                (
                    f"SELECT * FROM {self.schema}.request_stop(%s, %s::bytea, %s::bytea,"
                    " %s::bytea, %s)",
                    (lock, thread, owner_to_bytes(owner), which, HANDED),
                    lock,
                )
            ]
        )[0]
        if outcome == "orphan":
            return (yield from self.orphan(run))
        return bool(outcome == "told")

    def claim(self, run: int) -> Steps[Orphan | None]:
        """The run, if it has lost its owner."""
        statement = f"SELECT {self.schema}.claim_run(%s, %s)"
        (((claimed,),),) = yield [(statement, (run, HANDED), 0)]
        return (yield from self.orphan(run)) if claimed else None

    def adopted(self, cursor: Cursor, lost: int) -> Steps[Orphan | None]:
        """A run that was read, if it has lost its owner."""
        return self.claim(lost)

    def orphans(self, limit: int) -> Steps[list[Orphan]]:
        """See :meth:`.ThreadStore.orphans`."""
        (rows,) = yield [
            (
                f"SELECT id FROM {self.schema}.run WHERE state = 0 AND lease < clock_timestamp()"
                " ORDER BY lease LIMIT %s",
                (limit,),
                0,
            )
        ]
        found = []
        for (run,) in rows:
            orphan = yield from self.claim(run)
            if orphan is not None:
                found.append(orphan)
        return found

    def orphan(self, run: int) -> Steps[Orphan]:
        """A run that was handed out to this process."""
        wanted: list[Command] = [
            (
                "SELECT r.thread_id, r.run_id, r.agent_id, r.stop, r.opened_at, t.messages, t.owner"
                f" FROM {self.schema}.run r LEFT JOIN {self.schema}.thread t ON t.id = r.thread"
                " WHERE r.id = %s",
                (run,),
                0,
            ),
            (f"SELECT data FROM {self.schema}.frame WHERE run = %s ORDER BY at", (run,), 0),
        ]
        (found,), frames = yield wanted
        thread_id, run_id, agent_id, stop, opened_at, messages, owner = found
        key = RunKey(from_bytes(thread_id), run, from_bytes(run_id))
        data = b"".join([row[0] for row in frames])
        return Orphan(
            key,
            from_bytes(agent_id),
            data,
            messages or b"[]",
            stop != 0,
            # A thread that was deleted under its run is nobody's any more.
            owner=None if owner is None else owner_from_bytes(owner).owner,
            opened_at=opened_at,
        )


def result_arguments(result: RunResult | None) -> tuple[Any, ...]:
    """A result as the functions take it."""
    if result is None:
        return ([], [], None, None, [], 0.0, None)
    cut = list(pieces(result.frames))
    ids = [to_bytes(one) for one in sorted(result.message_ids)]
    ats, data = [at for at, _ in cut], [piece for _, piece in cut]
    return (ats, data, result.messages, result.state, ids, result.ended_at, result.waits_for)
