"""Calls of a store's plain methods: the lock that is held meanwhile, and watches.

A watch is begun and ended by a plain call that does not wait, in every kind of store. The store
calls the watch's function from any thread; the function only says that there is something new.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar
from weakref import WeakValueDictionary, ref

from sansio_copilot.stores.calls import check_cancel
from sansio_copilot.stores.protocol import Cancel

from .context import CallContext
from .failures import passing, raise_failure

logger = logging.getLogger(__name__)

T = TypeVar("T")
NotifyT = TypeVar("NotifyT", bound=Callable[..., None])


class StoreLock:
    """The lock to hold while a plain method of ``store`` is called.

    The core's stores are not made for several threads. So threads take turns, and several bindings
    may serve one store at once. The lock is held for moments only, and is reentrant, because a
    store may call back.
    """

    __slots__ = ("__weakref__", "_store", "held")

    def __init__(self, store: object) -> None:
        self._store = store
        self.held = threading.RLock()
        """The lock itself, which a ``with`` statement takes without a call of Python code."""


_locks: WeakValueDictionary[int, StoreLock] = WeakValueDictionary()
_locks_lock = threading.Lock()


def lock_of(store: object) -> StoreLock:
    """The lock of ``store``, which is the same for all callers as long as one of them keeps it.

    The lock is found by the identity of the store, because a store may be equal to another, or may
    have no hash or no place for weak references. The lock keeps the store, so that no other object
    can get its identity.
    """
    with _locks_lock:
        lock = _locks.get(id(store))
        if lock is None:
            lock = _locks[id(store)] = StoreLock(store)
        return lock


def locked(lock: StoreLock, function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function`` with ``lock`` held."""
    with lock.held:
        return function(*args)


def begin_watch(
    lock: StoreLock,
    context: CallContext,
    watch: Callable[[T, NotifyT], Cancel],
    subject: T,
    notify: NotifyT,
) -> Cancel:
    """Watch ``subject``, the cursor of a reader or the key of a run.

    :param context: the context in which the method is called.
    :param watch: the method of the store: its ``watch`` or ``watch_run``.
    :returns: the function that :func:`end_watch` needs.
    :raises Exception: the error of the store; a TypeError if it returns no function that ends the
        watch.
    """
    try:
        with lock.held:
            unwatch = context.current.run(watch, subject, notify)
    except Exception:
        raise
    except BaseException as error:
        raise_failure(error)
    return unwatch if callable(unwatch) else check_cancel(watch, unwatch)


def end_watch(lock: StoreLock, context: CallContext, unwatch: Cancel) -> None:
    """End a watch. A failure is only logged, because the caller has other work to finish."""
    try:
        with lock.held:
            context.current.run(unwatch)
    except BaseException as error:
        if isinstance(error, passing()):
            raise
        logger.exception("the thread store failed to end a watch")


class Weakly:
    """Calls a bound method but does not keep its object, which may be dropped with its loop.

    Each open stream has one, and a function around a WeakMethod would take ten times its memory.

    :param method: the bound method.
    """

    __slots__ = ("_function", "_owner")

    def __init__(self, method: Callable[..., None]) -> None:
        assert isinstance(method, MethodType), "only a method has an object"
        self._owner, self._function = ref(method.__self__), method.__func__

    def __call__(self, *args: Any) -> None:
        owner = self._owner()
        if owner is not None:
            self._function(owner, *args)
