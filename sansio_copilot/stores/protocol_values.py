"""The values that a store is given and answers with, of runs and of threads.

They never change, so that every part of a program may keep them. The methods of a store that take
and return them stand in :mod:`.protocol`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import attrs
from msgspec import Struct

from ..sse import run_token


class RunKey(Struct, frozen=True, cache_hash=True):
    """Names one run of one thread.

    :param thread_id: the thread.
    :param seq: which run of the thread it is; rises, and is never used twice in a thread.
    :param run_id: the client's own name for it.
    """

    thread_id: str
    seq: int
    run_id: str

    @property
    def token(self) -> str:
        """The run's part of an event id; see :func:`~sansio_copilot.sse.run_token`."""
        return run_token(self.seq, self.run_id)


class RunRequest(Struct, frozen=True):
    """The request to open a run.

    :param message_ids: ids of the messages that the client sent; the store says which of them
        the thread's history has already.
    :param opened_at: seconds since the epoch.
    :param owner: the id of the user whose run it is, and whose the thread is if it is new.
    """

    thread_id: str
    run_id: str
    agent_id: str
    message_ids: tuple[str, ...] = ()
    opened_at: float = 0.0
    owner: str | None = None


class RunOpened(Struct, frozen=True):
    """The run is the caller's. A live run that it superseded goes on ending as one that was
    stopped, and is history in front of this one.

    :param cursor: where the run's own response begins to read.
    :param known_message_ids: those of the request's ``message_ids`` that history has.
    :param lease: seconds within which the owner must append or renew, or be thought dead; None if
        the store cannot outlive its process.
    """

    key: RunKey
    cursor: Any
    known_message_ids: frozenset[str] = frozenset()
    lease: float | None = None


@attrs.frozen
class ThreadBusy:
    """Another run of the thread is live, and the store does not supersede.

    :param run_id: the live run.
    """

    run_id: str


@attrs.frozen
class ThreadOfAnother:
    """The thread's id is that of a thread with another owner, so that no run of it can be opened.

    Nothing more is said of that thread.
    """


@attrs.frozen
class ThreadOwner:
    """Whose a thread is.

    :param owner: the id of a user; None for a thread that is nobody's, because it was opened where
        the application knew no users.
    """

    owner: str | None


@attrs.frozen
class Orphan:
    """A run whose owner died: its lease ran out. Whoever is handed it finalizes and closes it.

    :param frames: what the owner had appended, as SSE frames.
    :param messages: the thread's messages before the run, a JSON array: of the run's own input the
        frames have only what the thread did not know.
    :param owner: the id of the user whose run it is.
    :param opened_at: when the run was opened, in seconds since the epoch; 0 if that is not known.
    """

    key: RunKey
    agent_id: str
    frames: bytes
    messages: bytes = b"[]"
    stop_requested: bool = False
    owner: str | None = attrs.field(default=None, kw_only=True)
    opened_at: float = attrs.field(default=0.0, kw_only=True, eq=False)


class RunResult(Struct, frozen=True):
    """The result of a run: the part of it that becomes history.

    :param frames: the compacted events as SSE frames, which a replay sends.
    :param messages: the thread's messages after the run, a JSON array; None if there were none, and
        the thread keeps those that it had.
    :param state: the thread's state after the run as JSON; None if the run set none.
    :param message_ids: ids of the messages in ``frames``.
    :param ended_at: seconds since the epoch.
    :param waits_for: what the thread waits for when the run has ended, as JSON; None for nothing.
        It is told as long as the run is the last of its thread; see :class:`ThreadRecord`.
    """

    frames: bytes
    messages: bytes | None = None
    state: bytes | None = None
    message_ids: frozenset[str] = frozenset()
    ended_at: float = 0.0
    waits_for: bytes | None = None


class Signal(enum.Enum):
    """The signal of a store to the owner of a run."""

    CONTINUE = "continue"
    STOP = "stop"
    """End the run now: it was asked to stop, or another run superseded it."""
    SEALED = "sealed"
    """The run is closed and takes no more frames: its terminal event is in the log, and another run
    has begun."""


NotifyOwner: TypeAlias = Callable[[Signal], None]


class PositionGap(Exception):
    """The frames to append begin behind the end of the run's log: frames between are missing.

    Either the log has lost frames that its owner had appended, or two processes take themselves for
    the owner.
    """

    def __init__(self, key: RunKey, at: int, size: int) -> None:
        super().__init__(f"{key}: frames from byte {at} on do not follow a log of {size} bytes")


def news_in(key: RunKey, at: int, frames: bytes, size: int) -> bytes | None:
    """The part of ``frames``, from ``at`` on, that a log of ``size`` bytes does not have.

    :returns: None if the log has more than all of it: the call was overtaken by one that came
        later, and its result is out of date too.
    :raises PositionGap: if the log ends in front of ``at``.
    """
    if at == size:
        return frames
    if at > size:
        raise PositionGap(key, at, size)
    known = size - at
    return frames[known:] if known <= len(frames) else None


class Batch(Struct, frozen=True):
    """The frames that were read from a cursor.

    :param data: whole or partial frames in order; empty if there is nothing new.
    :param cursor: where to read on.
    :param ended: whether the log ends here, so that no frame will ever follow.
    :param orphan: the run being followed, if its owner has died.
    """

    data: bytes
    cursor: Any
    ended: bool
    orphan: Orphan | None = None


@attrs.frozen
class LogGone:
    """The frames that a cursor would read next are gone: they were evicted, deleted or cleared.

    The response that reads them cannot be completed, and is broken off. A client that connects
    again gets the log as it is then.
    """


@attrs.frozen
class ThreadRecord:
    """A line in the list of threads; times are seconds since the epoch.

    :param agent_id: the agent of the last run.
    :param name: what a person called it; None if nobody did.
    :param waits_for: :attr:`RunResult.waits_for` of its last run; None if that waits for nothing,
        and while a run of the thread is open.
    """

    thread_id: str
    agent_id: str
    created_at: float
    updated_at: float
    name: str | None = None
    archived: bool = False
    waits_for: bytes | None = None


@attrs.frozen
class ThreadQuery:
    """Which threads to list.

    :param owner: whose.
    :param agent_id: of which agent the last run was; None for any.
    :param archived: whether they are archived; None for both.
    :param limit: how many at most; at least 1.
    :param cursor: :attr:`ThreadPage.next_cursor` of the page in front of it; None for the first.
    :param waiting: whether they wait for something; None for both.
    """

    owner: str | None = None
    agent_id: str | None = None
    archived: bool | None = None
    limit: int = 1000
    cursor: str | None = None
    waiting: bool | None = None


@attrs.frozen
class ThreadPage:
    """Some of a list of threads.

    :param next_cursor: where the next page begins; None if there is none.
    """

    threads: tuple[ThreadRecord, ...] = attrs.field(
        validator=attrs.validators.deep_iterable(attrs.validators.instance_of(ThreadRecord))
    )
    next_cursor: str | None = None


@attrs.frozen
class OwnedThreads:
    """Some of the threads of all owners.

    :param threads: each with its owner in front.
    :param next_cursor: where the next page begins; None if there is none.
    """

    threads: tuple[tuple[str | None, ThreadRecord], ...]
    next_cursor: str | None = None


class UnknownCursor(ValueError):
    """A cursor that came from a client, and that no page of the store's has given out."""


Kind: TypeAlias = Literal["frames", "messages", "state"]


EVERY_THREAD: Final = ThreadQuery()
Opened: TypeAlias = RunOpened | ThreadBusy | ThreadOfAnother | Orphan
