"""Calling the application's functions and the store, whatever they are: plain, async, blocking."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

from sansio_copilot.actions import Call, StoreCall

from ._backend import Backend

_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


def lock_of(store: object) -> threading.RLock:
    """The lock to hold while a plain method of ``store`` is called.

    The core's stores know nothing of threads, so that whoever has several takes turns, and one
    runtime may be served by several bindings at once. Held for moments only, and reentrant,
    since a store may call back.
    """
    with _locks_lock:
        lock = _locks.get(store)
        if lock is None:
            lock = _locks[store] = threading.RLock()
        return lock


def locked(lock: threading.RLock, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, called with ``lock`` held."""

    def call(*args: Any) -> Any:
        with lock:
            return function(*args)

    return call


def begin(action: Call, lock: threading.RLock, backend: Backend) -> Any:
    """Make the call; returns its outcome, or an awaitable of it.

    :raises Exception: what a plain function raises.
    """
    if isinstance(action, StoreCall):
        if action.blocking:
            return backend.in_thread(action.function, *action.args)
        with lock:
            return action.function(*action.args)
    return action.function(*action.args)


def is_pending(outcome: object) -> TypeGuard[Awaitable[Any]]:
    """Whether :func:`begin` returned something to await."""
    return hasattr(outcome, "__await__")
