"""The thread log: the runs of a conversation, their frames, and cursors on them.

A run belongs to its thread, not to the request that started it. Its owner appends SSE frames,
encoded once; every reader, the run's own response and any number of connects, is a cursor. This
module says what a store must do, with the values of :mod:`.protocol_values`, which may be imported
from here; :mod:`.memory` has the store that keeps everything in memory. A store that does I/O, on
disk or shared between hosts, implements the same protocol with coroutine functions, or with plain
functions and ``blocking = True``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from ..calls import Deferred
from ..functions import check_function
from ..limits import check_positive
from .protocol_values import (
    EVERY_THREAD,
    Batch,
    Kind,
    LogGone,
    NotifyOwner,
    Opened,
    Orphan,
    OwnedThreads,
    PositionGap,
    RunKey,
    RunOpened,
    RunRequest,
    RunResult,
    Signal,
    ThreadBusy,
    ThreadOfAnother,
    ThreadOwner,
    ThreadPage,
    ThreadQuery,
    ThreadRecord,
    UnknownCursor,
    news_in,
)

__all__ = [
    "EVERY_THREAD",
    "Answer",
    "Batch",
    "Cancel",
    "Kind",
    "Log",
    "LogGone",
    "Notify",
    "NotifyOwner",
    "Opened",
    "Orphan",
    "OwnedThreads",
    "PositionGap",
    "RunKey",
    "RunOpened",
    "RunRequest",
    "RunResult",
    "Signal",
    "ThreadBusy",
    "ThreadOfAnother",
    "ThreadOwner",
    "ThreadPage",
    "ThreadQuery",
    "ThreadRecord",
    "ThreadStore",
    "UnknownCursor",
    "check_store",
    "news_in",
    "nothing_to_cancel",
    "reject_or_supersede",
]

T = TypeVar("T")
Answer: TypeAlias = T | Awaitable[T] | Deferred[T]
"""The result of a store's method: its outcome, or an object that gives the outcome later."""
Cancel: TypeAlias = Callable[[], None]
Notify: TypeAlias = Callable[[], None]


class Log(Protocol):
    """The reading side of a store: reads from a cursor, and notifications of new frames."""

    @property
    def blocking(self) -> bool:
        """Whether plain methods must not be called on an event loop's thread."""
        ...

    def read(self, cursor: Any, max_bytes: int) -> Answer[Batch | LogGone]:
        """Read at most ``max_bytes`` (and at least one byte, if there is any) from ``cursor``.

        A cursor does not keep the frames that it has not read: a store may let ended runs go, for
        want of room or because somebody deletes the thread. Then it answers :class:`LogGone`, and
        neither ends the log, which would look complete, nor goes on at a later place. It never
        lets an open run go: its readers see it to its end even if its thread is deleted or the run
        is superseded.
        """
        ...

    def watch(self, cursor: Any, notify: Notify) -> Cancel:
        """Call ``notify`` once when :meth:`read` would return something new; perhaps at once.

        ``notify`` may be called from any operating system thread, and may be called although there
        is nothing new. Returns a function that ends the watch.
        """
        ...


