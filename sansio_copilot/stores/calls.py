"""The calls of a store's methods, which a binding makes: one constructor for each.

The core never calls a store, because a store may wait. It yields a :class:`StoreCall` instead, and
a binding sends the outcome back. An outcome enters the core untyped. So each constructor stands
beside the types that its method may return, and :meth:`StoreCall.checked` compares the outcome with
them: for any other type it raises an error that names the method and the expected type. Type
checkers learn the type of an outcome from the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from types import NoneType
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, cast

from msgspec import Struct
from msgspec.structs import force_setattr

from ..calls import Call
from .optional_methods import (
    AdministeredStore,
    MeasuringStore,
    OwnersStore,
    is_checkable,
    is_closable,
    is_openable,
)
from .protocol import (
    Answer,
    Batch,
    Cancel,
    Kind,
    Log,
    LogGone,
    Opened,
    Orphan,
    OwnedThreads,
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
    ThreadStore,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")


def label_of(method: str) -> str:
    """The name in log lines and errors of the store's method of that name."""
    return f"store method {method}"


class Method(Struct, Generic[T_co], frozen=True):
    """A method of a store, and what it returns.

    :param name: its name.
    :param types: the types that it may return; any for a cursor, which only the store reads.
    :param items: the type of each item, if the method returns a list.
    :param is_over_when_false: whether False says that nothing is left to do. A call that is made
        again may be told so because the first call has done it.
    :ivar label: its name in log lines and errors.
    """

    name: str
    types: tuple[type, ...] = (object,)
    items: type | None = None
    is_over_when_false: bool = False
    label: str = ""

    def __post_init__(self) -> None:
        # The label is made once, because nearly every event is stored by a call that has it.
        force_setattr(self, "label", label_of(self.name))

    def unexpected(self, outcome: object, of: str = "") -> TypeError:
        """The error for an ``outcome`` that is of none of the types, or for an item of it.

        :param of: the words in front of the type of an item.
        """
        kind, types = type(outcome).__name__, self.types
        expected = _names((self.items,) if of and self.items is not None else types)
        return TypeError(f"{self.label} returned {of}{kind}, expected {of}{expected}")


class StoreCall(Call, Generic[T_co], frozen=True, kw_only=True):
    """Call a method of the thread store, in a worker thread if ``blocking``. Its outcome is that of
    the method.

    A call that has begun is seen through even if the client goes, because it may open a run.
    """

    blocking: bool = False
    part: Literal["hook", "service", "store"] = "store"
    method: Method[T_co]

    def checked(self, outcome: Any) -> T_co:
        """``outcome``, if the method may return it.

        :raises TypeError: if it may not; it names the method, and what was expected of it.
        """
        method = self.method
        if not isinstance(outcome, method.types):
            raise method.unexpected(outcome)
        if method.items is not None:
            for item in cast("list[object]", outcome):
                if not isinstance(item, method.items):
                    raise method.unexpected(item, "a list of ")
        return cast("T_co", outcome)


def perform(call: StoreCall[T]) -> Generator[StoreCall[T], Any, T]:
    """Yield ``call`` to the binding; returns its outcome.

    The endpoints of a conversation write the one line themselves, because calls cost.

    :raises TypeError: if the method may not return that outcome.
    """
    return call.checked((yield call))


# Runs, as their owners see them

_OPEN_RUN: Final = Method[Opened]("open_run", (RunOpened, ThreadBusy, ThreadOfAnother, Orphan))
_APPEND: Final = Method[Signal]("append", (Signal,))
_CLOSE_RUN: Final = Method[bool | None]("close_run", (bool, NoneType), is_over_when_false=True)
_RENEW: Final = Method[Signal]("renew", (Signal,))
_ORPHANS: Final = Method[list[Orphan]]("orphans", (list,), Orphan)
_REQUEST_STOP: Final = Method[bool | Orphan](
    "request_stop", (bool, Orphan), is_over_when_false=True
)


def open_run(store: ThreadStore, request: RunRequest) -> StoreCall[Opened]:
    """The call of :meth:`.ThreadStore.open_run`."""
    # Five constructors do without _call, because every run, stop or reader makes these calls.
    name, blocking = _OPEN_RUN.label, store.blocking
    return StoreCall(store.open_run, (request,), name, blocking=blocking, method=_OPEN_RUN)


def append(
    store: ThreadStore, key: RunKey, at: int, frames: bytes, result: RunResult | None
) -> StoreCall[Signal]:
    """The call of :meth:`.ThreadStore.append`."""
    # This constructor does without _call, because a run makes this call for nearly every event.
    args = (key, at, frames, result)
    return StoreCall(store.append, args, _APPEND.label, blocking=store.blocking, method=_APPEND)


def close_run(
    store: ThreadStore, key: RunKey, at: int, frames: bytes, result: RunResult | None
) -> StoreCall[bool | None]:
    """The call of :meth:`.ThreadStore.close_run`."""
    args, name = (key, at, frames, result), _CLOSE_RUN.label
    return StoreCall(store.close_run, args, name, blocking=store.blocking, method=_CLOSE_RUN)


def renew(store: ThreadStore, key: RunKey) -> StoreCall[Signal]:
    """The call of :meth:`.ThreadStore.renew`."""
    return _call(_RENEW, store, store.renew, key)


def request_stop(
    store: ThreadStore, thread_id: str, run_id: str | None, owner: str | None
) -> StoreCall[bool | Orphan]:
    """The call of :meth:`.ThreadStore.request_stop`."""
    args, name, blocking = (thread_id, run_id, owner), _REQUEST_STOP.label, store.blocking
    return StoreCall(store.request_stop, args, name, blocking=blocking, method=_REQUEST_STOP)


