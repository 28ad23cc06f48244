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
    :param seq: the number of the run, which rises, and is never used twice in a thread.
    :param run_id: the client's own name for the run.
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
    :param owner: the id of the user who owns the run, and who will own the thread if it is new.
    """

    thread_id: str
    run_id: str
    agent_id: str
    message_ids: tuple[str, ...] = ()
    opened_at: float = 0.0
    owner: str | None = None


class RunOpened(Struct, frozen=True):
    """The run is open, and the caller owns it. A live run that it superseded ends as one that was
    stopped, and is history in front of this one.

    :param cursor: the place where the run's own response begins to read.
    :param known_message_ids: the ids among the request's ``message_ids`` that history has.
    :param lease: seconds within which the owner must append or renew, because it is thought dead
        otherwise; None if the store cannot outlive its process.
    :param waits_for: what the thread has waited for before this run: :attr:`RunResult.waits_for` of
        the run before it. None for nothing, and if an earlier run is still open, because that run
        may have been given the answer.
    """

    key: RunKey
    cursor: Any
    known_message_ids: frozenset[str] = frozenset()
    lease: float | None = None
    waits_for: bytes | None = None


@attrs.frozen
class ThreadBusy:
    """Another run of the thread is live, and the store does not supersede.

    :param run_id: the live run.
    """

    run_id: str


@attrs.frozen
class ThreadOfAnother:
    """Another owner has a thread of this id, so that no run of it can be opened.

    The store tells nothing more of that thread.
    """


@attrs.frozen
class ThreadOwner:
    """The owner of a thread.

    :param owner: the id of a user; None for a thread without an owner, because it was opened where
        the application knew no users.
    """

    owner: str | None


@attrs.frozen
class Orphan:
    """A run whose owner died: its lease ran out. The process that it is handed to finalizes and
    closes it.

    :param frames: the SSE frames that the owner had appended.
    :param messages: the thread's messages before the run, a JSON array. They are needed because the
        frames have only those messages of the run's input that the thread did not have.
    :param owner: the id of the user who owns the run.
    :param opened_at: when the run was opened, in seconds since the epoch; 0 if that is not known.
    :param waits_for: what the thread has waited for before the run, as in :class:`RunOpened`.
    """

    key: RunKey
    agent_id: str
    frames: bytes
    messages: bytes = b"[]"
    stop_requested: bool = False
    owner: str | None = attrs.field(default=None, kw_only=True)
    opened_at: float = attrs.field(default=0.0, kw_only=True, eq=False)
    waits_for: bytes | None = attrs.field(default=None, kw_only=True)


class RunResult(Struct, frozen=True):
    """The result of a run: the part of it that becomes history.

    :param frames: the compacted events as SSE frames, which a replay sends.
    :param messages: the thread's messages after the run, a JSON array; None if there were none, and
        the thread keeps those that it had.
    :param state: the thread's state after the run as JSON; None if the run set none.
    :param message_ids: ids of the messages in ``frames``.
    :param ended_at: seconds since the epoch.
    :param waits_for: what the thread waits for when the run has ended, as JSON; None for nothing.
        The list of threads tells it as long as the run is the last of its thread; see
        :class:`ThreadRecord`.
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
    """Return the part of ``frames``, which begin at ``at``, that a log of ``size`` bytes lacks.

    :returns: None if the log goes on behind the end of ``frames``: a later call has overtaken this
        one, so that its result is out of date too.
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
    :param name: the name that a person gave it; None if it has none.
    :param waits_for: :attr:`RunResult.waits_for` of its last run; None if the thread waits for
        nothing, and while a run of it is open.
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
    """A query for a page of the list of threads.

    :param owner: the owner of the threads.
    :param agent_id: the agent of their last run; None for any.
    :param archived: whether they are archived; None for both.
    :param limit: the most threads of the page; at least 1.
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
    """A page of a list of threads.

    :param next_cursor: where the next page begins; None if there is no next page.
    """

    threads: tuple[ThreadRecord, ...] = attrs.field(
        validator=attrs.validators.deep_iterable(attrs.validators.instance_of(ThreadRecord))
    )
    next_cursor: str | None = None


@attrs.frozen
class OwnedThreads:
    """A page of the threads of all owners.

    :param threads: pairs of an owner and a thread.
    :param next_cursor: where the next page begins; None if there is no next page.
    """

    threads: tuple[tuple[str | None, ThreadRecord], ...]
    next_cursor: str | None = None


class UnknownCursor(ValueError):
    """A cursor that came from a client, and that no page of the store has given out."""


Kind: TypeAlias = Literal["frames", "messages", "state"]


EVERY_THREAD: Final = ThreadQuery()
Opened: TypeAlias = RunOpened | ThreadBusy | ThreadOfAnother | Orphan
