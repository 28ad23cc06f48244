"""The calls that concern runs, each as round trips: commands out, replies in.

Changes that have to be atomic are one script. The lists of threads and of runs that may be open lie
on other nodes of a cluster, so that they are changed in steps of their own: a run is added to the
runs that may be open (:attr:`.Names.live`) before it is opened, and removed when the list of
threads has its thread. If the process dies in between, a sweep finds the run and puts the lists
right.
"""

from __future__ import annotations

from collections.abc import Sequence
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

from ..cursors import Cursor
from ..database_values import from_bytes, owner_from_bytes, owner_to_bytes, to_bytes
from ..remote_runs import RemoteRuns
from ..round_trips import Command, RoundTrips
from . import scripts
from .names import Names, owner_and_thread, packed

HANDED_MS = 5000
"""Milliseconds for which an orphan belongs to the process that it was handed to."""
_SIGNALS = {b"0": Signal.CONTINUE, b"1": Signal.STOP, b"2": Signal.SEALED}


@attrs.frozen(eq=False)
class Runs(RemoteRuns[tuple[str, int]]):
    """The runs of one store, as this process sees them.

    :param lease: milliseconds.
    """

    names: Names
    lease: int

    @property
    def _keeping(self) -> tuple[int, int, int]:
        """The retention, as the scripts that end a run take it."""
        kept = self.retention
        return max(int(kept.resume_seconds), 1), kept.resumable, kept.most_runs

    def open(self, request: RunRequest) -> RoundTrips[Opened]:
        """See :meth:`.ThreadStore.open_run`."""
        thread = self.names.thread(request.thread_id)
        ((outcome, *found),) = yield [
            (
                *(scripts.OPEN_RUN, thread, self.names.processes, to_bytes(request.thread_id)),
                *(owner_to_bytes(request.owner), to_bytes(request.run_id)),
                *(to_bytes(request.agent_id), self.process, repr(request.opened_at)),
                *(self.lease, HANDED_MS, *self._keeping, int(self.supersedes)),
                packed(request.message_ids),
            )
        ]
        if outcome == b"other":
            return ThreadOfAnother()
        if outcome == b"busy":
            return ThreadBusy(from_bytes(found[0]))
        if outcome == b"orphan":
            return orphan_of(request.thread_id, found)
        run = int(found[0])
        key = RunKey(request.thread_id, run, request.run_id)
        if not self._begin((thread, run), request, is_again=outcome == b"again"):
            return ThreadBusy(request.run_id)
        # The number of a run is the time of its opening, in microseconds of the server's clock.
        yield [
            (
                "ZADD",
                self.names.live,
                run // 1000 + self.lease,
                live_member(run, request.thread_id),
            ),
            *listing(self.names, found[2]),
        ]
        known = frozenset(map(from_bytes, found[1]))
        cursor = Cursor(thread, (-run,))
        return RunOpened(key, cursor, known, self.lease / 1000, found[3] or None)

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> RoundTrips[Signal]:
        """See :meth:`.ThreadStore.append`."""
        thread = self.names.thread(key.thread_id)
        name = (thread, key.seq)
        news = None if self._is_stored(name, result) else result
        ((told, size),) = yield [
            (
                *(scripts.APPEND, thread, self.names.processes, key.seq, self.process, at),
                *(self.lease, frames, *result_arguments(news)),
            )
        ]
        if told == b"gap":
            raise PositionGap(key, at, size)
        return self._appended(name, at, frames, result, _SIGNALS[told])

    def close(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> RoundTrips[bool]:
        """See :meth:`.ThreadStore.close_run`."""
        thread = self.names.thread(key.thread_id)
        name = (thread, key.seq)
        is_stored = self._is_stored(name, result)
        while True:
            given = ("2",) if is_stored else result_arguments(result)
            ((outcome, size, *found),) = yield [
                (
                    *(scripts.CLOSE_RUN, thread, self.names.processes, key.seq, at, frames),
                    *(*self._keeping, *given),
                )
            ]
            if outcome != b"resend":
                break
            is_stored = False
        if outcome == b"gap":
            raise PositionGap(key, at, size)
        is_own = self._closed(name, at, frames, is_own=outcome == b"closed")
        yield [
            *listing(self.names, found[0]),
            ("ZREM", self.names.live, live_member(key.seq, key.thread_id)),
        ]
        return is_own

    def renew(self, key: RunKey) -> RoundTrips[Signal]:
        """See :meth:`.ThreadStore.renew`."""
        thread = self.names.thread(key.thread_id)
        (told,) = yield [
            (scripts.RENEW, thread, self.names.processes, key.seq, self.process, self.lease)
        ]
        return self._heard((thread, key.seq), _SIGNALS[told])

    def stop(
        self, thread_id: str, run_id: str | None, owner: str | None
    ) -> RoundTrips[bool | Orphan]:
        """See :meth:`.ThreadStore.request_stop`."""
        ((outcome, *found),) = yield [
            (
                *(scripts.REQUEST_STOP, self.names.thread(thread_id), self.names.processes),
                *(owner_to_bytes(owner), to_bytes(run_id or ""), int(run_id is not None)),
                HANDED_MS,
            )
        ]
        if outcome == b"orphan":
            return orphan_of(thread_id, found)
        return bool(outcome == b"told")

    def claim(self, thread_id: str, run: int) -> RoundTrips[Orphan | None]:
        """Return the run as an orphan, if its owner has died; otherwise put the lists right, and
        return None."""
        thread = self.names.thread(thread_id)
        ((outcome, *found),) = yield [(scripts.CLAIM, thread, self.names.processes, run, HANDED_MS)]
        member = live_member(run, thread_id)
        if outcome == b"closed":
            yield [*listing(self.names, found[0]), ("ZREM", self.names.live, member)]
            return None
        if outcome == b"alive":
            yield [("ZADD", self.names.live, int(found[0]), member)]
            return None
        (now,) = yield [("TIME",)]
        again = int(now[0]) * 1000 + HANDED_MS
        yield [("ZADD", self.names.live, again, member)]
        return orphan_of(thread_id, found)

    def adopted(self, cursor: Cursor, lost: int) -> RoundTrips[Orphan | None]:
        """Return a run that was read as an orphan, if its owner has died and its thread exists."""
        (thread_id,) = yield [("HGET", cursor.thread, "id")]
        return None if thread_id is None else (yield from self.claim(from_bytes(thread_id), lost))

    def orphans(self, limit: int) -> RoundTrips[list[Orphan]]:
        """See :meth:`.ThreadStore.orphans`."""
        found: list[Orphan] = []
        (now,) = yield [("TIME",)]
        until = int(now[0]) * 1000 + int(now[1]) // 1000
        while len(found) < limit:
            (members,) = yield [
                ("ZRANGEBYSCORE", self.names.live, "-inf", until, "LIMIT", 0, limit - len(found))
            ]
            if not members:
                break
            for member in members:
                run, _, thread_id = member.partition(b" ")
                orphan = yield from self.claim(from_bytes(thread_id), int(run))
                if orphan is not None:
                    found.append(orphan)
        return found


def listing(names: Names, thread: Sequence[Any]) -> list[Command]:
    """Return the commands that put a thread in the lists where it belongs.

    :param thread: its id, owner, time of the last update, and number of ended runs.
    """
    if not thread or thread[0] is None or not int(thread[3] or 0):
        return []
    thread_id, owner, updated, _ = thread
    return [
        # The score is negative, because a list is read from the lowest score; threads with the same
        # score are in the order of their ids.
        ("ZADD", names.listed(owner), repr(-float(updated)), thread_id),
        ("ZADD", names.threads, updated, owner_and_thread(owner, thread_id)),
    ]


def delist(names: Names, owner: bytes, thread_id: bytes) -> RoundTrips[None]:
    """Remove a thread of ``owner`` from the lists, unless a thread of its id exists again.

    Nothing is done for a thread of that id with another owner, because a client could learn from
    the time of a further step that such a thread exists.
    """
    _, _, found = yield [
        ("ZREM", names.listed(owner), thread_id),
        ("ZREM", names.threads, owner_and_thread(owner, thread_id)),
        ("HMGET", names.thread(from_bytes(thread_id)), "id", "owner", "updated", "runs"),
    ]
    if found[1] == owner and (again := listing(names, found)):
        yield again


def result_arguments(result: RunResult | None) -> tuple[Any, ...]:
    """Return a result as the scripts take it; "0" stands for no result."""
    if result is None:
        return ("0",)
    return (
        *("1", result.frames, result.messages or b"", result.state or b""),
        *(packed(sorted(result.message_ids)), repr(result.ended_at), result.waits_for or b""),
    )


def orphan_of(thread_id: str, found: Sequence[Any]) -> Orphan:
    """Return the orphan that a script has handed out."""
    run, run_id, agent_id, frames, messages, stop, owner, opened_at, waits = found
    key = RunKey(thread_id, int(run), from_bytes(run_id))
    return Orphan(
        key,
        from_bytes(agent_id),
        frames,
        messages,
        stop != b"0",
        owner=owner_from_bytes(owner).owner,
        opened_at=float(opened_at),
        waits_for=waits or None,
    )


def live_member(run: int, thread_id: str) -> bytes:
    """Return the member for a run in the set of runs that may be open."""
    return b"%d %s" % (run, to_bytes(thread_id))
