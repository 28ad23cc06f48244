"""The calls that concern runs, each as round trips: statements out, rows in."""

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
from ..remote_runs import RemoteRuns
from ..round_trips import Command, RoundTrips
from .link import Rows
from .names import lock_of

HANDED = timedelta(seconds=5)
"""The time for which an orphan belongs to the process that it was handed to."""
_SIGNALS = {0: Signal.CONTINUE, 1: Signal.STOP, 2: Signal.SEALED}
# Arrays of bytes are sent in binary form (%b), because as text they take twice the room, and ten
# times the time of both sides.
_RESULT = "%s::bigint[], %b::bytea[], %s::bytea, %s::bytea, %b::bytea[], %s, %s::bytea"


@attrs.frozen(eq=False)
class Runs(RemoteRuns[int]):
    """The runs of one store, as this process sees them.

    :param schema: the schema of its tables.
    """

    schema: str
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
        """The retention, as the functions that end a run take it."""
        kept = self.retention
        return self.resume, kept.resumable, kept.most_runs

    @property
    def resume(self) -> timedelta:
        """The time for which the raw frames of runs that need not be resumable are kept."""
        return timedelta(seconds=self.retention.resume_seconds)

    def open(self, request: RunRequest) -> RoundTrips[Opened]:
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
        if not self._begin(run, request, is_again=outcome == "again"):
            return ThreadBusy(request.run_id)
        key = RunKey(request.thread_id, run, request.run_id)
        ids = frozenset(map(from_bytes, known or ()))
        return RunOpened(key, Cursor(0, (-run,)), ids, self.lease.total_seconds(), other)

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> RoundTrips[Signal]:
        """See :meth:`.ThreadStore.append`."""
        run, lock = key.seq, lock_of(to_bytes(key.thread_id))
        if result is not None and not self._is_stored(run, result):
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
        return self._appended(run, at, frames, result, _SIGNALS[told])

    def close(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> RoundTrips[bool]:
        """See :meth:`.ThreadStore.close_run`."""
        run, lock = key.seq, lock_of(to_bytes(key.thread_id))
        # The number 2 stands for a result that the server has, because it is not sent again.
        given = 2 if self._is_stored(run, result) else int(result is not None)
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
        return self._closed(run, at, frames, is_own=outcome == "closed")

    def renew(self, key: RunKey) -> RoundTrips[Signal]:
        """See :meth:`.ThreadStore.renew`."""
        lock = lock_of(to_bytes(key.thread_id))
        statement = f"SELECT {self.schema}.renew(%s, %s, %s, %s)"
        (((told,),),) = yield [(statement, (lock, key.seq, self.process, self.lease), lock)]
        return self._heard(key.seq, _SIGNALS[told])

    def stop(
        self, thread_id: str, run_id: str | None, owner: str | None
    ) -> RoundTrips[bool | Orphan]:
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

    def claim(self, run: int) -> RoundTrips[Orphan | None]:
        """Return the run as an orphan, if its owner has died."""
        statement = f"SELECT {self.schema}.claim_run(%s, %s)"
        (((claimed,),),) = yield [(statement, (run, HANDED), 0)]
        return (yield from self.orphan(run)) if claimed else None

    def adopted(self, cursor: Cursor, lost: int) -> RoundTrips[Orphan | None]:
        """Return a run that was read as an orphan, if its owner has died."""
        return self.claim(lost)

    def orphans(self, limit: int) -> RoundTrips[list[Orphan]]:
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

    def orphan(self, run: int) -> RoundTrips[Orphan]:
        """A run that was handed out to this process."""
        wanted: list[Command] = [
            (
                "SELECT r.thread_id, r.run_id, r.agent_id, r.stop, r.opened_at, t.messages,"
                f" t.owner, {self.schema}.waited_before(t, r.id)"
                f" FROM {self.schema}.run r LEFT JOIN {self.schema}.thread t ON t.id = r.thread"
                " WHERE r.id = %s",
                (run,),
                0,
            ),
            (f"SELECT data FROM {self.schema}.frame WHERE run = %s ORDER BY at", (run,), 0),
        ]
        (found,), frames = yield wanted
        thread_id, run_id, agent_id, stop, opened_at, messages, owner, waits = found
        key = RunKey(from_bytes(thread_id), run, from_bytes(run_id))
        data = b"".join([row[0] for row in frames])
        return Orphan(
            key,
            from_bytes(agent_id),
            data,
            messages or b"[]",
            stop != 0,
            # A thread that was deleted while its run was open has no owner any more.
            owner=None if owner is None else owner_from_bytes(owner).owner,
            opened_at=opened_at,
            waits_for=waits,
        )


def result_arguments(result: RunResult | None) -> tuple[Any, ...]:
    """A result as the functions take it."""
    if result is None:
        return ([], [], None, None, [], 0.0, None)
    cut = list(pieces(result.frames))
    ids = [to_bytes(one) for one in sorted(result.message_ids)]
    ats, data = [at for at, _ in cut], [piece for _, piece in cut]
    return (ats, data, result.messages, result.state, ids, result.ended_at, result.waits_for)
