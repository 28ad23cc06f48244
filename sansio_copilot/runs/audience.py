"""Who follows a run, so that one that nobody follows can be stopped.

A run belongs to its thread and not to the request that began it: whoever closes a page, or aborts
a run by closing its connection, leaves it running, and its thread busy. An application that wants
such runs stopped says after how long (``CopilotRuntime(stop_when_abandoned=...)``).

The division of labour: an exchange that follows a run joins its audience and leaves it again; the
home of the run is told when the last one has left, and lets the time pass; the run decides
(:meth:`~sansio_copilot.Run.abandon`). What is counted are the readers in the process that owns
the run. A store may have others elsewhere, of which only the store could know.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary


def _nothing() -> None:
    pass


class Audience:
    """The exchanges that follow one run, in whatever threads they live.

    There is no lock: the members are a set, to which adding and from which removing one is atomic.
    """

    __slots__ = ("__weakref__", "_members", "on_empty")

    def __init__(self) -> None:
        self._members: set[object] = set()
        self.on_empty: Callable[[], object] = _nothing
        """Called when the last one has left, in its thread, and so more than once; does not block.

        Who sets it looks at :attr:`is_empty` afterwards, since the last one may have left before.
        """

    @property
    def is_empty(self) -> bool:
        """Whether nobody follows the run."""
        return not self._members

    def join(self, member: object) -> None:
        """``member`` follows the run from now on."""
        self._members.add(member)

    def leave(self, member: object) -> None:
        """``member`` follows it no more."""
        self._members.discard(member)
        if not self._members:
            self.on_empty()

    def disperse(self) -> None:
        """The run is over, and nobody is told any more."""
        self.on_empty = _nothing


class Audiences:
    """The audience of each thread's live run in this process, for as long as there is one."""

    def __init__(self) -> None:
        self._by_thread: WeakValueDictionary[str, Audience] = WeakValueDictionary()

    def open(self, thread_id: str) -> Audience:
        """A new one, of the run that has just been opened."""
        audience = self._by_thread[thread_id] = Audience()
        return audience

    def of(self, thread_id: str) -> Audience | None:
        """That of the thread's live run; None if no run of it lives here."""
        return self._by_thread.get(thread_id)
