"""The readers that follow a run, so that a run that nobody follows can be stopped.

A run belongs to its thread and not to the request that began it: a user who closes a page, or
aborts a run by closing its connection, leaves it running, and its thread busy. An application that
wants such runs stopped says after how many seconds (``CopilotRuntime(stop_when_abandoned=...)``).

The division of labour: an exchange that follows a run joins its audience and leaves it again; the
home of the run is told when the last one has left, and lets the time pass; the run decides
(:meth:`~sansio_copilot.Run.abandon`). Only readers in the process that owns the run are counted,
because only the store could know of readers elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakValueDictionary

_OwnedThread: TypeAlias = tuple[str | None, str]


def _nothing() -> None:
    pass


class Audience:
    """The exchanges that follow one run, in whatever threads they live.

    There is no lock: the members are a set, and adding or removing a member is atomic.
    """

    __slots__ = ("__weakref__", "_members", "on_empty")

    def __init__(self) -> None:
        self._members: set[object] = set()
        self.on_empty: Callable[[], object] = _nothing
        """Called when the last member has left, in the operating system thread of that member. If
        members leave in several operating system threads, it may be called more than once. It must
        not block.

        The home that sets it reads :attr:`is_empty` afterwards, because the last member may have
        left before that.
        """

    @property
    def is_empty(self) -> bool:
        """Whether no member follows the run."""
        return not self._members

    def join(self, member: object) -> None:
        """Add ``member``, which follows the run from now on."""
        self._members.add(member)

    def leave(self, member: object) -> None:
        """Remove ``member``, which follows the run no longer."""
        self._members.discard(member)
        if not self._members:
            self.on_empty()

    def disperse(self) -> None:
        """Forget :attr:`on_empty`, because the run is over."""
        self.on_empty = _nothing


class Audiences:
    """The audience of each thread's live run in this process, for as long as there is one."""

    def __init__(self) -> None:
        self._by_thread: WeakValueDictionary[_OwnedThread, Audience] = WeakValueDictionary()

    def open(self, thread_id: str, owner: str | None = None) -> Audience:
        """A new audience, for a run that has just been opened.

        :param owner: the thread's owner. Another user who names the same thread id means another
            thread.
        """
        audience = self._by_thread[owner, thread_id] = Audience()
        return audience

    def of(self, thread_id: str, owner: str | None = None) -> Audience | None:
        """The audience of the thread's live run; None if it has no live run in this process."""
        return self._by_thread.get((owner, thread_id))