class ThreadStore(Log, Protocol):
    """A store of threads. A binding calls its methods; the core only says which to call.

    Each method but the two ``watch`` ones may be a coroutine function. A store whose plain
    methods do I/O sets ``blocking``, and a binding calls them in a worker thread. A store may also
    have operating system threads of its own: then its plain methods return at once, either the
    outcome or a ``concurrent.futures.Future`` (:class:`~sansio_copilot.calls.Deferred`). An
    exception of a method fails the request (500) or ends the run, and is logged; but a run outlives
    a :class:`~sansio_copilot.StoreUnavailable`, and makes the call again later. A binding never
    makes two calls for one run at once, but calls for different runs and readers interleave and
    may overlap: a store that awaits must stay correct when its answers come late and out of
    order. Cursors are the store's own values; the core hands them back unread.

    Each thread has an owner, a user's id, or None where the application knows no users. No method
    finds a thread of another owner: it is as if that thread did not exist.

    A store may have more methods and attributes, some of which only some applications need:
    ``open()``, ``close()``, ``check()``, ``lease``, ``evictions`` and others. Their protocols are
    in :mod:`~sansio_copilot.stores.optional_methods`. The methods are plain or coroutine functions,
    like those here.
    """

    def open_run(self, request: RunRequest) -> Answer[Opened]:
        """Make the thread, if need be, and a run in it that the caller owns.

        A live run whose last append carried a result does not make the thread busy: it is sealed
        with that result. A store that supersedes asks any other live run to stop, whose owner may
        still append to it and close it like any run. History is in the order in which runs were
        opened, whatever the order of their ends, and its messages and state are those of the last
        run. An :class:`Orphan` must be closed before the call is made again.
        """
        ...

    def append(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None = None
    ) -> Answer[Signal]:
        """Add whole frames, one or many, to the run's log and wake its readers.

        A run that is closed, or was handed out as an :class:`Orphan`, takes no frames: SEALED.
        An append that raises may have added its frames or not. The next append begins at the same
        place and has the same frames, perhaps with more behind them, so that the log ignores the
        frames that it has; see :func:`news_in`.

        :param at: bytes of the run that its owner knows to be in the log: where ``frames`` begin.
        :param result: given when the frames hold the run's terminal event: from now on the run
            counts as ended with this result, unless more is appended.
        :raises PositionGap: if the log has fewer than ``at`` bytes.
        """
        ...

    def close_run(
        self, key: RunKey, at: int, frames: bytes, result: RunResult | None
    ) -> Answer[bool | None]:
        """Add the last frames and end the run, atomically. Its readers end.

        A run that is closed already stays as it is: several processes may finalize the same orphan,
        and an owner that was only thought dead may come back. The first close counts.

        A close that raises is made once more, because a run that is not closed keeps its thread
        busy, and its readers waiting, until its lease runs out, or for ever if it has none.

        :param at: bytes of the run that the caller knows to be in the log, as in :meth:`append`.
        :param result: None for a run that leaves no history.
        :returns: False if the run had been closed already. True or None says that this call has
            closed the run, so that its caller tells the application of the run's end.
        :raises PositionGap: if the log has fewer than ``at`` bytes.
        """
        ...

    def renew(self, key: RunKey) -> Answer[Signal]:
        """Extend the run's lease. The owner calls this about three times per lease while its agent
        is silent."""
        ...

    def request_stop(
        self, thread_id: str, run_id: str | None, owner: str | None = None
    ) -> Answer[bool | Orphan]:
        """Ask the owner of the thread's live run to stop it.

        :param run_id: if given, only that run is meant.
        :returns: whether there was such a run that had not been asked before.
        """
        ...

    def watch_run(self, key: RunKey, notify: NotifyOwner) -> Cancel:
        """Call ``notify`` with the run's signal when it is no longer CONTINUE; perhaps at once.

        The owner obeys the signal without a further call. ``notify`` does not block, and may be
        called from any operating system thread and more than once. A notification that is lost does
        no harm, because the answer to the next append or renewal says the same. Returns a function
        that ends the watch.
        """
        ...

    def orphans(self, limit: int) -> Answer[list[Orphan]]:
        """Hand out runs whose owners have died, at most ``limit`` of them.

        So these runs are ended even if nobody visits their threads. A run that was handed out and
        is not closed is handed out again, though perhaps only when some time has passed.
        """
        ...

    def open_cursor(
        self, thread_id: str, after: str | None, owner: str | None = None
    ) -> Answer[Any]:
        """Open the cursor of a connect: it reads the compacted history, then runs that were
        superseded and have not ended, then the live run as it goes on.

        :param after: a ``Last-Event-ID``: begin behind that event instead. If the store no longer
            knows the id, the cursor reads from the beginning, because nothing may be missed.
        :returns: a cursor; for a thread that does not exist, one that has ended.
        """
        ...

    def list_threads(self, query: ThreadQuery = EVERY_THREAD) -> Answer[ThreadPage]:
        """The threads that have history, the last updated first.

        A thread that is updated while a client pages may be seen twice, or not at all; every other
        thread is seen once.

        :raises UnknownCursor: for a cursor that no page of the store has given out.
        """
        ...

    def read_history(
        self, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None = None
    ) -> Answer[Batch | LogGone]:
        """Read a page of a thread's history, which its ended runs have left.

        :param kind: "frames", compacted, as a replay sends them; "messages", a JSON array; or
            "state", JSON, and empty if there is none. If the thread does not exist, the frames and
            the state are empty, and the messages are an empty array.
        :param cursor: the cursor of the page in front of it; None for the first page.
        :param max_bytes: the length of the page. A page that is not the last has at least one byte.
            Messages and state are asked for in one page; a store that has the text in memory
            returns that object, which counts once for all of its readers (``answers_bytes``).
        :returns: LogGone if the history has changed, so that the rest does not fit to the pages
            before it.
        """
        ...

    def update_thread(
        self, thread_id: str, changes: Mapping[str, Any], owner: str | None = None
    ) -> Answer[ThreadRecord | None]:
        """Change ``name`` (str or None) and ``archived`` (bool), as far as ``changes`` has them.

        :returns: the thread as it is then; None if it has no history.
        """
        ...

    def delete_thread(self, thread_id: str, owner: str | None = None) -> Answer[bool]:
        """Forget a thread. Its live run is stopped, and leaves nothing.

        :returns: whether there was such a thread.
        """
        ...

    def clear(self, owner: str | None = None) -> Answer[None]:
        """Forget all history of the owner's threads. Live runs go on."""
        ...


_METHODS = (
    *("open_run", "append", "close_run", "renew", "request_stop", "watch_run", "orphans"),
    *("open_cursor", "read", "watch"),
    *("list_threads", "read_history", "update_thread", "delete_thread", "clear"),
)
_WITHOUT_ARGUMENTS = ("open", "close", "check")
"""The optional methods of each store; see :mod:`.optional_methods`."""


def reject_or_supersede(instance: object, attribute: object, value: object) -> None:
    """Check the setting that says what a store does with a second run on a busy thread.

    :raises ValueError: if it is neither "reject" nor "supersede".
    """
    if value not in ("reject", "supersede"):
        raise ValueError(f"on_concurrent_run is 'reject' or 'supersede', not {value!r}")


def check_store(store: object) -> None:
    """Check that ``store`` looks like a :class:`ThreadStore`.

    :raises TypeError: if it does not; the error names what is missing, or the optional method that
        cannot be called.
    :raises ValueError: if its ``lease`` is not a number above 0.
    """
    if isinstance(store, type):
        raise TypeError(f"store is the class {store.__name__}, not one made of it")
    missing = [name for name in _METHODS if not callable(getattr(store, name, None))]
    if not isinstance(getattr(store, "blocking", None), bool):
        missing.append("blocking (a bool)")
    if missing:
        raise TypeError(f"the store {type(store).__name__} has no {', '.join(missing)}")
    of_store = f"of the store {type(store).__name__}"
    for name in _WITHOUT_ARGUMENTS:
        function = getattr(store, name, None)
        check_function(f"{name} {of_store}", function, "a function without arguments", 0)
    lease = getattr(store, "lease", None)
    if lease is not None:
        check_positive(f"lease {of_store}", lease)


def nothing_to_cancel() -> None:
    """The cancel function of a watch that is over already."""