def orphans(store: ThreadStore, limit: int) -> StoreCall[list[Orphan]]:
    """The call of :meth:`.ThreadStore.orphans`."""
    return _call(_ORPHANS, store, store.orphans, limit)


# Readers

_OPEN_CURSOR: Final = Method[Any]("open_cursor")
READ: Final = Method[Batch | LogGone]("read", (Batch, LogGone))
"""The method whose call is made elsewhere, by the steps of each stream for each event."""


def open_cursor(
    store: ThreadStore, thread_id: str, after: str | None, owner: str | None
) -> StoreCall[Any]:
    """The call of :meth:`.ThreadStore.open_cursor`."""
    args, name, blocking = (thread_id, after, owner), _OPEN_CURSOR.label, store.blocking
    return StoreCall(store.open_cursor, args, name, blocking=blocking, method=_OPEN_CURSOR)


# Threads

_LIST_THREADS: Final = Method[ThreadPage]("list_threads", (ThreadPage,))
_READ_HISTORY: Final = Method[Batch | LogGone]("read_history", (Batch, LogGone))
_UPDATE_THREAD: Final = Method[ThreadRecord | None]("update_thread", (ThreadRecord, NoneType))
_DELETE_THREAD: Final = Method[bool]("delete_thread", (bool,), is_over_when_false=True)
_CLEAR: Final = Method[None]("clear", (NoneType,))
_CHECK: Final = Method[None]("check", (NoneType,))
_THREADS_OF_ALL: Final = Method[OwnedThreads]("threads_of_all", (OwnedThreads,))
_BYTES_OF: Final = Method[int]("bytes_of", (int,))
_OWNER_OF: Final = Method[ThreadOwner | None]("owner_of", (ThreadOwner, NoneType))


def list_threads(store: ThreadStore, query: ThreadQuery) -> StoreCall[ThreadPage]:
    """The call of :meth:`.ThreadStore.list_threads`."""
    return _call(_LIST_THREADS, store, store.list_threads, query)


def read_history(
    store: ThreadStore, thread_id: str, kind: Kind, cursor: Any, max_bytes: int, owner: str | None
) -> StoreCall[Batch | LogGone]:
    """The call of :meth:`.ThreadStore.read_history`."""
    args = (thread_id, kind, cursor, max_bytes, owner)
    return _call(_READ_HISTORY, store, store.read_history, *args)


def update_thread(
    store: ThreadStore, thread_id: str, changes: Mapping[str, Any], owner: str | None
) -> StoreCall[ThreadRecord | None]:
    """The call of :meth:`.ThreadStore.update_thread`."""
    return _call(_UPDATE_THREAD, store, store.update_thread, thread_id, changes, owner)


def delete_thread(store: ThreadStore, thread_id: str, owner: str | None) -> StoreCall[bool]:
    """The call of :meth:`.ThreadStore.delete_thread`."""
    return _call(_DELETE_THREAD, store, store.delete_thread, thread_id, owner)


def clear(store: ThreadStore, owner: str | None) -> StoreCall[None]:
    """The call of :meth:`.ThreadStore.clear`."""
    return _call(_CLEAR, store, store.clear, owner)


def check(store: ThreadStore) -> StoreCall[None] | None:
    """The call of :meth:`.CheckableStore.check`; None if the store has no such method."""
    return _call(_CHECK, store, store.check) if is_checkable(store) else None


def open_store(store: ThreadStore) -> Call | None:
    """The call of :meth:`.OpenableStore.open`; None if the store has no such method.

    It is no :class:`StoreCall`, as that of ``close`` is none, because a plain method may take long
    even if the store's other methods do not block.
    """
    return Call(store.open, (), label_of("open"), part="store") if is_openable(store) else None


def close_store(store: ThreadStore) -> Call | None:
    """The call of :meth:`.ClosableStore.close`; None if the store has no such method."""
    return Call(store.close, (), label_of("close"), part="store") if is_closable(store) else None


def owner_of(store: OwnersStore, thread_id: str) -> StoreCall[ThreadOwner | None]:
    """The call of :meth:`.OwnersStore.owner_of`."""
    return _call(_OWNER_OF, store, store.owner_of, thread_id)


def threads_of_all(
    store: AdministeredStore, cursor: str | None, limit: int
) -> StoreCall[OwnedThreads]:
    """The call of :meth:`.AdministeredStore.threads_of_all`."""
    return _call(_THREADS_OF_ALL, store, store.threads_of_all, cursor, limit)


def bytes_of(store: MeasuringStore, owner: str) -> StoreCall[int]:
    """The call of :meth:`.MeasuringStore.bytes_of`."""
    return _call(_BYTES_OF, store, store.bytes_of, owner)


def check_cancel(watch: Callable[..., Cancel], cancel: Any) -> Cancel:
    """``cancel``, if it can be what the store's method ``watch`` or ``watch_run`` returned.

    :raises TypeError: if it cannot be called; it names the method.
    """
    if callable(cancel):
        return cast("Cancel", cancel)
    if hasattr(cancel, "close"):
        # Python warns of a coroutine that was never awaited, and a coroutine function made this.
        cancel.close()
    label, kind = label_of(getattr(watch, "__name__", repr(watch))), type(cancel).__name__
    raise TypeError(f"{label} returned {kind}, expected a function that ends the watch")


def _call(
    method: Method[T],
    store: Log,
    function: Callable[P, Answer[T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> StoreCall[T]:
    assert not kwargs, "a store is called by position"
    return StoreCall(function, args, method.label, blocking=store.blocking, method=method)


def _names(types: tuple[type, ...]) -> str:
    names = ["None" if kind is NoneType else kind.__name__ for kind in types]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
